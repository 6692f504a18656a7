"""Numbers for kernels: sizes of a step, random tensors, and quantising them.

Blocks share one scale: ``rows`` x ``columns`` elements, 0 for the whole axis, as in ``Format``.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Place
from llmplan.dtypes import divide_up
from llmplan.errors import InputError
from llmplan.ops.base import Array

Tensor = torch.Tensor

ROUNDING: Final = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float32: 2.0**-24}
"""Largest relative error of rounding to nearest: 8, 11 and 24 bits of significand."""
E4M3: Final = torch.float8_e4m3fn
E4M3_EXPONENT: Final = 8
"""Exponent of the largest e4m3 element: scales of MX blocks are chosen by it (OCP MX v1.0)."""
E2M1_VALUES: Final = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Magnitudes of e2m1 by their three low bits (OCP MX v1.0, FP4)."""
SCALE_TILE: Final = (4, 32, 4)
"""Block scales lie in tiles of 4 x 32 rows by 4 columns (cuBLAS, 1D block scaling factors)."""


class Calls(NamedTuple):
    """The last four fields of a kernel: how it is run, and what is right."""

    inputs: Callable[[torch.Generator], tuple[Tensor, ...]]
    run: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    tolerance: float


def whole(value: Array | float, what: str) -> int:
    """One number of a step that is a count, exactly.

    Raises:
        InputError: Several numbers, or not a whole one.
    """
    values = torch.as_tensor(value, dtype=torch.float64).reshape(-1).tolist()
    if len(values) != 1 or not float(values[0]).is_integer():
        raise InputError(f"a kernel runs one whole number of {what}, not {values}.")
    return int(values[0])


def nvidia_capability(place: Place) -> tuple[int, int]:
    """Compute capability of an NVIDIA device, (0, 0) elsewhere: AMD numbers its own differently."""
    return place.capability if place.is_cuda and torch.version.hip is None else (0, 0)


def normal(
    generator: torch.Generator, shape: Sequence[int], dtype: torch.dtype, scale: float = 1.0
) -> Tensor:
    """Normal numbers of this standard deviation, where the generator is."""
    drawn = torch.randn(tuple(shape), generator=generator, device=generator.device, dtype=dtype)
    return drawn.mul_(scale) if scale != 1.0 else drawn


def weight(generator: torch.Generator, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A matrix, or a stack of them, that keeps the size of what it multiplies: 1 / √k."""
    return normal(generator, shape, dtype, float(shape[-1]) ** -0.5)


def spread(scales: Tensor, shape: Sequence[int], rows: int, columns: int) -> Tensor:
    """One scale an element: each of its block's, [blocks, blocks] to ``shape``."""
    n, k = shape
    wide = scales.repeat_interleave(columns or k, dim=1)[:, :k]
    return wide.repeat_interleave(rows or n, dim=0)[:n]


def largest_of_blocks(x: Tensor, rows: int, columns: int) -> Tensor:
    """Largest magnitude of every block, [n, k] to [blocks, blocks], fp32; 1 where all are zero."""
    n, k = x.shape
    rows, columns = rows or n, columns or k
    down, across = divide_up(n, rows), divide_up(k, columns)
    padded = functional.pad(x.float(), (0, across * columns - k, 0, down * rows - n))
    largest = padded.view(down, rows, across, columns).abs().amax(dim=(1, 3))
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def quantised(x: Tensor, dtype: torch.dtype, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Elements of few bits, and fp32 scales [blocks, blocks]: x ≈ elements · scales."""
    most = 127.0 if dtype is torch.int8 else torch.finfo(dtype).max
    scales = largest_of_blocks(x, rows, columns) / most
    scaled = (x.float() / spread(scales, x.shape, rows, columns)).clamp(-most, most)
    return (scaled.round() if dtype is torch.int8 else scaled).to(dtype), scales


def dequantised(codes: Tensor, scales: Tensor, rows: int, columns: int) -> Tensor:
    """The numbers that quantised elements stand for, float64."""
    return exactly(codes) * spread(exactly(scales), codes.shape, rows, columns)


def exactly(x: Tensor) -> Tensor:
    """Float64 of elements of few bits, which torch converts to fp32 on all devices."""
    return x.float().double()


def mx_quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """MXFP8: e4m3 elements and e8m0 scales [n, k / 32]; powers of two, so the largest saturate."""
    exponent = largest_of_blocks(x, 1, 32).log2().floor() - E4M3_EXPONENT
    scales = torch.exp2(exponent)
    most = torch.finfo(E4M3).max
    scaled = (x.float() / spread(scales, x.shape, 1, 32)).clamp(-most, most)
    return scaled.to(E4M3), scales.to(torch.float8_e8m0fnu)


def nvfp4_quantised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """NVFP4: two e2m1 elements a byte [n, k / 2], e4m3 scales [n, k / 16], one fp32 scale.

    The even element lies in the low half of a byte.
    """
    largest = largest_of_blocks(x, 1, 16)
    tensor_scale = largest.max() / (torch.finfo(E4M3).max * E2M1_VALUES[-1])
    scales = (largest / E2M1_VALUES[-1] / tensor_scale).to(E4M3)
    # a block far below the largest rounds to a scale of 0: all its elements are 0 then
    step = spread(scales.float() * tensor_scale, x.shape, 1, 16)
    scaled = torch.where(step > 0, x.float() / step, torch.zeros_like(step))
    values = torch.tensor(E2M1_VALUES, device=x.device)
    codes = torch.bucketize(scaled.abs(), (values[1:] + values[:-1]) / 2)
    codes = (codes + 8 * (scaled < 0)).to(torch.uint8)
    return codes[:, ::2] | codes[:, 1::2] << 4, scales, tensor_scale.reshape(1)


def nvfp4_dequantised(packed: Tensor, scales: Tensor, tensor_scale: Tensor) -> Tensor:
    """The numbers that NVFP4 elements stand for, float64 [n, k]."""
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(1).long()
    values = torch.tensor(E2M1_VALUES, device=packed.device, dtype=torch.float64)
    signed = values[codes & 7] * torch.where(codes > 7, -1.0, 1.0)
    return signed * spread(exactly(scales) * tensor_scale.double(), signed.shape, 1, 16)


def tiled_scales(scales: Tensor) -> Tensor:
    """Block scales of one byte [n, blocks] in the order that tensor cores read, padded with 0.

    Source: NVIDIA cuBLAS, "1D Block Scaling Factors Layout".
    """
    fourths, rows, columns = SCALE_TILE
    n, k = scales.shape
    down, across = divide_up(n, fourths * rows), divide_up(k, columns)
    padding = (0, across * columns - k, 0, down * fourths * rows - n)
    padded = functional.pad(scales.view(torch.uint8), padding)
    tiles = padded.view(down, fourths, rows, across, columns).permute(0, 3, 2, 1, 4)
    return tiles.reshape(-1).view(scales.dtype)
