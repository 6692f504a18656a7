"""Predicted against measured serving: first tokens, further tokens and throughput of runs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Final

import numpy as np

from llmplan.analyze.measured import Row, Skipped, device_of
from llmplan.analyze.served_figures import figures_of
from llmplan.analyze.served_rows import Memories, served
from llmplan.analyze.serving_rows import PREFILL_ONLY, ServingRow, asked_by, serving_rows
from llmplan.analyze.serving_workers import number
from llmplan.errors import LlmplanError, printable
from llmplan.perf.overheads import ServingProfile, serving_profile

METRICS: Final = ("ttft", "tpot", "throughput")
APART: Final = "disaggregated"
"""Name of scenarios whose prompts have workers of their own."""
UNUSED: Final = "C"
"""Quality of rows that are bounds only, or under suspicion."""
MOST_TOKENS: Final = 10_000_000
"""Of a request: more than any model takes."""
MOST_IN_FLIGHT: Final = 10_000_000
NOT_KNOWN: Final = "not known"

Tick = Callable[[int, int], None]
"""Told how many rows are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One metric of one row.

    Attributes:
        id: The row.
        metric: ``ttft`` and ``tpot`` in seconds, ``throughput`` in tokens a second.
        measured: None where it cannot be read.
        engine: With its version, where it is stated.
        gpu: Catalogue name; the word of the row where it is skipped.
        kind: What the model is made of: dense, experts, latent, recurrent.
        scenario: In the table's word; ``disaggregated`` where prompts have workers of their own.
        predicted: None where the row is skipped.
        low: What a tenth of like measurements stay below.
        high: What a tenth exceed.
        baseline: The pure roofline.
        status: predicted, assumed or skipped.
        reason: Why it is skipped, what was assumed, or how words of the row were read.
    """

    id: str
    metric: str
    measured: float | None
    engine: str
    gpu: str
    scenario: str
    kind: str = NOT_KNOWN
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    status: str = "skipped"
    reason: str = ""

    @property
    def error_frac(self) -> float | None:
        """Predicted over measured, less one."""
        return _over(self.predicted, self.measured)

    @property
    def baseline_error_frac(self) -> float | None:
        """The same of the pure roofline."""
        return _over(self.baseline, self.measured)

    @property
    def is_covered(self) -> bool:
        """Whether the stated range holds what was measured."""
        if self.low is None or self.high is None or self.measured is None:
            return False
        return self.low <= self.measured <= self.high


def _over(value: float | None, measured: float | None) -> float | None:
    return None if value is None or not measured else value / measured - 1


def silent(_done: int, _total: int) -> None:
    """Nobody is told."""


def validated_serving(
    paths: Iterable[Path], profile: ServingProfile | None = None, tick: Tick = silent
) -> tuple[Answered, ...]:
    """Every metric of every row of tables with the columns of ``hardware/measured/serving.csv``.

    A row that states none of the three metrics asks nothing.

    Args:
        paths: The tables.
        profile: Fitted constants; the shipped ones where absent.
        tick: Told after every row.

    Raises:
        DocumentError: A table cannot be read.
    """
    fitted, memories = profile or serving_profile(), Memories()
    rows = [row for path in paths for row in serving_rows(path)]
    found: list[Answered] = []
    for done, row in enumerate(rows, 1):
        found += answered(row, memories, fitted)
        tick(done, len(rows))
    return tuple(found)


def answered(row: Row, memories: Memories, profile: ServingProfile) -> Iterator[Answered]:
    """The metrics that a row states, each beside its prediction."""
    try:
        asked = _asked(row)
        found = served(asked, memories)
        told = figures_of(found, profile)
    except Skipped as why:
        yield from _skipped(row, str(why))
        return
    except LlmplanError as error:
        yield from _skipped(row, printable(str(error)))
        return
    reason = "; ".join((*(f"default: {name}" for name in asked.assumed), *asked.remarks))
    blank = replace(
        _blank(row),
        gpu=asked.device.slug,
        kind=found.deployed.kind,
        scenario=APART if found.deployed.prefill else asked.scenario,
    )
    for metric, measured in asked.measured.items():
        figure = told.get(metric)
        one = replace(blank, metric=metric, measured=measured)
        if figure is None or not (isfinite(figure.value) and figure.value > 0):
            yield replace(one, reason=UNANSWERED.get(metric, "") if figure else NO_SUCH_FIGURE)
            continue
        yield replace(
            one,
            predicted=figure.value,
            low=figure.low,
            high=figure.high,
            baseline=figure.baseline,
            status="assumed" if asked.assumed else "predicted",
            reason=reason,
        )


UNANSWERED: Final = {
    "ttft": "more arrives than can be served: the queue has no end",
    "tpot": "its sizes cannot be",
    "throughput": "its sizes cannot be",
}
NO_SUCH_FIGURE: Final = "the scenario has no such figure"


def _asked(row: Row) -> ServingRow:
    """The question of a row that can be used.

    Raises:
        Skipped: It cannot.
    """
    if row.get("quality", "").strip() == UNUSED:
        raise Skipped(f"quality {UNUSED}: not used")
    asked = asked_by(row)
    if not 0 < asked.isl + asked.osl <= MOST_TOKENS or (asked.concurrency or 0) > MOST_IN_FLIGHT:
        raise Skipped("its sizes cannot be")
    return asked


def _blank(row: Row) -> Answered:
    engine = f"{row.get('engine', '')} {row.get('engine_version', '')}".strip()
    return Answered(
        id=printable(row["id"]),
        metric="",
        measured=None,
        engine=printable(engine),
        gpu=_gpu(row),
        scenario=printable(row.get("scenario", "").strip()) or NOT_KNOWN,
    )


def _gpu(row: Row) -> str:
    try:
        return device_of(row["gpu"]).slug
    except Skipped:
        return printable(row["gpu"].strip()) or NOT_KNOWN


def _skipped(row: Row, reason: str) -> Iterator[Answered]:
    for metric, measured in _stated(row):
        yield replace(_blank(row), metric=metric, measured=measured, reason=reason)


def _stated(row: Row) -> Iterator[tuple[str, float | None]]:
    """Metrics of a row that is not answered; None where one cannot be read."""
    for metric in METRICS[:2]:
        if row.get(f"{metric}_ms", "").strip():
            value = _number(row, f"{metric}_ms")
            yield metric, None if value is None else value * 1e-3
    is_prefill = row["scenario"].strip() == PREFILL_ONLY
    total = "input_tok_s_total" if is_prefill else "output_tok_s_total"
    if row.get(total, "").strip():
        yield METRICS[2], _number(row, total)
    elif not is_prefill and row.get("output_tok_s_per_gpu", "").strip():
        each, gpus = _number(row, "output_tok_s_per_gpu"), _number(row, "num_gpus")
        yield METRICS[2], each * gpus if each is not None and gpus else None


def _number(row: Row, column: str) -> float | None:
    try:
        return number(row, column)
    except Skipped:
        return None


@dataclass(frozen=True, slots=True)
class ServingErrors:
    """Errors of some rows.

    Attributes:
        rows: Metrics looked at.
        predicted: Of these, predicted from what the rows state; the rest is of these.
        assumed: Of these, answered with a default where the rows are silent.
        median_abs_frac: Median of absolute errors.
        p90_abs_frac: 90th percentile.
        mape: Mean.
        coverage_frac: Share whose stated range holds what was measured.
        baseline_median_abs_frac: Median for the pure roofline.
        baseline_mape: Mean for the pure roofline.
    """

    rows: int
    predicted: int
    assumed: int
    median_abs_frac: float | None = None
    p90_abs_frac: float | None = None
    mape: float | None = None
    coverage_frac: float | None = None
    baseline_median_abs_frac: float | None = None
    baseline_mape: float | None = None


def serving_errors(rows: Iterable[Answered]) -> ServingErrors:
    """Errors in a few figures."""
    found = list(rows)
    predicted = [row for row in found if row.status == "predicted"]
    assumed = sum(row.status == "assumed" for row in found)
    if not predicted:
        return ServingErrors(len(found), 0, assumed)
    off = np.abs([row.error_frac or 0.0 for row in predicted])
    base = np.abs([row.baseline_error_frac or 0.0 for row in predicted])
    return ServingErrors(
        len(found),
        len(predicted),
        assumed,
        float(np.median(off)),
        float(np.quantile(off, 0.9)),
        float(off.mean()),
        float(np.mean([row.is_covered for row in predicted])),
        float(np.median(base)),
        float(base.mean()),
    )
