"""Pages of comparisons with files and with published totals."""

from typing import Any

from llmplan.report.estimates import estimates_page
from llmplan.report.page import Page, Table, columns
from llmplan.report.perf_estimates import perf_page
from llmplan.results import schema

Inputs = dict[str, Any]


def verify_page(result: schema.VerifyResult, _inputs: Inputs) -> Page:
    """A spec beside a file of weights."""
    numbers = ("spec entries", "file entries", "difference", "byte difference")
    names = columns("role", *numbers, numbers=numbers)
    rows = tuple(
        (
            row.role,
            f"{row.spec_entries:,}",
            f"{row.file_entries:,}",
            f"{row.file_entries - row.spec_entries:+,}" if not row.agrees else "equal",
            f"{row.file_bytes - row.spec_bytes:+,}" if not row.agrees else "equal",
        )
        for row in result.rows
    )
    word = "equal" if result.agrees else "different"
    return Page(f"{result.model} and {result.file}: {word}", (), (Table("", names, rows),))


def validation_page(result: schema.ValidationResult, inputs: Inputs) -> Page:
    """Predicted beside published figures."""
    if inputs["what"] == "perf":
        return perf_page(result, inputs)
    if result.are_estimates:
        return estimates_page(result, inputs)
    summary = result.summary
    facts = [
        ("compared with", str(inputs["data"])),
        ("metrics", f"{summary.rows:,}, of which {summary.predicted:,} predicted"),
        ("median, mean, 90th percentile of errors", _errors(summary)),
    ]
    facts += [(f"skipped: {reason}", str(n)) for reason, n in summary.skipped.items()]
    numbers = ("published", "llmplan", "error")
    names = columns("model", "metric", *numbers, "remark", numbers=numbers)
    rows = tuple(
        (
            row.id,
            row.metric,
            "-" if row.measured is None else f"{row.measured:,}",
            "-" if row.predicted is None else f"{row.predicted:,}",
            _error(row),
            row.reason,
        )
        for row in result.rows
        if row.error_frac != 0 or row.metric == "published"
    )
    title = "Totals as published, differences and skipped rows (all others are equal)"
    return Page(f"validate {inputs['what']}", tuple(facts), (Table(title, names, rows),))


def _error(row: schema.ValidationRow) -> str:
    if row.error_frac is None:
        return row.status
    return "equal" if row.error_frac == 0 else f"{row.error_frac:+.1e}"


def _errors(summary: schema.ValidationSummary) -> str:
    figures = (summary.median_abs_error_frac, summary.mape, summary.p90_abs_error_frac)
    return ", ".join("-" if figure is None else f"{figure:.2g}" for figure in figures)
