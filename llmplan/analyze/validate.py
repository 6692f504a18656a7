"""Predicted against published: every count of every model, exact or with the difference named."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Final

from llmplan.analyze.ledger import ledger
from llmplan.analyze.parameters import ParameterCounts, parameter_counts
from llmplan.analyze.state import RequestState, request_state
from llmplan.documents import shipped_folder
from llmplan.errors import (
    DocumentError,
    InputError,
    UnknownNameError,
    UnverifiedModelError,
    printable,
)
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model

MAX_BYTES: Final = 20_000_000
MAX_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Checked:
    """One metric of one row.

    Attributes:
        id: The row.
        metric: total, active, buffers, mtp, vision, kv, indexer, state or published.
        measured: The published figure; None where the row states none.
        predicted: The figure of the spec; None where the row is skipped.
        status: ``predicted`` or ``skipped``.
        reason: Why it is skipped, or what a difference is made of.
    """

    id: str
    metric: str
    measured: int | None
    predicted: int | None
    status: str
    reason: str = ""

    @property
    def error_frac(self) -> float | None:
        """Predicted over measured, less one; 0 where both are 0."""
        if self.predicted is None or self.measured is None:
            return None
        if self.measured == self.predicted:
            return 0.0
        return (self.predicted - self.measured) / self.measured if self.measured else 1.0


COLUMNS: Final[dict[str, tuple[str, Callable[[ParameterCounts, RequestState], int]]]] = {
    "total": ("meta_total_params", lambda counts, _: counts.total),
    "active": ("active_params_excl_input_embedding", lambda counts, _: counts.active),
    "buffers": ("persistent_buffers", lambda counts, _: counts.buffers),
    "mtp": ("mtp_params", lambda counts, _: counts.mtp),
    "vision": ("vision_params_in_meta", lambda counts, _: counts.vision),
    "kv": ("kv_bytes_per_token_bf16", lambda _, state: state.growing_bytes_per_token),
    "indexer": ("indexer_bytes_per_token_bf16", lambda _, state: state.indexer_bytes_per_token),
    "state": ("fixed_state_bytes_per_seq_bf16", lambda _, state: state.fixed_bytes),
}
"""Metric, the column that states it, and how the spec counts it."""


def shipped_rows() -> Path:
    """The published counts that come with the catalogue."""
    return shipped_folder("specs") / "published.csv"


def validated_params(path: Path) -> tuple[Checked, ...]:
    """Every metric of every row of a table with the columns of ``specs/published.csv``.

    Raises:
        DocumentError: The table cannot be read.
    """
    return tuple(check for row in _rows(path) for check in _checked(row))


def _rows(path: Path) -> Iterator[dict[str, str]]:
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DocumentError(f"is larger than {MAX_BYTES:,} bytes.", name)
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if "slug" not in (rows.fieldnames or ()):
                raise DocumentError("has no column 'slug'; see specs/published.csv.", name, 1)
            for number, row in enumerate(rows):
                if number >= MAX_ROWS:
                    raise DocumentError(f"has more than {MAX_ROWS:,} rows.", name)
                yield {key: value or "" for key, value in row.items() if key}
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    except (UnicodeDecodeError, csv.Error):
        raise DocumentError("is no CSV text.", name) from None


def _checked(row: dict[str, str]) -> Iterator[Checked]:
    slug = printable(row["slug"])
    stated = {metric: _whole(row.get(column, "")) for metric, (column, _) in COLUMNS.items()}
    try:
        model = load_model(row["slug"])
    except (UnknownNameError, UnverifiedModelError) as error:
        for metric, measured in stated.items():
            if measured is not None or metric == "total":
                yield Checked(slug, metric, measured, None, "skipped", _why_unknown(row, error))
        return
    counts, state = parameter_counts(model), request_state(model.served())
    for metric, measured in stated.items():
        if measured is not None:
            predicted = COLUMNS[metric][1](counts, state)
            yield Checked(slug, metric, measured, predicted, "predicted")
    published = _whole(row.get("published_total_params", ""))
    if published is not None:
        yield reconciled(slug, model, counts, published)


def _why_unknown(row: dict[str, str], error: InputError) -> str:
    if isinstance(error, UnverifiedModelError):
        return error.reason
    if row.get("config_confidence") in ("unavailable", "partial", "class-default"):
        return f"unverified: config {row['config_confidence']}"
    return "no spec"


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else None


def reconciled(slug: str, model: Model, counts: ParameterCounts, published: int) -> Checked:
    """The hub's total as the sum of named parts: what it counts beside the parameters.

    Where no sum is equal, the nearest one below is named with what is left over.
    """
    parts = _parts_beside(model, counts)
    sums = {
        names: counts.total + sum(parts[name] for name in names)
        for number in range(len(parts) + 1)
        for names in combinations(parts, number)
    }
    nearest = max(
        (names for names, total in sums.items() if total <= published),
        key=lambda names: (sums[names], -len(names)),
        default=(),
    )
    words = " + ".join(("parameters", *nearest))
    left = published - sums[nearest]
    reason = f"{words}; {left:+,} entries unexplained" if left else words
    return Checked(slug, "published", published, sums[nearest], "predicted", reason)


def _parts_beside(model: Model, counts: ParameterCounts) -> dict[str, int]:
    """What a hub may count beside parameters, as far as the model has it."""
    counted = ledger(model)
    scales, all_scales = counted.without_mtp.scale_entries, counted.with_mtp.scale_entries
    parts = {
        "buffers": counts.buffers,
        "MTP": counts.mtp,
        "scales": scales,
        "MTP scales": all_scales - scales,
        "a second copy of the tied head": counted.tied_copy,
        **dict(model.identity.unused_entries),
    }
    return {name: size for name, size in parts.items() if size}


@dataclass(frozen=True, slots=True)
class Summary:
    """Errors over all rows that were predicted.

    Attributes:
        rows: Metrics looked at.
        predicted: Of these, predicted.
        skipped: Reasons with how often they stand.
        median_abs_error_frac: Median of absolute errors.
        mape: Mean of absolute errors.
        p90_abs_error_frac: 90th percentile of absolute errors.
    """

    rows: int
    predicted: int
    skipped: dict[str, int]
    median_abs_error_frac: float | None
    mape: float | None
    p90_abs_error_frac: float | None


def summary(rows: tuple[Checked, ...]) -> Summary:
    """The errors of ``rows`` in a few figures."""
    errors = sorted(abs(row.error_frac) for row in rows if row.error_frac is not None)
    reasons = [row.reason for row in rows if row.status == "skipped"]
    skipped = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    if not errors:
        return Summary(len(rows), 0, skipped, None, None, None)
    p90 = errors[min(len(errors) - 1, int(0.9 * len(errors)))]
    mean = sum(errors) / len(errors)
    return Summary(len(rows), len(errors), skipped, median(errors), mean, p90)
