"""Differential attention: the difference of two attention maps, applied to the same values.

Symbols: H query heads, K key/value heads, h head size.
"""

from dataclasses import dataclass, replace
from typing import Final

from llmplan.ops.attention import Attention, attention_pairs
from llmplan.ops.base import Cost, Step, Weight
from llmplan.ops.precision import Role

LAMBDAS: Final = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")
"""Vectors whose products weight the second map."""


@dataclass(frozen=True, slots=True)
class DifferentialAttention(Attention):
    """Heads in pairs: each map weights the values of two key/value heads side by side.

    Source: Ye et al. 2024 (Differential Transformer), in transformers' DiffLlamaAttention.
    """

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Four vectors as wide as a head, shared by all heads."""
        return tuple(Weight(name, (self.head_dim,), Role.BIAS, ("head_dim",)) for name in LAMBDAS)

    def cost(self, step: Step) -> Cost:
        """2·(h + 2·h) FLOPs per head and pair of tokens; the cache is that of plain attention.

        Shapes: step fields [..., G]; result [...].
        """
        heads, widths = self.num_attention_heads, self.head_dim + 2 * self.v_head_dim
        scores = heads * attention_pairs(step, self.mask, self.span)
        moved = heads * widths * self.activation_width_bytes * step.tokens
        plain = Attention.cost(self, step)
        return replace(plain, attention_flops=2.0 * widths * scores, activation_bytes=moved)
