"""Predicted against measured times of kernels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmplan.analyze.operator_files import Asked, shipped_tables
from llmplan.analyze.validate_ops import Timed, time_errors, validated_ops
from llmplan.results import schema
from llmplan.results.common import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatePerfQuestion:
    """How long kernels take, predicted against operator tables.

    Attributes:
        data: CSV files or folders of them; ``hardware/measured/ops`` where there are none.
        gpu: The device of all tables; read from each file's name where absent.
        op: Which operator table they are; read from each file's name or columns where absent.
    """

    data: tuple[Path, ...] = ()
    gpu: str | None = None
    op: str | None = None

    def ask(self) -> schema.Envelope:
        """Rows, and their errors by operator, GPU and kernel.

        Raises:
            DocumentError: A table cannot be read.
            InputError: A file that does not say of which device or operator it is.
        """
        found = validated_ops(Asked(self.data or (shipped_tables(),), self.gpu, self.op))
        result = schema.ValidationResult(
            rows=[timed_row(row) for row in found],
            summary=_summary(found),
            are_estimates=True,
            groups=[*_groups(found)],
        )
        shown = ", ".join(map(str, self.data)) or "hardware/measured/ops"
        inputs = {"what": "perf", "data": shown, "gpu": self.gpu, "op": self.op}
        return Said("validate", inputs).answered(result)


def timed_row(row: Timed) -> schema.ValidationRow:
    """One row; times in seconds."""
    return schema.ValidationRow(
        id=row.id,
        metric=f"op:{row.operator}",
        measured=row.measured_s,
        predicted=row.predicted_s,
        error_frac=row.error_frac,
        status=row.status,
        reason=row.reason,
        engine=row.kernel,
        low=row.low_s,
        high=row.high_s,
        bound=row.bound_s,
    )


def _summary(found: tuple[Timed, ...]) -> schema.ValidationSummary:
    errors = time_errors(found)
    reasons = [row.reason for row in found if row.status == "skipped"]
    return schema.ValidationSummary(
        rows=len(found),
        predicted=errors.predicted,
        skipped={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        median_abs_error_frac=errors.median_abs_frac,
        mape=errors.mape,
        p90_abs_error_frac=errors.p90_abs_frac,
    )


def _groups(found: tuple[Timed, ...]) -> Iterator[schema.ValidationGroup]:
    """By operator, by GPU, and by kernel of a GPU."""
    ways: tuple[tuple[str, Callable[[Timed], str]], ...] = (
        ("metric", lambda row: f"op:{row.operator}"),
        ("gpu", lambda row: row.device),
        ("kernel", lambda row: f"{row.device} {row.kernel}"),
    )
    for by, key in ways:
        grouped: dict[tuple[str, str], list[Timed]] = {}
        for row in found:
            if by != "kernel" or row.kernel:
                grouped.setdefault((key(row), f"op:{row.operator}"), []).append(row)
        for (name, metric), rows in sorted(grouped.items()):
            yield _group(by, name, metric, rows)


def _group(by: str, name: str, metric: str, rows: list[Timed]) -> schema.ValidationGroup:
    errors = time_errors(rows)
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
        bound_median_abs_error_frac=errors.bound_median_abs_frac,
    )
