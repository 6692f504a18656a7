"""Measured serving: one row of ``hardware/measured/serving.csv`` as a question.

A blank cell is *not stated*. What notes state in a fixed form (how lengths are drawn, the prefill
workers of a disaggregated deployment) is read from them, since the table has no column for it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from llmplan.analyze.measured import (
    Row,
    Skipped,
    device_of,
    lowered_whole,
    model_of,
    table_rows,
)
from llmplan.analyze.serving_formats import states_of, weights_of
from llmplan.analyze.serving_workers import Pools, number, pools_of
from llmplan.errors import LayoutError, LlmplanError, printable
from llmplan.hardware.device import Device
from llmplan.model.compiled import Model
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout
from llmplan.parallel.precision import (
    NATIVE,
    StateFormats,
    weight_formats,
    with_state_formats,
    with_weight_formats,
)
from llmplan.parallel.rank import stage_ranks

ENGINES: Final = ("vllm", "sglang", "trtllm", "llama.cpp", "gpt-fast")
NEEDED: Final = ("id", "engine", "model", "gpu", "num_gpus", "isl", "osl", "scenario")
MS: Final = 1e-3
PREFILL_ONLY: Final = "prefill_only"
_UNIFORM: Final = re.compile(r"lengths (?:drawn uniformly )?in \[(0?\.\d+) ?L, L\]")
_GUESSED: Final = (
    ("osl", re.compile(r"osl not stated")),
    ("device memory", re.compile(r"memory size not stated")),
)


@dataclass(frozen=True)
class ServingRow:
    """A row as a question.

    Attributes:
        row: The row.
        id: What it is called.
        engine: One of ``ENGINES``.
        version: As written; empty where it is not stated.
        model: The text decoder in the formats of the row, without MTP modules and vision.
        published: The model of the catalogue.
        layout: Of one worker; of a decode worker where prefill runs elsewhere.
        replicas: Workers of that layout.
        num_gpus: Of the deployment; of the one pool in rows of a pool.
        nodes: Hosts.
        device: The GPU.
        prefill_layout: Of a prefill worker where prefill runs elsewhere and the row states it.
        prefill_gpus: 0 where prefill does not run elsewhere, or is not stated.
        decode_gpus: Likewise.
        isl: Mean prompt tokens.
        osl: Mean output tokens.
        spread: Lengths are uniform in [(1 - spread) L, L]; 0 where all are alike.
        concurrency: Requests in flight over the whole deployment; None where it is not stated.
        rate: Requests a second; None where it is not stated or has no bound.
        scenario: In the table's word.
        disaggregated: Prefill and decode run on pools of their own.
        measured: ``ttft`` and ``tpot`` in seconds, ``throughput`` in tokens a second.
        quality: In the table's word.
        assumed: What the row does not state and decides the answer.
        remarks: How words of the row were read.
    """

    row: Row
    id: str
    engine: str
    version: str
    model: Model
    published: Model
    layout: Layout
    replicas: int
    num_gpus: int
    nodes: int
    device: Device
    prefill_layout: Layout | None
    prefill_gpus: int
    decode_gpus: int
    isl: float
    osl: float
    spread: float
    concurrency: float | None
    rate: float | None
    scenario: str
    disaggregated: bool
    measured: dict[str, float]
    quality: str
    assumed: tuple[str, ...]
    remarks: tuple[str, ...]


def serving_rows(path: Path) -> Iterator[Row]:
    """The rows of a table with the columns of ``hardware/measured/serving.csv``.

    Raises:
        DocumentError: It cannot be read, or lacks a column that says what was measured.
    """
    return table_rows(path, NEEDED, "hardware/measured/serving.csv")


def asked_by(row: Row) -> ServingRow:
    """The question that a row asks.

    Raises:
        Skipped: It cannot be answered, with the reason.
    """
    engine = _engine(row)
    if row.get("spec_decode", "").strip() not in ("", "none"):
        raise Skipped("drafts tokens")
    name = row["model"]
    pools = pools_of(row, has_experts=_has_experts(_published(name)))
    words = (row.get("weight_dtype", ""), row.get("kv_dtype", ""))
    decoder, prefill_layout = _decoder(name, engine, *words, pools.layout), None
    if pools.prefill_layout:
        prefill_layout = _decoder(name, engine, *words, pools.prefill_layout).layout
    isl, osl, spread = _lengths(row)
    measured, remark = _measured(row, pools)
    return ServingRow(
        row=row,
        id=row["id"],
        engine=engine,
        version=row.get("engine_version", "").strip(),
        model=decoder.model,
        published=_published(name),
        layout=decoder.layout,
        replicas=pools.replicas,
        num_gpus=pools.num_gpus,
        nodes=pools.nodes,
        device=device_of(row["gpu"]),
        prefill_layout=prefill_layout,
        prefill_gpus=pools.prefill_gpus,
        decode_gpus=pools.decode_gpus,
        isl=isl,
        osl=osl,
        spread=spread,
        concurrency=number(row, "concurrency") or None,
        rate=_rate(row),
        scenario=row["scenario"].strip(),
        disaggregated=pools.disaggregated,
        measured=measured,
        quality=row.get("quality", "").strip(),
        assumed=(*pools.assumed, *_guessed(row)),
        remarks=tuple(text for text in (*decoder.remarks, *pools.remarks, remark) if text),
    )


def _engine(row: Row) -> str:
    name = row["engine"].strip()
    if not name:
        raise Skipped("names no engine")
    if name not in ENGINES:
        raise Skipped(f"engine '{printable(name)}' is not known")
    return name


@lru_cache(maxsize=256)
def _published(name: str) -> Model:
    return model_of(name)


def _has_experts(model: Model) -> bool:
    return any(isinstance(operator, Experts) for operator, _ in model.decoder.counted)


@dataclass(frozen=True)
class Decoder:
    """The text decoder of a row, split as engines would.

    Attributes:
        model: In the formats of the row.
        layout: As the row says, or the nearest that cuts no block of a format.
        remarks: How words were read.
    """

    model: Model
    layout: Layout
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Formats:
    """The text decoder as it is published, and the formats of a row.

    Attributes:
        served: Without MTP modules and vision.
        weights: ``--dtype``.
        states: Of what requests keep.
        model: In these formats; int4 in the usual groups.
        remarks: How words were read.
    """

    served: Model
    weights: str
    states: StateFormats
    model: Model
    remarks: tuple[str, ...]


@lru_cache(maxsize=1024)
def _formats(name: str, engine: str, weight_word: str, kv_word: str) -> Formats:
    """What a row asks of a model, whatever its layout.

    Raises:
        Skipped: A format that is not known.
    """
    published = _published(name)
    weights, kept = weights_of(weight_word, engine, name, published)
    if weights != NATIVE and published.identity.assumptions:
        # the row states the format; the name alone may have said another
        published = _published(published.identity.name)
    served = published.served(mtp=False, vision=False)
    try:
        stored = with_weight_formats(served, weight_formats(weights))
        states, blank = states_of(kv_word, engine, stored)
    except LlmplanError as error:
        raise Skipped(str(error)) from None
    return Formats(served, weights, states, with_state_formats(stored, states), (kept, blank))


@lru_cache(maxsize=1024)
def _decoder(name: str, engine: str, weight_word: str, kv_word: str, layout: Layout) -> Decoder:
    """The text decoder in a row's formats.

    Raises:
        Skipped: A format that is not known, or a split that is refused.
    """
    formats, group = _formats(name, engine, weight_word, kv_word), ""
    model = formats.model
    if model.diffusion:
        raise Skipped("is no language model")
    if "int4" in formats.weights:
        model, group = lowered_whole(formats.served, formats.weights, formats.states, layout)
    taken, cut = _uncut(model, layout)
    return Decoder(model, taken, (*formats.remarks, group, cut))


def _uncut(model: Model, layout: Layout) -> tuple[Layout, str]:
    """The layout, or whole experts on each rank where only they can be split so.

    Engines refuse to cut blocks of a format, so a run that is stated so did not cut them.

    Raises:
        Skipped: The split is refused.
    """
    try:
        stage_ranks(model, layout)
    except LayoutError as error:
        spread = replace(layout, ep=True)
        if layout.ep or not _can_split(model, spread):
            raise Skipped(f"layout: {error}") from None
        return spread, f"whole experts on each rank, since {str(error).rstrip('.')}"
    return layout, ""


def _can_split(model: Model, layout: Layout) -> bool:
    try:
        stage_ranks(model, layout)
    except LayoutError:
        return False
    return True


def _lengths(row: Row) -> tuple[float, float, float]:
    """Mean tokens of prompts and outputs, and how far below the longest the shortest are."""
    isl, osl = number(row, "isl"), number(row, "osl")
    if osl is None and row["scenario"].strip() == PREFILL_ONLY:
        osl = 0.0
    if isl is None or osl is None:
        raise Skipped("does not state the tokens of a request")
    match = _UNIFORM.search(row.get("notes", ""))
    least = float(match[1]) if match else 1.0
    mean = (1 + least) / 2
    return mean * isl, mean * osl, round(1 - least, 9)


def _rate(row: Row) -> float | None:
    text = row.get("request_rate", "").strip()
    return None if text in ("", "inf") else number(row, "request_rate") or None


def _measured(row: Row, pools: Pools) -> tuple[dict[str, float], str]:
    """Metrics of a row, and how they were read."""
    found: dict[str, float] = {}
    for metric in ("ttft", "tpot"):
        if value := number(row, f"{metric}_ms"):
            found[metric] = value * MS
    is_prefill = row["scenario"].strip() == PREFILL_ONLY
    column = "input_tok_s_total" if is_prefill else "output_tok_s_total"
    each = number(row, "output_tok_s_per_gpu")
    remark = ""
    if total := number(row, column):
        found["throughput"] = total
    elif each and not is_prefill:
        found["throughput"] = each * pools.num_gpus
        remark = "throughput is that of a GPU times the GPUs"
    if not found:
        raise Skipped("states no metric")
    return found, remark


def _guessed(row: Row) -> tuple[str, ...]:
    """Cells that notes call guessed."""
    notes = row.get("notes", "")
    return tuple(what for what, pattern in _GUESSED if pattern.search(notes))
