"""Softmax attention over blocks of keys that an indexer chooses (MiniMax-M3).

Keys stand in blocks of m, counted from the start of a request. Every query attends to the block it
stands in and to the best k - 1 blocks before it; each key/value head has a choice of its own.

Symbols: k ``index_topk_blocks``, m ``index_block_size``, S context, T new tokens.
Source: transformers' MiniMaxM3VLIndexer, whose local block always wins one of the k places.
"""

from dataclasses import dataclass, replace

import numpy as np

from llmplan.ops.attention import SOFTMAX_FLOPS_PER_SCORE, Attention, Mask
from llmplan.ops.base import Array, Cost, Step
from llmplan.ops.entries import block_pairs


@dataclass(frozen=True, slots=True)
class BlockSparseAttention(Attention):
    """Attention whose cache is that of all keys, of which a query reads k blocks.

    Attributes:
        index_block_size: Keys of a block (m).
        index_topk_blocks: Blocks a query attends to at most, its own among them (k).
    """

    index_block_size: int = 1
    index_topk_blocks: int = 1

    def cost(self, step: Step) -> Cost:
        """2·(h_qk + h_v) FLOPs per head and pair, of which the n-th query has at most k·m.

        Keys of a request are read once, as far as any of its queries chose them at most.

        Shapes: step fields [..., G]; result [...].
        """
        plain = Attention.cost(self, step)
        if self.mask is not Mask.CAUSAL:
            return plain
        pairs = block_pairs(step, self.index_block_size, self.index_topk_blocks)
        scores = self.num_attention_heads * step.over_requests(pairs)
        entry_bytes = self.kv_width * self.precision.kv.bits_per_weight / 8
        return replace(
            plain,
            attention_flops=2.0 * (self.head_dim + self.v_head_dim) * scores,
            vector_flops=SOFTMAX_FLOPS_PER_SCORE * scores,
            state_read_bytes=entry_bytes * self._keys_read(step, pairs),
        )

    def _keys_read(self, step: Step, pairs: Array) -> Array:
        at_hand = step.context + step.new_tokens
        return step.over_requests(np.minimum(at_hand, pairs))
