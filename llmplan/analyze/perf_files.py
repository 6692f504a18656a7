"""Measured times on disk: which files hold serving runs, and which hold kernels."""

import csv
from dataclasses import dataclass
from pathlib import Path

from llmplan.analyze.operator_files import csv_files, shipped_tables
from llmplan.analyze.serving_rows import NEEDED
from llmplan.documents import shipped_folder


@dataclass(frozen=True, slots=True)
class PerfFiles:
    """Measured times.

    Attributes:
        operators: Operator tables, or folders of them.
        serving: Tables of serving runs.
    """

    operators: tuple[Path, ...]
    serving: tuple[Path, ...]


def shipped_files() -> PerfFiles:
    """The measured times that come with llmplan."""
    return PerfFiles((shipped_tables(),), (shipped_folder("hardware") / "measured/serving.csv",))


def perf_files(paths: tuple[Path, ...]) -> PerfFiles:
    """Files, and of folders all CSV files, by what they hold.

    A file that cannot be read counts as an operator table, whose reader says why.

    Raises:
        InputError: A folder without CSV files.
    """
    files = tuple(csv_files(paths))
    serving = tuple(path for path in files if holds_serving(path))
    return PerfFiles(tuple(path for path in files if path not in serving), serving)


def holds_serving(path: Path) -> bool:
    """Whether a file is named like the shipped table of serving runs, or has its columns."""
    if path.stem.startswith("serving"):
        return True
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return set(NEEDED) <= set(header)
