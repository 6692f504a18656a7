"""What was measured so far, line by line, so that an interrupted calibration goes on.

The first line says which grid, device, torch and tables the others are of; with another one the
journal is begun anew. Lines are JSON and never executed; one that was cut off, or is no row of a
table, ends what is read.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmplan.errors import InputError
from llmplan.files import write_atomically
from llmplan.perf.registry import OPERATORS


@dataclass(frozen=True, slots=True)
class Head:
    """What the lines of a journal are of.

    Attributes:
        grid: Hash of the points.
        device: Catalogue name.
        torch: Version.
        curves: Fingerprint of the tables that rows are of, and of their curves.
    """

    grid: str
    device: str
    torch: str
    curves: str


@dataclass(frozen=True, slots=True)
class Row:
    """One measured kernel at one point, or why there is none.

    Attributes:
        table: Operator table.
        labels: Its words, ``src`` among them.
        columns: Its numbers.
        seconds: Median; 0 where it failed.
        spread_frac: Of the repeats.
        note: How it was timed, or why it failed.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid", allow_inf_nan=False)

    table: str
    labels: dict[str, str]
    columns: dict[str, float]
    seconds: float
    spread_frac: float
    note: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two rows the same."""
        return key_of(self.table, self.labels, self.columns)

    @property
    def is_measured(self) -> bool:
        """Whether it holds a time."""
        return self.seconds > 0


def key_of(
    table: str, labels: Mapping[str, str], columns: Mapping[str, float]
) -> tuple[object, ...]:
    """What makes two rows the same."""
    return table, tuple(sorted(labels.items())), tuple(sorted(columns.items()))


class Journal:
    """The file, and what it holds already."""

    def __init__(self, path: Path, head: Head, *, is_fresh: bool = False) -> None:
        """Read a journal of the same head; begin it anew where there is none.

        Raises:
            InputError: The file cannot be written.
        """
        self.path = path
        self.rows: dict[tuple[object, ...], Row] = {}
        if not is_fresh:
            self.rows = {row.key: row for row in _read(path, head)}
        lines = [asdict(head), *map(asdict, self.rows.values())]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path.parent} cannot be made ({error.strerror}).") from None
        write_atomically(path, "".join(f"{json.dumps(line)}\n" for line in lines))

    def add(self, row: Row) -> None:
        """Keep a row."""
        self.rows[row.key] = row
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def _read(path: Path, head: Head) -> Iterator[Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    if not lines or _loaded(lines[0]) != asdict(head):
        return
    rows = TypeAdapter(Row)
    for line in lines[1:]:
        try:
            row = rows.validate_json(line)
        except ValidationError:
            return
        operator = OPERATORS.get(row.table)
        if not operator or (set(row.labels), set(row.columns)) != (
            set(operator.labels),
            set(operator.numbers),
        ):
            return
        yield row


def _loaded(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
