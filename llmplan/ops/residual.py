"""Attention over depth: a block works on a weighted mix of earlier sums of the residual stream.

Symbols: D hidden size, N sums of earlier blocks of layers and the running one.
Source: Kimi Team 2026 (Kimi K3).
"""

from dataclasses import dataclass

from llmplan.ops.base import Cost, Operator, Step, Weight
from llmplan.ops.linear import Tokens
from llmplan.ops.norm import NormKind
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class AttentionResidual(Operator):
    """One learned query scores N normed sums; their weighted sum is what the block works on.

    Attributes:
        hidden_size: Width of the stream (D).
        sources: Sums that the last layer mixes (N). Earlier layers mix fewer and are counted alike,
            which overstates this vector work by about two.
        tokens: Which tokens pass through.
    """

    hidden_size: int
    sources: int
    tokens: Tokens = Tokens.ALL

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The query and the norm."""
        shape, labels = (self.hidden_size,), ("hidden_size",)
        return (
            Weight("proj", shape, Role.NORM, labels),
            Weight("norm", shape, Role.NORM, labels),
        )

    def cost(self, step: Step) -> Cost:
        """For each of N·D elements the work of a norm, a score and a weighted sum.

        Shapes: step fields [..., G]; result [...].
        """
        elements = self.sources * self.hidden_size * self.tokens.in_step(step)
        return Cost(
            vector_flops=(NormKind.RMS.flops_per_element + 4.0) * elements,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=self.activation_width_bytes * elements,
            launches=1.0,
        )
