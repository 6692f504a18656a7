"""What every single rank of a layout holds: its seat, layers, heads, experts and exact bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from llmplan.dtypes import divide_up
from llmplan.errors import LayoutError
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.base import Operator
from llmplan.ops.moe import Experts
from llmplan.parallel.experts import ExpertPlacement, Shares, even_shares, placed_experts
from llmplan.parallel.groups import Seat, expert_ranks, seat
from llmplan.parallel.heads import Heads, heads_of, part
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank, stage_ranks


@dataclass(frozen=True, slots=True)
class Mixer:
    """The heads that a rank holds in some of its layers.

    Attributes:
        block: Name of the spec's block.
        layers: Numbers of the decoder layers that have it.
        heads: Query heads, or those of a recurrence, by number.
        kv_heads: Key and value heads by number; a latent is head 0 of all ranks.
        kv_copies: Ranks of the tensor group that hold the same ones.
    """

    block: str
    layers: tuple[int, ...]
    heads: range
    kv_heads: range
    kv_copies: int


@dataclass(frozen=True, slots=True)
class PlacedRank:
    """One rank on its GPU.

    Attributes:
        rank: Its number.
        node: Number of its node.
        gpu: Number of its GPU in the node.
        seat: Its place along each axis of the layout.
        layers: Numbers of its decoder layers.
        mixers: Its heads, those of the most layers first; empty where no mixer has heads.
        experts: Routed experts by number in each of its layers that have some.
        expert_share: Its part of all routed tokens; None without expert parallelism.
        weights_bytes: Stored weights, scales, buffers and copies included.
    """

    rank: int
    node: int
    gpu: int
    seat: Seat
    layers: range
    mixers: tuple[Mixer, ...]
    experts: tuple[int, ...]
    expert_share: float | None
    weights_bytes: int


@dataclass(frozen=True)
class Placement:
    """One copy of a model over the GPUs of a group; some of these may stay idle.

    Attributes:
        model: The whole model, as it is served.
        layout: How it is split.
        group: The GPUs; nodes are filled in the order of ranks.
        stages: The fullest rank of each stage.
        experts: Where the experts are; None where every rank holds a part of all.
    """

    model: Model
    layout: Layout
    group: GpuGroup
    stages: tuple[Rank, ...]
    experts: ExpertPlacement | None

    @cached_property
    def ranks(self) -> tuple[PlacedRank, ...]:
        """Every rank, by number."""
        return tuple(map(self._rank, range(self.layout.gpus)))

    def _rank(self, rank: int) -> PlacedRank:
        here = seat(self.layout, rank)
        stage = self.stages[here.stage]
        layers = range(stage.first_layer, stage.first_layer + stage.num_layers)
        held, share = self._experts(rank, here.stage, layers)
        return PlacedRank(
            rank,
            *divmod(rank, self.group.per_node),
            here,
            layers,
            tuple(_mixers(self.model, layers, self.layout.tp, here.tp)),
            held,
            share,
            self._stage_bytes[here.stage, len(held)],
        )

    def _experts(
        self, rank: int, stage: int, layers: range
    ) -> tuple[tuple[int, ...], float | None]:
        """Experts of a rank and its part of their load; none in a stage of dense layers only."""
        routed = [o.num_experts for o in _operators(self.model, layers) if isinstance(o, Experts)]
        if not routed:
            return (), None
        if self.experts is None:
            return tuple(range(max(routed))), None
        index = expert_ranks(self.layout, stage).index(rank)
        return self.experts.held[index], self.experts.rank_shares[index]

    @cached_property
    def _stage_bytes(self) -> "_StageBytes":
        return _StageBytes(self)


class _StageBytes(dict[tuple[int, int], int]):
    """Weights of a rank by its stage and the number of its experts, computed once each."""

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self._placement = placement

    def __missing__(self, key: tuple[int, int]) -> int:
        stage, held = key
        own = self._placement.stages[stage].model
        if self._placement.experts:
            own = own.rewritten(lambda operator: _holding(operator, held))
        self[key] = sum(operator.weights_bytes * repeats for operator, repeats in own.counted())
        return self[key]


def placement(
    model: Model, layout: Layout, group: GpuGroup, shares: Shares | None = None
) -> Placement:
    """One copy of ``model`` over the first GPUs of ``group``.

    Args:
        model: The whole model, as it is served.
        layout: How it is split.
        group: The GPUs.
        shares: Load of each expert; even without it.

    Raises:
        LayoutError: The split is not legal, or takes more GPUs than there are.
    """
    if layout.gpus > group.count:
        raise LayoutError(f"{layout} takes {layout.gpus} GPUs; {group} has {group.count}.")
    stages = stage_ranks(model, layout)
    if not layout.ep:
        return Placement(model, layout, group, stages, None)
    shares = shares or even_shares(num_experts(model))
    placed = placed_experts(shares, layout.stage_ranks, layout.redundant_experts)
    return Placement(model, layout, group, stages, placed)


def num_experts(model: Model) -> int:
    """Routed experts of a layer; 0 where there are none.

    Raises:
        LayoutError: Layers differ, so that experts of one number are not placed alike.
    """
    counts = {o.num_experts for o, _ in model.counted() if isinstance(o, Experts)}
    if len(counts) > 1:
        listed = " and ".join(map(str, sorted(counts)))
        raise LayoutError(
            f"{model.identity.name} has layers of {listed} experts: they are not placed alike."
        )
    return max(counts, default=0)


def _operators(model: Model, layers: range) -> Iterator[Operator]:
    """Operators of some decoder layers, those of equal layers once."""
    held = {id(layer): layer for layer in model.decoder.layers[layers.start : layers.stop]}
    return (operator for layer in held.values() for operator in layer.operators)


def _holding(operator: Operator, held: int) -> Operator:
    """Experts as one rank holds them; the others as they are."""
    return replace(operator, num_experts=held) if isinstance(operator, Experts) else operator


def _mixers(model: Model, layers: range, tp: int, index: int) -> Iterator[Mixer]:
    """Heads of a rank by block, most layers first."""
    found: dict[tuple[str, Heads], list[int]] = {}
    for number in layers:
        for operator in model.decoder.layers[number].operators:
            heads = heads_of(operator)
            if heads:
                found.setdefault((operator.block, heads), []).append(number)
    for (block, heads), numbers in sorted(found.items(), key=lambda item: -len(item[1])):
        yield Mixer(
            block,
            tuple(numbers),
            part(heads.query, tp, index),
            part(heads.kv, tp, index),
            divide_up(tp, heads.kv),
        )
