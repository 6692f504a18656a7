"""Normalisation and other elementwise work."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from llmplan.ops.base import Cost, Operator, Step, Weight
from llmplan.ops.linear import Tokens
from llmplan.ops.precision import Role

GATE_FLOPS: Final = 5.0
"""A sigmoid and a product for each element."""
GELU_GATE_FLOPS: Final = 9.0
"""A tanh-form gelu and a product for each element."""

ROTARY_FLOPS: Final = 3.0
"""Two products and a sum for each rotated element."""


class NormKind(StrEnum):
    """Which statistic is removed."""

    RMS = "rmsnorm"
    LAYER = "layernorm"

    @property
    def flops_per_element(self) -> float:
        """RMS: square, sum, scale, weight; Layer: these, mean, subtract and bias."""
        return 4.0 if self is NormKind.RMS else 7.0


@dataclass(frozen=True, slots=True)
class Norm(Operator):
    """Norm over vectors of ``width``, ``vectors`` of them a token.

    Attributes:
        width: Elements that share one statistic.
        vectors: Vectors a token: 1, or the heads of a per-head norm.
        kind: RMSNorm or LayerNorm.
        has_weight: False for a norm without parameters.
        has_bias: Whether there is a bias beside the weight.
        weight_width: Elements of the weight: ``width``, or all vectors where each has its own.
        role: Norm, or vision for norms of the tower.
        tokens: Which tokens pass through.
        label: Origin of the weight's width in words of the spec's keys.
    """

    width: int
    vectors: int = 1
    kind: NormKind = NormKind.RMS
    has_weight: bool = True
    has_bias: bool = False
    weight_width: int = 0
    role: Role = Role.NORM
    tokens: Tokens = Tokens.ALL
    label: str = field(default="hidden_size", compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Weight and bias."""
        shape = (self.weight_width or self.width,)
        names = [name for name, here in (("", self.has_weight), ("bias", self.has_bias)) if here]
        return tuple(Weight(name, shape, self.role, (self.label,)) for name in names)

    def cost(self, step: Step) -> Cost:
        """Vector work of the statistic and the scaling; reads and writes each element once."""
        elements = self.width * self.vectors * self.tokens.in_step(step)
        return Cost(
            vector_flops=self.kind.flops_per_element * elements,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=2 * self.activation_width_bytes * elements,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class Elementwise(Operator):
    """Vector work without weights: activations, gates, rotary embedding, residual sums.

    Attributes:
        width: Elements written a token.
        flops_per_element: FLOPs of each.
        reads: Elements read for each one written.
        split_units: Indivisible units of the width for tensor parallelism; 1 where it stays whole.
        may_replicate: Whether ranks beyond ``split_units`` may hold copies.
    """

    width: int
    flops_per_element: float
    reads: int = 1
    split_units: int = 1
    may_replicate: bool = False

    def cost(self, step: Step) -> Cost:
        """Proportional to the elements."""
        elements = self.width * step.tokens
        return Cost(
            vector_flops=self.flops_per_element * elements,
            activation_bytes=(1 + self.reads) * self.activation_width_bytes * elements,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class StoredScale(Elementwise):
    """A product, or a product and a sum, with stored numbers that are no parameters (Gemma 4).

    Attributes:
        entries: How many; one for a whole layer, or one or two a channel.
        label: The same in words of the spec's keys.
    """

    entries: int = 1
    label: str = field(default="layer_scalar", compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The numbers."""
        return (Weight("", (self.entries,), Role.BUFFER, (self.label,), is_buffer=True),)


@dataclass(frozen=True, slots=True)
class LearnedScale(Elementwise):
    """A product with learned numbers, which every rank holds: gates of a branch, layer scales.

    Attributes:
        entries: How many; one for a whole branch, one a channel, or two a head.
        role: Norm, bias for those of heads, or vision for those of the tower.
        label: The same in words of the spec's keys.
    """

    entries: int = 1
    role: Role = Role.NORM
    label: str = field(default="1", compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The numbers."""
        return (Weight("", (self.entries,), self.role, (self.label,)),)


@dataclass(frozen=True, slots=True)
class LearnedActivation(Elementwise):
    """An activation with stored scalars, which every rank holds.

    Attributes:
        scalars: How many.
    """

    scalars: int = 0

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The scalars."""
        return (Weight("", (self.scalars,), Role.BIAS, (str(self.scalars),)),)
