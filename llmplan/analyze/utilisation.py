"""How much of a GPU group's peak rates a measured decode step makes use of.

Model FLOPs utilisation (MFU) and model bandwidth utilisation (MBU) set what the model asks for,
each thing once, against what the devices could have done in that time. Work that an engine adds
(latents multiplied again, replicated weights, activations) is not in them, so they are comparable
between engines.
Source: Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B, for MFU; MBU is it for bytes.
"""

from dataclasses import dataclass
from functools import singledispatch
from typing import Final

from llmplan.analyze.flops import decoder_only
from llmplan.dtypes import Format
from llmplan.hardware.device import Device, GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.base import Cost, Operator, Step
from llmplan.ops.embedding import TiedHead
from llmplan.ops.reused import Reused

NARROW: Final = ("fp4", "fp8", "int8")
"""Formats that are stored only, and multiplied in 16 bits, by a device without their unit."""
SIXTEEN_BITS: Final = ("bf16", "fp16")


@dataclass(frozen=True, slots=True)
class StepWork:
    """What one step asks for, whatever runs it.

    Attributes:
        flops_by_unit: Matmuls, attention and convolutions by the format that they run in.
        read_bytes: Weights and state, each read once.
    """

    flops_by_unit: dict[str, float]
    read_bytes: float

    @property
    def flops(self) -> float:
        """Of all units."""
        return sum(self.flops_by_unit.values())


@dataclass(frozen=True, slots=True)
class Utilisation:
    """A measured step beside the peak rates of its devices.

    Attributes:
        work: What the step asked for.
        step_s: What it took.
        least_compute_s: What its FLOPs take at dense peak; None where a peak is not known.
        least_memory_s: What its reads take at the bandwidth; None where that is not known.
        stand_ins: (format, unit) where a device multiplies a narrow format in 16 bits.
        unknown: Formats whose peak is not known.
    """

    work: StepWork
    step_s: float
    least_compute_s: float | None
    least_memory_s: float | None
    stand_ins: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def mfu_frac(self) -> float | None:
        """Time of its FLOPs at peak over its time; with one format FLOPs / time / (GPUs x peak)."""
        return None if self.least_compute_s is None else self.least_compute_s / self.step_s

    @property
    def mbu_frac(self) -> float | None:
        """Bytes read / time / (GPUs x bandwidth)."""
        return None if self.least_memory_s is None else self.least_memory_s / self.step_s

    @property
    def bound(self) -> str | None:
        """What would take longer at peak, compute or memory; None where either is not known."""
        if self.least_compute_s is None or self.least_memory_s is None:
            return None
        return "compute" if self.least_compute_s > self.least_memory_s else "memory"


def decode_work(model: Model, batch: int, context: int) -> StepWork:
    """Work of a decode step: one new token for each of ``batch`` requests of ``context`` tokens.

    Latent attention counts as defined, not absorbed. Of routed experts those are read that evenly
    routed tokens hit. What is written, and activations, are no reads.
    """
    step = Step.decode(batch, context)
    flops: dict[str, float] = {}
    read = 0.0
    for operator, repeats in decoder_only(model).counted():
        cost = operator.cost(step).times(repeats)
        read += float(cost.weight_read_bytes) + float(cost.state_read_bytes)
        for unit, count in _flops(operator, cost):
            if count:
                flops[unit] = flops.get(unit, 0.0) + count
    return StepWork(flops, read)


def _flops(operator: Operator, cost: Cost) -> tuple[tuple[str, float], ...]:
    """FLOPs by unit: products with weights in that of the weights, all else in activations'."""
    other = float(cost.attention_flops) + float(cost.convolution_flops)
    return (
        (matmul_format(operator).compute, float(cost.matmul_flops)),
        (operator.precision.activations.compute, other),
    )


@singledispatch
def matmul_format(operator: Operator) -> Format:
    """Format of the weights that an operator multiplies with: those of its largest tensor."""
    if not operator.weights:
        return operator.precision.activations
    largest = max(operator.weights, key=lambda weight: weight.elements)
    return operator.precision.of(largest.role)


@matmul_format.register
def _tied_head(operator: TiedHead) -> Format:
    return operator.precision.embedding


@matmul_format.register
def _reused(operator: Reused) -> Format:
    return matmul_format(operator.used)


def utilisation(work: StepWork, group: GpuGroup, step_s: float) -> Utilisation:
    """A step of ``step_s`` seconds on all devices of the group, which hold one copy together."""
    device = group.device
    units = {fmt: peak_unit(device, fmt) for fmt in work.flops_by_unit}
    rates = {fmt: device.peak_flops_per_s(unit) for fmt, unit in units.items()}
    unknown = tuple(fmt for fmt, rate in rates.items() if not rate)
    times = [work.flops_by_unit[fmt] / rate for fmt, rate in rates.items() if rate]
    bandwidth = device.bandwidth_bytes_per_s
    return Utilisation(
        work,
        step_s,
        None if unknown else sum(times) / group.count,
        work.read_bytes / bandwidth / group.count if bandwidth else None,
        tuple((fmt, unit) for fmt, unit in units.items() if fmt != unit),
        unknown,
    )


def peak_unit(device: Device, fmt: str) -> str:
    """The unit that a device multiplies a format in.

    A device without the unit of a narrow format widens its weights to 16 bits; one without bf16
    runs fp16.
    """
    instead = SIXTEEN_BITS if fmt in (*NARROW, *SIXTEEN_BITS) else ()
    return next((unit for unit in (fmt, *instead) if device.peak_flops_per_s(unit)), fmt)
