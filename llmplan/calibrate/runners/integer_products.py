"""Products of integer weights of 8 and 4 bits, with integer or 16-bit activations."""

# ruff: noqa: SLF001  (torch's products of few bits have private names)

from typing import Final

import torch

from llmplan.calibrate.kernel import Kernel, Refused
from llmplan.calibrate.runners.elements import (
    ROUNDING,
    Calls,
    Tensor,
    dequantised,
    normal,
    nvidia_capability,
    quantised,
    weight,
)
from llmplan.calibrate.runners.product import (
    BF16,
    Product,
    plain_reference,
)
from llmplan.dtypes import divide_exactly

EXACT: Final = 1e-12
"""Sums of whole numbers, compared in float64."""
TINYGEMM_TILES: Final = 8
"""Inner tiles of 16 columns that 4-bit weights are packed by; the widest choice."""
TINYGEMM_GROUPS: Final = (32, 64, 128, 256)


def int_mm(product: Product) -> Kernel | Refused:
    """INT8 weights and activations. Sums stay 32 bits wide: engines scale them as they write."""
    if product.place.is_cuda and product.m <= 16:
        return Refused("int_mm", f"torch._int_mm takes more than 16 rows on GPUs, not {product.m}")
    if reason := product.uneven(8, 8):
        return Refused("int_mm", reason)

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = product.varied(generator)
        return quantised(x, torch.int8, 1, 0)[0], quantised(w, torch.int8, 1, 0)[0]

    def run(x: Tensor, w: Tensor) -> Tensor:
        return torch._int_mm(x, w.t())

    return product.kernel("int_mm", "sq", Calls(inputs, run, plain_reference, EXACT))


def weight_int8pack_mm(product: Product) -> Kernel | Refused:
    """INT8 weights with a scale an output channel, activations of 16 bits."""
    operator = "_weight_int8pack_mm"
    key = "CUDA" if product.place.is_cuda else product.place.device.type.upper()
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{operator}", key):
        return Refused("weight_int8pack_mm", f"this torch has no {operator} for {key}")

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = product.varied(generator)
        w8, scales = quantised(w, torch.int8, 1, 0)
        return x, w8, scales.reshape(-1).to(BF16)

    def run(x: Tensor, w: Tensor, scales: Tensor) -> Tensor:
        return torch._weight_int8pack_mm(x, w, scales)

    def reference(x: Tensor, w: Tensor, scales: Tensor) -> Tensor:
        return x.double() @ dequantised(w, scales[:, None], 1, 0).t()

    # the unscaled sum may be rounded too
    calls = Calls(inputs, run, reference, 2 * ROUNDING[BF16])
    return product.kernel("weight_int8pack_mm", "int8_wo", calls)


def weight_int4pack_mm(product: Product) -> Kernel | Refused:
    """4-bit weights with a scale and an offset a group, activations of 16 bits (tinygemm)."""
    name = "weight_int4pack_mm"
    group = product.stored.block[1] if product.stored.block else 0
    if group not in TINYGEMM_GROUPS:
        return Refused(name, f"groups are {TINYGEMM_GROUPS} weights long, not {group}")
    if product.place.is_cuda and nvidia_capability(product.place) < (8, 0):
        return Refused(name, "runs on CPUs and on NVIDIA devices of capability 8.0 and above")
    rows, columns = (8, 16 * TINYGEMM_TILES) if product.place.is_cuda else (16, 2)
    if product.n % rows or product.k % columns or product.k % group:
        wanted = f"n a multiple of {rows}, k of {max(columns, group)}"
        return Refused(name, f"wants {wanted}, not {product.n} and {product.k}")

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(generator, (product.m, product.k), BF16)
        # the reference draws the codes again: beside the packed ones they would fill the cache
        seed = torch.randint(2**31, (1,), generator=generator, device=generator.device)
        codes, scales = int4_quantised(_drawn_again(product, seed), group)
        return x, int4_packed(codes, cuda=product.place.is_cuda), scales, seed

    def run(x: Tensor, packed: Tensor, scales: Tensor, _seed: Tensor) -> Tensor:
        if product.place.is_cuda:
            return torch._weight_int4pack_mm(x, packed, group, scales)
        return torch._weight_int4pack_mm_for_cpu(x, packed, group, scales)

    def reference(x: Tensor, _packed: Tensor, scales: Tensor, seed: Tensor) -> Tensor:
        codes, _ = int4_quantised(_drawn_again(product, seed), group)
        return x.double() @ int4_dequantised(codes, scales).t()

    # each weight's product and sum are rounded to 16 bits at the size of its group, and the result
    return product.kernel(name, "int4_wo", Calls(inputs, run, reference, 4 * ROUNDING[BF16]))


def _drawn_again(product: Product, seed: Tensor) -> Tensor:
    generator = torch.Generator(seed.device).manual_seed(int(seed))
    return weight(generator, (product.n, product.k), BF16)


def int4_quantised(w: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Codes 0 to 15 [n, k], and bf16 scale and offset [k / group, n, 2]: w ≈ (code - 8)·s + o."""
    n, k = w.shape
    groups = w.float().view(n, divide_exactly(k, group), group)
    low, high = groups.amin(dim=-1), groups.amax(dim=-1)
    step = (high - low).clamp(min=torch.finfo(torch.float32).tiny) / 15
    codes = ((groups - low[..., None]) / step[..., None]).round().clamp(0, 15)
    scales = torch.stack((step, low + 8 * step), dim=-1).transpose(0, 1)
    return codes.view(n, k).to(torch.uint8), scales.to(BF16).contiguous()


def int4_dequantised(codes: Tensor, scales: Tensor) -> Tensor:
    """The weights that codes stand for, float64 [n, k]."""
    step, offset = scales.double().transpose(0, 1).unbind(dim=-1)
    groups = codes.double().view(*step.shape, -1) - 8
    return (groups * step[..., None] + offset[..., None]).view(codes.shape)


def int4_packed(codes: Tensor, *, cuda: bool) -> Tensor:
    """As tinygemm lies in memory: on CUDA made of bytes whose high half is the even column."""
    if not cuda:
        return torch._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
    pairs = codes[:, ::2] << 4 | codes[:, 1::2]
    return torch._convert_weight_to_int4pack(pairs.contiguous(), TINYGEMM_TILES)
