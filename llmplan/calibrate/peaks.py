"""The best rates of a device whose peaks nobody published.

They are those of the fastest repeat of several sizes of a copy, a sum and a matrix multiply.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from llmplan.calibrate.attempts import Failed
from llmplan.calibrate.cold import available_bytes, last_cache_bytes
from llmplan.calibrate.kernel import Kernel, Place
from llmplan.calibrate.timing import Limits, measure
from llmplan.calibrate.watch import host_load
from llmplan.errors import InputError

_BLOCK: Final = 2**20
BLOCK_BYTES: Final = 4 * _BLOCK
"""A buffer is so many random fp32 values, again and again."""


@dataclass(frozen=True, slots=True)
class MeasuredPeaks:
    """The best rates that were seen, without a margin.

    Attributes:
        bytes_per_s: Of a copy (read and written) or a sum, larger than the last cache.
        fp32_flops_per_s: Of a matrix multiply.
        bf16_flops_per_s: Likewise, and no less than that of fp32, which bf16 can be widened to.
        note: What went wrong; empty where nothing did.
    """

    bytes_per_s: float
    fp32_flops_per_s: float
    bf16_flops_per_s: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Best:
    """The best rate of several trials, and what was said of them."""

    rate: float = 0.0
    notes: tuple[str, ...] = ()


def measured_peaks(place: Place, limits: Limits) -> MeasuredPeaks:
    """Measures the device; each of about a dozen trials is given these limits.

    Raises:
        InputError: Torch runs none of the copies or none of the fp32 multiplies.
    """
    busy = _busy_note(place)
    with _full_fp32():
        stream = _best_stream(place, limits)
        fp32 = _best_matmul(place, limits, torch.float32)
        bf16 = _best_matmul(place, limits, torch.bfloat16)
    for word, best in (("copy", stream), ("fp32 matrix multiply", fp32)):
        if not best.rate:
            raise InputError(f"no {word} runs on {place.device}: {'; '.join(best.notes)}.")
    return MeasuredPeaks(
        bytes_per_s=stream.rate,
        fp32_flops_per_s=fp32.rate,
        bf16_flops_per_s=max(bf16.rate, fp32.rate),
        note="; ".join(dict.fromkeys((*busy, *stream.notes, *fp32.notes, *bf16.notes))),
    )


def _best_stream(place: Place, limits: Limits) -> _Best:
    """Bytes per second of copies and sums."""
    room = available_bytes(place) // 8
    best = _Best()
    for multiple in (4, 16) if place.is_cuda else (4,):
        blocks = max(1, min(multiple * last_cache_bytes(place), room) // BLOCK_BYTES)
        for kernel in (_copy(blocks, place), _sum(blocks, place)):
            best, _ = _tried(best, kernel, kernel.columns["bytes"], place, limits)
    if blocks * BLOCK_BYTES > last_cache_bytes(place):
        return best
    return _Best(best.rate, (*best.notes, "too little memory for a copy larger than the cache"))


def _best_matmul(place: Place, limits: Limits, dtype: torch.dtype) -> _Best:
    """FLOP/s of square multiplies, doubled in size while there is time and room."""
    best, size = _Best(), 2048 if place.is_cuda else 512
    while size <= 16384 and 3 * size**2 * dtype.itemsize < available_bytes(place) // 4:
        kernel = _matmul(size, dtype, place)
        best, pass_s = _tried(best, kernel, kernel.flops, place, limits)
        if pass_s > limits.seconds / 8:
            break
        size *= 2
    return best


def _busy_note(place: Place) -> tuple[str, ...]:
    """That others use the processor, before its own peaks are looked for."""
    load, threads = host_load() or 0.0, torch.get_num_threads()
    if place.is_cuda or load < threads / 2:
        return ()
    return (f"the processor was busy (load {load:.1f}, {threads} threads): rates may be too low",)


def _tried(
    best: _Best, kernel: Kernel, work: float, place: Place, limits: Limits
) -> tuple[_Best, float]:
    """The better of what was seen and this kernel's rate, and how long it takes."""
    timing = measure(kernel, place, limits)
    if isinstance(timing, Failed):
        return _Best(best.rate, (*best.notes, f"{timing.name}: {timing.reason}")), math.inf
    return _Best(max(best.rate, work / timing.least_seconds), best.notes), timing.seconds


def _copy(blocks: int, place: Place) -> Kernel:
    return _trial(
        "copy",
        {"bytes": 2.0 * blocks * BLOCK_BYTES},
        lambda generator: (
            _filled(blocks, place, generator),
            torch.ones(blocks * _BLOCK, device=place.device),
        ),
        lambda source, target: target.copy_(source),
    )


def _sum(blocks: int, place: Place) -> Kernel:
    return _trial(
        "sum",
        {"bytes": 1.0 * blocks * BLOCK_BYTES},
        lambda generator: (_filled(blocks, place, generator),),
        torch.sum,
    )


def _matmul(size: int, dtype: torch.dtype, place: Place) -> Kernel:
    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        first, second = (
            torch.randn((size, size), generator=generator, device=place.device, dtype=dtype)
            for _ in range(2)
        )
        return first, second

    return _trial(f"{dtype} matmul of {size}", {"flops": 2.0 * size**3}, inputs, torch.matmul)


def _trial(
    name: str,
    columns: dict[str, float],
    inputs: Callable[[torch.Generator], tuple[torch.Tensor, ...]],
    run: Callable[..., torch.Tensor],
) -> Kernel:
    """A kernel of no table, which is timed only."""
    flops = columns.get("flops", 0.0)
    return Kernel("", {"kernel": name}, columns, flops, inputs, run, reference=run, tolerance=0.0)


def _filled(blocks: int, place: Place, generator: torch.Generator) -> torch.Tensor:
    """Random, but only within a block: drawing all of it would take longer than the trial."""
    return torch.rand(_BLOCK, generator=generator, device=place.device).repeat(blocks)


@contextmanager
def _full_fp32() -> Iterator[None]:
    """No TF32, which some containers turn on."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
