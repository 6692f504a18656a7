"""Tables of serving figures beside what was measured."""

from typing import Final

from llmplan.report.estimates import percent
from llmplan.report.page import Table, columns
from llmplan.results import schema
from llmplan.units import format_seconds

WORST: Final = 15
"""Rows of the largest errors that are shown."""
METRICS: Final = ("ttft", "tpot", "throughput")
TITLES: Final = {
    "scenario": "Serving, by scenario",
    "gpu": "Serving, by GPU",
    "engine": "Serving, by engine",
    "kind": "Serving, by kind of model",
}
NUMBERS: Final = ("rows", "median", "mean", "p90", "range", "peaks")
ROWS: Final = (
    "serving: rows that are predicted, with the median, mean and 90th percentile of their absolute "
    "errors. range: how many of them were measured within the range that is stated. peaks: the "
    "median error of a pure roofline."
)


def serving_rows(result: schema.ValidationResult) -> list[schema.ValidationRow]:
    """Those of serving runs."""
    return [row for row in result.rows if row.metric in METRICS]


def serving_tables(result: schema.ValidationResult) -> tuple[Table, ...]:
    """Errors by scenario, GPU, engine and kind of model, and the rows of the largest errors."""
    groups = [group for group in result.groups if group.metric in METRICS and group.predicted]
    tables = (
        Table(
            title,
            columns(by, "metric", *NUMBERS, numbers=NUMBERS),
            tuple(_cells(group) for group in groups if group.by == by),
        )
        for by, title in TITLES.items()
    )
    return (*(table for table in tables if table.rows), _worst(result))


def _cells(group: schema.ValidationGroup) -> tuple[str, ...]:
    return (
        group.name,
        group.metric,
        str(group.predicted),
        percent(group.median_abs_error_frac),
        percent(group.mape),
        percent(group.p90_abs_error_frac),
        "-" if group.coverage_frac is None else f"{group.coverage_frac:.0%}",
        percent(group.baseline_median_abs_error_frac),
    )


def _worst(result: schema.ValidationResult) -> Table:
    """The rows with the largest errors."""
    told = [row for row in serving_rows(result) if row.status == "predicted"]
    worst = sorted(told, key=lambda row: -abs(row.error_frac or 0.0))[:WORST]
    numbers = ("measured", "llmplan", "error")
    names = columns("row", "GPU", "engine", "scenario", "metric", *numbers, numbers=numbers)
    rows = tuple(
        (
            row.id,
            row.gpu,
            row.engine,
            row.scenario,
            row.metric,
            _shown(row.metric, row.measured),
            _shown(row.metric, row.predicted),
            "-" if row.error_frac is None else f"{row.error_frac:+.1%}",
        )
        for row in worst
    )
    return Table("Serving, largest errors", names, rows)


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    if metric == "throughput":
        return f"{value:,.1f} tok/s"
    return format_seconds(value)
