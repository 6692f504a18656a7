"""Time of one operator of a rank in one step, by the type of the operator.

This is the table of all of them, and what holds for those that no kernel is fitted for: work at
usual shares of the peaks, and a launch. Points of a sweep are rows, shape [rows].
"""

from dataclasses import dataclass
from functools import singledispatch
from typing import Final

import numpy as np

from llmplan.ops.base import Operator, Step
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.kernels import US, Column
from llmplan.perf.operators.by_work import columns_of, vector_flops_per_s
from llmplan.units import Provenance, weakest

GENERIC_COMPUTE_FRAC: Final = 0.5
GENERIC_MEMORY_FRAC: Final = 0.7
VECTOR_FRAC: Final = 0.5
GENERIC_FLOOR_US: Final = 3.0
VECTOR_FLOOR_US: Final = 1.5
PROBE_TOKENS: Final = (1.0, 32.0, 512.0, 8192.0)
"""Work that kernels are compared by."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of a kernel, shape [rows], and how they are known."""

    kind: str
    seconds: Column
    provenance: Provenance = Provenance.ASSUMED
    reason: str = "no kernel of its kind is fitted: peak rates at usual shares"


def by_curves(kind: str, seconds: Column, *curves: Curve) -> Timed:
    """Timed by fitted kernels; the weakest of them decides how far it is known."""
    known = weakest(*(curve.provenance for curve in curves))
    reason = next(curve.reason for curve in curves if curve.provenance is known)
    return Timed(kind, seconds, known, reason)


@singledispatch
def timed(operator: Operator, step: Step, shelf: KernelShelf) -> Timed:
    """Seconds of one call of an operator: by its work, as measured, or at usual shares of peaks."""
    kind = type(operator).__name__
    if curve := curve_by_work(operator, shelf):
        return by_curves(kind, curve.seconds(columns_of(operator, step)), curve)
    cost = operator.cost(step)
    rows = np.zeros(np.shape(step.tokens))
    compute = (rows + cost.model_flops) / (shelf.rates.flops("bf16") * GENERIC_COMPUTE_FRAC)
    others = rows + cost.scan_flops + cost.vector_flops
    compute = compute + others / (vector_flops_per_s(shelf.rates) * VECTOR_FRAC)
    memory = (rows + cost.moved_bytes) / (shelf.rates.bytes_per_s * GENERIC_MEMORY_FRAC)
    return Timed(kind, GENERIC_FLOOR_US * US + np.maximum(compute, memory))


def curve_by_work(operator: Operator, shelf: KernelShelf) -> Curve | None:
    """The kernel that was measured for operators of this class; None where none was."""
    probe = columns_of(operator, Step.prefill(1, np.array(PROBE_TOKENS)))
    return shelf.best("by_work", {"op": type(operator).__name__}, probe)
