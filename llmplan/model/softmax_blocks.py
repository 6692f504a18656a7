"""Softmax attention and latent attention as operators."""

from dataclasses import replace
from functools import partial

from llmplan.dtypes import divide_exactly, format_named
from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.model.indexed_blocks import block_indexer, over_blocks
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.compressed import Compressor
from llmplan.ops.differential import DifferentialAttention
from llmplan.ops.latent import ExpandedLatentAttention
from llmplan.ops.linear import Split
from llmplan.ops.moe import Router
from llmplan.ops.norm import (
    GATE_FLOPS,
    ROTARY_FLOPS,
    Elementwise,
    LearnedScale,
    Norm,
    NormKind,
)
from llmplan.ops.precision import Role
from llmplan.ops.routed_linear import OutputBias, RoutedLinear
from llmplan.ops.sparse import Indexer


def attention(block: spec.AttentionBlock, frame: Frame) -> Operators:
    """Softmax attention with its projections, norms, gate and rotary part."""
    H, K, h_qk = block.num_attention_heads, block.num_key_value_heads, block.head_dim
    h_v = block.v_head_dim or h_qk
    value = "head_dim" if block.v_head_dim is None else "v_head_dim"
    of_heads, of_kv = _units(block)
    query = Width(H * h_qk, "num_attention_heads x head_dim", of_heads)
    keys = Width(K * h_qk, "num_key_value_heads x head_dim", of_kv, may_replicate=True)
    values = Width(K * h_v, f"num_key_value_heads x {value}", of_kv, may_replicate=True)
    output = Width(H * h_v, f"num_attention_heads x {value}", of_heads)
    bias = block.attention_bias
    projected: Operators = ()
    if not block.shares_keys_and_values:
        projected = (
            frame.column("k_proj", keys, Role.ATTENTION, bias=bias),
            *((frame.column("v_proj", values, Role.ATTENTION, bias=bias),)
              * (not block.value_is_key)),
        )  # fmt: skip
    return (
        *_query_projection(block, frame, query),
        *projected,
        *_qk_norms(block, frame),
        *_value_norm(block, frame, h_v),
        *_rotary(block, frame),
        *block_indexer(block, frame),
        over_blocks(_attention_core(block, frame, h_v), block.block_indexer),
        *_difference(block, frame, output),
        *_output_gate(block, frame, output),
        *(
            (Norm("attn_sub_norm", frame.precision, output.size, label=output.label),)
            * block.output_norm
        ),
        *_output_projection(block, frame, output),
    )


def _units(block: spec.AttentionBlock) -> tuple[int, int]:
    """Query and key/value heads that stay whole on a rank: single ones, or pairs."""
    pair = 2 if block.differential else 1
    return block.num_attention_heads // pair, block.num_key_value_heads // pair


def _difference(block: spec.AttentionBlock, frame: Frame, output: Width) -> Operators:
    """The weighted difference of each pair of heads, and the norm of what is left of both."""
    if not block.differential:
        return ()
    pairs, width = output.units, 2 * block.head_dim
    return (
        Elementwise("difference", frame.precision, output.size, 2.0, 2, split_units=pairs),
        Norm("groupnorm", frame.precision, width, pairs, has_weight=False, label="2 x head_dim"),
    )


def _query_projection(block: spec.AttentionBlock, frame: Frame, query: Width) -> Operators:
    if block.attention_experts is None:
        return (frame.column("q_proj", query, Role.ATTENTION, bias=block.attention_bias),)
    D, E = frame.hidden_size, block.attention_experts
    router = Router("router", frame.precision, D, E, label="attention_experts")
    return (router, _routed(block, frame, "q_proj", Split.COLUMN))


def _output_projection(block: spec.AttentionBlock, frame: Frame, output: Width) -> Operators:
    if block.attention_experts is None:
        own = _own_format(frame, block.o_proj_format)
        return (own.row("o_proj", output, Role.ATTENTION, bias=block.o_proj_bias),)
    bias = (OutputBias("o_proj_bias", frame.precision, frame.hidden_size, 1.0),)
    return (_routed(block, frame, "o_proj", Split.ROW), *(bias * block.o_proj_bias))


def _routed(block: spec.AttentionBlock, frame: Frame, name: str, split: Split) -> RoutedLinear:
    """The projections of a mixture of attention heads, each as wide as all key/value heads."""
    K = block.num_key_value_heads
    stream = (frame.hidden_size, "hidden_size")
    heads = (K * block.head_dim, "num_key_value_heads x head_dim")
    (into, of_into), (out, of_out) = (stream, heads) if split is Split.COLUMN else (heads, stream)
    return RoutedLinear(
        name,
        frame.precision,
        into,
        out,
        block.attention_experts or 0,
        divide_exactly(block.num_attention_heads, K),
        split,
        K,
        labels=(of_out, of_into),
    )


