"""A measured serving run as a deployment and its traffic."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from llmplan.analyze.measured import Skipped
from llmplan.analyze.serving import Serving, serving
from llmplan.analyze.serving_rows import ServingRow
from llmplan.analyze.traffic import (
    EARLY_UNTIL,
    Deployed,
    Generation,
    PrefillPool,
    Scenario,
    Traffic,
    format_word,
)
from llmplan.dtypes import state_format_named
from llmplan.engines.profile import Profile, is_older_than_day, profile_of
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import InputError, LlmplanError
from llmplan.model.compiled import Model
from llmplan.ops.base import Operator

SCENARIOS: Final = {
    "closed_loop": Scenario.CLOSED_LOOP,
    "open_loop_poisson": Scenario.OPEN_LOOP,
    "static_batch": Scenario.STATIC_BATCH,
    "offline_max_throughput": Scenario.OFFLINE,
    "single_stream": Scenario.SINGLE_STREAM,
    "prefill_only": Scenario.OFFLINE,
    "decode_only": Scenario.CLOSED_LOOP,
}
"""Of the table's words."""
RESERVING: Final = (EngineName.TRTLLM.value,)
BELIEVED_FRAC: Final = 1 / 8
NARROW: Final = state_format_named("fp8")
USUAL_LENGTH: Final = 16384
"""Longest request that servers of short requests are started for."""


@dataclass(frozen=True)
class Served:
    """A row's deployment and traffic.

    Attributes:
        row: The row.
        deployed: What served.
        traffic: What was served.
    """

    row: ServingRow
    deployed: Deployed
    traffic: Traffic


class Memories:
    """Requests that workers hold at once; equal deployments are answered once."""

    def __init__(self) -> None:
        self._served: dict[tuple[object, ...], Serving | None] = {}

    def slots(self, row: ServingRow) -> int | None:
        """Requests of the row's length; None where memory is not known to limit them.

        Engines that page their cache hold what requests have so far, in the mean half an output;
        TensorRT-LLM reserves the whole of it. Where a row does not state the format of the cache,
        a start with 8-bit weights is as likely to have chosen an 8-bit cache, which holds more: the
        larger number does not invent a queue that was not there. Where the engine chooses how many
        run at once, its own limit holds too. A row that kept many times more in flight than memory
        is reckoned to hold says that the reckoning is off, not that it queued.
        """
        reserved = row.osl if row.engine in RESERVING else row.osl / 2
        length = ceil(row.isl + reserved)
        limit = max(length, min(row.model.context_length, USUAL_LENGTH))
        key = (id(row.model), row.layout, row.device.slug, row.engine, limit)
        if key not in self._served:
            self._served[key] = _serving(row, _roomy(row), limit)
        found = self._served[key]
        if found is None:
            return None
        held = max(found.worst.requests(length), 1) * row.layout.dp
        if row.concurrency and held < BELIEVED_FRAC * row.concurrency / row.replicas:
            return None
        most = found.worst.plan.settings.max_num_seqs
        return held if row.concurrency is not None or not most else min(held, most * row.layout.dp)


def _roomy(row: ServingRow) -> Model:
    """The model, its cache in 8 bits where that is left open."""
    is_open = not row.row.get("kv_dtype") and format_word(row.model) not in ("bf16", "int4")
    if not is_open:
        return row.model
    return row.model.rewritten(_with_narrow_cache)


def _with_narrow_cache(operator: Operator) -> Operator:
    precision = operator.precision
    if precision.kv.bits <= NARROW.bits:
        return operator
    return replace(operator, precision=replace(precision, kv=NARROW))


def _serving(row: ServingRow, model: Model, limit: int) -> Serving | None:
    for profile in _profiles(row):
        try:
            return serving(model, row.layout, row.device, profile, Settings(max_model_len=limit))
        except LlmplanError:
            continue
    return None


def served(row: ServingRow, memories: Memories) -> Served:
    """The deployment and traffic of a row.

    Raises:
        Skipped: A scenario that is not modelled.
    """
    scenario = SCENARIOS.get(row.scenario)
    if scenario is None:
        raise Skipped(f"scenario {row.scenario} tunes more than is stated")
    deployed = Deployed(
        model=row.model,
        layout=row.layout,
        workers=row.replicas,
        device=row.device,
        engine=row.engine,
        generation=_generation(row),
        slots=memories.slots(row),
        prefill=_prefill(row),
    )
    traffic = Traffic(
        isl=row.isl,
        osl=row.osl,
        concurrency=row.concurrency,
        rate=row.rate if scenario is Scenario.OPEN_LOOP else None,
        scenario=scenario,
        spread=row.spread > 0,
    )
    return Served(row, deployed, traffic)


def _generation(row: ServingRow) -> Generation:
    """By the release that ran where vLLM's is stated, else by the day of the run.

    Versions of other engines in these tables are those of the servers around them.
    """
    date = row.row.get("date", "")
    is_early = bool(date and date < EARLY_UNTIL)
    if row.engine == EngineName.VLLM.value and row.version:
        with suppress(InputError):  # a commit, or what else is no release: the day says it
            is_early = is_older_than_day(profile_of(f"{row.engine}@{row.version}"), EARLY_UNTIL)
    return Generation.EARLY if is_early else Generation.CURRENT


def _profiles(row: ServingRow) -> Iterator[Profile]:
    """The engine as of the row's version, as of its date, and as it is now."""
    known = {name.value for name in EngineName}
    engine = row.engine if row.engine in known else EngineName.GENERIC.value
    for word in (row.version, row.row.get("date", "")):
        try:
            if word:
                yield profile_of(f"{engine}@{word}")
        except InputError:
            continue
    yield profile_of(engine)


def _prefill(row: ServingRow) -> PrefillPool | None:
    """Workers for prompts; as those that decode where the row does not state them."""
    if not row.disaggregated or row.scenario != "closed_loop":
        return None
    layout = row.prefill_layout or row.layout
    return PrefillPool(layout=layout, workers=max(row.prefill_gpus // layout.gpus, 1))
