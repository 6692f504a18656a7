"""Operator tables: CSV files of kernel times, read into one set of columns per kernel."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmplan.errors import DocumentError
from llmplan.perf.kernels import Column, Operator

MAX_BYTES: Final = 200_000_000
MAX_ROWS: Final = 2_000_000
MS: Final = 1e-3


@dataclass(frozen=True)
class KernelRows:
    """Rows of one kernel.

    Attributes:
        labels: What tells it apart.
        columns: Numbers, each of shape [rows].
        measured_s: Seconds, shape [rows].
        numbers: Number of each row in its file, from 1.
    """

    labels: dict[str, str]
    columns: dict[str, Column]
    measured_s: Column
    numbers: tuple[int, ...]

    def of(self, chosen: NDArray[np.bool_]) -> "KernelRows":
        """Only the chosen rows; ``chosen`` of shape [rows]."""
        return KernelRows(
            self.labels,
            {name: values[chosen] for name, values in self.columns.items()},
            self.measured_s[chosen],
            tuple(n for n, keep in zip(self.numbers, chosen, strict=True) if keep),
        )


def kernel_rows(path: Path, operator: Operator) -> Iterator[KernelRows]:
    """The kernels of a table.

    A blank number is 0. Rows whose time or numbers cannot be read are left out.

    Raises:
        DocumentError: The table cannot be read, or is of another operator.
    """
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DocumentError(f"is larger than {MAX_BYTES:,} bytes.", name)
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            for column in (*operator.labels, *operator.numbers, "latency_ms"):
                if column not in (rows.fieldnames or ()):
                    raise DocumentError(f"has no column '{column}' of {operator.name}.", name, 1)
            found = grouped(_bounded(rows, name), operator)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    except (UnicodeDecodeError, csv.Error):
        raise DocumentError("is no CSV text.", name) from None
    yield from found


def grouped(rows: Iterable[Mapping[str, str]], operator: Operator) -> tuple[KernelRows, ...]:
    """The kernels of the rows of a table, in the order of their first rows.

    A blank number is 0. Rows whose time or numbers cannot be read are left out.
    """
    groups: dict[tuple[str, ...], list[tuple[int, list[float], float]]] = {}
    for number, row in enumerate(rows, 1):
        read = _row(row, operator)
        if read:
            key = tuple(row[label] or "" for label in operator.labels)
            groups.setdefault(key, []).append((number, *read))
    return tuple(_kernel(key, found, operator) for key, found in groups.items())


def _bounded(rows: Iterable[dict[str, str]], name: str) -> Iterator[dict[str, str]]:
    for number, row in enumerate(rows, 1):
        if number > MAX_ROWS:
            raise DocumentError(f"has more than {MAX_ROWS:,} rows.", name)
        yield row


def _kernel(
    key: tuple[str, ...], found: list[tuple[int, list[float], float]], operator: Operator
) -> KernelRows:
    values = np.array([numbers for _, numbers, _ in found], dtype=np.float64)
    return KernelRows(
        dict(zip(operator.labels, key, strict=True)),
        {column: values[:, i] for i, column in enumerate(operator.numbers)},
        np.array([seconds for _, _, seconds in found]),
        tuple(number for number, _, _ in found),
    )


def _row(row: Mapping[str, str], operator: Operator) -> tuple[list[float], float] | None:
    """Numbers and seconds of a row; None where one cannot be read."""
    try:
        numbers = [
            operator.words.get(column, float)(row[column] or "0") for column in operator.numbers
        ]
        seconds = float(row["latency_ms"]) * MS
    except (TypeError, ValueError):
        return None
    readable = all(np.isfinite(numbers)) and 0 < seconds < np.inf
    return (numbers, seconds) if readable else None
