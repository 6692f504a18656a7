"""Pages of calibrations: what is to be measured, what was, and how far curves are off."""

from typing import Any, Final

from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import format_digits, format_gib, format_seconds

MOST_SKIPPED: Final = 12
"""Reasons that a page shows; JSON has all."""
SKIPPED_WIDTH: Final = 60


def calibrate_page(result: schema.CalibrateResult, _inputs: dict[str, Any]) -> Page:
    """A plan, or a profile."""
    title = f"{result.device}: calibration"
    return Page(title, _facts(result), tuple(t for t in _tables(result) if t.rows))


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
        off = f"{middle:.0%}, 90th percentile {most:.0%}"
        facts.append(("layers are off by", f"{off} ({len(result.layers)} kept out of the fit)"))
    if result.throttled:
        facts.append(("clocks were lowered", ", ".join(result.throttled)))
    if result.memory and result.memory.context_bytes is not None:
        facts.append(("context", format_gib(result.memory.context_bytes)))
    return tuple(facts)


def _driver(result: schema.CalibrateResult) -> str:
    return f"driver {result.driver}" if result.driver else ""


def _tables(result: schema.CalibrateResult) -> tuple[Table, ...]:
    planned = columns("operator", "format", "points", numbers=("points",))
    numbers = ("points", "of peak", "median", "p90", "unseen")
    kernels = columns("operator", "format", "kernel", *numbers, numbers=numbers)
    times = ("tokens", "context", "predicted", "measured", "off")
    layers = columns("model", "layer", "step", *times, numbers=times)
    skipped = columns("left out", "why")
    return (
        Table(
            "What would be measured",
            planned,
            tuple((row.kind, row.format or "-", f"{row.points:,}") for row in result.grid),
        ),
        Table(
            "Kernels: share of the peaks, and errors of their curves",
            kernels,
            tuple(map(_kernel, result.operators)),
        ),
        Table("Whole layers, kept out of the fit", layers, tuple(map(_layer, result.layers))),
        Table(
            "Left out",
            skipped,
            tuple((row.name, _cut(row.reason)) for row in result.skipped[:MOST_SKIPPED]),
        ),
    )


def _kernel(row: schema.CalibratedOperator) -> tuple[str, ...]:
    unseen = "-" if row.held_out_error_frac is None else f"{row.held_out_error_frac:.0%}"
    return (
        row.kind,
        row.format or "-",
        row.kernel,
        f"{row.points:,}",
        f"{row.efficiency:.0%}",
        f"{row.residual_median:.0%}",
        f"{row.residual_p90:.0%}",
        unseen,
    )


def _layer(row: schema.CalibratedLayer) -> tuple[str, ...]:
    return (
        row.model,
        row.layer,
        row.phase,
        f"{row.requests * row.new_tokens:,}",
        f"{row.context:,}",
        "-" if row.predicted_s is None else format_seconds(row.predicted_s),
        format_seconds(row.measured_s),
        "-" if row.error_frac is None else f"{row.error_frac:+.0%}",
    )


def _cut(text: str) -> str:
    return text if len(text) <= SKIPPED_WIDTH else f"{text[: SKIPPED_WIDTH - 2]} …"


def changes_page(result: schema.CalibrateDiffResult, _inputs: dict[str, Any]) -> Page:
    """Two profiles."""
    names = columns("operator", "format", "kernel", "points", "time", numbers=("points", "time"))
    rows = tuple(
        (
            row.kind,
            row.format or "-",
            row.kernel,
            f"{row.points:,}",
            f"only {row.only}" if row.only else f"x {format_digits(row.times or 0.0)}",
        )
        for row in result.changes
    )
    facts = (("earlier", result.earlier), ("later", result.later))
    return Page("Calibrations compared", facts, (Table("Later over earlier time", names, rows),))


def files_page(result: schema.CalibrateFilesResult, _inputs: dict[str, Any]) -> Page:
    """What was written."""
    facts = (
        ("device", result.device),
        ("kernels", f"{result.kernels:,}"),
        ("points", f"{result.points:,}"),
        *(("written", name) for name in result.files),
    )
    names = columns("left out", "why")
    rows = tuple((row.name, _cut(row.reason)) for row in result.skipped[:MOST_SKIPPED])
    return Page("Calibration files", facts, (Table("Left out", names, rows),) if rows else ())
