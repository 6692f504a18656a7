"""What an engine needs to know of a rank and a device, read off operators and the catalogue."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from llmplan.analyze.loaded import EXPANDED_HEAD
from llmplan.dtypes import bytes_for
from llmplan.engines.facts import GpuFacts, LayerCache, RankFacts
from llmplan.hardware.catalogue import default_node
from llmplan.hardware.device import Device, Topology
from llmplan.model.compiled import Component, Layer, Model, Part
from llmplan.ops.base import Operator, StateKind
from llmplan.ops.compressed import Compressor
from llmplan.ops.embedding import Embedding, TiedHead
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import Linear, Split
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank


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


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What one layer adds to a rank.

    Attributes:
        weights_bytes: Stored weights.
        live_width: Elements a token at the peak of its dense part, the residual stream apart.
        expert_width: Elements a token of the experts' workspace.
        cache: What it keeps of a request.
    """

    weights_bytes: int
    live_width: int
    expert_width: int
    cache: LayerCache


@dataclass
class RankReader:
    """Reads ranks of one model; layers that ranks share are read once.

    Attributes:
        model: The whole model, as it is served.
        expands_latents: The engine keeps every head's keys and values where models have latents.
    """

    model: Model
    expands_latents: bool = False

    def __post_init__(self) -> None:
        self._layers: dict[int, tuple[Layer, LayerFacts]] = {}

    def facts(self, rank: Rank, layout: Layout) -> RankFacts:
        """What an engine needs to know of a rank."""
        whole, decoder = self.model.decoder, rank.model.decoder
        hidden, width = _hidden_size(whole), _activation_bytes(whole)
        layers = [(self._read(layer), n) for layer, n in decoder.distinct_layers]
        ends = (*decoder.before, *decoder.after)
        beside = (c for c in rank.model.components if c is not decoder)
        caches: Counter[LayerCache] = Counter()
        for facts, repeats in layers:
            caches[facts.cache] += repeats
        for component in rank.model.components:
            if component is not decoder:
                for layer, repeats in component.distinct_layers:
                    caches[self._read(layer).cache] += repeats
        del caches[LayerCache()]
        return RankFacts(
            weights_bytes=sum(facts.weights_bytes * n for facts, n in layers)
            + sum(operator.weights_bytes for operator in ends)
            + sum(o.weights_bytes * n for component in beside for o, n in component.counted),
            dense_token_bytes=int(
                (max((f.live_width for f, _ in layers), default=0) + STREAMS * hidden) * width
            ),
            expert_token_bytes=int(max((f.expert_width for f, _ in layers), default=0) * width),
            hidden_token_bytes=int(hidden * width),
            vocab_size=_vocabulary(whole) if rank.is_last else 0,
            logit_bytes=int(width),
            input_table_bytes=sum(
                o.weights_bytes for o in decoder.before if isinstance(o, Embedding)
            ),
            largest_tensor_bytes=0,
            num_layers=rank.num_layers,
            caches=tuple(caches.items()),
            has_vision=bool(rank.model.parts(Part.VISION)),
            tp=layout.tp,
            pp=layout.pp,
            cache_ways=layout.cache_ways,
            ranks=layout.gpus,
        )

    def _read(self, layer: Layer) -> LayerFacts:
        """A layer's facts; the layer is kept with them, so that no other takes its identity."""
        known = self._layers.get(id(layer))
        if known is None:
            operators = layer.operators
            facts = LayerFacts(
                sum(operator.weights_bytes for operator in operators),
                _live_width(operators),
                max(map(_expert_width, operators), default=0),
                _layer_cache(operators, expands_latents=self.expands_latents),
            )
            known = self._layers[id(layer)] = (layer, facts)
        return known[1]


STREAMS: Final = 4
"""Vectors of hidden size that live beside a layer's products: residual, input, output, a spare."""


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
    formed = tuple((o.compress_ratio, o.width) for o in operators if isinstance(o, Compressor))
    return LayerCache(tuple(sorted(entries.items())), window, window_bytes, fixed, formed)


def _live_width(operators: tuple[Operator, ...]) -> int:
    """Elements a token that a dense layer holds at its peak: gate and up, and their product."""
    widths = [
        o.out_features
        for o in operators
        if isinstance(o, Linear)
        and o.role in (Role.FFN, Role.SHARED_EXPERTS)
        and o.split is Split.COLUMN
    ]
    return sum(widths) + max(widths, default=0)


def _expert_width(operator: Operator) -> int:
    """Elements a token of the workspace of routed experts: first product or result, and second."""
    if not isinstance(operator, Experts):
        return 0
    first = (2 if operator.is_gated else 1) * operator.moe_intermediate_size
    each = max(first, operator.hidden_size) + operator.moe_intermediate_size
    return operator.num_experts_per_tok * each


def _hidden_size(decoder: Component) -> int:
    return next((o.hidden_size for o in decoder.before if isinstance(o, Embedding)), 0)


def _activation_bytes(decoder: Component) -> float:
    tables = (o.activation_width_bytes for o in decoder.before if isinstance(o, Embedding))
    return next(tables, 2.0)


def _vocabulary(decoder: Component) -> int:
    for operator in decoder.after:
        if isinstance(operator, TiedHead):
            return operator.vocab_size
        if isinstance(operator, Linear) and operator.role is Role.HEAD:
            return operator.out_features
    return 0


def largest_tensor_bytes(model: Model) -> int:
    """The largest stored matrix of the decoder."""
    counted = model.decoder.counted
    return max((o.weight_bytes(w) for o, _ in counted for w in o.weights), default=0)
