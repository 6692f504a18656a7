"""What was measured between ranks, and the file that hands it on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmplan.errors import DocumentError, printable
from llmplan.files import write_atomically
from llmplan.perf.foreign import Foreign, Refusal, checked
from llmplan.perf.refused import Refused
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """One measured point of a collective.

    Attributes:
        table: Name of the operator table in ``perf.registry`` that it is a row of.
        labels: Words of that table, ``src`` left out.
        columns: Numbers of that table; ``bytes`` is the whole buffer.
        seconds: Median time of the slowest rank.
        spread_frac: Interquartile range of the repeats over their median, of the worst rank.
        note: How it was timed.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    table: str
    labels: dict[str, str]
    columns: dict[str, float]
    seconds: float
    spread_frac: float
    note: str


@dataclass(frozen=True, slots=True)
class Exchanges:
    """What was measured between ranks, and what could not be.

    Attributes:
        rows: Measured points.
        refused: Collectives that this library cannot do, or did wrongly, with the reason.
        source: ``src`` of the kernels: what measured them.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    rows: tuple[ExchangeRow, ...] = ()
    refused: tuple[Refused, ...] = ()
    source: str = ""


def read_exchanges(path: Path) -> Exchanges:
    """What ``--rows`` wrote.

    Raises:
        DocumentError: The file cannot be read, or holds something else.
    """
    try:
        return TypeAdapter(Exchanges).validate_json(path.read_bytes())
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DocumentError(f"{first['msg']}: measure again.", str(path), key=key) from None


def write_exchanges(path: Path, found: Exchanges) -> None:
    """Write rows and refusals as JSON, whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomically(path, TypeAdapter(Exchanges).dump_json(found, indent=1).decode() + "\n")


def exchange_measurements(path: Path) -> tuple[Foreign, ...]:
    """The rows of a file that ``--rows`` wrote, by operator table.

    Raises:
        DocumentError: The file cannot be read, or holds something else.
    """
    found = read_exchanges(path)
    refused = tuple(Refusal(each.name, each.reason) for each in found.refused)
    kinds: dict[str, dict[tuple[tuple[str, str], ...], list[ExchangeRow]]] = {}
    for row in found.rows:
        if row.table not in OPERATORS:
            raise DocumentError(f"'{printable(row.table)}' is no operator table.", str(path))
        labels = tuple(sorted({"src": found.source, **row.labels}.items()))
        kinds.setdefault(row.table, {}).setdefault(labels, []).append(row)
    measured = []
    for table, kernels in kinds.items():
        operator, count = OPERATORS[table], sum(map(len, kernels.values()))
        try:
            rows = [
                _kernel(dict(labels), some, operator.numbers) for labels, some in kernels.items()
            ]
        except KeyError as error:
            raise DocumentError(f"a row of {table} has no {error}.", str(path)) from None
        read = checked(operator, rows, count)
        measured.append(replace(read, refused=(*read.refused, *refused)))
        refused = ()
    return tuple(measured)


def _kernel(
    labels: dict[str, str], rows: Sequence[ExchangeRow], numbers: tuple[str, ...]
) -> KernelRows:
    columns = {name: np.array([row.columns[name] for row in rows]) for name in numbers}
    seconds = np.array([row.seconds for row in rows])
    return KernelRows(labels, columns, seconds, tuple(range(1, len(rows) + 1)))
