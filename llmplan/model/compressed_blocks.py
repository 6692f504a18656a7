"""Attention over a window and compressed entries as operators (DeepSeek V4)."""

from llmplan.dtypes import divide_exactly
from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.compressed import CompressedAttention, Compressor
from llmplan.ops.linear import GroupedLinear, Split
from llmplan.ops.norm import ROTARY_FLOPS, Elementwise, Norm
from llmplan.ops.precision import Role
from llmplan.ops.sparse import Indexer


def compressed_attention(block: spec.CompressedAttentionBlock, frame: Frame) -> Operators:
    """One shared key and value head, its compressor and indexer, and a grouped output."""
    H, h = block.num_attention_heads, block.head_dim
    return (
        *_queries(block, frame),
        frame.column("kv_proj", Width(h, "head_dim"), Role.ATTENTION),
        Norm("kv_norm", frame.precision, h, label="head_dim"),
        *_rotary(block, frame),
        *_entries(block, frame, "compressor", (h, "head_dim")),
        *_indexer(block, frame),
        CompressedAttention(
            "attention",
            frame.precision,
            H,
            h,
            block.sliding_window,
            block.compress_ratio or 0,
            block.indexer.index_topk if block.indexer else 0,
        ),
        *_output(block, frame),
    )


def _queries(block: spec.CompressedAttentionBlock, frame: Frame) -> Operators:
    H, h, rank = block.num_attention_heads, block.head_dim, (block.q_lora_rank, "q_lora_rank")
    query = Width(H * h, "num_attention_heads x head_dim", H)
    return (
        frame.column("q_a_proj", Width(*rank), Role.ATTENTION),
        Norm("q_a_norm", frame.precision, block.q_lora_rank, label="q_lora_rank"),
        frame.between("q_b_proj", rank, query, Role.ATTENTION),
        Norm("q_b_norm", frame.precision, h, H, has_weight=False, label="head_dim"),
    )


def _rotary(block: spec.CompressedAttentionBlock, frame: Frame) -> Operators:
    """Queries and keys are rotated, and the output back, since values are keys."""
    H, width = block.num_attention_heads, block.qk_rope_head_dim
    return (
        Elementwise("rotary_q", frame.precision, H * width, ROTARY_FLOPS, split_units=H),
        Elementwise("rotary_k", frame.precision, width, ROTARY_FLOPS),
        Elementwise("rotary_o", frame.precision, H * width, ROTARY_FLOPS, split_units=H),
    )


def _entries(
    block: spec.CompressedAttentionBlock, frame: Frame, name: str, entry: tuple[int, str]
) -> Operators:
    """What forms entries of a width; every rank holds all of it, unquantised as published."""
    if not block.compress_ratio:
        return ()
    size, label = (2 * entry[0], f"2 x {entry[1]}") if block.overlapping_entries else entry
    return (
        frame.column(f"{name}.kv_proj", Width(size, label), Role.STATE),
        frame.column(f"{name}.gate_proj", Width(size, label), Role.STATE),
        Compressor(name, frame.precision, block.compress_ratio, size, label),
        Norm(f"{name}.kv_norm", frame.precision, entry[0], label=entry[1]),
    )


def _indexer(block: spec.CompressedAttentionBlock, frame: Frame) -> Operators:
    """An indexer over entries of its own; every rank holds all of it."""
    if block.indexer is None:
        return ()
    heads, head = block.indexer.index_n_heads, block.indexer.index_head_dim
    queries = Width(heads * head, "index_n_heads x index_head_dim")
    rank = (block.q_lora_rank, "q_lora_rank")
    return (
        *_entries(block, frame, "indexer.compressor", (head, "index_head_dim")),
        frame.between("indexer.q_b_proj", rank, queries, Role.ATTENTION),
        frame.column("indexer.weights_proj", Width(heads, "index_n_heads"), Role.ROUTER),
        Indexer(
            "indexer", frame.precision, heads, head, tokens_per_entry=block.compress_ratio or 1
        ),
    )


def _output(block: spec.CompressedAttentionBlock, frame: Frame) -> Operators:
    """Heads in groups, each to a low rank; all ranks together back to the stream."""
    width, groups = block.num_attention_heads * block.head_dim, block.o_groups
    ranks = Width(groups * block.o_lora_rank, "o_groups x o_lora_rank", groups)
    grouped = GroupedLinear(
        "o_a_proj",
        frame.precision,
        divide_exactly(width, groups),
        ranks.size,
        Role.ATTENTION,
        split=Split.COLUMN,
        split_units=groups,
        labels=(ranks.label, "num_attention_heads x head_dim / o_groups"),
    )
    return (grouped, frame.row("o_b_proj", ranks, Role.ATTENTION))
