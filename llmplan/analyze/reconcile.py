"""A prediction beside a start-up log, term by term, and the correction that it comes to."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from llmplan.analyze.serving import ServedRank, Serving
from llmplan.analyze.starting import why_not
from llmplan.engines.corrections import Correction, corrected
from llmplan.engines.logs import Figure, LogFacts, Outcome, Reading
from llmplan.engines.placing import where
from llmplan.engines.settings import EngineName
from llmplan.errors import InputError, printable
from llmplan.units import GIB, format_gib

_STAGE: Final = re.compile(r"\bPP(\d{1,4})\b")
Value: TypeAlias = int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One term.

    Attributes:
        term: Its name.
        log: What the log says; None where it says nothing.
        line: The line of the log, None without.
        rank: The rank that printed it, as the log names it.
        predicted: What llmplan says; None where the two cannot be compared.
        note: What has to be known to compare them.
    """

    term: str
    log: Value
    line: int | None
    rank: str
    predicted: Value
    note: str = ""

    @property
    def delta(self) -> int | float | None:
        """Predicted less logged."""
        if isinstance(self.log, str | None) or isinstance(self.predicted, str | None):
            return None
        return round(self.predicted - self.log, 4)

    @property
    def error_frac(self) -> float | None:
        """The same over the logged value; of a verdict 0 or 1."""
        if isinstance(self.log, str) and isinstance(self.predicted, str):
            return float((self.log == OK) is not (self.predicted == OK))
        if self.delta is None or not self.log or isinstance(self.log, str):
            return None
        return self.delta / abs(self.log)


OK: Final = Outcome.OK.value


def reconciled(facts: LogFacts, serving: Serving) -> tuple[Row, ...]:
    """Every term, of the rank that holds most of it or has least left."""
    if facts.engine is EngineName.LLAMACPP:
        return _llamacpp(facts, serving)
    stages = len(serving.ranks)

    def at(rank: str) -> ServedRank:
        stage = stage_of(rank)
        return serving.ranks[stage if stage < stages else 0]

    def size(
        term: str, figure: Figure, of: Callable[[ServedRank], int], pick: "Pick", note: str = ""
    ) -> Row:
        rank, reading = pick(facts, figure)
        return _row(term, rank, reading, of(at(rank)), note or _stage_note(rank, serving))

    draft = facts.settings.draft_model
    holds_draft = f"the log's has the draft model {printable(draft)} in it" if draft else ""
    worst = serving.worst
    tokens_rank, tokens = least(facts, Figure.KV_TOKENS)
    return (
        _row("capacity", *least(facts, Figure.DEVICE_TOTAL), serving.gpu.capacity_bytes, ""),
        _budget(facts, at),
        size("weights", Figure.WEIGHTS, lambda r: r.plan.held.weights.bytes, most, holds_draft),
        size("activations", Figure.ACTIVATIONS, lambda r: r.plan.held.activations.bytes, most),
        _non_torch(facts, serving, at),
        size("graphs", Figure.GRAPHS, lambda r: r.plan.held.graphs.bytes, most),
        size("kv_available", Figure.KV_AVAILABLE, lambda r: r.plan.held.pool_bytes, least),
        _row("kv_tokens", tokens_rank, tokens, serving.printed_tokens, ""),
        _concurrency(facts, serving, worst),
        _verdict(facts, serving),
    )


def _stage_note(rank: str, serving: Serving) -> str:
    """Which stage is predicted where the log does not say which it is of."""
    stages = len(serving.ranks)
    named = _STAGE.search(rank) and stage_of(rank) < stages
    return "" if stages == 1 or named else "the log names no stage: the first is predicted"


Pick: TypeAlias = Callable[[LogFacts, Figure], tuple[str, Reading | None]]


def least(facts: LogFacts, figure: Figure) -> tuple[str, Reading | None]:
    """The smallest reading and its rank."""
    return facts.least(figure) or ("", None)


def most(facts: LogFacts, figure: Figure) -> tuple[str, Reading | None]:
    """The largest reading and its rank."""
    found = [(rank.rank, rank.figure(figure)) for rank in facts.ranks]
    present = [(rank, reading) for rank, reading in found if reading is not None]
    return max(present, key=lambda item: item[1].value) if present else ("", None)


def stage_of(rank: str) -> int:
    """The pipeline stage that a rank's name says, 0 where it says none."""
    found = _STAGE.search(rank)
    return int(found[1]) if found else 0


def _row(term: str, rank: str, reading: Reading | None, predicted: Value, note: str) -> Row:
    return Row(
        term=term,
        log=reading.value if reading else None,
        line=reading.line if reading else None,
        rank=printable(rank, 40),
        predicted=predicted,
        note=note if reading else "not in the log",
    )


