"""Predicted against measured serving runs."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from llmplan.analyze.validate_serving import METRICS, Answered, serving_errors
from llmplan.results import schema

WAYS: Final[tuple[tuple[str, Callable[[Answered], str]], ...]] = (
    ("metric", lambda row: row.metric),
    ("scenario", lambda row: row.scenario),
    ("gpu", lambda row: row.gpu),
    ("engine", lambda row: row.engine.partition(" ")[0]),
    ("kind", lambda row: row.kind),
)
"""What rows may have in common, and how it is read."""


def answered_row(row: Answered) -> schema.ValidationRow:
    """One metric of one run: times in seconds, rates in tokens a second."""
    return schema.ValidationRow(
        id=row.id,
        metric=row.metric,
        measured=row.measured,
        predicted=row.predicted,
        error_frac=row.error_frac,
        status=row.status,
        reason=row.reason,
        engine=row.engine,
        low=row.low,
        high=row.high,
        baseline=row.baseline,
        gpu=row.gpu,
        kind=row.kind,
        scenario=row.scenario,
    )


def serving_groups(found: Iterable[Answered]) -> Iterator[schema.ValidationGroup]:
    """By metric, and of each metric by scenario, GPU, engine and kind of model."""
    rows = tuple(found)
    for by, name_of in WAYS:
        grouped: dict[tuple[str, int], list[Answered]] = {}
        for row in rows:
            grouped.setdefault((name_of(row), METRICS.index(row.metric)), []).append(row)
        for (name, metric), group in sorted(grouped.items()):
            yield _group(by, name or "not stated", METRICS[metric], group)


def _group(by: str, name: str, metric: str, rows: list[Answered]) -> schema.ValidationGroup:
    errors = serving_errors(rows)
    return schema.ValidationGroup(
        by=by,
        name=name,
        metric=metric,
        rows=errors.rows,
        predicted=errors.predicted,
        assumed=errors.assumed,
        median_abs_error_frac=errors.median_abs_frac,
        p90_abs_error_frac=errors.p90_abs_frac,
        mape=errors.mape,
        beyond_bound=None,
        coverage_frac=errors.coverage_frac,
        baseline_median_abs_error_frac=errors.baseline_median_abs_frac,
        baseline_mape=errors.baseline_mape,
    )
