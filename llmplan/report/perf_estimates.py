"""The page of times and rates beside what was measured: serving runs, then kernels."""

from typing import Any

from llmplan.report.estimates import percent, skipped_table
from llmplan.report.kernel_estimates import ERRORS, PEAKS, kernel_rows, kernel_tables
from llmplan.report.page import Page
from llmplan.report.serving_estimates import ROWS, serving_rows, serving_tables
from llmplan.results import schema


def perf_page(result: schema.ValidationResult, inputs: dict[str, Any]) -> Page:
    """Errors by what rows have in common, and the rows of the largest errors."""
    summary = result.summary
    facts = (
        ("compared with", str(inputs["data"])),
        ("rows", f"{summary.rows:,}, of which {summary.predicted:,} predicted"),
        ("median of errors", percent(summary.median_abs_error_frac)),
        ("mean of errors", percent(summary.mape)),
        ("90th percentile", percent(summary.p90_abs_error_frac)),
    )
    has_runs, has_kernels = bool(serving_rows(result)), bool(kernel_rows(result))
    tables = (
        *(serving_tables(result) if has_runs else ()),
        *(kernel_tables(result) if has_kernels else ()),
        skipped_table(summary),
    )
    remarks = (*((ROWS,) if has_runs else ()), *((ERRORS, PEAKS) if has_kernels else ()))
    return Page("validate perf", facts, tables, remarks=remarks)