def _budget(facts: LogFacts, at: Callable[[str], ServedRank]) -> Row:
    """What the engine may fill: a product of two figures of the log, where it has both."""
    taken_of = {
        EngineName.VLLM: (Figure.DEVICE_TOTAL, "memory of the device x memory share"),
        EngineName.SGLANG: (Figure.FREE_AT_START, "memory free at the start x memory share"),
    }
    share = facts.settings.memory_frac
    figure, note = taken_of.get(facts.engine, (None, ""))
    rank, reading = least(facts, figure) if figure else ("", None)
    filled = Reading(int(reading.value * share), reading.line) if reading and share else None
    return _row("budget", rank, filled, at(rank).plan.held.budget_bytes, note)


def _non_torch(facts: LogFacts, serving: Serving, at: Callable[[str], ServedRank]) -> Row:
    rank, reading = most(facts, Figure.NON_TORCH)
    note = _stage_note(rank, serving)
    if facts.engine is EngineName.SGLANG and reading is None:
        rank, free = least(facts, Figure.FREE_AT_START)
        if free:
            reading = Reading(serving.gpu.capacity_bytes - free.value, free.line)
            note = "memory of the device, as catalogued, less what was free at the start"
    return _row("non_torch", rank, reading, at(rank).plan.held.non_torch.bytes, note)


def _concurrency(facts: LogFacts, serving: Serving, worst: ServedRank) -> Row:
    printed = facts.least_concurrency()
    same = printed is None or printed.length_tokens == serving.length
    return Row(
        term="max_concurrency",
        log=printed.times if printed else None,
        line=printed.line if printed else None,
        rank="",
        predicted=round(
            serving.printed_concurrency
            if same or printed is None
            else worst.plan.cache.printed_concurrency(
                worst.plan.held.pool_bytes, printed.length_tokens
            ),
            4,
        ),
        note=f"requests of {printed.length_tokens:,} tokens" if printed else "not in the log",
    )


def _verdict(facts: LogFacts, serving: Serving) -> Row:
    stopped = why_not(serving)
    predicted = OK
    if stopped:
        is_cache = "cache" in stopped and facts.engine is not EngineName.LLAMACPP
        predicted = (Outcome.KV_TOO_SMALL if is_cache else Outcome.OOM).value
    said = facts.outcome is not Outcome.UNKNOWN
    return Row(
        term="verdict",
        log=facts.outcome.value if said else None,
        line=facts.outcome_line or None,
        rank="",
        predicted=predicted,
        note=stopped or ("" if said else "the log does not say how the start ended"),
    )


def _llamacpp(facts: LogFacts, serving: Serving) -> tuple[Row, ...]:
    """Sums over the devices: llama.cpp deals layers out by free memory, llmplan evenly."""
    ranks = serving.ranks
    settings = ranks[0].plan.settings
    slots, length = settings.max_num_seqs or 1, settings.max_model_len or 0
    several = "sum over the devices" if len(ranks) > 1 else ""
    slots_said = f"{slots} slots of {length:,} tokens" if slots > 1 else ""
    cache_said = ", ".join(filter(None, (several, slots_said)))
    host = _on_host(facts, serving)
    sizes: dict[str, Value] = {
        "weights": sum(rank.plan.held.weights.bytes for rank in ranks),
        "activations": max(rank.plan.held.activations.bytes for rank in ranks),
        "kv_available": sum(rank.plan.cache.request_bytes(length) for rank in ranks) * slots,
    }
    if host:
        sizes = dict.fromkeys(sizes)
    rows = (
        ("capacity", least(facts, Figure.DEVICE_TOTAL), serving.gpu.capacity_bytes, ""),
        ("weights", _summed(facts, Figure.WEIGHTS), sizes["weights"], host or several),
        ("activations", most(facts, Figure.ACTIVATIONS), sizes["activations"], host),
        (
            "kv_available",
            _summed(facts, Figure.KV_AVAILABLE),
            sizes["kv_available"],
            host or cache_said,
        ),
        ("kv_tokens", least(facts, Figure.KV_TOKENS), length * slots, slots_said),
    )
    verdict = _verdict(facts, serving)
    return (
        *(_row(term, *found, predicted, note) for term, found, predicted, note in rows),
        replace(verdict, predicted=None, note=host) if host else verdict,
    )


def _on_host(facts: LogFacts, serving: Serving) -> str:
    """Why llama.cpp's memory cannot be compared; empty where the whole model is on GPUs."""
    layers = len(serving.model.decoder.layers)
    taken = facts.settings.n_gpu_layers
    if taken is not None and taken <= layers:  # the output counts as one more
        return f"{taken} of {layers + 1} layers are on GPUs, and the log does not say which"
    table = sum(rank.facts.input_table_bytes for rank in serving.ranks)
    kept = sum(rank.weights_bytes.value for rank in facts.host if rank.weights_bytes)
    if facts.settings.experts_on_cpu or kept > table + HOST_WEIGHTS_BYTES:
        return "a part of the model stays in host memory, and the log does not say which"
    return ""


HOST_WEIGHTS_BYTES: Final = GIB
"""Host buffers beyond the input table and this much hold more than what always stays there."""


