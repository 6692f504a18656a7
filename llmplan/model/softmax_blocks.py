"""Softmax attention and latent attention as operators."""

from dataclasses import replace
from functools import partial

from llmplan.dtypes import format_named
from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.latent import ExpandedLatentAttention
from llmplan.ops.norm import GATE_FLOPS, ROTARY_FLOPS, Elementwise, Norm, NormKind
from llmplan.ops.precision import Role
from llmplan.ops.sparse import Indexer


def attention(block: spec.AttentionBlock, frame: Frame) -> Operators:
    """Softmax attention with its projections, norms, gate and rotary part."""
    H, K, h_qk = block.num_attention_heads, block.num_key_value_heads, block.head_dim
    h_v = block.v_head_dim or h_qk
    value = "head_dim" if block.v_head_dim is None else "v_head_dim"
    query = Width(H * h_qk, "num_attention_heads x head_dim", H)
    keys = Width(K * h_qk, "num_key_value_heads x head_dim", K, may_replicate=True)
    values = Width(K * h_v, f"num_key_value_heads x {value}", K, may_replicate=True)
    output = Width(H * h_v, f"num_attention_heads x {value}", H)
    bias = block.attention_bias
    return (
        frame.column("q_proj", query, Role.ATTENTION, bias=bias),
        frame.column("k_proj", keys, Role.ATTENTION, bias=bias),
        *(
            []
            if block.value_is_key
            else [frame.column("v_proj", values, Role.ATTENTION, bias=bias)]
        ),
        *_qk_norms(block, frame),
        *([Norm("v_norm", frame.precision, h_v, K, has_weight=False)] if block.value_norm else []),
        *_rotary(block, frame),
        _attention_core(block, frame, h_v),
        *_output_gate(block, frame, output),
        _output_frame(block, frame).row("o_proj", output, Role.ATTENTION, bias=block.o_proj_bias),
    )


def _output_frame(block: spec.AttentionBlock, frame: Frame) -> Frame:
    """The stream as the output projection sees it: its own format where one is published."""
    if block.o_proj_format is None:
        return frame
    own = ((Role.ATTENTION, format_named(block.o_proj_format)),)
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
    return Attention(
        "attention",
        frame.precision,
        block.num_attention_heads,
        block.num_key_value_heads,
        block.head_dim,
        h_v,
        mask,
        span,
        has_sinks=block.attention_sinks,
        keeps_state=block.causal,
    )


def _qk_norms(block: spec.AttentionBlock, frame: Frame) -> Operators:
    if block.qk_norm == "none":
        return ()
    counts = (
        ("q_norm", block.num_attention_heads, "num_attention_heads"),
        ("k_norm", block.num_key_value_heads, "num_key_value_heads"),
    )
    return tuple(_qk_norm(block, frame, *count) for count in counts)


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
    return (
        Elementwise("rotary_q", frame.precision, H * width, ROTARY_FLOPS, split_units=H),
        Elementwise(
            "rotary_k", frame.precision, K * width, ROTARY_FLOPS, split_units=K, may_replicate=True
        ),
    )


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
    return (
        *_mla_queries(block, frame),
        frame.column("kv_a_proj_with_mqa", latent, Role.ATTENTION),
        Norm("kv_a_layernorm", precision, block.kv_lora_rank, label="kv_lora_rank"),
        *((rotary, Elementwise("rotary_k", precision, rope, ROTARY_FLOPS)) * block.rotary),
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
        ),
        *_output_gate(block, frame, output),
        frame.row("o_proj", output, Role.ATTENTION),
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


def _indexer(block: spec.MlaBlock, frame: Frame) -> Operators:
    """Projections and scores of the indexer; every rank holds all of it."""
    if block.indexer is None or block.indexer.indexer_type == "shared":
        return ()
    heads, head = block.indexer.index_n_heads, block.indexer.index_head_dim
    rank = (block.q_lora_rank or frame.hidden_size, "q_lora_rank")
    queries = Width(heads * head, "index_n_heads x index_head_dim")
    return (
        frame.between("indexer.wq_b", rank, queries, Role.ATTENTION),
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
        Indexer("indexer", frame.precision, heads, head),
    )
