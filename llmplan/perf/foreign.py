"""Measurements of others as rows of operator tables, with what was refused and why."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmplan.errors import DocumentError
from llmplan.perf.fingerprint import DEVICE
from llmplan.perf.kernels import Operator
from llmplan.perf.rates import Rates
from llmplan.perf.recognition import table_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows, kernel_rows

UNREADABLE: Final = "a time or number cannot be read"
NO_CURVE: Final = "no curve knows such a kernel"
IMPOSSIBLE: Final = "its sizes cannot be"
TOO_FAST: Final = "faster than the peaks of the device allow"
ROUTING: Final = "distribution"
SLACK: Final = 0.9
"""Share of the time at the peaks that a measurement may go below: clocks differ a little."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows that were not taken.

    Attributes:
        name: Kernel, line or file.
        reason: Why.
        rows: How many.
    """

    name: str
    reason: str
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Foreign:
    """Measurements of one operator.

    Attributes:
        operator: The table that they are rows of.
        kernels: The rows, by kernel.
        refused: What was not taken.
        notes: How they were read.
    """

    operator: str
    kernels: tuple[KernelRows, ...]
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many were taken."""
        return sum(len(kernel.measured_s) for kernel in self.kernels)


def table_measurements(path: Path, operator: str | None = None) -> Foreign:
    """The rows of a CSV file with the columns of an operator table.

    Args:
        path: The file.
        operator: Its table; None to read it from its name or columns.

    Raises:
        DocumentError: It cannot be read, or has the columns of no table.
    """
    header, count = _shape(path)
    name = operator or table_of(path, header, OPERATORS)
    found = tuple(kernel_rows(path, OPERATORS[name]))
    return checked(OPERATORS[name], found, count)


def checked(operator: Operator, kernels: Iterable[KernelRows], count: int) -> Foreign:
    """Kernels that a curve can be asked for, of ``count`` rows that were there."""
    given, kept, refused = tuple(kernels), [], []
    if unreadable := count - sum(len(rows.measured_s) for rows in given):
        refused.append(Refusal(operator.name, UNREADABLE, unreadable))
    for rows in given:
        name = _name(rows)
        try:
            start = {p.name: p.start for p in operator.parameters(rows.labels)}
            with np.errstate(all="ignore"):
                predicted = operator.seconds(start, rows.columns, rows.labels, DEVICE)
        except (KeyError, ValueError):
            refused.append(Refusal(name, NO_CURVE, len(rows.measured_s)))
            continue
        sound = np.isfinite(predicted) & (predicted > 0)
        kept += _split(rows, sound, IMPOSSIBLE, refused)
    return Foreign(operator.name, tuple(kept), tuple(refused))


def within_peaks(found: Foreign, device: Rates) -> Foreign:
    """The same without rows that no such device can have measured.

    Mixtures of experts are left as they are: which weights were read is up to the routing, and
    their bound is of what to expect.
    """
    if ROUTING in OPERATORS[found.operator].numbers:
        return found
    operator, kept, refused = OPERATORS[found.operator], [], list(found.refused)
    for rows in found.kernels:
        least = SLACK * operator.bound_seconds(rows.columns, rows.labels, device)
        kept += _split(rows, rows.measured_s >= least, TOO_FAST, refused)
    return replace(found, kernels=tuple(kept), refused=tuple(refused))


def sampled(rows: KernelRows, most: int) -> KernelRows:
    """At most so many rows, evenly spaced from the fastest to the slowest."""
    count = len(rows.measured_s)
    if count <= most:
        return rows
    by_time = np.argsort(rows.measured_s, kind="stable")
    chosen = np.zeros(count, bool)
    chosen[by_time[np.linspace(0, count - 1, most).round().astype(int)]] = True
    return rows.of(chosen)


def _split(
    rows: KernelRows, kept: NDArray[np.bool_], reason: str, refused: list[Refusal]
) -> list[KernelRows]:
    """The kept rows, if any; the others are noted among those refused."""
    if not kept.all():
        refused.append(Refusal(_name(rows), reason, int((~kept).sum())))
    return [rows.of(kept)] if kept.any() else []


def _name(rows: KernelRows) -> str:
    return " ".join(filter(None, rows.labels.values()))


def _shape(path: Path) -> tuple[tuple[str, ...], int]:
    """Columns and number of rows of a CSV file; its size is bounded where rows are read.

    Raises:
        DocumentError: It cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            return tuple(rows.fieldnames or ()), sum(1 for _ in rows)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None
    except (UnicodeDecodeError, csv.Error):
        raise DocumentError("is no CSV text.", str(path)) from None
