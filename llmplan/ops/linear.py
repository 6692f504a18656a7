"""Matrix products with weights, split over ranks by the type of their split."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from llmplan.ops.base import Array, Cost, Operator, Step, Weight
from llmplan.ops.precision import Role


class Split(StrEnum):
    """Which axis of a weight tensor parallelism divides."""

    COLUMN = "column"
    """The output axis: each rank holds some heads or features."""
    ROW = "row"
    """The input axis: partial sums are reduced afterwards."""
    VOCABULARY = "vocabulary"
    """The output axis, padded until it divides."""
    REPLICATED = "replicated"
    """No axis: every rank holds all."""


class Tokens(StrEnum):
    """Which tokens of a step an operator sees."""

    ALL = "all"
    LAST = "last"
    """One position of each request, as for the output head in prefill."""

    def in_step(self, step: Step) -> Array:
        """Tokens of the step that the operator sees, shape [...]."""
        return step.tokens if self is Tokens.ALL else step.sequences


@dataclass(frozen=True, slots=True)
class Linear(Operator):
    """``y = x Wᵀ (+ b)``.

    Attributes:
        in_features: Width of x.
        out_features: Width of y.
        role: What the matrix is for; decides its format.
        has_bias: Whether b exists.
        split: The axis that tensor parallelism divides.
        split_units: Indivisible units along that axis: heads, or features where they are free.
        may_replicate: Whether ranks beyond ``split_units`` may hold copies (KV heads).
        tokens: Which tokens pass through.
        labels: Origin of (out_features, in_features) in words of the spec's keys.
    """

    in_features: int
    out_features: int
    role: Role
    has_bias: bool = False
    split: Split = Split.REPLICATED
    split_units: int = 1
    may_replicate: bool = False
    tokens: Tokens = Tokens.ALL
    labels: tuple[str, str] = field(default=("out_features", "in_features"), compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The matrix, and the bias in its own role."""
        matrix = Weight("", (self.out_features, self.in_features), self.role, self.labels)
        if not self.has_bias:
            return (matrix,)
        return (matrix, Weight("bias", (self.out_features,), Role.BIAS, self.labels[:1]))

    def cost(self, step: Step) -> Cost:
        """2 · in · out FLOPs a token; the weight is read once a step.

        Shapes: step fields [..., G]; result [...].
        """
        tokens = self.tokens.in_step(step)
        width = self.in_features + self.out_features
        return Cost(
            matmul_flops=2.0 * self.in_features * self.out_features * tokens,
            vector_flops=float(self.out_features) * tokens if self.has_bias else 0.0,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=width * self.activation_width_bytes * tokens,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class GroupedLinear(Linear):
    """A block-diagonal matrix: each of ``split_units`` groups has its own input and its own output.

    ``in_features`` is the width of one group's input, ``out_features`` that of all outputs, so that
    the stored matrix and its FLOPs are those of a ``Linear`` of these widths.
    Source: DeepSeek-AI 2026 (DeepSeek-V4) (grouped output projection).
    """

    def cost(self, step: Step) -> Cost:
        """As ``Linear``, with the inputs of all groups read.

        Shapes: step fields [..., G]; result [...].
        """
        tokens = self.tokens.in_step(step)
        width = self.in_features * self.split_units + self.out_features
        moved = width * self.activation_width_bytes * tokens
        return replace(Linear.cost(self, step), activation_bytes=moved)