def _value_norm(block: spec.AttentionBlock, frame: Frame, h_v: int) -> Operators:
    if not block.value_norm or block.shares_keys_and_values:
        return ()
    return (Norm("v_norm", frame.precision, h_v, block.num_key_value_heads, has_weight=False),)


def _own_format(frame: Frame, name: str | None) -> Frame:
    """The stream as projections see it that are published in a format of their own."""
    if name is None:
        return frame
    own = ((Role.ATTENTION, format_named(name)),)
    return replace(frame, precision=frame.precision.with_roles(own))


def _attention_core(block: spec.AttentionBlock, frame: Frame, h_v: int) -> Attention:
    if not block.causal:
        mask, span = Mask.FULL, 0
    elif block.sliding_window:
        mask, span = Mask.WINDOW, block.sliding_window
    elif block.attention_chunk_size:
        mask, span = Mask.CHUNK, block.attention_chunk_size
    else:
        mask, span = Mask.CAUSAL, 0
    kind = DifferentialAttention if block.differential else Attention
    return kind(
        "attention",
        frame.precision,
        block.num_attention_heads,
        block.num_key_value_heads,
        block.head_dim,
        h_v,
        mask,
        span,
        has_sinks=block.attention_sinks,
        keeps_state=block.causal and not block.shares_keys_and_values,
    )


def _qk_norms(block: spec.AttentionBlock, frame: Frame) -> Operators:
    if block.qk_norm == "none":
        return ()
    counts = (
        ("q_norm", block.num_attention_heads, "num_attention_heads"),
        ("k_norm", block.num_key_value_heads, "num_key_value_heads"),
    )
    of_own_keys = counts[:1] if block.shares_keys_and_values else counts
    return tuple(_qk_norm(block, frame, *count) for count in of_own_keys)


def _qk_norm(
    block: spec.AttentionBlock, frame: Frame, name: str, heads: int, heads_label: str
) -> Norm:
    """One norm over all heads at once, or one a head: of its own, shared, or without a weight."""
    role, h, both = frame.role(Role.NORM), block.head_dim, f"{heads_label} x head_dim"
    norm = partial(Norm, name, frame.precision, role=role)
    if block.qk_norm == "full":
        return norm(heads * h, label=both)
    if block.qk_norm == "each_head":
        return norm(h, heads, kind=frame.norm.kind, weight_width=heads * h, label=both)
    bias, learned = block.qk_norm_bias, block.qk_norm == "head"
    kind = NormKind.LAYER if bias else NormKind.RMS
    return norm(h, heads, kind=kind, has_weight=learned, has_bias=bias, label="head_dim")


def _rotary(block: spec.AttentionBlock, frame: Frame) -> Operators:
    width = block.head_dim if block.rotary_dim is None else block.rotary_dim
    if not width or frame.in_tower:
        return ()
    H, K = block.num_attention_heads, block.num_key_value_heads
    of_heads, of_kv = _units(block)
    queries = Elementwise(
        "rotary_q", frame.precision, H * width, ROTARY_FLOPS, split_units=of_heads
    )
    if block.shares_keys_and_values:
        return (queries,)
    keys = Elementwise(
        "rotary_k", frame.precision, K * width, ROTARY_FLOPS, split_units=of_kv, may_replicate=True
    )
    return (queries, keys)


def _output_gate(
    block: spec.AttentionBlock | spec.MlaBlock, frame: Frame, output: Width
) -> Operators:
    if block.output_gate == "none":
        return ()
    heads = block.num_attention_heads
    if block.output_gate == "elementwise":
        gate = frame.column("gate_proj", output, Role.ATTENTION)
    else:
        gate = frame.column("gate_proj", Width(heads, "num_attention_heads", heads), Role.STATE)
    return (
        gate,
        Elementwise("gate", frame.precision, output.size, GATE_FLOPS, 2, split_units=heads),
    )


