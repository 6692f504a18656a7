"""Which collectives the split of a model puts between its operators, and which ranks join them.

What follows from the layout alone; an engine may merge two, or hide them behind other work:

- tensor groups: an all-reduce behind the input table, behind each matrix split along its input, and
  behind routed experts; an all-gather of logits. Shared experts join the sum of the routed ones.
- whole experts spread over several token groups: each token goes to the ranks of its experts and
  back (all-to-all), the tokens of a tensor group shared out among its ranks, which gather the sums.
- stages: every rank hands the residual stream to its like in the next one.
- context parallelism in decode: queries are gathered, partial outputs are summed by their weight.
- context parallelism in prefill: keys and values of new tokens are gathered.

Left out: what a vision tower and MTP modules exchange, statistics of norms over split heads (one
number a token), and keys of earlier chunks that a chunked prefill gathers again.

Source: vLLM's row-parallel layers, use_sequence_parallel_moe and cp_lse_ag_out_rs; read 2026-11-22.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import singledispatch
from typing import Final

from llmplan.dtypes import divide_exactly, divide_up
from llmplan.errors import LayoutError
from llmplan.model.compiled import Model
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, StateKind
from llmplan.ops.collective import Collective, CollectiveKind
from llmplan.ops.embedding import Embedding, LayerInputTable, TiedHead
from llmplan.ops.hyper import HyperConnection
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import Linear, Split, Tokens
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.ops.residual import AttentionResidual
from llmplan.ops.reused import Reused
from llmplan.ops.routed_linear import RoutedLinear
from llmplan.parallel.groups import (
    Groups,
    decode_context_groups,
    expert_ranks,
    prefill_context_groups,
    stage_neighbours,
    tensor_groups,
)
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank, stage_ranks

LOGSUMEXP_BYTES: Final = 4
"""The sum of exponentials that weighs a partial output is kept in fp32."""


class Phase(StrEnum):
    """Steps in which a collective runs."""

    EVERY = "every step"
    PREFILL = "prefill"
    DECODE = "decode"


class Team(StrEnum):
    """Along which axis of the layout ranks join."""

    TENSOR = "tp"
    EXPERT = "ep"
    DECODE_CONTEXT = "decode cp"
    PREFILL_CONTEXT = "prefill cp"
    STAGE = "pp"


class Leg(StrEnum):
    """Where tokens are on their way to."""

    DISPATCH = "dispatch"
    """From where they are to the ranks of their experts."""
    COMBINE = "combine"
    """Back from there."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A collective behind an operator.

    Attributes:
        collective: What is exchanged.
        of: The operator, or what is handed on.
        team: Along which axis.
        phase: In which steps.
        leg: Of an exchange between experts.
    """

    collective: Collective
    of: str
    team: Team
    phase: Phase = Phase.EVERY
    leg: Leg | None = None


@dataclass(frozen=True, slots=True)
class PlacedCollective:
    """An exchange on the ranks of a stage.

    Attributes:
        exchange: What is exchanged, and when.
        stage: The stage; of a hand-over, the one that sends.
        count: How often a step runs it.
        groups: Ranks that exchange with each other; of a hand-over, sender and receiver.
    """

    exchange: Exchange
    stage: int
    count: int
    groups: Groups


def collectives(model: Model, layout: Layout) -> tuple[PlacedCollective, ...]:
    """All collectives of one step, stage by stage, in the order in which layers meet them.

    Raises:
        LayoutError: The split is not legal, or it is not known what its ranks exchange.
    """
    stages = stage_ranks(model, layout)
    _refuse_unknown(model, layout)
    return tuple(
        PlacedCollective(exchange, rank.stage, count, _groups(layout, rank.stage, exchange.team))
        for rank in stages
        for exchange, count in Counter(_of_stage(model, layout, rank)).items()
    )


def _refuse_unknown(model: Model, layout: Layout) -> None:
    operators = [operator for operator, _ in model.decoder.counted]
    kinds = {state.kind for operator in operators for state in operator.states}
    if layout.cache_ways > 1 and StateKind.INDEXER in kinds:
        raise LayoutError(
            f"{model.identity.name} chooses keys with an indexer: what its ranks exchange under "
            "context parallelism is not known."
        )
    if layout.pp > 1 and any(isinstance(o, LayerInputTable | Reused) for o in operators):
        raise LayoutError(
            f"{model.identity.name} has layers that read more than the residual stream: what its "
            "stages hand on is not known."
        )


def _groups(layout: Layout, stage: int, team: Team) -> Groups:
    match team:
        case Team.TENSOR:
            return tensor_groups(layout, stage)
        case Team.EXPERT:
            return (expert_ranks(layout, stage),)
        case Team.DECODE_CONTEXT:
            return decode_context_groups(layout, stage)
        case Team.PREFILL_CONTEXT:
            return prefill_context_groups(layout, stage)
        case Team.STAGE:
            return stage_neighbours(layout, stage)


def _of_stage(model: Model, layout: Layout, rank: Rank) -> Iterator[Exchange]:
    decoder = model.decoder
    if rank.is_first:
        for operator in decoder.before:
            yield from exchanges(operator, layout)
    for layer in decoder.layers[rank.first_layer : rank.first_layer + rank.num_layers]:
        yield from _of_layer(layer.operators, layout)
    if rank.is_last:
        for operator in decoder.after:
            yield from exchanges(operator, layout)
    else:
        yield Exchange(
            Collective(CollectiveKind.SEND, 2, _handed_on_bytes(model)),
            "residual stream",
            Team.STAGE,
        )


def _of_layer(operators: tuple[Operator, ...], layout: Layout) -> Iterator[Exchange]:
    """Shared experts are added to the routed ones before both are summed, where widths agree."""
    summed = set()
    if not _dispatches(layout):
        summed = {(o.block, o.hidden_size) for o in operators if isinstance(o, Experts)}
    for operator in operators:
        match operator:
            case Linear(role=Role.SHARED_EXPERTS, block=block, out_features=width) if (
                block,
                width,
            ) in summed:
                continue
        yield from exchanges(operator, layout)


def _dispatches(layout: Layout) -> bool:
    """Whether ranks that share experts have different tokens."""
    return layout.ep and layout.dp * layout.prefill_cp > 1


def _handed_on_bytes(model: Model) -> float:
    """Bytes of a token between stages: the residual stream, or all streams where there are several.

    Where blocks attend to earlier sums, as many as the last one reads, so at most that.
    """
    operators = [operator for operator, _ in model.decoder.counted]
    table = next(o for o in operators if isinstance(o, Embedding))
    streams = [o.hc_mult for o in operators if isinstance(o, HyperConnection)]
    streams += [o.sources for o in operators if isinstance(o, AttentionResidual)]
    return max(streams, default=1) * table.hidden_size * table.activation_width_bytes


@singledispatch
def exchanges(_operator: Operator, _layout: Layout) -> Iterator[Exchange]:
    """What ranks exchange behind an operator of the whole model."""
    yield from ()


@exchanges.register
def _reused(operator: Reused, layout: Layout) -> Iterator[Exchange]:
    yield from exchanges(operator.used, layout)


@exchanges.register
def _table(operator: Embedding, layout: Layout) -> Iterator[Exchange]:
    yield from _summed(operator, operator.hidden_size, layout)


@exchanges.register
def _layer_inputs(operator: LayerInputTable, layout: Layout) -> Iterator[Exchange]:
    yield from _summed(operator, operator.num_layers * operator.width, layout)


@exchanges.register
def _linear(operator: Linear | RoutedLinear, layout: Layout) -> Iterator[Exchange]:
    if operator.split is Split.ROW:
        yield from _summed(operator, operator.out_features, layout)
    if operator.split is Split.VOCABULARY:
        yield from _logits(operator, operator.out_features, layout)


@exchanges.register
def _head(operator: TiedHead, layout: Layout) -> Iterator[Exchange]:
    yield from _logits(operator, operator.vocab_size, layout)


@exchanges.register
def _experts(operator: Experts, layout: Layout) -> Iterator[Exchange]:
    """Behind a dispatch the ranks of a tensor group gather what each has summed for its tokens.

    A token's copies are one for each of its experts, under even routing an equal part for each
    rank. What ``routed_among`` counts beyond the experts are choices that go nowhere.
    """
    if not _dispatches(layout):
        yield from _summed(operator, operator.hidden_size, layout)
        return
    token_bytes = operator.hidden_size * operator.activation_width_bytes
    real_frac = operator.num_experts / (operator.routed_among or operator.num_experts)
    copies = Collective(
        CollectiveKind.ALL_TO_ALL,
        layout.stage_ranks,
        operator.num_experts_per_tok * real_frac * token_bytes,
        token_shares=layout.tp,
    )
    for leg in Leg:
        yield Exchange(copies, f"{operator.name}, {leg.value}", Team.EXPERT, leg=leg)
    if layout.tp > 1:
        gathered = Collective(CollectiveKind.ALL_GATHER, layout.tp, token_bytes)
        yield Exchange(gathered, operator.name, Team.TENSOR)


@exchanges.register
def _attention(operator: Attention, layout: Layout) -> Iterator[Exchange]:
    kv_heads = divide_up(operator.num_key_value_heads, layout.tp)
    widths = _Widths(
        divide_exactly(operator.num_attention_heads, layout.tp),
        operator.head_dim,
        operator.v_head_dim,
        kv_heads * (operator.head_dim + operator.v_head_dim),
    )
    yield from _context_exchanges(operator, widths, layout)


@exchanges.register
def _latent(operator: LatentAttention, layout: Layout) -> Iterator[Exchange]:
    """Queries and outputs of decode are as wide as the latent (absorbed)."""
    widths = _Widths(
        divide_exactly(operator.num_attention_heads, layout.tp),
        operator.latent_width,
        operator.kv_lora_rank,
        operator.latent_width,
    )
    yield from _context_exchanges(operator, widths, layout)


@dataclass(frozen=True, slots=True)
class _Widths:
    """Elements of one rank: its heads, a query and an output of each, and a token's cache entry."""

    heads: int
    query: int
    output: int
    entry: int


