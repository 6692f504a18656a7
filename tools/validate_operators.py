"""Hold the kernel curves to their error targets.

``python tools/validate_operators.py FOLDER [--op gemm] [--device h100_sxm]``: FOLDER holds full
operator tables, ``DEVICE_OPERATOR.csv``. For every device and operator it shows how far off are the
shipped curves; curves fitted to every other row of each kernel, on the rows kept back; work over
peak rates alone; and two flexible regressors of each kernel, on the same rows kept back: trees that
know nothing but the number columns, and trees that correct the curve. Where the last are no better
than the curve, its residuals hold no more that the columns could explain. With ``--write`` the
table goes into docs/validation.md. Exits with 1 where a target is missed. Needs the fit extra.
"""

import argparse
import datetime as dt
import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from sklearn.ensemble import ExtraTreesRegressor

import llmplan
from llmplan.hardware.catalogue import device_of_stem
from llmplan.perf.fitting import LEAST_ROWS, errors, fitted_parameters
from llmplan.perf.kernels import Column, Columns, Operator
from llmplan.perf.profile import Kernels, kernels_of
from llmplan.perf.rates import Rates, is_16_bit, rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows, kernel_rows

PAGE = Path(__file__).parent.parent / "docs" / "validation.md"
BEGIN, END = "<!-- operator errors: begin -->\n", "<!-- operator errors: end -->\n"
BF16_GEMM = "gemm, 16 bits"
TARGETS = {
    "gemm": 0.10,
    BF16_GEMM: 0.08,
    "generation_attention": 0.12,
    "context_attention": 0.15,
    "mla": 0.15,
    "mla_module": 0.15,
    "moe": 0.20,
    "collectives": 0.06,
}
"""Medians of the shipped curves, by operator; the others have none."""
KEPT_BACK = 1.3
"""How far beyond its target the median of rows kept back may be."""
TREES = 200
LEAST_LEAF = 2
"""Rows of a leaf, so that single odd rows are not learnt by heart."""
MOST_WORKERS = 2
HEAD = (
    "operator", "GPU", "rows", "predicted", "median", "p90", "kept back", "its p90",
    "peaks", "trees", "curve + trees", "target",
)  # fmt: skip


@dataclass(frozen=True)
class Errors:
    """Absolute relative errors of some kernels of a device.

    Attributes:
        rows: All rows of the tables.
        shipped: Of the shipped curves, shape [rows predicted].
        kept_back: Of curves fitted to the other rows, shape [rows kept back]; so are the rest.
        peaks: Of work over peak rates, shape [rows predicted].
        trees: Of trees on the number columns.
        corrected: Of the curve corrected by trees.
    """

    rows: int
    shipped: Column
    kept_back: Column
    peaks: Column
    trees: Column
    corrected: Column

    def and_of(self, other: "Errors") -> "Errors":
        """Those of both."""
        return Errors(
            self.rows + other.rows,
            np.append(self.shipped, other.shipped),
            np.append(self.kept_back, other.kept_back),
            np.append(self.peaks, other.peaks),
            np.append(self.trees, other.trees),
            np.append(self.corrected, other.corrected),
        )


def regressed(columns: Columns, target: Column, seen: np.ndarray) -> Column:
    """What trees on logarithms of columns say of the rows not seen; ``target`` of shape [rows]."""
    inputs = np.log1p(np.column_stack(list(columns.values())))
    trees = ExtraTreesRegressor(
        TREES, min_samples_leaf=LEAST_LEAF, max_features=None, random_state=0
    )
    predicted: Column = trees.fit(inputs[seen], target[seen]).predict(inputs[~seen])
    return predicted


def kernel_errors(operator: Operator, rows: KernelRows, device: Rates, kernels: Kernels) -> Errors:
    """Of one kernel: those that have too few rows to be fitted are not predicted."""
    total, none = len(rows.measured_s), np.empty(0)
    rows = rows.of(~operator.is_trap(rows.labels, rows.columns, device))
    count = len(rows.measured_s)
    shipped = kernels.find(operator.name, rows.labels)
    if count < LEAST_ROWS or not shipped:
        return Errors(total, none, none, none, none, none)
    seen = np.arange(count) % 2 == 0
    signed = errors(operator, fitted_parameters(operator, rows, device, seen), rows, device)
    off = -np.log1p(signed)
    correction = np.exp(regressed(rows.columns, off, seen))
    alone = np.exp(regressed(rows.columns, np.log(rows.measured_s), seen))
    bound = operator.bound_seconds(rows.columns, rows.labels, device)
    return Errors(
        total,
        np.abs(errors(operator, shipped.parameters, rows, device)),
        np.abs(signed[~seen]),
        np.abs(bound / rows.measured_s - 1),
        np.abs(alone / rows.measured_s[~seen] - 1),
        np.abs((1 + signed[~seen]) * correction - 1),
    )


