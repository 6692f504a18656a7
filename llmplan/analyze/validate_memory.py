"""Predicted against measured memory of engines, row by row and term by term."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from llmplan.analyze.measured import Row, Skipped, table_rows
from llmplan.analyze.measured_rows import (
    Asked,
    asked_by,
    failed_after_start,
    gib,
    holds_a_drafter,
)
from llmplan.analyze.serving import Serving
from llmplan.analyze.starting import starts
from llmplan.documents import shipped_folder
from llmplan.engines.settings import EngineName
from llmplan.errors import printable

NEEDED: Final = ("id", "engine", "model", "gpu")
SHARE_MATTERS: Final = ("kv_bytes", "kv_tokens", "verdict")
"""Metrics that a share of memory decides which nobody stated."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one row.

    Attributes:
        id: The row.
        engine: Its engine, with ``version`` as it was answered for.
        family: Its model family.
        metric: weights_bytes, kv_bytes, kv_tokens or verdict; for terms: activations_bytes,
            non_torch_bytes, graphs_bytes.
        measured: In bytes or tokens; for a verdict 1 where the engine started.
        predicted: Likewise; None where the row is skipped.
        status: predicted, assumed or skipped.
        reason: Why it is skipped, or what was assumed.
        device_bytes: Memory of the device, to judge an error by.
    """

    id: str
    engine: str
    version: str
    family: str
    metric: str
    measured: float | None
    predicted: float | None
    status: str
    reason: str = ""
    device_bytes: int = 0

    @property
    def error_frac(self) -> float | None:
        """Predicted over measured, less one; of a verdict 0 or 1."""
        if self.predicted is None or self.measured is None:
            return None
        if self.metric == "verdict" or not self.measured:
            return float(self.predicted != self.measured)
        return (self.predicted - self.measured) / abs(self.measured)


def shipped_rows() -> Path:
    """The measured starts that come with llmplan."""
    return shipped_folder("hardware") / "measured" / "engine_memory.csv"


def validated_memory(path: Path) -> tuple[Compared, ...]:
    """Every metric of every row of a table with the columns of the shipped one.

    Raises:
        DocumentError: The table cannot be read.
    """
    return tuple(compared for row in measured_rows(path) for compared in compare(row))


def measured_rows(path: Path) -> Iterator[Row]:
    """The rows of a table.

    Raises:
        DocumentError: It cannot be read, or lacks a column that says what was started.
    """
    return table_rows(path, NEEDED, "hardware/measured/engine_memory.csv")


def compare(row: Row) -> Iterator[Compared]:
    """The metrics that a row states, each beside its prediction."""
    stated = _stated(row)
    blank = Compared(
        id=printable(row["id"]),
        engine=printable(row["engine"]),
        version=printable(row.get("engine_version", "")),
        family=printable(row.get("family", "")),
        metric="",
        measured=None,
        predicted=None,
        status="skipped",
    )
    try:
        asked = asked_by(row)
        serving = asked.answer()
    except Skipped as reason:
        for metric, measured in stated.items():
            yield replace(blank, metric=metric, measured=measured, reason=str(reason))
        return
    blank = replace(blank, device_bytes=asked.device.capacity_bytes)
    for metric, measured in stated.items():
        yield _compared(replace(blank, metric=metric, measured=measured), asked, serving)


def _stated(row: Row) -> dict[str, float]:
    """Metric and measured value of what a row states."""
    columns = {
        "weights_bytes": gib(row.get("weights_gib_per_gpu", "")),
        "kv_bytes": gib(row.get("kv_available_gib_per_gpu", "")),
        "activations_bytes": gib(row.get("activation_gib", ""))
        if row["engine"] == "vllm"
        else None,
        "non_torch_bytes": gib(row.get("non_torch_gib", "")),
        "graphs_bytes": gib(row.get("cuda_graph_gib", "")),
    }
    stated: dict[str, float] = {k: float(v) for k, v in columns.items() if v is not None}
    tokens = row.get("kv_tokens", "")
    if tokens.isdigit():
        stated["kv_tokens"] = float(tokens)
    if row.get("outcome"):
        stated["verdict"] = float(row["outcome"] == "ok")
    return stated


def _compared(asked_for: Compared, asked: Asked, serving: Serving) -> Compared:
    metric = asked_for.metric
    try:
        predicted = _predicted(metric, asked, serving)
    except Skipped as reason:
        return replace(asked_for, reason=str(reason))
    assumed = bool(asked.assumed) and metric in SHARE_MATTERS
    words = [f"default: {name}" for name in asked.assumed] if metric in SHARE_MATTERS else []
    words += asked.remarks
    return replace(
        asked_for,
        predicted=predicted,
        status="assumed" if assumed else "predicted",
        reason="; ".join(words),
    )


def _predicted(metric: str, asked: Asked, serving: Serving) -> float:
    """The prediction of one metric; sizes are those of the first stage, which engines print.

    Raises:
        Skipped: The row does not state what decides it.
    """
    held = serving.ranks[0].plan.held
    if metric in SHARE_MATTERS and holds_a_drafter(asked.row, asked.published):
        raise Skipped("a draft model of unknown size is resident")
    if metric == "weights_bytes":
        _whole_model_on_gpus(asked, serving)
        return held.weights.bytes / _devices(asked)
    if metric == "verdict":
        if failed_after_start(asked.row):
            raise Skipped("failed after start-up")
        _whole_model_on_gpus(asked, serving)
        return float(starts(serving, _devices(asked)))
    sizes = {
        "kv_bytes": held.pool_bytes,
        "kv_tokens": serving.printed_tokens,
        "activations_bytes": held.activations.bytes,
        "non_torch_bytes": held.non_torch.bytes,
        "graphs_bytes": held.graphs.bytes,
    }
    return float(sizes[metric])


def _devices(asked: Asked) -> int:
    """GPUs that llama.cpp spreads layers over; others state their layout."""
    count = asked.row.get("gpu_count", "")
    if asked.profile.engine is not EngineName.LLAMACPP or not count.isdigit():
        return 1
    return max(int(count), 1)


def _whole_model_on_gpus(asked: Asked, serving: Serving) -> None:
    """Refuse where part of a model stays in host memory and the row does not say which.

    Raises:
        Skipped: It does.
    """
    if asked.profile.engine is not EngineName.LLAMACPP:
        return
    if asked.row.get("gpu", "") == "CPU":
        raise Skipped("runs on the host: no GPU memory")
    room = asked.device.capacity_bytes * _devices(asked)
    if serving.ranks[0].plan.held.weights.bytes > room:
        raise Skipped("part of the model stays in host memory, and the row does not say which")


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors of some rows.

    Attributes:
        rows: Metrics looked at.
        predicted: Of these, predicted from what the rows state.
        assumed: Of these, answered with a default where the rows are silent.
        median_abs_frac: Median of absolute errors of predicted ones.
        p90_abs_frac: 90th percentile.
        mape: Mean of absolute errors.
        beyond_bound: Rows whose error is larger than 15 % of what was measured and 1 % of the
            device's memory.
    """

    rows: int
    predicted: int
    assumed: int
    median_abs_frac: float | None
    p90_abs_frac: float | None
    mape: float | None
    beyond_bound: int


