"""Hyper-connections: several residual streams that every block reads from and writes to.

Symbols: N ``hc_mult`` streams, D hidden size.
Source: Xie et al. 2026 (mHC); transformers' DeepseekV4HyperConnection.
"""

from dataclasses import dataclass

from llmplan.ops.base import Cost, Operator, Step, Weight
from llmplan.ops.linear import Tokens
from llmplan.ops.norm import NormKind
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class HyperConnection(Operator):
    """Coefficients from all streams, and the weighted sum of the streams that a block works on.

    In a layer: N to read, N to write and N·N to mix the streams; at the end of the decoder: N to
    read. Writing and mixing are the residual sum of the block, which is an operator of its own.

    Attributes:
        hc_mult: Streams (N).
        hidden_size: Width of each (D).
        is_last: Whether the streams end here, with no coefficients to write and mix.
        tokens: Which tokens pass through.
        mixes: Whether the streams are mixed with each other where the block writes to them.
    """

    hc_mult: int
    hidden_size: int
    is_last: bool = False
    tokens: Tokens = Tokens.ALL
    mixes: bool = True

    @property
    def coefficients(self) -> int:
        """Numbers computed a token."""
        if self.is_last:
            return self.hc_mult
        return (2 + self.hc_mult if self.mixes else 2) * self.hc_mult

    @property
    def coefficients_label(self) -> str:
        """The same in words of the spec's keys."""
        if self.is_last:
            return "hc_mult"
        return "(2 + hc_mult) x hc_mult" if self.mixes else "2 x hc_mult"

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Projection, its bias, and one scale for reading, writing and mixing each."""
        label = self.coefficients_label
        scales = 1 if self.is_last else 2 + self.mixes
        shape = (self.coefficients, self.hc_mult * self.hidden_size)
        return (
            Weight("fn", shape, Role.BIAS, (label, "hc_mult x hidden_size")),
            Weight("base", (self.coefficients,), Role.BIAS, (label,)),
            Weight("scale", (scales,), Role.BIAS, (str(scales),)),
        )

    def cost(self, step: Step) -> Cost:
        """2·N·D FLOPs a coefficient; a norm over and a weighted sum of the N streams.

        The iterations that balance the N x N mixing matrix are a few hundred FLOPs, not counted.

        Shapes: step fields [..., G]; result [...].
        """
        tokens, streams = self.tokens.in_step(step), self.hc_mult * self.hidden_size
        moved = streams + self.hidden_size
        return Cost(
            matmul_flops=2.0 * streams * self.coefficients * tokens,
            vector_flops=(NormKind.RMS.flops_per_element + 2.0) * streams * tokens,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=moved * self.activation_width_bytes * tokens,
            launches=2.0,
        )


@dataclass(frozen=True, slots=True)
class StreamMean(Operator):
    """The plain mean of all streams, with which they end where nothing is learned for it.

    Attributes:
        hc_mult: Streams (N).
        hidden_size: Width of each (D).
        tokens: Which tokens pass through.
    """

    hc_mult: int
    hidden_size: int
    tokens: Tokens = Tokens.ALL

    def cost(self, step: Step) -> Cost:
        """N - 1 sums and a product for each of the D elements.

        Shapes: step fields [..., G]; result [...].
        """
        elements = self.hidden_size * self.tokens.in_step(step)
        return Cost(
            vector_flops=float(self.hc_mult) * elements,
            activation_bytes=(self.hc_mult + 1) * self.activation_width_bytes * elements,
            launches=1.0,
        )
