"""A model served by an engine on GPUs: what each rank holds, and what the worst of them allows."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from llmplan.analyze.beside import (
    MODEL_ALONE,
    NOTHING_HELD,
    Beside,
    HeldBeside,
    adapters,
    check_beside,
    draft_facts,
    drafted,
    prompt_logits,
    streamed_copy,
)
from llmplan.analyze.loaded import added_by_loading, expands_latents
from llmplan.analyze.offload import Halves, check_offload, halves
from llmplan.analyze.rank_facts import RankReader, gpu_facts, largest_tensor_bytes
from llmplan.engines.base import Plan
from llmplan.engines.corrections import Correction, corrected, correction_for
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.policy import engine_plan
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import LayoutError
from llmplan.hardware.device import Device
from llmplan.model.compiled import Model
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank, Splits


@dataclass(frozen=True)
class ServedRank:
    """One stage's fullest rank under an engine, with what it holds beside the model."""

    rank: Rank
    facts: RankFacts
    plan: Plan
    beside: HeldBeside = NOTHING_HELD

    def printed_tokens(self, length: int) -> int:
        """Tokens that the engine prints for this rank."""
        return self.plan.cache.printed_tokens(self.plan.held.pool_bytes, length)

    def requests(self, context: int) -> int:
        """Requests of ``context`` tokens that its pool holds at once."""
        pool = self.plan.held.pool_bytes
        need = self.plan.cache.request_bytes(context)
        if pool <= 0:
            return 0
        return pool // need if need else 0


@dataclass(frozen=True)
class Serving:
    """One copy of a model in one layout on one kind of GPU, under an engine.

    Attributes:
        model: The whole model in the formats it is served in.
        layout: How it is split.
        gpu: The GPU.
        profile: The engine.
        ranks: The fullest rank of each stage.
        halves: What of the model is on GPUs, and what stays in host memory.
    """

    model: Model
    layout: Layout
    gpu: GpuFacts
    profile: Profile
    ranks: tuple[ServedRank, ...]
    halves: Halves

    @cached_property
    def worst(self) -> ServedRank:
        """The rank that holds the fewest tokens, of those that keep any: schedulers go by it."""
        length = self.length
        length = self.length
        keeping = [r for r in self.ranks if r.plan.cache.request_bytes(length)]
        return min(
            keeping or self.ranks, key=lambda r: (r.printed_tokens(length), r.plan.held.pool_bytes)
        )

    @property
    def length(self) -> int:
        """Longest request that the engine is set to."""
        return self.ranks[0].plan.settings.max_model_len or self.model.context_length

    @property
    def printed_tokens(self) -> int:
        """Tokens that the engine prints, of all data-parallel groups one."""
        worst = self.worst
        return worst.plan.cache.printed_tokens(worst.plan.held.pool_bytes, self.length)

    @property
    def printed_concurrency(self) -> float:
        """Requests of full length that the engine prints."""
        worst = self.worst
        return worst.plan.cache.printed_concurrency(worst.plan.held.pool_bytes, self.length)

    def requests(self, context: int) -> int:
        """Requests of ``context`` tokens held at once, all data-parallel groups."""
        return self.worst.requests(context) * self.layout.dp

    def longest_context(self, most: int) -> int:
        """The longest single request, up to ``most``; 0 if none fits."""
        worst = self.worst
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if worst.plan.cache.request_bytes(middle) <= worst.plan.held.pool_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def serving(
    model: Model, layout: Layout, device: Device, profile: Profile, settings: Settings
) -> Serving:
    """The model under an engine.

    Raises:
        LayoutError: The split is not legal.
    """
    return Server(model, device, profile, settings).serve(layout)


def _with_beside(plan: Plan, held: HeldBeside, profile: Profile) -> Plan:
    """The plan with its note, where the pool was made smaller by what is held beside."""
    is_fixed = plan.settings.kv_cache_memory_bytes is not None
    is_fixed = is_fixed or profile.engine is EngineName.LLAMACPP
    note = plan.held.pool_note + ("" if is_fixed else " - beside the model")
    return replace(plan, held=replace(plan.held, beside=held.total, pool_note=note))