def table_errors(path: Path, name: str) -> tuple[str, dict[str, Errors]]:
    """The device of a table, and errors by operator; 16-bit products also by themselves.

    Raises:
        FileNotFoundError: The device has no profile.
    """
    device = device_of_stem(path.stem.removesuffix(f"_{name}"))
    kernels = kernels_of(device.slug)
    if not kernels:
        raise FileNotFoundError(f"{device.slug} has no profile")
    operator, rates = OPERATORS[name], rates_of(device)
    found: dict[str, Errors] = {}
    for rows in kernel_rows(path, operator):
        own = kernel_errors(operator, rows, rates, kernels)
        for title in titles(operator, rows.labels):
            found[title] = found[title].and_of(own) if title in found else own
    return device.slug, found


def titles(operator: Operator, labels: Mapping[str, str]) -> Iterator[str]:
    """Lines of the table that a kernel counts in."""
    yield operator.name
    if operator.name == "gemm" and is_16_bit(labels["dtype"]):
        yield BF16_GEMM


def misses(title: str, found: Errors) -> bool:
    """Whether the target is missed, in sample or on the rows kept back."""
    target = TARGETS.get(title, np.inf)
    unseen = float(np.median(found.kept_back))
    return float(np.median(found.shipped)) > target or unseen > KEPT_BACK * target


def line(title: str, slug: str, found: Errors) -> tuple[str, ...]:
    """One line of the table."""
    target = f"{TARGETS[title]:.0%}" if title in TARGETS else "–"
    shares = (
        float(np.median(found.shipped)),
        float(np.quantile(found.shipped, 0.9)),
        float(np.median(found.kept_back)),
        float(np.quantile(found.kept_back, 0.9)),
        float(np.median(found.peaks)),
        float(np.median(found.trees)),
        float(np.median(found.corrected)),
    )
    return (
        title,
        slug,
        f"{found.rows:,}",
        f"{len(found.shipped):,}",
        *(f"{share:.1%}" for share in shares),
        f"**{target}**" if misses(title, found) else target,
    )


def markdown(lines: Iterable[tuple[str, ...]]) -> str:
    """The table, and under what it was made."""
    made = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "scikit-learn"))
    today = dt.datetime.now(tz=dt.UTC).date()
    ruler = ("---", "---", *["---:"] * (len(HEAD) - 2))
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in (HEAD, ruler, *lines))
    return f"Made {today} with llmplan {llmplan.__version__}, {made}.\n\n{table}\n"


def write(page: Path, text: str) -> None:
    """Replace what is between the markers of a page.

    Raises:
        ValueError: The page has no markers.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no lines {BEGIN.strip()} and {END.strip()}")
    page.write_text(before + begin + "\n" + text + "\n" + end + after, encoding="utf-8")


def gathered(tables: list[tuple[Path, str]], workers: int) -> dict[tuple[str, str], Errors]:
    """Errors by operator, or part of it, and device, under a progress bar."""
    found: dict[tuple[str, str], Errors] = {}
    context = multiprocessing.get_context("spawn")
    with (
        Progress(console=Console(stderr=True)) as bar,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        task = bar.add_task("operator tables", total=len(tables))
        for done in as_completed([pool.submit(table_errors, *table) for table in tables]):
            slug, by_title = done.result()
            for title, own in by_title.items():
                key = (title, slug)
                found[key] = found[key].and_of(own) if key in found else own
            bar.advance(task)
    return {key: own for key, own in sorted(found.items()) if len(own.shipped)}


def main(argv: list[str]) -> int:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--op", action="append", choices=sorted(OPERATORS))
    parser.add_argument("--device", action="append", help="stem of a file, as h100_sxm")
    parser.add_argument("--workers", type=int, choices=range(1, MOST_WORKERS + 1), default=1)
    parser.add_argument("--write", action="store_true", help="into docs/validation.md")
    options = parser.parse_args(argv)
    tables = [
        (path, name)
        for name in options.op or sorted(OPERATORS)
        for path in sorted(options.folder.glob(f"*_{name}.csv"))
        if not options.device or path.stem.removesuffix(f"_{name}") in options.device
    ]
    found = gathered(tables, options.workers)
    text = markdown(line(title, slug, own) for (title, slug), own in found.items())
    print(text, end="")
    if options.write:
        write(PAGE, text)
    return int(any(misses(title, own) for (title, _), own in found.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
