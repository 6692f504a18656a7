"""Tables of kernel times beside what was measured."""

from typing import Final

from llmplan.report.estimates import percent
from llmplan.report.page import Table, columns
from llmplan.results import schema

WORST: Final = 15
"""Kernels and rows of the largest errors that are shown."""
NUMBERS: Final = ("rows", "predicted", "assumed", "median", "p90", "peaks")
ERRORS: Final = (
    "errors are absolute, relative to what was measured; rows that another kernel stands for count "
    "as assumed and are not in the errors."
)
PEAKS: Final = "peaks: the median error of work over peak rates alone, without what was fitted."


def kernel_rows(result: schema.ValidationResult) -> list[schema.ValidationRow]:
    """Those of operator tables."""
    return [row for row in result.rows if row.metric.startswith("op:")]


def kernel_tables(result: schema.ValidationResult) -> tuple[Table, ...]:
    """Errors by operator and GPU, and the kernels and rows of the largest errors."""
    groups = [group for group in result.groups if group.metric.startswith("op:")]
    kernels = [group for group in groups if group.by == "kernel" and group.predicted]
    worst = sorted(kernels, key=lambda group: -(group.median_abs_error_frac or 0.0))[:WORST]
    return (
        _groups("By operator", "", [g for g in groups if g.by == "metric"]),
        _groups("By GPU", "gpu", [g for g in groups if g.by == "gpu"]),
        _groups("Kernels of the largest medians", "kernel", worst),
        _rows(kernel_rows(result)),
    )


def _groups(title: str, by: str, groups: list[schema.ValidationGroup]) -> Table:
    names = columns(*([by] if by else []), "operator", *NUMBERS, numbers=NUMBERS)
    rows = tuple(
        (
            *([group.name] if by else []),
            group.metric.removeprefix("op:"),
            str(group.rows),
            str(group.predicted),
            str(group.assumed),
            percent(group.median_abs_error_frac),
            percent(group.p90_abs_error_frac),
            percent(group.bound_median_abs_error_frac),
        )
        for group in groups
        if group.predicted or group.assumed
    )
    return Table(title, names, rows)


def _rows(found: list[schema.ValidationRow]) -> Table:
    """The rows with the largest errors."""
    told = [row for row in found if row.status == "predicted"]
    worst = sorted(told, key=lambda row: -abs(row.error_frac or 0.0))[:WORST]
    numbers = ("measured", "llmplan", "error")
    names = columns("row", "kernel", *numbers, numbers=numbers)
    rows = tuple(
        (
            row.id,
            row.engine,
            _milliseconds(row.measured),
            _milliseconds(row.predicted),
            "-" if row.error_frac is None else f"{row.error_frac:+.1%}",
        )
        for row in worst
    )
    return Table("Largest errors", names, rows)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:,.4g} ms"
