"""Predicted against measured times of kernels and of serving runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from llmplan.analyze.operator_files import Asked
from llmplan.analyze.perf_files import perf_files, shipped_files
from llmplan.analyze.validate_ops import Timed, time_errors, validated_ops
from llmplan.analyze.validate_serving import Answered, Tick, silent, validated_serving
from llmplan.errors import InputError
from llmplan.results import schema
from llmplan.results.common import Said
from llmplan.results.validation_serving import answered_row, serving_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatePerfQuestion:
    """How long kernels take and how fast deployments answer, predicted against measurements.

    Attributes:
        data: CSV files or folders of them: operator tables, or serving runs with the columns of
            ``hardware/measured/serving.csv``; those in ``hardware/measured`` where there are none.
        gpu: The device of all operator tables; read from each file's name where absent.
        op: Which operator table they are; read from each file's name or columns where absent.
    """

    data: tuple[Path, ...] = ()
    gpu: str | None = None
    op: str | None = None

    def ask(self, tick: Tick = silent) -> schema.Envelope:
        """Rows, and their errors by what they have in common.

        Args:
            tick: Told after every row of serving runs how many are done, and of how many.

        Raises:
            DocumentError: A table cannot be read.
            InputError: A file that does not say of which device or operator it is.
        """
        if (self.gpu or self.op) and not self.data:
            raise InputError("--gpu and --op are of tables that --data names: add --data FILE.")
        files = perf_files(self.data) if self.data else shipped_files()
        if (self.gpu or self.op) and not files.operators:
            raise InputError("--gpu and --op are of operator tables; serving runs name their GPU.")
        kernels = validated_ops(Asked(files.operators, self.gpu, self.op))
        runs = validated_serving(files.serving, tick=tick) if files.serving else ()
        result = schema.ValidationResult(
            rows=[*map(timed_row, kernels), *map(answered_row, runs)],
            summary=_summary(*kernels, *runs),
            are_estimates=True,
            groups=[*_groups(kernels), *serving_groups(runs)],
        )
        shown = ", ".join(map(str, self.data)) or SHIPPED
        inputs = {"what": "perf", "data": shown, "gpu": self.gpu, "op": self.op}
        return Said("validate", inputs).answered(result)


SHIPPED: Final = "hardware/measured/ops, hardware/measured/serving.csv"


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


def _summary(*found: Timed | Answered) -> schema.ValidationSummary:
    """Errors of all that was predicted, whatever it is."""
    reasons = [row.reason for row in found if row.status == "skipped"]
    predicted = [row for row in found if row.status == "predicted"]
    off = np.abs([row.error_frac or 0.0 for row in predicted])
    return schema.ValidationSummary(
        rows=len(found),
        predicted=len(predicted),
        skipped={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        median_abs_error_frac=float(np.median(off)) if predicted else None,
        mape=float(off.mean()) if predicted else None,
        p90_abs_error_frac=float(np.quantile(off, 0.9)) if predicted else None,
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
