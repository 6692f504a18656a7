"""A model served by an engine on GPUs: what each rank holds, and what the worst of them allows."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from llmplan.analyze.loaded import added_by_loading, expands_latents
from llmplan.analyze.rank_facts import RankReader, gpu_facts, largest_tensor_bytes
from llmplan.engines.base import Plan
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
    """One stage's fullest rank under an engine."""

    rank: Rank
    facts: RankFacts
    plan: Plan

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
    """

    model: Model
    layout: Layout
    gpu: GpuFacts
    profile: Profile
    ranks: tuple[ServedRank, ...]

    @cached_property
    def worst(self) -> ServedRank:
        """The rank that holds the fewest requests: the scheduler goes by it."""
        length = self.length
        return min(
            self.ranks,
            key=lambda r: (
                r.plan.cache.printed_tokens(r.plan.held.pool_bytes, length),
                r.plan.held.pool_bytes,
            ),
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


@dataclass
class Server:
    """A model on one kind of GPU under one engine, served in several layouts.

    Raises:
        LayoutError: The engine does not serve such models.
    """

    model: Model
    device: Device
    profile: Profile
    settings: Settings

    def __post_init__(self) -> None:
        profile = self.profile
        if self.model.diffusion and profile.engine is not EngineName.GENERIC:
            raise LayoutError(f"{profile.title} serves no diffusion pipelines: --engine generic.")
        pads = "vocabulary_multiple" in profile.terms
        self._splits = Splits(self.model, int(profile.number("vocabulary_multiple")) if pads else 1)
        self._gpu = gpu_facts(self.device)
        self._reader = RankReader(self.model, expands_latents(profile))

    def serve(self, layout: Layout) -> Serving:
        """One copy in a layout.

        Stages of equal layers hold the same, so each is planned once.

        Raises:
            LayoutError: The split is not legal.
        """
        planned: dict[object, tuple[RankFacts, Plan]] = {}
        ranks = []
        for rank in self._splits.ranks(layout):
            layers = frozenset(Counter(map(id, rank.model.decoder.layers)).items())
            key = (layers, rank.is_first, rank.is_last)
            if key not in planned:
                planned[key] = self._planned(rank, layout)
            ranks.append(ServedRank(rank, *planned[key]))
        return Serving(self.model, layout, self._gpu, self.profile, tuple(ranks))

    def _planned(self, rank: Rank, layout: Layout) -> tuple[RankFacts, Plan]:
        facts = self._reader.facts(rank, layout)
        added = added_by_loading(rank.model, layout, self.profile, self._gpu)
        if self.settings.cpu_offload_bytes:
            facts = replace(facts, largest_tensor_bytes=largest_tensor_bytes(rank.model))
        facts = replace(facts, weights_bytes=facts.weights_bytes + added)
        return facts, engine_plan(self.profile, self.settings, facts, self._gpu)
