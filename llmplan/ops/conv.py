"""Short causal convolution over tokens, one filter a channel."""

from dataclasses import dataclass, field

from llmplan.ops.base import Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class ShortConvolution(Operator):
    """Depthwise convolution of ``kernel`` taps; the request keeps the last ``kernel`` - 1 columns.

    Attributes:
        channels: Channels, each with its own filter.
        kernel: Taps.
        has_bias: Whether each channel has a bias.
        split_units: Indivisible groups of channels for tensor parallelism.
        may_replicate: Whether ranks beyond ``split_units`` may hold copies.
        labels: Origin of (channels, kernel) in words of the spec's keys.
    """

    channels: int
    kernel: int
    has_bias: bool
    split_units: int
    may_replicate: bool = False
    labels: tuple[str, str] = field(default=("channels", "conv_kernel"), compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Filters and biases."""
        filters = Weight("", (self.channels, self.kernel), Role.CONVOLUTION, self.labels)
        if not self.has_bias:
            return (filters,)
        return (filters, Weight("bias", (self.channels,), Role.CONVOLUTION, self.labels[:1]))

    @property
    def state_width(self) -> int:
        """Elements of the columns kept for the next step."""
        return (self.kernel - 1) * self.channels

    @property
    def states(self) -> tuple[State, ...]:
        """Inputs that later tokens still need."""
        formula = f"({self.labels[1]} - 1) x ({self.labels[0]})"
        fmt = self.precision.convolution_columns
        return (State(StateKind.CONVOLUTION, self.state_width, fmt, formula),)

    def cost(self, step: Step) -> Cost:
        """2 · kernel FLOPs a channel and token.

        Shapes: step fields [..., G]; result [...].
        """
        state_bytes = self.state_width * self.precision.convolution_columns.bits_per_weight / 8
        return Cost(
            convolution_flops=2.0 * self.kernel * self.channels * step.tokens,
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=state_bytes * step.sequences,
            state_written_bytes=state_bytes * step.sequences,
            activation_bytes=2 * self.channels * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )
