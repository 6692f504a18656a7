"""Kernels: the operator tables they are measured in, what tells them apart, and their curves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmplan.perf.rates import Rates

US: Final = 1e-6
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
class Trap:
    """Rows of a table that say nothing about a kernel: left out of fits and of errors.

    Attributes:
        reason: In words.
        rows: Which ones: (labels, columns, device) to booleans, shape [rows].
    """

    reason: str
    rows: Callable[[Labels, Columns, Rates], NDArray[np.bool_]]


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
        words: How number columns are read that tables write as words, as ``power_law_1.2``.
        traps: Rows that are no measurement of the kernel.
    """

    name: str
    labels: tuple[str, ...]
    numbers: tuple[str, ...]
    parameters: Callable[[Labels], tuple[Parameter, ...]]
    seconds: Callable[[Parameters, Columns, Labels, Rates], Column]
    bound_seconds: Callable[[Columns, Labels, Rates], Column]
    words: Mapping[str, Callable[[str], float]] = field(default_factory=dict)
    traps: tuple[Trap, ...] = ()

    def is_trap(self, labels: Labels, columns: Columns, device: Rates) -> NDArray[np.bool_]:
        """Rows that a trap names, shape [rows]."""
        found = np.zeros(len(columns[self.numbers[0]]), bool)
        for trap in self.traps:
            found |= trap.rows(labels, columns, device)
        return found


def smooth_max(power: float, *terms: Column) -> Column:
    """(Σ termᵖ)^(1/p): the largest of some times, rounded where they are close; p of 1 is a sum."""
    largest = np.maximum(np.maximum.reduce(terms), np.finfo(np.float64).tiny)
    total: Column = sum(((term / largest) ** power for term in terms), start=np.zeros_like(largest))
    result: Column = largest * total ** (1.0 / power)
    return result


def smooth_min(power: float, *terms: Column) -> Column:
    """The smallest of some times, a little less where they are close."""
    least: Column = 1 / smooth_max(power, *(1 / np.maximum(term, 1e-15) for term in terms))
    return least


def saturating(size: Column, half: float) -> Column:
    """Size over size plus half: how a rate approaches its peak."""
    share: Column = size / (size + half)
    return share