@dataclass
class Server:
    """A model on one kind of GPU under one engine, served in several layouts.

    Attributes:
        corrections: What local logs say; the one that was measured so is put over the plan.
        beside: What is held beside the model.

    Raises:
        LayoutError: The engine does not serve such models.
    """

    model: Model
    device: Device
    profile: Profile
    settings: Settings
    corrections: tuple[Correction, ...] = ()
    beside: Beside = MODEL_ALONE

    def __post_init__(self) -> None:
        profile = self.profile
        if self.model.diffusion and profile.engine is not EngineName.GENERIC:
            raise LayoutError(f"{profile.title} serves no diffusion pipelines: --engine generic.")
        pads = "vocabulary_multiple" in profile.terms
        self._multiple = int(profile.number("vocabulary_multiple")) if pads else 1
        self.halves = halves(self.model, self.settings)
        check_offload(self.halves, self.settings, profile, self.device)
        check_beside(self.beside, self.settings, profile, self.model, self.device)
        self._splits = Splits(self.halves.on_gpu, self._multiple)
        self._gpu = gpu_facts(self.device)
        self._reader = RankReader(self.model, expands_latents(profile))

    def serve(self, layout: Layout) -> Serving:
        """One copy in a layout.

        Stages of equal layers hold the same, so each is planned once.

        Raises:
            LayoutError: The split is not legal.
        """
        if self.halves.is_split and layout.gpus > layout.tp * layout.pp:
            raise LayoutError(
                "parts in host memory go with tensor and pipeline parallelism only: what copies of "
                "the attention keep there is not described."
            )
        planned: dict[object, tuple[RankFacts, Plan, HeldBeside]] = {}
        ranks = []
        for rank in self._splits.ranks(layout):
            layers = frozenset(Counter(map(id, rank.model.decoder.layers)).items())
            key = (layers, rank.is_first, rank.is_last)
            if key not in planned:
                planned[key] = self._planned(rank, layout)
            numbered = replace(rank, first_layer=rank.first_layer + self.halves.first_layer)
            ranks.append(ServedRank(numbered, *planned[key]))
        return Serving(self.model, layout, self._gpu, self.profile, tuple(ranks), self.halves)

    def _planned(self, rank: Rank, layout: Layout) -> tuple[RankFacts, Plan, HeldBeside]:
        facts = self._reader.facts(rank, layout)
        added = added_by_loading(rank.model, layout, self.profile, self._gpu)
        if self.settings.cpu_offload_bytes and self.profile.engine is not EngineName.GENERIC:
            facts = replace(facts, largest_tensor_bytes=largest_tensor_bytes(rank.model))
        facts = replace(facts, weights_bytes=facts.weights_bytes + added)
        plan = engine_plan(self.profile, self.settings, facts, self._gpu)
        held = self._held_beside(rank, layout, facts, plan.settings)
        if held != NOTHING_HELD:
            caches = facts.caches + held.caches
            facts = replace(facts, caches=caches, beside_bytes=held.total.bytes)
            plan = engine_plan(self.profile, self.settings, facts, self._gpu)
            plan = _with_beside(plan, held, self.profile)
        correction = correction_for(self.corrections, self.profile, facts, self._gpu)
        return facts, corrected(plan, correction) if correction else plan, held

    def _held_beside(
        self, rank: Rank, layout: Layout, facts: RankFacts, settings: Settings
    ) -> HeldBeside:
        """What the rank holds beside the model, once the engine's defaults are known."""
        wanted, engine = self.beside, self.profile.engine
        held = NOTHING_HELD
        if wanted.draft and rank.is_last:
            draft = draft_facts(wanted.draft, layout, vocabulary_multiple=self._multiple)
            held = drafted(draft, engine)
        items = list(held.items)
        if settings.enable_lora:
            items.insert(0, adapters(rank, layout, settings, wanted.lora_targets))
        if wanted.prompt_logits and facts.vocab_size:
            items.append(prompt_logits(facts, settings))
        if self.halves.is_split:
            items.append(streamed_copy(self.halves.largest_bytes, layout))
        return HeldBeside(tuple(items), held.caches)
