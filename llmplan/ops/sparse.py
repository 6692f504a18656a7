"""The indexer of sparse attention: cheap scores that choose which keys are attended to.

Source: DeepSeek-AI 2025 (DeepSeek-V3.2-Exp).
"""

from dataclasses import dataclass, field
from typing import Final

from llmplan.ops.attention import Mask
from llmplan.ops.base import Cost, Operator, State, StateKind, Step
from llmplan.ops.entries import complete_entries, entries_read, entry_pairs

SELECT_FLOPS_PER_SCORE: Final = 3.0
"""ReLU, weighting and adding one head's score; the top-k selection itself is not counted."""

MAXIMUM_FLOPS_PER_SCORE: Final = 1.0
"""Where blocks of keys are chosen, by the largest score of a block."""


@dataclass(frozen=True, slots=True)
class Indexer(Operator):
    """Scores of every visible key; its projections are ``Linear`` operators beside it.

    Attributes:
        index_n_heads: Indexer heads.
        index_head_dim: Width of a head and of the one key that an entry leaves.
        tokens_per_entry: Tokens that a key stands for; more than one where they are compressed.
        entry_label: That number in words of the spec's keys.
        flops_per_score: Vector work on a score of one head.
    """

    index_n_heads: int
    index_head_dim: int
    mask: Mask = Mask.CAUSAL
    tokens_per_entry: int = 1
    entry_label: str = field(default="compress_ratio", compare=False)
    flops_per_score: float = SELECT_FLOPS_PER_SCORE

    @property
    def states(self) -> tuple[State, ...]:
        """One key an entry, shared by all heads."""
        keys, m = self.precision.indexer_keys, self.tokens_per_entry
        width, label = self.index_head_dim, self.entry_label
        return (State(StateKind.INDEXER, width, keys, "index_head_dim", 0, m, label),)

    def cost(self, step: Step) -> Cost:
        """2 · heads · head size FLOPs per visible pair.

        Shapes: step fields [..., G]; result [...].
        """
        m = self.tokens_per_entry
        scores = self.index_n_heads * entry_pairs(step, self.mask, m, 0)
        key_bytes = self.index_head_dim * self.precision.indexer_keys.bits_per_weight / 8
        query_width = self.index_n_heads * self.index_head_dim
        return Cost(
            attention_flops=2.0 * self.index_head_dim * scores,
            vector_flops=self.flops_per_score * scores,
            state_read_bytes=key_bytes * entries_read(step, m, 0),
            state_written_bytes=key_bytes * complete_entries(step, m),
            activation_bytes=query_width * self.activation_width_bytes * step.tokens,
            launches=2.0,
        )
