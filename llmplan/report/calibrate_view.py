"""Pages of calibrations: what is to be measured, what was, and how far curves are off."""

from collections.abc import Iterable
from textwrap import fill
from typing import Any, Final

from llmplan.report.calibrate_charts import calibration_charts
from llmplan.report.calibrate_words import GROUPS, format_words, group_of, operator_words
from llmplan.report.narrow import WIDTH, narrowed, wrapped
from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import format_digits, format_gib, format_percent, format_seconds

MOST_SKIPPED: Final = 12
"""Reasons that a page shows; JSON has all."""
SKIPPED_NAME: Final = 36
"""Width of the name of what was left out."""
SKIPPED_LINES: Final = 3
"""Of a reason."""
KERNEL_REMARK: Final = (
    "peak: time at the peaks of the device over measured time. off and p90: error of the curve at "
    "its own points, median and 90th percentile. unseen: median error at points that a fit had "
    "not seen."
)
LAYER_REMARK: Final = (
    "Layers were measured as wholes and are no part of any fit: predicted is the sum of their "
    "kernels."
)


def calibrate_page(result: schema.CalibrateResult, _inputs: dict[str, Any]) -> Page:
    """A plan, or a profile."""
    tables = (*_planned(result), *_kernels(result), *_layers(result), *_skipped(result.skipped))
    remarks = [KERNEL_REMARK] if result.operators else []
    remarks += [LAYER_REMARK] if result.layers else []
    return Page(
        f"{result.device}: calibration",
        _facts(result),
        tables,
        charts=calibration_charts(result),
        remarks=tuple(fill(remark, WIDTH) for remark in remarks),
    )


def _facts(result: schema.CalibrateResult) -> tuple[tuple[str, str], ...]:
    facts = [("device", result.device_name)]
    software = [f"torch {result.torch}" if result.torch else "", _driver(result)]
    facts.append(("software", ", ".join(filter(None, software)) or "not known"))
    if result.is_dry_run:
        points = sum(row.points for row in result.grid)
        facts.append(("points", f"{points:,} ({result.left_out:,} more are too large)"))
        facts.append(("takes about", format_seconds(result.expected_s or 0.0)))
        facts.append(("at the most", format_seconds(result.budget_s)))
        return tuple(facts)
    facts.append(("measured", result.date.isoformat()))
    facts.append(("profile", result.profile or "-"))
    if result.layer_median_error_frac is not None and result.layer_p90_error_frac is not None:
        middle, most = result.layer_median_error_frac, result.layer_p90_error_frac
        off = f"{format_percent(middle)}, 90th percentile {format_percent(most)}"
        facts.append(("layers are off by", f"{off} ({len(result.layers)} kept out of the fit)"))
    if result.throttled:
        facts.append(("clocks were lowered", ", ".join(result.throttled)))
    if result.memory and result.memory.context_bytes is not None:
        facts.append(("context", format_gib(result.memory.context_bytes)))
    return tuple(facts)


def _driver(result: schema.CalibrateResult) -> str:
    return f"driver {result.driver}" if result.driver else ""


def _planned(result: schema.CalibrateResult) -> Iterable[Table]:
    names = columns("operator", "format", "points", numbers=("points",))
    rows = tuple((row.kind, row.format or "-", f"{row.points:,}") for row in result.grid)
    if rows:
        yield narrowed(Table("What would be measured", names, rows))


def _kernels(result: schema.CalibrateResult) -> Iterable[Table]:
    """A table for each group of operators."""
    numbers = ("points", "peak", "off", "p90", "unseen")
    names = columns("operator", "format", "kernel", *numbers, numbers=numbers)
    for group in GROUPS:
        rows = tuple(_kernel(row) for row in result.operators if group_of(row.kind) == group)
        if rows:
            yield narrowed(Table(group, names, rows))


def _kernel(row: schema.CalibratedOperator) -> tuple[str, ...]:
    unseen = row.held_out_error_frac
    return (
        operator_words(row.kind),
        format_words(row.format),
        row.kernel or "-",
        f"{row.points:,}",
        format_percent(row.efficiency) if row.efficiency else "-",
        format_percent(row.residual_median),
        format_percent(row.residual_p90),
        "-" if unseen is None else format_percent(unseen),
    )


def _layers(result: schema.CalibrateResult) -> Iterable[Table]:
    """A table for each model and layout."""
    times = ("tokens", "context", "predicted", "measured", "off")
    names = columns("layer", "step", *times, numbers=times)
    for model, layout in dict.fromkeys((row.model, row.layout) for row in result.layers):
        rows = tuple(
            _layer(row) for row in result.layers if (row.model, row.layout) == (model, layout)
        )
        yield narrowed(Table(f"Layers of {model}, {layout}", names, rows))


def _layer(row: schema.CalibratedLayer) -> tuple[str, ...]:
    return (
        row.layer,
        row.phase,
        f"{row.requests * row.new_tokens:,}",
        f"{row.context:,}",
        "-" if row.predicted_s is None else format_seconds(row.predicted_s),
        format_seconds(row.measured_s),
        "-" if row.error_frac is None else _signed(row.error_frac),
    )


def _signed(error_frac: float) -> str:
    return f"{'-' if error_frac < 0 else '+'}{format_percent(abs(error_frac))}"


def _skipped(skipped: list[schema.SkippedKernel]) -> Iterable[Table]:
    rows = tuple((row.name, row.reason) for row in skipped[:MOST_SKIPPED])
    more = len(skipped) - len(rows)
    title = f"Left out ({more:,} more in JSON)" if more else "Left out"
    if rows:
        yield Table(title, columns("what", "why"), wrapped(rows, SKIPPED_NAME, SKIPPED_LINES))


def changes_page(result: schema.CalibrateDiffResult, _inputs: dict[str, Any]) -> Page:
    """Two profiles."""
    names = columns("operator", "format", "kernel", "points", "time", numbers=("points", "time"))
    tables = []
    for group in GROUPS:
        rows = tuple(_change(row) for row in result.changes if group_of(row.kind) == group)
        if rows:
            tables.append(narrowed(Table(f"{group}: later over earlier time", names, rows)))
    facts = (("earlier", result.earlier), ("later", result.later))
    return Page("Calibrations compared", facts, tuple(tables))


def _change(row: schema.KernelChange) -> tuple[str, ...]:
    times = "-" if row.times is None else f"x {format_digits(row.times)}"
    return (
        operator_words(row.kind),
        format_words(row.format),
        row.kernel or "-",
        f"{row.points:,}",
        f"only {row.only}" if row.only else times,
    )


def files_page(result: schema.CalibrateFilesResult, _inputs: dict[str, Any]) -> Page:
    """What was written."""
    facts = (
        ("device", result.device),
        ("kernels", f"{result.kernels:,}"),
        ("points", f"{result.points:,}"),
        *(("written", name) for name in result.files),
    )
    return Page("Calibration files", facts, tuple(_skipped(result.skipped)))
