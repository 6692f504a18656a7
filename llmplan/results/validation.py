"""Predicted against published figures."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from llmplan.analyze.validate import Checked, shipped_rows, summary, validated_params
from llmplan.analyze.validate_memory import Compared, errors, validated_memory
from llmplan.analyze.validate_memory import shipped_rows as shipped_starts
from llmplan.results import schema
from llmplan.results.common import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateParamsQuestion:
    """Every count of every model beside the published one.

    Attributes:
        data: A CSV with the columns of ``specs/published.csv``; that file where absent.
    """

    data: Path | None = None

    def ask(self) -> schema.Envelope:
        """Rows and their summary.

        Raises:
            DocumentError: The table cannot be read.
        """
        rows = validated_params(self.data or shipped_rows())
        result = schema.ValidationResult(
            rows=[validation_row(row) for row in rows],
            summary=schema.ValidationSummary(**asdict(summary(rows))),
        )
        shown = str(self.data) if self.data else "specs/published.csv"
        return Said("validate", {"what": "params", "data": shown}).answered(result)


def validation_row(row: Checked) -> schema.ValidationRow:
    """One metric."""
    return schema.ValidationRow(**asdict(row), error_frac=row.error_frac)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateMemoryQuestion:
    """What engines hold, predicted against measured starts.

    Attributes:
        data: A CSV with the columns of ``hardware/measured/engine_memory.csv``; that file where
            absent.
    """

    data: Path | None = None

    def ask(self) -> schema.Envelope:
        """Rows, their summary by engine, version, family and term, and verdicts.

        Raises:
            DocumentError: The table cannot be read.
        """
        found = validated_memory(self.data or shipped_starts())
        rows = [row for row in found if row.metric in METRICS]
        sizes = [row for row in rows if row.metric != "verdict"]
        result = schema.ValidationResult(
            rows=[start_row(row) for row in rows],
            summary=_summary(sizes, len(rows), rows),
            are_estimates=True,
            groups=[*_groups(found)],
            terms=[start_row(row) for row in found if row.metric not in METRICS],
            verdicts=_verdicts(rows),
        )
        shown = str(self.data) if self.data else "hardware/measured/engine_memory.csv"
        return Said("validate", {"what": "memory", "data": shown}).answered(result)


METRICS: Final = ("weights_bytes", "kv_bytes", "kv_tokens", "verdict")


def start_row(row: Compared) -> schema.ValidationRow:
    """One metric of one start."""
    return schema.ValidationRow(
        id=row.id,
        metric=row.metric,
        measured=_whole(row.measured),
        predicted=_whole(row.predicted),
        error_frac=row.error_frac,
        status=row.status,
        reason=row.reason,
        engine=f"{row.engine} {row.version}".strip(),
        family=row.family,
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _summary(
    sizes: list[Compared], rows: int, all_rows: list[Compared]
) -> schema.ValidationSummary:
    """Errors of sizes; verdicts are apart."""
    found = errors(sizes)
    reasons = [row.reason for row in all_rows if row.status == "skipped"]
    return schema.ValidationSummary(
        rows=rows,
        predicted=sum(1 for row in all_rows if row.status == "predicted"),
        skipped={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        median_abs_error_frac=found.median_abs_frac,
        mape=found.mape,
        p90_abs_error_frac=found.p90_abs_frac,
    )


def _groups(found: tuple[Compared, ...]) -> Iterator[schema.ValidationGroup]:
    """By metric, then by engine, version and family, then by term."""
    sizes = [row for row in found if row.metric in METRICS and row.metric != "verdict"]
    ways: tuple[tuple[str, Callable[[Compared], str]], ...] = (
        ("metric", lambda row: row.metric),
        ("engine", lambda row: row.engine),
        ("version", lambda row: f"{row.engine} {row.version or 'not stated'}"),
        ("family", lambda row: row.family or "not stated"),
    )
    for by, key in ways:
        yield from _grouped(by, key, sizes)
    yield from _grouped(
        "term", lambda row: row.metric, [r for r in found if r.metric not in METRICS]
    )


def _grouped(
    by: str, key: Callable[[Compared], str], rows: list[Compared]
) -> Iterator[schema.ValidationGroup]:
    names = sorted({(key(row), row.metric) for row in rows})
    for name, metric in names:
        group = [row for row in rows if key(row) == name and row.metric == metric]
        found = errors(group)
        yield schema.ValidationGroup(
            by=by,
            name=name,
            metric=metric,
            rows=found.rows,
            predicted=found.predicted,
            assumed=found.assumed,
            median_abs_error_frac=found.median_abs_frac,
            p90_abs_error_frac=found.p90_abs_frac,
            mape=found.mape,
            beyond_bound=found.beyond_bound,
        )


def _verdicts(rows: list[Compared]) -> schema.Verdicts:
    told = [row for row in rows if row.metric == "verdict" and row.predicted is not None]
    failures = [row for row in told if not row.measured]
    starts = [row for row in told if row.measured]
    missed = [row.id for row in failures if row.predicted]
    refused = [row.id for row in starts if not row.predicted]
    return schema.Verdicts(
        failures=len(failures),
        recalled=len(failures) - len(missed),
        starts=len(starts),
        false_refusals=len(refused),
        missed=missed,
        refused=refused,
    )
