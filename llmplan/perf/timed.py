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
from llmplan.units import Provenance

GENERIC_COMPUTE_FRAC: Final = 0.5
GENERIC_MEMORY_FRAC: Final = 0.7
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
    weakest = max(curves, key=lambda curve: curve.provenance is Provenance.ASSUMED)
    return Timed(kind, seconds, weakest.provenance, weakest.reason)


@singledispatch
def timed(operator: Operator, step: Step, shelf: KernelShelf) -> Timed:
    """Seconds of one call of an operator: bounds at usual shares of the peaks, and a launch."""
    cost = operator.cost(step)
    rows = np.zeros(np.shape(step.tokens))
    compute = (rows + cost.model_flops) / (shelf.rates.flops("bf16") * GENERIC_COMPUTE_FRAC)
    compute = compute + (rows + cost.scan_flops + cost.vector_flops) / _vector_flops(shelf)
    memory = (rows + cost.moved_bytes) / (shelf.rates.bytes_per_s * GENERIC_MEMORY_FRAC)
    kind = type(operator).__name__
    return Timed(kind, GENERIC_FLOOR_US * US + np.maximum(compute, memory))


def _vector_flops(shelf: KernelShelf) -> float:
    return shelf.rates.flops_per_s.get("fp32", shelf.rates.flops("bf16") / 16) * 0.5
