"""Measured points of a kernel as text: a CSV block that an editor can show, with its units."""

import csv
import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pydantic import ConfigDict

from llmplan.errors import InputError, printable
from llmplan.perf.kernels import Column, Operator
from llmplan.perf.profile import Strict
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import MS, KernelRows

LATENCY: Final = "latency_s"
SPREAD: Final = "spread_frac"
LATENCY_MS: Final = "latency_ms"
TIME_DIGITS: Final = 9
WHOLE: Final = 1e15
"""Whole numbers below are written without a fraction; doubles hold them exactly."""


class Points(Strict):
    """The measured rows of one kernel.

    Attributes:
        operator: The table that they are rows of.
        labels: What tells the kernel apart.
        rows: CSV text: the table's number columns, ``latency_s``, and ``spread_frac``: the spread
            of repeated timings beside their median.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    operator: str
    labels: dict[str, str]
    rows: str

    def kernel_rows(self) -> KernelRows:
        """The rows as fits read them.

        Raises:
            InputError: No such table, other columns than it has, or a row that cannot be read.
        """
        columns = self._columns()
        operator = OPERATORS[self.operator]
        return KernelRows(
            dict(self.labels),
            {name: columns[name] for name in operator.numbers},
            columns[LATENCY],
            tuple(range(1, len(columns[LATENCY]) + 1)),
        )

    def spread_frac(self) -> Column:
        """Spread of repeated timings of every row; errors as of ``kernel_rows``."""
        return self._columns()[SPREAD]

    def _columns(self) -> dict[str, Column]:
        operator = OPERATORS.get(self.operator)
        if operator is None:
            raise InputError(f"'{printable(self.operator)}' is no operator table.")
        if set(self.labels) != set(operator.labels):
            raise InputError(f"{operator.name} is told apart by {', '.join(operator.labels)}.")
        header, *lines = list(csv.reader(io.StringIO(self.rows))) or [[]]
        names = (*operator.numbers, LATENCY, SPREAD)
        if sorted(header) != sorted(names):
            raise InputError(f"the columns of {operator.name} are {','.join(names)}.")
        values = np.array([_numbers(line, header, n) for n, line in enumerate(lines, 1)])
        table = values.reshape(len(lines), len(header))
        return {name: table[:, i] for i, name in enumerate(header)}


def _numbers(line: list[str], header: list[str], number: int) -> list[float]:
    try:
        found = [float(text) for text in line]
    except ValueError:
        found = []
    if len(found) != len(header) or not np.all(np.isfinite(found)):
        raise InputError(f"row {number} does not hold {len(header)} numbers.")
    if found[header.index(LATENCY)] <= 0 or min(found) < 0:
        raise InputError(f"row {number} holds a time or number that cannot be.")
    return found


def points_of(operator: Operator, rows: KernelRows, spread_frac: Column) -> Points:
    """The rows of a kernel as text; ``spread_frac`` of shape [rows].

    Times are kept to nine digits, more than any clock of a device has.
    """
    names = list(operator.numbers)
    lines = [",".join((*names, LATENCY, SPREAD))]
    for row in range(len(rows.measured_s)):
        numbers = [_written(float(rows.columns[name][row])) for name in names]
        time, spread = rows.measured_s[row], spread_frac[row]
        lines.append(",".join((*numbers, f"{time:.{TIME_DIGITS}g}", f"{spread:.4g}")))
    text = "\n".join(lines) + "\n"
    return Points(operator=operator.name, labels=dict(rows.labels), rows=text)


def table_text(points: tuple[Points, ...], operator: Operator) -> str:
    """The rows of one operator in the form of its table: labels, numbers and ``latency_ms``.

    Raises:
        InputError: A row cannot be read.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*operator.labels, *operator.numbers, LATENCY_MS))
    for kernel in points:
        if kernel.operator != operator.name:
            continue
        rows = kernel.kernel_rows()
        labels = [kernel.labels[name] for name in operator.labels]
        for row, seconds in enumerate(rows.measured_s):
            numbers = [_word(name, rows.columns, row, operator) for name in operator.numbers]
            writer.writerow((*labels, *numbers, f"{seconds / MS:.12g}"))
    return text.getvalue()


def _word(name: str, columns: Mapping[str, Column], row: int, operator: Operator) -> str:
    """A number as the operator's table writes it: exponents of routing have a name there.

    Raises:
        InputError: The table has no word for it.
    """
    value = float(columns[name][row])
    read: Any = operator.words.get(name)
    if read is None:
        return _written(value)
    word = f"power_law_{_written(value)}" if value else "balanced"
    try:
        known = read(word) == value
    except ValueError:
        known = False
    if not known:
        raise InputError(f"the table of {operator.name} has no word for {name} {value}.")
    return word


def _written(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() and abs(value) < WHOLE else repr(value)
