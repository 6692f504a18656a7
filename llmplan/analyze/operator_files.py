"""Operator tables on disk: which operator and which device a file is of."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmplan.documents import shipped_folder
from llmplan.errors import DocumentError, InputError, UnknownNameError, printable
from llmplan.hardware.catalogue import device_of_stem, parse_gpus
from llmplan.hardware.device import Device
from llmplan.perf.recognition import NAMED, table_of
from llmplan.perf.tables import MAX_BYTES

TABLES: Final = (
    "context_attention",
    "generation_attention",
    "mla_module",
    "collectives",
    "layer_ops",
    "moe_a2a",
    "network",
    "gemm",
    "mla",
    "moe",
)
"""Operator tables that exist."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Operator tables to predict.

    Attributes:
        paths: Files, or folders of them.
        gpu: The device of all; None to read it from each file's name.
        operator: The table of all; None to read it from each file's name, or its columns.
    """

    paths: tuple[Path, ...]
    gpu: str | None = None
    operator: str | None = None


@dataclass(frozen=True, slots=True)
class TableFile:
    """One table.

    Attributes:
        path: Its file.
        operator: Name of its operator table.
        device: What it was measured on.
        ids: Of its rows: the column ``id``, or the file's stem and the row's number, from 1.
    """

    path: Path
    operator: str
    device: Device
    ids: tuple[str, ...]


def shipped_tables() -> Path:
    """The operator tables that come with llmplan."""
    return shipped_folder("hardware") / "measured" / "ops"


def table_files(asked: Asked) -> Iterator[TableFile]:
    """The tables asked for; of a folder all its CSV files.

    Raises:
        DocumentError: A file cannot be read, or does not say of which operator it is.
        InputError: A folder without tables, or a file that does not say of which device it is.
        UnknownNameError: An operator table or device that does not exist.
    """
    if asked.operator is not None and asked.operator not in TABLES:
        known = f"Tables: {', '.join(TABLES)}."
        raise UnknownNameError("operator table", asked.operator, TABLES, known)
    for path in csv_files(asked.paths):
        header, ids = _read(path)
        name = asked.operator or table_of(path, header, TABLES)
        device = parse_gpus(asked.gpu).device if asked.gpu else _device_of(path, name)
        yield TableFile(path, name, device, ids)


def csv_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """Files, and of folders all CSV files.

    Raises:
        InputError: A folder without any.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = sorted(path.glob("*.csv"))
        if not files:
            raise InputError(f"{printable(str(path))} holds no CSV file.")
        yield from files


def _read(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of a table, and what its rows are called.

    Raises:
        DocumentError: It cannot be read.
    """
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DocumentError(f"is larger than {MAX_BYTES:,} bytes.", name)
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            ids = [row.get("id") or f"{path.stem}:{n}" for n, row in enumerate(rows, 1)]
            return tuple(rows.fieldnames or ()), tuple(map(printable, ids))
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    except (UnicodeDecodeError, csv.Error):
        raise DocumentError("is no CSV text.", name) from None


def _device_of(path: Path, operator: str) -> Device:
    """The device that a file's name begins with."""
    stem = path.stem.removesuffix(operator).rstrip("_")
    try:
        return device_of_stem(stem)
    except UnknownNameError:
        raise InputError(
            f"{printable(str(path))}: its name begins with no GPU of the catalogue. {NAMED} --gpu."
        ) from None
