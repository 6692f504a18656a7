"""Products of floating-point weights and activations of 8 and 4 bits, with scales.

Activations are quantised before the timed call, because engines do that in the norm or activation
that makes them.
"""

# ruff: noqa: SLF001  (torch's products of few bits have private names)

from typing import Final

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Refused
from llmplan.calibrate.runners.elements import (
    E4M3,
    ROUNDING,
    Calls,
    Tensor,
    dequantised,
    exactly,
    mx_quantised,
    nvfp4_dequantised,
    nvfp4_quantised,
    nvidia_capability,
    quantised,
    tiled_scales,
)
from llmplan.calibrate.runners.product import (
    BF16,
    Product,
)

BLOCK: Final = 128
"""Side of the blocks of weights, and length of those of activations."""
FP8_ERROR: Final = 2.0**-5
"""Hopper's FP8 units keep about 14 bits of a sum (DeepSeek-AI 2024, DeepSeek-V3, 3.3.2), and cut it
off about once for 32 products: 2⁻¹⁴ · k / 32 at most, which is 2⁻⁵ for k of 16,384."""


def _fp8_refusal(product: Product) -> str:
    if product.place.device.type == "cpu":
        return ""
    if nvidia_capability(product.place) < (8, 9):
        return "torch multiplies FP8 on CPUs and on NVIDIA devices of capability 8.9 and above"
    return product.uneven(16, 16)


