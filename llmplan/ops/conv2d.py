"""Convolutions over pixels, as autoencoders of images use them."""

from dataclasses import dataclass, field

from llmplan.ops.base import Cost, Operator, Step, Weight
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class Convolution2d(Operator):
    """A filter of ``kernel`` x ``kernel`` pixels from every channel in to every channel out.

    A token of the step is one latent pixel, which stands for ``pixels`` output pixels here.

    Attributes:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the filter.
        pixels: Output pixels a token.
        role: What the filters belong to.
        labels: Origin of (out_channels, in_channels) in words of the spec's keys.
    """

    in_channels: int
    out_channels: int
    kernel: int
    pixels: int
    role: Role
    labels: tuple[str, str] = field(default=("out_channels", "in_channels"), compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Filters, and a bias for each channel out."""
        sides = (self.kernel, self.kernel)
        shape = (self.out_channels, self.in_channels, *sides)
        return (
            Weight("", shape, self.role, (*self.labels, *map(str, sides))),
            Weight("bias", (self.out_channels,), self.role, self.labels[:1]),
        )

    def cost(self, step: Step) -> Cost:
        """2 · k² · c_in · c_out FLOPs an output pixel; the filters are read once a step.

        Shapes: step fields [..., G]; result [...].
        """
        pixels = self.pixels * step.tokens
        taps = self.kernel**2 * self.in_channels
        channels = self.in_channels + self.out_channels
        return Cost(
            convolution_flops=2.0 * taps * self.out_channels * pixels,
            vector_flops=float(self.out_channels) * pixels,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=channels * self.activation_width_bytes * pixels,
            launches=1.0,
        )