RELATIVE_BOUND: Final = 0.15
DEVICE_BOUND: Final = 0.01


def errors(rows: list[Compared]) -> Errors:
    """Errors of ``rows`` in a few figures."""
    predicted = [row for row in rows if row.status == "predicted"]
    found = sorted(abs(row.error_frac) for row in predicted if row.error_frac is not None)
    assumed = sum(1 for row in rows if row.status == "assumed")
    if not found:
        return Errors(len(rows), 0, assumed, None, None, None, 0)
    return Errors(
        len(rows),
        len(found),
        assumed,
        _percentile(found, 0.5),
        _percentile(found, 0.9),
        sum(found) / len(found),
        sum(1 for row in predicted if is_beyond_bound(row)),
    )


def is_beyond_bound(row: Compared) -> bool:
    """Whether an error is larger than 15 % of what was measured and 1 % of the device's memory."""
    if row.error_frac is None or row.predicted is None or row.measured is None:
        return False
    if abs(row.error_frac) <= RELATIVE_BOUND:
        return False
    if row.metric == "kv_tokens":
        return True
    return abs(row.predicted - row.measured) > DEVICE_BOUND * row.device_bytes


def _percentile(ordered: list[float], frac: float) -> float:
    """Linear between neighbours, as numpy's default."""
    place = frac * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
