"""Charts of a calibration: curves against measured times, layers, and rates of products."""

from collections.abc import Iterable, Iterator
from typing import Final

from llmplan.report.calibrate_words import (
    GROUPS,
    PRODUCTS,
    format_words,
    group_of,
    operator_words,
)
from llmplan.report.page import Chart, Line
from llmplan.results import schema
from llmplan.units import format_digits

US: Final = 1e6
MS: Final = 1e3
TERA: Final = 1e12
MOST_LINES: Final = 9
"""Kinds of points that colours tell apart; the rest share one."""
WORST: Final = 3
"""Points farthest off that are named."""
OPERATOR_AXES: Final = ("measured, µs", "by the curve, µs")
LAYER_AXES: Final = ("measured, ms", "sum of kernels, ms")
TICKS: Final = tuple((10.0**power, f"{10**power:,}") for power in range(7))
"""Of tokens."""

Mark = tuple[str, float, float, str]
"""What a point is of, its places, and its words."""


def calibration_charts(result: schema.CalibrateResult) -> tuple[Chart, ...]:
    """For pages that draw: too fine for characters."""
    return (*_curves(result), *_layers(result), *_rates(result))


def _curves(result: schema.CalibrateResult) -> Iterator[Chart]:
    for group in GROUPS:
        marks = [
            (_name(point, group), point.measured_s * US, point.predicted_s * US, point.sizes)
            for point in result.points
            if group_of(point.kind) == group and point.predicted_s
        ]
        if marks:
            yield _compared(f"{group}: curve and measurement", marks, OPERATOR_AXES)


def _name(point: schema.CalibratedPoint, group: str) -> str:
    said = format_words(point.format)
    kind = "" if group == PRODUCTS else operator_words(point.kind)
    return " ".join(word for word in (kind, point.kernel, said) if word not in ("", "-"))


def _layers(result: schema.CalibrateResult) -> Iterator[Chart]:
    marks = [
        (
            f"{row.model}, {row.layout}",
            row.measured_s * MS,
            row.predicted_s * MS,
            f"{row.layer}, {row.phase} of {row.requests * row.new_tokens:,} tokens",
        )
        for row in result.layers
        if row.predicted_s
    ]
    if marks:
        yield _compared("Whole layers, no part of any fit", marks, LAYER_AXES)


def _compared(title: str, marks: list[Mark], axes: tuple[str, str]) -> Chart:
    """Points beside the diagonal on which a curve is right; those farthest off with their words."""
    ends = [place for _, x, y, _ in marks for place in (x, y)]
    low, high = min(ends), max(ends)
    ordered = sorted(marks, key=lambda mark: -max(mark[1] / mark[2], mark[2] / mark[1]))
    named = {id(mark) for mark in ordered[:WORST]}
    lines = [Line("as measured", (low, high), (low, high))]
    lines += _scattered((*mark[:3], mark[3] if id(mark) in named else "") for mark in marks)
    return Chart(title, *axes, tuple(lines), is_fine=True)


def _scattered(marks: Iterable[Mark]) -> Iterator[Line]:
    """A series for each name; the smallest together where they are many."""
    series: dict[str, list[Mark]] = {}
    for mark in marks:
        series.setdefault(mark[0], []).append(mark)
    if len(series) > MOST_LINES:
        by_size = sorted(series, key=lambda name: -len(series[name]))
        rest = by_size[MOST_LINES - 1 :]
        others = [mark for name in rest for mark in series.pop(name)]
        series[f"{len(rest)} others"] = others
    for name, found in series.items():
        _, x, y, words = zip(*found, strict=True)
        yield Line(name, x, y, is_points=True, labels=words)


def _rates(result: schema.CalibrateResult) -> Iterator[Chart]:
    """Rates of products beside the peaks of their formats."""
    marks = [
        (_name(point, PRODUCTS), point.tokens, point.flops_per_s / TERA, "")
        for point in result.points
        if point.tokens and point.flops_per_s
    ]
    if not marks:
        return
    few, many = min(mark[1] for mark in marks), max(mark[1] for mark in marks)
    peaks: dict[float, list[str]] = {}
    for peak in result.peaks:
        peaks.setdefault(peak.flops_per_s / TERA, []).append(format_words(peak.format))
    lines = [
        Line(f"peak of {', '.join(names)}: {format_digits(rate)}", (few, many), (rate, rate))
        for rate, names in peaks.items()
    ]
    ticks = tuple(tick for tick in TICKS if few <= tick[0] <= many)
    drawn = (*lines, *_scattered(marks))
    yield Chart("Rates of matrix products", "tokens", "TFLOP/s", drawn, ticks, is_fine=True)
