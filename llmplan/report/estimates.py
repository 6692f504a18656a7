"""The page of estimates beside what was measured."""

from typing import Any, Final

from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import GIB

WORST: Final = 15
"""Rows of the largest errors that are shown."""
TITLES: Final = {
    "metric": "By metric",
    "engine": "By engine",
    "version": "By version",
    "family": "By model family",
    "term": "By term",
}


def estimates_page(result: schema.ValidationResult, inputs: dict[str, Any]) -> Page:
    """Errors by metric, engine, version, family and term; verdicts; the largest errors."""
    summary = result.summary
    answered = sum(1 for row in result.rows if row.predicted is not None)
    facts = [
        ("compared with", str(inputs["data"])),
        ("metrics of rows", f"{summary.rows:,}, of which {answered:,} answered"),
    ]
    if told := result.verdicts:
        facts += [
            ("failed starts foreseen", f"{told.recalled} of {told.failures}"),
            ("good starts refused", f"{told.false_refusals} of {told.starts}"),
        ]
    tables = [_group_table(result, by) for by in TITLES]
    return Page(
        f"validate {inputs['what']}",
        tuple(facts),
        (*tables, _worst(result), skipped_table(summary)),
        remarks=(ERRORS, BEYOND),
    )


ERRORS: Final = (
    "errors are absolute, relative to what was measured; rows that do not state the share of "
    "memory count as assumed and are not in the errors."
)
BEYOND: Final = "beyond: more than 15 % of what was measured off, and 1 % of the device's memory."


def skipped_table(summary: schema.ValidationSummary) -> Table:
    """Reasons, most frequent first."""
    ordered = sorted(summary.skipped.items(), key=lambda item: -item[1])
    names = columns("metrics", "reason", numbers=("metrics",))
    return Table("Skipped", names, tuple((str(n), reason) for reason, n in ordered))


def _group_table(result: schema.ValidationResult, by: str) -> Table:
    numbers = ("rows", "predicted", "assumed", "median", "p90", "mean", "beyond")
    names = columns("all" if by == "metric" else by, "metric", *numbers, numbers=numbers)
    rows = tuple(
        (
            group.name if group.name != group.metric else "",
            group.metric,
            str(group.rows),
            str(group.predicted),
            str(group.assumed),
            percent(group.median_abs_error_frac),
            percent(group.p90_abs_error_frac),
            percent(group.mape),
            str(group.beyond_bound or 0),
        )
        for group in result.groups
        if group.by == by and (group.predicted or group.assumed)
    )
    return Table(TITLES[by], names, rows)


def _worst(result: schema.ValidationResult) -> Table:
    """The rows with the largest errors, verdicts apart."""
    sizes = [r for r in result.rows if r.status == "predicted" and r.metric != "verdict"]
    ordered = sorted(sizes, key=lambda row: -abs(row.error_frac or 0.0))[:WORST]
    numbers = ("measured", "llmplan", "error")
    names = columns("row", "engine", "metric", *numbers, numbers=numbers)
    rows = tuple(
        (
            row.id,
            row.engine,
            row.metric,
            _shown(row.metric, row.measured),
            _shown(row.metric, row.predicted),
            "-" if row.error_frac is None else f"{row.error_frac:+.1%}",
        )
        for row in ordered
    )
    return Table("Largest errors", names, rows)


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / GIB:,.2f} GiB" if metric.endswith("_bytes") else f"{value:,.0f}"


def percent(frac: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "-" if frac is None else f"{frac:.1%}"
