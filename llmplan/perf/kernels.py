"""Kernels: the operator tables they are measured in, what tells them apart, and their curves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmplan.perf.rates import Rates

Column: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = Mapping[str, Column]
"""Number columns of some rows of one kernel, each of shape [rows]."""
Parameters: TypeAlias = Mapping[str, float]
Labels: TypeAlias = Mapping[str, str]
"""Word columns that the rows of one kernel share: src, kernel, dtype, phase …"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One fitted parameter: where the fit starts, and between what it stays.

    Attributes:
        name: With its unit, as ``floor_us``.
        start: First guess.
        low: Least.
        high: Most.
    """

    name: str
    start: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator table.

    Attributes:
        name: As ``op:`` metrics call it: gemm, context_attention …
        labels: Word columns that tell kernels apart.
        numbers: Number columns that a curve reads.
        parameters: What is fitted for a kernel, by its labels.
        seconds: The curve: (parameters, columns, labels, device) to seconds, shape [rows]. It never
            falls below the bounds of the device at full efficiency.
        bound_seconds: The bound itself: work over peaks, no efficiency.
    """

    name: str
    labels: tuple[str, ...]
    numbers: tuple[str, ...]
    parameters: Callable[[Labels], tuple[Parameter, ...]]
    seconds: Callable[[Parameters, Columns, Labels, Rates], Column]
    bound_seconds: Callable[[Columns, Labels, Rates], Column]


def smooth_max(power: float, *terms: Column) -> Column:
    """(Σ termᵖ)^(1/p): the largest of some times, rounded where they are close; p of 1 is a sum."""
    total: Column = sum((term**power for term in terms), start=np.zeros_like(terms[0]))
    result: Column = total ** (1.0 / power)
    return result


def saturating(size: Column, half: float) -> Column:
    """size / (size + half): how a rate approaches its peak."""
    share: Column = size / (size + half)
    return share