def scaled_mm(product: Product) -> Kernel | Refused:
    """FP8 with one scale a tensor."""
    if reason := _fp8_refusal(product):
        return Refused("scaled_mm", reason)
    dtype = torch.float8_e5m2 if product.stored.name == "fp8_e5m2" else E4M3

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = product.varied(generator)
        (x8, x_scale), (w8, w_scale) = quantised(x, E4M3, 0, 0), quantised(w, dtype, 0, 0)
        return x8, x_scale.reshape(()), w8, w_scale.reshape(())

    def run(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
        return torch._scaled_mm(x, w.t(), x_scale, w_scale, out_dtype=BF16)

    def reference(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
        of_tokens = exactly(x) * x_scale.double()
        return of_tokens @ (exactly(w) * w_scale.double()).t()

    return product.kernel("scaled_mm", "fp8", Calls(inputs, run, reference, FP8_ERROR))


def scaled_mm_rowwise(product: Product) -> Kernel | Refused:
    """FP8 with one scale a token and one an output channel."""
    if reason := _fp8_refusal(product):
        return Refused("scaled_mm_rowwise", reason)

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = product.varied(generator)
        return *quantised(x, E4M3, 1, 0), *quantised(w, E4M3, 1, 0)

    def run(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
        return torch._scaled_mm(x, w.t(), x_scale, w_scale.t(), out_dtype=BF16)

    def reference(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor) -> Tensor:
        return dequantised(x, x_scale, 1, 0) @ dequantised(w, w_scale, 1, 0).t()

    calls = Calls(inputs, run, reference, FP8_ERROR)
    return product.kernel("scaled_mm_rowwise", "fp8_channel", calls)


def scaled_mm_blockwise(product: Product) -> Kernel | Refused:
    """FP8 with a scale for 128 x 128 weights, and for 128 elements of a token.

    Scales lie with tokens innermost; those of weights with k innermost, padded to four. Weights are
    padded with zeros to whole blocks of outputs, which are cut off again.
    Source: torch's checks of ``_scaled_mm_v2``.
    """
    name = "scaled_mm_blockwise"
    if nvidia_capability(product.place)[0] != 9 or not hasattr(functional, "scaled_mm"):
        where = "NVIDIA devices of capability 9.x, where it has functional.scaled_mm"
        return Refused(name, f"torch multiplies FP8 with 128 x 128 blocks on {where}")
    if reason := product.uneven(16, BLOCK):
        return Refused(name, reason)
    return blockwise_kernel(product)


def blockwise_kernel(product: Product) -> Kernel:
    """The same, wherever it is made."""
    kinds = functional.ScalingType

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = product.varied(generator)
        whole = functional.pad(w, (0, 0, 0, -product.n % BLOCK))
        x8, x_scales = quantised(x, E4M3, 1, BLOCK)
        w8, w_scales = quantised(whole, E4M3, BLOCK, BLOCK)
        padded = functional.pad(w_scales, (0, -w_scales.shape[1] % 4))
        # a single token's scales are contiguous either way: a copy alone has the strides asked for
        x_scales = x_scales.t().clone(memory_format=torch.contiguous_format)
        return x8, x_scales, w8, padded

    def run(x: Tensor, x_scales: Tensor, w: Tensor, w_scales: Tensor) -> Tensor:
        return functional.scaled_mm(
            x,
            w.t(),
            x_scales.t(),
            kinds.BlockWise1x128,
            w_scales.t(),
            kinds.BlockWise128x128,
            output_dtype=BF16,
        ).narrow(1, 0, product.n)

    def reference(x: Tensor, x_scales: Tensor, w: Tensor, w_scales: Tensor) -> Tensor:
        of_tokens = dequantised(x, x_scales.t(), 1, BLOCK)
        return of_tokens @ dequantised(w, w_scales, BLOCK, BLOCK)[: product.n].t()

    calls = Calls(inputs, run, reference, FP8_ERROR)
    return product.kernel("scaled_mm_blockwise", "fp8_block", calls)


def _blackwell_refusal(product: Product) -> str:
    if nvidia_capability(product.place)[0] < 10 or not hasattr(functional, "scaled_mm"):
        where = "NVIDIA devices of capability 10.0 and above, where it has functional.scaled_mm"
        return f"torch multiplies {product.stored.name} on {where}"
    return product.uneven(16, 32)


def scaled_mm_mxfp8(product: Product) -> Kernel | Refused:
    """MXFP8 weights and activations."""
    if reason := _blackwell_refusal(product):
        return Refused("scaled_mm_mxfp8", reason)
    return mxfp8_kernel(product)


def mxfp8_kernel(product: Product) -> Kernel:
    """The same, wherever it is made."""
    kind, tiles = functional.ScalingType.BlockWise1x32, functional.SwizzleType.SWIZZLE_32_4_4

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = product.varied(generator)
        (x8, x_scales), (w8, w_scales) = mx_quantised(x), mx_quantised(w)
        return x8, tiled_scales(x_scales), w8, tiled_scales(w_scales), x_scales, w_scales

    def run(x: Tensor, x_tiles: Tensor, w: Tensor, w_tiles: Tensor, *_plain: Tensor) -> Tensor:
        return functional.scaled_mm(
            x,
            w.t(),
            x_tiles,
            kind,
            w_tiles,
            kind,
            swizzle_a=tiles,
            swizzle_b=tiles,
            output_dtype=BF16,
        )

    def reference(
        x: Tensor, _x: Tensor, w: Tensor, _w: Tensor, x_scales: Tensor, w_scales: Tensor
    ) -> Tensor:
        return dequantised(x, x_scales, 1, 32) @ dequantised(w, w_scales, 1, 32).t()

    calls = Calls(inputs, run, reference, FP8_ERROR)
    return product.kernel("scaled_mm_mxfp8", "mxfp8", calls)


def scaled_mm_nvfp4(product: Product) -> Kernel | Refused:
    """NVFP4 weights and activations."""
    if reason := _blackwell_refusal(product):
        return Refused("scaled_mm_nvfp4", reason)
    return nvfp4_kernel(product)


def nvfp4_kernel(product: Product) -> Kernel:
    """The same, wherever it is made."""
    kinds, swizzles = functional.ScalingType, functional.SwizzleType
    recipe = [kinds.BlockWise1x16, kinds.TensorWise]
    tiles = [swizzles.SWIZZLE_32_4_4, swizzles.NO_SWIZZLE]

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = map(nvfp4_quantised, product.varied(generator))
        return x[0], tiled_scales(x[1]), x[2], w[0], tiled_scales(w[1]), w[2], x[1], w[1]

    def run(*given: Tensor) -> Tensor:
        x, x_tiles, x_scale, w, w_tiles, w_scale = given[:6]
        return functional.scaled_mm(
            x.view(torch.float4_e2m1fn_x2),
            w.view(torch.float4_e2m1fn_x2).t(),
            [x_tiles, x_scale],
            recipe,
            [w_tiles, w_scale],
            recipe,
            swizzle_a=tiles,
            swizzle_b=tiles,
            output_dtype=BF16,
        )

    def reference(*given: Tensor) -> Tensor:
        x, _, x_scale, w, _, w_scale, x_scales, w_scales = given
        of_tokens = nvfp4_dequantised(x, x_scales, x_scale)
        return of_tokens @ nvfp4_dequantised(w, w_scales, w_scale).t()

    calls = Calls(inputs, run, reference, ROUNDING[BF16])
    return product.kernel("scaled_mm_nvfp4", "nvfp4", calls)