def _context_exchanges(operator: Operator, widths: _Widths, layout: Layout) -> Iterator[Exchange]:
    """Decode: queries, sums and outputs of all ranks that share a cache. Prefill: its entries.

    Ranks of a tensor group have different heads, so each ends with its own part of the sum. Those
    beside the tensor group have the same heads, and each needs all of it.
    """
    element, name = operator.activation_width_bytes, operator.name
    ways, beside = layout.decode_cp, layout.prefill_cp
    if ways > 1:
        heads = ways * widths.heads
        for kind, part_bytes, what in (
            (CollectiveKind.ALL_GATHER, heads * widths.query * element, "queries"),
            (CollectiveKind.ALL_GATHER, ways * heads * LOGSUMEXP_BYTES, "softmax sums"),
            (CollectiveKind.REDUCE_SCATTER, heads * widths.output * element, "outputs"),
        ):
            collective = Collective(kind, ways, part_bytes)
            yield Exchange(collective, f"{name}, {what}", Team.DECODE_CONTEXT, Phase.DECODE)
    if beside > 1:
        for kind, part_bytes, what, phase in (
            (CollectiveKind.ALL_GATHER, beside * widths.entry * element, "keys", Phase.PREFILL),
            (
                CollectiveKind.ALL_GATHER,
                beside * widths.heads * LOGSUMEXP_BYTES,
                "softmax sums",
                Phase.DECODE,
            ),
            (
                CollectiveKind.ALL_REDUCE,
                widths.heads * widths.output * element,
                "outputs",
                Phase.DECODE,
            ),
        ):
            collective = Collective(kind, beside, part_bytes)
            yield Exchange(collective, f"{name}, {what}", Team.PREFILL_CONTEXT, phase)


def _summed(operator: Operator, width: int, layout: Layout) -> Iterator[Exchange]:
    """The sum of what the ranks of a tensor group have in part."""
    if layout.tp > 1:
        payload = width * operator.activation_width_bytes
        summed = Collective(CollectiveKind.ALL_REDUCE, layout.tp, payload)
        yield Exchange(summed, operator.name, Team.TENSOR)


def _logits(operator: Operator, rows: int, layout: Layout) -> Iterator[Exchange]:
    """The logits of all rows, padded until they divide, at the positions that get some."""
    if layout.tp > 1:
        payload = divide_up(rows, layout.tp) * layout.tp * operator.activation_width_bytes
        logits = Collective(CollectiveKind.ALL_GATHER, layout.tp, payload, Tokens.LAST)
        yield Exchange(logits, operator.name, Team.TENSOR)
