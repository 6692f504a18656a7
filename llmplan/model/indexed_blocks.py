"""Attention over blocks of keys, and the indexer that chooses them."""

from dataclasses import fields

from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.attention import Attention
from llmplan.ops.block_sparse import BlockSparseAttention
from llmplan.ops.norm import Norm
from llmplan.ops.precision import Role
from llmplan.ops.sparse import MAXIMUM_FLOPS_PER_SCORE, Indexer


def block_indexer(block: spec.AttentionBlock, frame: Frame) -> Operators:
    """Projections, norms and scores of the indexer; every rank holds all of it."""
    if block.block_indexer is None:
        return ()
    heads, head = block.block_indexer.index_n_heads, block.block_indexer.index_head_dim
    label, precision = "index_head_dim", frame.precision
    queries = Width(heads * head, "index_n_heads x index_head_dim")
    return (
        frame.column("indexer.q_proj", queries, Role.ATTENTION),
        frame.column("indexer.k_proj", Width(head, label), Role.ATTENTION),
        Norm("indexer.q_norm", precision, head, heads, weight_width=head, label=label),
        Norm("indexer.k_norm", precision, head, label=label),
        Indexer("indexer", precision, heads, head, flops_per_score=MAXIMUM_FLOPS_PER_SCORE),
    )


def over_blocks(core: Attention, indexer: spec.BlockIndexerSpec | None) -> Attention:
    """The attention of a layer, over the blocks that its indexer chooses where it has one."""
    if indexer is None:
        return core
    same = {field.name: getattr(core, field.name) for field in fields(core)}
    return BlockSparseAttention(
        **same,
        index_block_size=indexer.index_block_size,
        index_topk_blocks=indexer.index_topk_blocks,
    )
