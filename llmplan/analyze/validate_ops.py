"""Predicted against measured times of kernels, row by row of operator tables."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmplan.analyze.operator_files import Asked, TableFile, table_files
from llmplan.errors import printable
from llmplan.perf.kernels import Column, Operator
from llmplan.perf.nearest import Chosen, chosen, described
from llmplan.perf.profile import Fitted, kernels_of
from llmplan.perf.rates import Rates, rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows, kernel_rows

UNREADABLE: Final = "a number or the time cannot be read"


@dataclass(frozen=True, slots=True)
class Timed:
    """One row of a table.

    Attributes:
        id: As ``TableFile`` calls it.
        operator: Name of the table.
        device: Catalogue name.
        kernel: Its labels in one line.
        measured_s: Seconds; None where they cannot be read.
        predicted_s: Likewise; None where the row is skipped.
        low_s: What a tenth of the measured rows of the kernel stay below.
        high_s: What a tenth exceed.
        bound_s: The device's bound alone: work over peak rates.
        status: predicted, assumed or skipped.
        reason: Why it is skipped, or what was assumed.
    """

    id: str
    operator: str
    device: str
    kernel: str
    measured_s: float | None
    predicted_s: float | None = None
    low_s: float | None = None
    high_s: float | None = None
    bound_s: float | None = None
    status: str = "skipped"
    reason: str = ""

    @property
    def error_frac(self) -> float | None:
        """Predicted over measured, less one."""
        return _over(self.predicted_s, self.measured_s)

    @property
    def bound_error_frac(self) -> float | None:
        """The same of the bound."""
        return _over(self.bound_s, self.measured_s)


def _over(value: float | None, measured: float | None) -> float | None:
    return None if value is None or not measured else value / measured - 1


def validated_ops(asked: Asked) -> tuple[Timed, ...]:
    """Every row of every table, beside its prediction.

    Raises:
        LlmplanError: As ``table_files``.
    """
    return tuple(row for file in table_files(asked) for row in _validated(file))


def _validated(file: TableFile) -> list[Timed]:
    operator = OPERATORS.get(file.operator)
    reason = UNREADABLE if operator else f"no curve for {file.operator} tables"
    found = [
        Timed(row, file.operator, file.device.slug, "", None, reason=reason) for row in file.ids
    ]
    if operator:
        for rows in kernel_rows(file.path, operator):
            for number, timed in zip(rows.numbers, _timed(file, rows, operator), strict=True):
                found[number - 1] = timed
    return found


def _timed(file: TableFile, rows: KernelRows, operator: Operator) -> Iterator[Timed]:
    """The rows of one kernel."""
    device = file.device
    kernel = printable(described(rows.labels))
    guess = _guess(rows, operator, device.slug, rates_of(device))
    beyond = _beyond(rows, guess.chosen.fitted) if guess.chosen else [""] * len(rows.numbers)
    for i, number in enumerate(rows.numbers):
        row = file.ids[number - 1]
        measured = float(rows.measured_s[i])
        reason, predicted = guess.skipped[i], float(guess.predicted_s[i])
        if guess.chosen is None or reason or not 0 < predicted < np.inf:
            reason = reason or "its sizes cannot be"
            yield Timed(row, operator.name, device.slug, kernel, measured, reason=reason)
            continue
        fitted, why = guess.chosen.fitted, guess.chosen.reason
        yield Timed(
            row,
            operator.name,
            device.slug,
            kernel,
            measured,
            predicted,
            predicted * (1 + fitted.low_error),
            predicted * (1 + fitted.high_error),
            float(guess.bound_s[i]),
            "assumed" if why else "predicted",
            "; ".join(text for text in (why, beyond[i]) if text),
        )


@dataclass(frozen=True, slots=True)
class Guess:
    """Predictions of the rows of one kernel.

    Attributes:
        chosen: The fitted kernel; None where all rows are skipped.
        predicted_s: Seconds, shape [rows]; not a number where there are none.
        bound_s: Likewise.
        skipped: Reason of each row; empty where it is predicted.
    """

    chosen: Chosen | None
    predicted_s: Column
    bound_s: Column
    skipped: list[str]


def _guess(rows: KernelRows, operator: Operator, device: str, rates: Rates) -> Guess:
    traps = _traps(rows, operator, rates)
    kernels = kernels_of(device)
    found = chosen(kernels, operator.name, rows.labels) if kernels else None
    if found is None:
        formats = f"no {operator.name} kernel of {device} in these formats is fitted"
        missing = formats if kernels else f"no kernel of {device} is fitted"
        nothing = np.full(len(rows.numbers), np.nan)
        return Guess(None, nothing, nothing, [trap or missing for trap in traps])
    labels = found.fitted.labels
    with np.errstate(all="ignore"):
        predicted = operator.seconds(found.fitted.parameters, rows.columns, labels, rates)
        bound = operator.bound_seconds(rows.columns, labels, rates)
    return Guess(found, predicted, bound, traps)


def _traps(rows: KernelRows, operator: Operator, rates: Rates) -> list[str]:
    """The trap that each row is, if any."""
    reasons = [""] * len(rows.numbers)
    for trap in operator.traps:
        for i in np.flatnonzero(trap.rows(rows.labels, rows.columns, rates)):
            reasons[i] = trap.reason
    return reasons


def _beyond(rows: KernelRows, fitted: Fitted) -> list[str]:
    """Numbers of each row that no fitted row reaches."""
    outside: list[list[str]] = [[] for _ in rows.numbers]
    for name, (least, most) in fitted.ranges.items():
        values = rows.columns[name]
        for i in np.flatnonzero((values < least) | (values > most)):
            outside[i].append(name)
    return [f"beyond what was measured: {', '.join(names)}" if names else "" for names in outside]


@dataclass(frozen=True, slots=True)
class TimeErrors:
    """Errors of some rows.

    Attributes:
        rows: Rows looked at.
        predicted: Of these, predicted by their own kernel; the errors are of these.
        assumed: Of these, predicted by another kernel.
        median_abs_frac: Median of absolute errors.
        p90_abs_frac: 90th percentile.
        mape: Mean.
        bound_median_abs_frac: Median for the device's bound alone.
    """

    rows: int
    predicted: int
    assumed: int
    median_abs_frac: float | None
    p90_abs_frac: float | None
    mape: float | None
    bound_median_abs_frac: float | None


def time_errors(rows: Iterable[Timed]) -> TimeErrors:
    """Errors in a few figures."""
    found = list(rows)
    predicted = [row for row in found if row.status == "predicted"]
    assumed = sum(row.status == "assumed" for row in found)
    if not predicted:
        return TimeErrors(len(found), 0, assumed, None, None, None, None)
    off = np.abs([row.error_frac or 0.0 for row in predicted])
    bound = np.abs([row.bound_error_frac or 0.0 for row in predicted])
    return TimeErrors(
        len(found),
        len(predicted),
        assumed,
        float(np.median(off)),
        float(np.quantile(off, 0.9)),
        float(off.mean()),
        float(np.median(bound)),
    )
