"""The indexer of sparse attention: cheap scores that choose which keys are attended to.

Source: DeepSeek-AI 2025 (DeepSeek-V3.2-Exp), sec. 2.1, eq. 1.
"""

from dataclasses import dataclass
from typing import Final

from llmplan.ops.attention import Mask, attention_pairs, keys_read
from llmplan.ops.base import Cost, Operator, State, StateKind, Step

SELECT_FLOPS_PER_SCORE: Final = 3.0
"""ReLU, weighting and adding one head's score; the top-k selection itself is not counted."""


@dataclass(frozen=True, slots=True)
class Indexer(Operator):
    """Scores of every visible key; its projections are ``Linear`` operators beside it.

    Attributes:
        index_n_heads: Indexer heads.
        index_head_dim: Width of a head and of the one key a token leaves.
    """

    index_n_heads: int
    index_head_dim: int
    mask: Mask = Mask.CAUSAL

    @property
    def states(self) -> tuple[State, ...]:
        """One key a token, shared by all heads."""
        keys = self.precision.indexer_keys
        return (State(StateKind.INDEXER, self.index_head_dim, keys, "index_head_dim"),)

    def cost(self, step: Step) -> Cost:
        """2 · heads · head size FLOPs per visible pair.

        Shapes: step fields [..., G]; result [...].
        """
        scores = self.index_n_heads * attention_pairs(step, self.mask, 0)
        key_bytes = self.index_head_dim * self.precision.indexer_keys.bits_per_weight / 8
        query_width = self.index_n_heads * self.index_head_dim
        return Cost(
            attention_flops=2.0 * self.index_head_dim * scores,
            vector_flops=SELECT_FLOPS_PER_SCORE * scores,
            state_read_bytes=key_bytes * keys_read(step, Mask.CAUSAL, 0),
            state_written_bytes=key_bytes * step.tokens,
            activation_bytes=query_width * self.activation_width_bytes * step.tokens,
            launches=2.0,
        )
