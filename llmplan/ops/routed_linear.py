"""Matrices of which each token uses a few: projections of a mixture of attention heads.

Symbols: E experts, k experts per token.
"""

from dataclasses import dataclass, field

import numpy as np

from llmplan.ops.base import Cost, Operator, Step, Weight
from llmplan.ops.linear import Split
from llmplan.ops.norm import Elementwise
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class RoutedLinear(Operator):
    """One matrix an expert; a token passes the matrices of its k experts.

    Attributes:
        in_features: Width in of each.
        out_features: Width out of each.
        num_experts: Matrices (E).
        num_experts_per_tok: Of these, used by a token (k).
        split: The axis that tensor parallelism divides.
        split_units: Indivisible units along that axis.
        labels: Origin of (out_features, in_features) in words of the spec's keys.

    Source: transformers' JetMoeMoA.
    """

    in_features: int
    out_features: int
    num_experts: int
    num_experts_per_tok: int
    split: Split
    split_units: int
    labels: tuple[str, str] = field(default=("out_features", "in_features"), compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The stack of matrices."""
        E = self.num_experts
        shape, labels = (
            (E, self.out_features, self.in_features),
            ("attention_experts", *self.labels),
        )
        return (Weight("", shape, Role.ATTENTION, labels, (self.num_experts_per_tok, E)),)

    def cost(self, step: Step) -> Cost:
        """2·in·out·k FLOPs a token; the matrices of the experts hit are read once.

        Under even routing E·(1 - (1 - k/E)ᵗ) of them are hit by t tokens.

        Shapes: step fields [..., G]; result [...].
        """
        E, k, tokens = self.num_experts, self.num_experts_per_tok, step.tokens
        left_out = np.power(1 - k / E, tokens)
        width = k * (self.in_features + self.out_features)
        return Cost(
            matmul_flops=2.0 * self.in_features * self.out_features * k * tokens,
            weight_read_bytes=self.weights_bytes * (1 - left_out),
            activation_bytes=width * self.activation_width_bytes * tokens,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class OutputBias(Elementwise):
    """A sum with a learned vector, which every rank holds."""

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The vector."""
        return (Weight("", (self.width,), Role.BIAS, ("hidden_size",)),)
