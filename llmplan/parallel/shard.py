"""Tensor parallelism as a rewrite: an operator becomes the same operator, smaller.

Each rule says which axis is divided. Heads that are fewer than the ranks are held in copies where
the operator allows it (KV heads, state groups); everything else must come out even.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch

from llmplan.dtypes import divide_exactly, divide_up
from llmplan.errors import LayoutError
from llmplan.model.compiled import Component, Model, Part
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, changed
from llmplan.ops.compressed import CompressedAttention, Compressor
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.cross_attention import CrossAttention
from llmplan.ops.differential import DifferentialAttention
from llmplan.ops.embedding import (
    Embedding,
    LayerInputTable,
    LearnedVectors,
    PositionTable,
    TiedHead,
)
from llmplan.ops.hyper import HyperConnection, StreamMean
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import Linear, Split
from llmplan.ops.linear_attention import MatrixStateAttention
from llmplan.ops.moe import Experts, ExpertTable, Router
from llmplan.ops.norm import Elementwise, Norm
from llmplan.ops.precision import Role
from llmplan.ops.residual import AttentionResidual
from llmplan.ops.reused import Reused
from llmplan.ops.routed_linear import RoutedLinear
from llmplan.ops.sparse import Indexer
from llmplan.ops.ssm import (
    GatedLinearRecurrence,
    Mamba1Scan,
    Mamba2Scan,
    Rwkv6Recurrence,
    TokenShift,
)


def sharded_model(model: Model, tp: int, *, whole_experts: bool = False) -> Model:
    """What each of ``tp`` ranks holds.

    A vision tower that does not divide is held whole by every rank, as engines do. Experts are cut
    across their width, or left as they are where ranks hold ``whole_experts``.

    Raises:
        LayoutError: A part of the language model does not divide; names it and the rule. Or the
            model is a pipeline, whose engines split images rather than weights.
    """
    if tp == 1:
        return model
    if model.diffusion:
        raise LayoutError(
            f"{model.identity.name} is a diffusion pipeline, which is counted whole on each GPU: "
            f"tensor parallelism {tp} does not split it."
        )

    def rule(operator: Operator) -> Operator:
        if whole_experts and isinstance(operator, Experts):
            return operator
        return sharded(operator, tp)

    components = tuple(_sharded_component(component, rule) for component in model.components)
    return replace(model, components=components)


def _sharded_component(component: Component, rule: Callable[[Operator], Operator]) -> Component:
    try:
        return component.rewritten(rule)
    except LayoutError:
        if component.part is Part.VISION:
            return component
        raise


def share(
    operator: Operator, units: int, tp: int, what: str, *, may_replicate: bool = False
) -> int:
    """Units that one rank holds: an even part, or one copy where there are fewer than ranks."""
    if units % tp == 0:
        return divide_exactly(units, tp)
    if may_replicate and tp % units == 0:
        return 1
    rule = "must divide by it" if not may_replicate else "must divide by it, or it by them"
    raise LayoutError(
        f"tensor parallelism {tp} does not split {operator.name}: its {units} {what} {rule}."
    )


@singledispatch
def sharded(operator: Operator, _tp: int) -> Operator:
    """What one of ``tp`` ranks holds of an operator."""
    raise TypeError(f"no shard rule is registered for {type(operator).__name__}")


@sharded.register(Router)
@sharded.register(ExpertTable)
@sharded.register(HyperConnection)
@sharded.register(StreamMean)
@sharded.register(AttentionResidual)
@sharded.register(Compressor)
@sharded.register(Indexer)
@sharded.register(TokenShift)
@sharded.register(LearnedVectors)
@sharded.register(PositionTable)
@sharded.register(Convolution2d)
def _replicated(operator: Operator, _tp: int) -> Operator:
    return operator


@sharded.register
def _linear(operator: Linear, tp: int) -> Linear:
    if operator.split is Split.REPLICATED:
        return operator
    if operator.split is Split.VOCABULARY:
        return changed(operator, out_features=divide_up(operator.out_features, tp))
    units = share(operator, operator.split_units, tp, "units", may_replicate=operator.may_replicate)
    if operator.split is Split.COLUMN:
        width = divide_exactly(operator.out_features, operator.split_units) * units
        _keep_blocks(operator, operator.role, (width, 0), tp)
        return changed(operator, out_features=width, split_units=units)
    width = divide_exactly(operator.in_features, operator.split_units) * units
    _keep_blocks(operator, operator.role, (0, width), tp)
    return changed(operator, in_features=width, split_units=units)


def _keep_blocks(operator: Operator, role: Role, split: tuple[int, int], tp: int) -> None:
    """Raise where a rank's (rows, columns) would cut a scale block; 0 for an axis left whole.

    Source: vLLM's checks of block-scaled fp8 and group-scaled int4 layers, which refuse to load.
    """
    fmt = operator.precision.of(role)
    if not fmt.keeps_blocks or not fmt.block:
        return
    for width, block in zip(split, fmt.block, strict=True):
        if block > 1 and width % block:
            raise LayoutError(
                f"tensor parallelism {tp} leaves {operator.name} {width} wide on a rank, which is "
                f"no whole number of {fmt.name} blocks of {block}."
            )


@sharded.register
def _attention(operator: Attention, tp: int) -> Attention:
    kv_heads = operator.num_key_value_heads
    return replace(
        operator,
        num_attention_heads=share(operator, operator.num_attention_heads, tp, "query heads"),
        num_key_value_heads=share(operator, kv_heads, tp, "KV heads", may_replicate=True),
    )


@sharded.register
def _cross_attention(operator: CrossAttention, tp: int) -> CrossAttention:
    """As ``Attention``: each rank keeps the image for its own key and value heads."""
    kv_heads = operator.num_key_value_heads
    return replace(
        operator,
        num_attention_heads=share(operator, operator.num_attention_heads, tp, "query heads"),
        num_key_value_heads=share(operator, kv_heads, tp, "KV heads", may_replicate=True),
    )


@sharded.register
def _layer_inputs(operator: LayerInputTable, tp: int) -> LayerInputTable:
    return changed(operator, vocab_size=divide_up(operator.vocab_size, tp))


@sharded.register
def _differential(operator: DifferentialAttention, tp: int) -> DifferentialAttention:
    """Pairs of heads stay together; pairs of key/value heads may be held in copies."""
    heads, kv_heads = operator.num_attention_heads, operator.num_key_value_heads
    pairs = share(operator, divide_exactly(heads, 2), tp, "pairs of query heads")
    kept = share(operator, divide_exactly(kv_heads, 2), tp, "pairs of KV heads", may_replicate=True)
    return changed(operator, num_attention_heads=2 * pairs, num_key_value_heads=2 * kept)


@sharded.register
def _compressed(operator: CompressedAttention, tp: int) -> CompressedAttention:
    """Query heads are divided; every rank holds the one key and all entries."""
    heads = share(operator, operator.num_attention_heads, tp, "query heads")
    return changed(operator, num_attention_heads=heads)


@sharded.register
def _latent(operator: LatentAttention, tp: int) -> LatentAttention:
    heads = share(operator, operator.num_attention_heads, tp, "heads")
    widths = operator.qk_nope_head_dim + operator.v_head_dim
    _keep_blocks(operator, Role.ATTENTION, (heads * widths, 0), tp)
    return changed(operator, num_attention_heads=heads)


@sharded.register
def _matrix_state(operator: MatrixStateAttention, tp: int) -> MatrixStateAttention:
    return replace(
        operator,
        num_key_heads=share(operator, operator.num_key_heads, tp, "key heads"),
        num_value_heads=share(operator, operator.num_value_heads, tp, "value heads"),
    )


@sharded.register
def _mamba1(operator: Mamba1Scan, tp: int) -> Mamba1Scan:
    channels = share(operator, operator.intermediate_size, tp, "channels")
    heads = operator.num_heads
    kept = heads if heads == 1 else share(operator, heads, tp, "heads")
    return changed(operator, intermediate_size=channels, num_heads=kept)


@sharded.register
def _mamba2(operator: Mamba2Scan, tp: int) -> Mamba2Scan:
    return replace(
        operator,
        num_heads=share(operator, operator.num_heads, tp, "heads"),
        n_groups=share(operator, operator.n_groups, tp, "groups", may_replicate=True),
    )


@sharded.register
def _rg_lru(operator: GatedLinearRecurrence, tp: int) -> GatedLinearRecurrence:
    blocks = share(operator, operator.num_blocks, tp, "blocks")
    width = divide_exactly(operator.lru_width, operator.num_blocks) * blocks
    return changed(operator, lru_width=width, num_blocks=blocks)


@sharded.register
def _rwkv6(operator: Rwkv6Recurrence, tp: int) -> Rwkv6Recurrence:
    return changed(operator, num_heads=share(operator, operator.num_heads, tp, "heads"))


@sharded.register
def _convolution(operator: ShortConvolution, tp: int) -> ShortConvolution:
    units = share(operator, operator.split_units, tp, "units", may_replicate=operator.may_replicate)
    channels = divide_exactly(operator.channels, operator.split_units) * units
    return changed(operator, channels=channels, split_units=units)


@sharded.register
def _experts(operator: Experts, tp: int) -> Experts:
    width = share(operator, operator.moe_intermediate_size, tp, "columns a routed expert")
    _keep_blocks(operator, Role.EXPERTS, (width, width), tp)
    return changed(operator, moe_intermediate_size=width)


@sharded.register
def _norm(operator: Norm, tp: int) -> Norm:
    if operator.vectors == 1:
        return operator
    vectors = share(operator, operator.vectors, tp, "heads", may_replicate=True)
    own_weights = divide_exactly(operator.weight_width, operator.vectors) * vectors
    return changed(operator, vectors=vectors, weight_width=own_weights)


@sharded.register
def _elementwise(operator: Elementwise, tp: int) -> Elementwise:
    if operator.split_units == 1:
        return operator
    units = share(operator, operator.split_units, tp, "units", may_replicate=operator.may_replicate)
    width = divide_exactly(operator.width, operator.split_units) * units
    return changed(operator, width=width, split_units=units)


@sharded.register
def _embedding(operator: Embedding, tp: int) -> Embedding:
    rows = operator.vocab_size + operator.extra_rows
    return changed(operator, vocab_size=divide_up(rows, tp), extra_rows=0)


@sharded.register
def _tied_head(operator: TiedHead, tp: int) -> TiedHead:
    return changed(operator, vocab_size=divide_up(operator.vocab_size, tp))


@sharded.register
def _routed_linear(operator: RoutedLinear, tp: int) -> RoutedLinear:
    """Every expert is cut along its heads; the router picks the same ones on each rank."""
    units = share(operator, operator.split_units, tp, "heads of each expert")
    if operator.split is Split.COLUMN:
        width = divide_exactly(operator.out_features, operator.split_units) * units
        return changed(operator, out_features=width, split_units=units)
    width = divide_exactly(operator.in_features, operator.split_units) * units
    return changed(operator, in_features=width, split_units=units)


@sharded.register
def _reused(operator: Reused, tp: int) -> Reused:
    """As the operator that stores the weights is split."""
    return changed(operator, operator=sharded(operator.operator, tp))