def latent_attention(block: spec.MlaBlock, frame: Frame) -> Operators:
    """Multi-head latent attention, with or without an indexer."""
    H, rope = block.num_attention_heads, block.qk_rope_head_dim
    precision = frame.precision
    latent = Width(block.kv_lora_rank + rope, "kv_lora_rank + qk_rope_head_dim")
    output = Width(H * block.v_head_dim, "num_attention_heads x v_head_dim", H)
    rotary = Elementwise("rotary_q", precision, H * rope, ROTARY_FLOPS, split_units=H)
    rotates = block.rotary and rope > 0
    outside = _own_format(frame, block.projection_format)
    return (
        *_mla_queries(block, outside),
        *_position_scale(block, frame),
        outside.column("kv_a_proj_with_mqa", latent, Role.ATTENTION),
        Norm("kv_a_layernorm", precision, block.kv_lora_rank, label="kv_lora_rank"),
        *((rotary, Elementwise("rotary_k", precision, rope, ROTARY_FLOPS)) * rotates),
        *_indexer(block, frame),
        ExpandedLatentAttention(
            "attention",
            precision,
            H,
            block.kv_lora_rank,
            block.qk_nope_head_dim,
            rope,
            block.v_head_dim,
            block.indexer.index_topk if block.indexer else 0,
            index_kpool=block.indexer.index_kpool if block.indexer else 1,
            has_sinks=block.attention_sinks,
        ),
        *_output_gate(block, frame, output),
        outside.row("o_proj", output, Role.ATTENTION),
    )


def _mla_queries(block: spec.MlaBlock, frame: Frame) -> Operators:
    H = block.num_attention_heads
    head = block.qk_nope_head_dim + block.qk_rope_head_dim
    query = Width(H * head, "num_attention_heads x (qk_nope_head_dim + qk_rope_head_dim)", H)
    if block.q_lora_rank is None:
        return (frame.column("q_proj", query, Role.ATTENTION),)
    rank = (block.q_lora_rank, "q_lora_rank")
    return (
        frame.column("q_a_proj", Width(*rank), Role.ATTENTION),
        Norm("q_a_layernorm", frame.precision, block.q_lora_rank, label="q_lora_rank"),
        frame.between("q_b_proj", rank, query, Role.ATTENTION),
    )


def _position_scale(block: spec.MlaBlock, frame: Frame) -> Operators:
    if not block.position_scale:
        return ()
    H, head = block.num_attention_heads, block.qk_nope_head_dim + block.qk_rope_head_dim
    scale = _scaled_by_position("position_scale", H, head, "num_attention_heads", frame)
    return (replace(scale, split_units=H),)


def _scaled_by_position(name: str, heads: int, head: int, label: str, frame: Frame) -> LearnedScale:
    """Queries times (scale x log(position) + bias); every rank holds the two numbers a head."""
    formula = f"2 x {label}"
    return LearnedScale(
        name, frame.precision, heads * head, 1.0, entries=2 * heads, role=Role.BIAS, label=formula
    )


def _indexer(block: spec.MlaBlock, frame: Frame) -> Operators:
    """Projections and scores of the indexer; every rank holds all of it."""
    if block.indexer is None or block.indexer.indexer_type == "shared":
        return ()
    heads, head = block.indexer.index_n_heads, block.indexer.index_head_dim
    pool = block.indexer.index_kpool
    rank = (block.q_lora_rank, "q_lora_rank") if block.q_lora_rank else _stream(frame)
    queries = Width(heads * head, "index_n_heads x index_head_dim")
    return (
        *_index_query_norm(block.indexer, frame),
        frame.between("indexer.wq_b", rank, queries, Role.ATTENTION),
        *_index_query_scale(block.indexer, frame),
        frame.column("indexer.wk", Width(head, "index_head_dim"), Role.ATTENTION),
        Norm(
            "indexer.k_norm",
            frame.precision,
            head,
            kind=NormKind.LAYER,
            has_bias=True,
            label="index_head_dim",
        ),
        frame.column("indexer.weights_proj", Width(heads, "index_n_heads"), Role.ROUTER),
        *_key_pool(pool, head, frame),
        Indexer(
            "indexer",
            frame.precision,
            heads,
            head,
            tokens_per_entry=pool,
            entry_label="index_kpool",
        ),
    )


def _stream(frame: Frame) -> tuple[int, str]:
    return frame.hidden_size, "hidden_size"


def _index_query_norm(indexer: spec.IndexerSpec, frame: Frame) -> Operators:
    if not indexer.query_norm:
        return ()
    kind, name = NormKind.LAYER, "indexer.q_input_norm"
    return (Norm(name, frame.precision, frame.hidden_size, kind=kind, has_bias=True),)


def _index_query_scale(indexer: spec.IndexerSpec, frame: Frame) -> Operators:
    if not indexer.position_scale:
        return ()
    heads, head = indexer.index_n_heads, indexer.index_head_dim
    name = "indexer.position_scale"
    return (_scaled_by_position(name, heads, head, "index_n_heads", frame),)


def _key_pool(pool: int, width: int, frame: Frame) -> Operators:
    """What pools indexer keys: a softmax over the tokens of a pool, element by element."""
    if pool == 1:
        return ()
    label = "index_head_dim"
    return (
        frame.column("indexer.index_kpool_compress_gate", Width(width, label), Role.STATE),
        Compressor("indexer.index_kpool", frame.precision, pool, width, label, "index_kpool"),
    )
