"""A model served by an engine on GPUs: what each rank holds, and what the worst of them allows."""

from dataclasses import dataclass, replace

from llmplan.analyze.loaded import EXPANDED_HEAD, added_by_loading, expands_latents
from llmplan.analyze.memory import weights_bytes
from llmplan.dtypes import bytes_for
from llmplan.engines.base import Plan
from llmplan.engines.facts import GpuFacts, LayerCache, RankFacts
from llmplan.engines.policy import engine_plan
from llmplan.engines.profile import Profile
from llmplan.engines.settings import Settings
from llmplan.hardware.catalogue import default_node
from llmplan.hardware.device import Device, Topology
from llmplan.model.compiled import Component, Model, Part
from llmplan.ops.base import Operator, StateKind
from llmplan.ops.embedding import Embedding, TiedHead
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import Linear, Split
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank, stage_ranks


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

    @property
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
    multiple = int(profile.number("vocabulary_multiple")) if _pads(profile) else 1
    gpu = gpu_facts(device)
    ranks = []
    for rank in stage_ranks(model, layout, vocabulary_multiple=multiple):
        facts = rank_facts(rank, layout, model, expands_latents=expands_latents(profile))
        added = added_by_loading(rank.model, layout, profile, gpu)
        facts = replace(facts, weights_bytes=facts.weights_bytes + added)
        ranks.append(ServedRank(rank, facts, engine_plan(profile, settings, facts, gpu)))
    return Serving(model, layout, gpu, profile, tuple(ranks))


def _pads(profile: Profile) -> bool:
    return "vocabulary_multiple" in profile.terms


def gpu_facts(device: Device) -> GpuFacts:
    """What an engine needs to know of a device."""
    major, _, minor = (device.compute_capability or "").partition(".")
    capability = (int(major), int(minor or 0)) if major.isdigit() else None
    return GpuFacts(
        device.capacity_bytes,
        device.slug,
        device.vendor,
        capability,
        device.memory_type.startswith("LPDDR"),
        _is_switched(device),
    )


def _is_switched(device: Device) -> bool:
    """Whether its usual node joins GPUs over a switch or a full mesh."""
    node = default_node(device)
    return bool(node and node.topology in (Topology.SWITCHED, Topology.FULL_MESH))


def rank_facts(
    rank: Rank, layout: Layout, whole: Model, *, expands_latents: bool = False
) -> RankFacts:
    """What an engine needs to know of a rank."""
    decoder = rank.model.decoder
    hidden = _hidden_size(whole.decoder)
    width = _activation_bytes(whole.decoder)
    dense = max(
        (_live_width(layer.operators, hidden) for layer, _ in decoder.distinct_layers), default=0
    )
    experts = max((_expert_width(o) for o, _ in decoder.counted), default=0)
    vocabulary = _vocabulary(whole.decoder) if rank.is_last else 0
    return RankFacts(
        weights_bytes=weights_bytes(rank.model),
        dense_token_bytes=int(dense * width),
        expert_token_bytes=int(experts * width),
        hidden_token_bytes=int(hidden * width),
        vocab_size=vocabulary,
        logit_bytes=int(width),
        input_table_bytes=sum(
            o.weights_bytes for o, _ in decoder.counted if isinstance(o, Embedding)
        ),
        largest_tensor_bytes=max(
            (o.weight_bytes(w) for o, _ in decoder.counted for w in o.weights), default=0
        ),
        num_layers=rank.num_layers,
        caches=layer_caches(rank.model, expands_latents=expands_latents),
        has_vision=bool(rank.model.parts(Part.VISION)),
        tp=layout.tp,
        pp=layout.pp,
        cache_ways=layout.cache_ways,
        ranks=layout.gpus,
    )


def layer_caches(
    model: Model, *, expands_latents: bool = False
) -> tuple[tuple[LayerCache, int], ...]:
    """What each layer keeps of a request, with how many layers keep that; MTP modules too.

    Old releases kept every head's keys and values where models have latents.
    """
    counts: dict[LayerCache, int] = {}
    for component in model.components:
        for layer, repeats in component.distinct_layers:
            cache = _layer_cache(layer.operators, expands_latents=expands_latents)
            if cache != LayerCache():
                counts[cache] = counts.get(cache, 0) + repeats
    return tuple(counts.items())


def _layer_cache(operators: tuple[Operator, ...], *, expands_latents: bool) -> LayerCache:
    entries: dict[int, int] = {}
    window = window_bytes = fixed = 0
    for operator in operators:
        if expands_latents and isinstance(operator, LatentAttention):
            elements = 2 * operator.num_attention_heads * EXPANDED_HEAD
            entries[1] = entries.get(1, 0) + bytes_for((elements,), operator.precision.kv)
    skips = LatentAttention if expands_latents else ()
    for state in (s for o in operators if not isinstance(o, skips) for s in o.states):
        if state.is_fixed:
            fixed += state.width_bytes
        elif state.kind is StateKind.WINDOW:
            window = max(window, state.window)
            window_bytes += state.width_bytes
        else:
            entries[state.tokens_per_entry] = (
                entries.get(state.tokens_per_entry, 0) + state.width_bytes
            )
    return LayerCache(tuple(sorted(entries.items())), window, window_bytes, fixed)


def _live_width(operators: tuple[Operator, ...], hidden: int) -> int:
    """Elements a token that a layer holds at its peak: gate and up, their product, four streams."""
    widths = [
        o.out_features
        for o in operators
        if isinstance(o, Linear)
        and o.role in (Role.FFN, Role.SHARED_EXPERTS)
        and o.split is Split.COLUMN
    ]
    paired = sum(widths)
    product = max(widths, default=0)
    return paired + product + 4 * hidden


def _expert_width(operator: Operator) -> int:
    """Elements a token of the workspace of routed experts: first product or result, and second."""
    if not isinstance(operator, Experts):
        return 0
    first = (2 if operator.is_gated else 1) * operator.moe_intermediate_size
    each = max(first, operator.hidden_size) + operator.moe_intermediate_size
    return operator.num_experts_per_tok * each


def _hidden_size(decoder: Component) -> int:
    return next(o.hidden_size for o in decoder.before if isinstance(o, Embedding))


def _activation_bytes(decoder: Component) -> float:
    return next(o.activation_width_bytes for o in decoder.before if isinstance(o, Embedding))


def _vocabulary(decoder: Component) -> int:
    for operator in decoder.after:
        if isinstance(operator, TiedHead):
            return operator.vocab_size
        if isinstance(operator, Linear) and operator.role is Role.HEAD:
            return operator.out_features
    return 0
