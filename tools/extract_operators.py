"""Extract rows of operator tables: ``python tools/extract_operators.py FOLDER``.

FOLDER holds ``DEVICE_OPERATOR.csv`` files. Of each whose operator has a curve, writes about
``ROWS`` rows to ``hardware/measured/ops``: the same number of every kernel, evenly spaced from its
fastest to its slowest row.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from llmplan.perf.kernels import Operator
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import kernel_rows

ROWS = 60
"""Of one table."""
TARGET = Path(__file__).parent.parent / "hardware" / "measured" / "ops"


def chosen_rows(path: Path, operator: Operator) -> set[int]:
    """Numbers of the rows to keep, from 1."""
    kernels = list(kernel_rows(path, operator))
    each = max(ROWS // len(kernels), 1)
    chosen: set[int] = set()
    for rows in kernels:
        by_time = np.array(rows.numbers)[np.argsort(rows.measured_s, kind="stable")]
        places = np.linspace(0, len(by_time) - 1, min(each, len(by_time))).round().astype(int)
        chosen.update(by_time[places].tolist())
    return chosen


def main(argv: list[str]) -> int:
    """Write the extracts of all tables of a folder."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, operator in sorted(OPERATORS.items()):
        for path in sorted(Path(argv[0]).glob(f"*_{name}.csv")):
            keep = chosen_rows(path, operator)
            with path.open(newline="") as read, (TARGET / path.name).open("w", newline="") as out:
                rows = csv.reader(read)
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(next(rows))
                writer.writerows(row for number, row in enumerate(rows, 1) if number in keep)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
