"""Which operator table a CSV file is, by its name or else by its columns."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from llmplan.errors import DocumentError
from llmplan.perf.registry import OPERATORS

NAMED: Final = "Name it DEVICE_OPERATOR.csv, as h100_sxm_gemm.csv, or give"


def table_of(path: Path, header: Collection[str], names: Collection[str]) -> str:
    """The table that a file's name ends with, or else the one operator whose columns it has.

    Args:
        path: The file.
        header: Its columns.
        names: Tables that a file may be named after.

    Raises:
        DocumentError: Neither says which.
    """
    for name in sorted(names, key=len, reverse=True):
        if path.stem == name or path.stem.endswith(f"_{name}"):
            return name
    fitting = {
        operator.name: len(needed)
        for operator in OPERATORS.values()
        if (needed := {*operator.labels, *operator.numbers, "latency_ms"}) <= set(header)
    }
    most = [name for name, columns in fitting.items() if columns == max(fitting.values())]
    if len(most) != 1:
        which = f"could be {' or '.join(most)}" if most else "has the columns of no operator table"
        raise DocumentError(f"{which}. {NAMED} --op.", str(path), 1)
    return most[0]