def _summed(facts: LogFacts, figure: Figure) -> tuple[str, Reading | None]:
    """All devices together, with the last of their lines."""
    found = [reading for rank in facts.ranks if (reading := rank.figure(figure))]
    if not found:
        return "", None
    return "", Reading(sum(each.value for each in found), max(each.line for each in found))


MOST_WEIGHTS_FRAC: Final = 0.05
MOST_WEIGHTS_BYTES: Final = GIB
"""Weights that differ by more than both are those of another model or format."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A correction, and what of it the log does not support."""

    correction: Correction
    remarks: tuple[str, ...]


def correction_of(facts: LogFacts, serving: Serving, *, states_version: bool, source: str) -> Kept:
    """The correction that a log comes to.

    Args:
        facts: The log.
        serving: The same start, predicted without corrections.
        states_version: Whether the version is known, rather than the newest.
        source: How answers name the log.

    Raises:
        InputError: The log does not show that the same model was predicted, or nothing differs
            that could be kept.
    """
    rows = {row.term: row for row in reconciled(facts, serving)}
    if not serving.profile.version:
        title = serving.profile.title
        raise InputError(f"{title} has no versions in llmplan that a correction is for.")
    if not states_version:
        raise InputError("the log states no version: say it with --engine.")
    _same_model(facts, rows["weights"])
    _same_device(rows["capacity"])
    rank = serving.ranks[0]
    blank = Correction(
        engine=facts.engine,
        version=serving.profile.version[:2],
        device=serving.gpu.name,
        ranks=where(rank.facts, serving.gpu).ranks,
        source=source,
    )
    graphs = _excess(rows["graphs"])
    is_eager = bool(rank.plan.settings.enforce_eager)
    known = replace(
        blank,
        weights_bytes=_excess(rows["weights"]),
        activations_scale=_ratio(rows["activations"], at_most=MOST_SCALE),
        non_torch_bytes=_excess(rows["non_torch"]),
        graphs_bytes=None if is_eager or _is_negative(rows["graphs"]) else graphs,
    )
    remarks: tuple[str, ...] = ()
    if known.non_torch_bytes is None and facts.engine is EngineName.VLLM:
        known, remarks = _from_pool(known, rows["kv_available"], serving)
    return Kept(known, remarks)


MOST_SCALE: Final = 20.0
"""Activations further from the prediction than this factor either way are none of the kind."""


def _same_model(facts: LogFacts, weights: Row) -> None:
    if facts.settings.draft_model:
        raise InputError("the log's figures hold a draft model, which is not predicted.")
    if facts.settings.enable_lora:
        raise InputError("the log's figures hold adapters, whose ranks it may not say.")
    if weights.delta is None or not isinstance(weights.log, int):
        raise InputError(
            "the log prints no size of weights, which would show that the model and "
            "format are those predicted."
        )
    off = abs(weights.delta)
    if off > MOST_WEIGHTS_BYTES and off > MOST_WEIGHTS_FRAC * weights.log:
        raise InputError(
            f"weights differ by {format_gib(weights.delta)}, so another model or format "
            "was started than predicted: say it with --model and --dtype."
        )


MOST_DEVICE_FRAC: Final = 0.05
"""Devices of one name differ by less: firmware and drivers keep some of their memory."""


def _same_device(capacity: Row) -> None:
    if capacity.error_frac is not None and abs(capacity.error_frac) > MOST_DEVICE_FRAC:
        raise InputError(
            f"memory of the device differs by {format_gib(capacity.delta or 0)}, so another GPU "
            "was used than predicted: say it with --gpus."
        )


def _excess(row: Row) -> int | None:
    """Logged less predicted."""
    return None if row.delta is None else -round(row.delta)


def _is_negative(row: Row) -> bool:
    return isinstance(row.log, int) and row.log < 0


def _ratio(row: Row, at_most: float) -> float | None:
    if not isinstance(row.log, int) or not isinstance(row.predicted, int) or row.predicted <= 0:
        return None
    ratio = row.log / row.predicted
    return round(ratio, 6) if 1 / at_most <= ratio <= at_most else None


def _from_pool(
    known: Correction, pool: Row, serving: Serving
) -> tuple[Correction, tuple[str, ...]]:
    """What the pool lacks, as libraries, where the log prints the pool and not what took it."""
    worst = serving.ranks[stage_of(pool.rank) if stage_of(pool.rank) < len(serving.ranks) else 0]
    settings = worst.plan.settings
    if not isinstance(pool.log, int) or settings.kv_cache_memory_bytes is not None:
        return known, ()
    if any(default.setting == "memory_frac" for default in worst.plan.defaults):
        said = "the log states no memory share, so its cache says nothing of libraries"
        return known, (f"{said}: state it with --gpu-memory-utilization.",)
    lacks = corrected(worst.plan, known).held.pool_bytes - pool.log
    said = "the log prints no figure of libraries: what its cache lacks is kept as theirs."
    return replace(known, non_torch_bytes=lacks), (said,)
