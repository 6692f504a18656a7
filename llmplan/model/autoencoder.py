"""A convolutional image autoencoder (AutoencoderKL) as operators; names are the checkpoint's.

One token of a step is a latent pixel. A level above the latents has two, four, eight times as many
pixels a side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from llmplan.model.compiled import Component, Layer, Part
from llmplan.model.feed_forward_blocks import ACTIVATION_FLOPS
from llmplan.model.frame import Operators
from llmplan.model.pipeline_spec import AutoencoderSpec
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Operator, Stream
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.linear import Linear
from llmplan.ops.norm import Elementwise, Norm, NormKind
from llmplan.ops.precision import Precision, Role

LEVELS = "block_out_channels"
"""The key that all inner widths come from."""


def latent_side(spec: AutoencoderSpec) -> int:
    """Pixels a side of a latent pixel: the side halves between two levels."""
    return int(2 ** (len(spec.block_out_channels) - 1))


def autoencoder_component(spec: AutoencoderSpec, precision: Precision) -> Component:
    """Encoder and decoder, each one layer after the other."""
    encoder, decoder = (_Half(spec, precision, s) for s in (Stream.ENCODING, Stream.DECODING))
    layers = (*encoder.encoder_layers(), *decoder.decoder_layers())
    return Component(Part.VAE, (), layers, ())


@dataclass(frozen=True, slots=True)
class _Half:
    """Encoder or decoder."""

    spec: AutoencoderSpec
    precision: Precision
    stream: Stream

    def encoder_layers(self) -> Iterator[Layer]:
        """Levels from the image down to the latents."""
        widths = self.spec.block_out_channels
        latents = self.spec.latent_channels
        side = latent_side(self.spec)
        colours = (self.spec.image_channels, "image_channels")
        yield Layer("encoder.conv_in", (self._conv("conv_in", colours, _level(widths[0]), side),))
        into = widths[0]
        for index, width in enumerate(widths):
            name = f"encoder.down_blocks.{index}"
            resnets = self._resnets(into, width, self.spec.layers_per_block, side)
            last = index == len(widths) - 1
            side = side if last else side // 2
            down = () if last else (self._inner("downsamplers.0.conv", width, width, side),)
            yield Layer(name, (*resnets, *down))
            into = width
        yield Layer("encoder.mid_block", self._middle(into))
        twice = (2 * latents, "2 x latent_channels")
        yield Layer("encoder.conv_out", self._exit(into, twice, 1))

    def decoder_layers(self) -> Iterator[Layer]:
        """Levels from the latents up to the image."""
        widths = self.spec.block_out_channels[::-1]
        latents = (self.spec.latent_channels, "latent_channels")
        yield Layer("decoder.conv_in", (self._conv("conv_in", latents, _level(widths[0]), 1),))
        yield Layer("decoder.mid_block", self._middle(widths[0]))
        side = 1
        for index, (into, width) in enumerate(pairwise((widths[0], *widths))):
            resnets = self._resnets(into, width, self.spec.layers_per_block + 1, side)
            last = index == len(widths) - 1
            side = side if last else side * 2
            up = () if last else (self._inner("upsamplers.0.conv", width, width, side),)
            yield Layer(f"decoder.up_blocks.{index}", (*resnets, *up))
        colours = (self.spec.image_channels, "image_channels")
        yield Layer("decoder.conv_out", self._exit(widths[-1], colours, side))

    def _resnets(self, into: int, width: int, count: int, side: int) -> Operators:
        blocks = (self._resnet(into if index == 0 else width, width, side, f"resnets.{index}")
                  for index in range(count))  # fmt: skip
        return tuple(operator for block in blocks for operator in block)

    def _resnet(self, into: int, width: int, side: int, name: str) -> Iterator[Operator]:
        """Norm, activation and convolution, twice, beside a shortcut."""
        yield self._norm(f"{name}.norm1", into, side)
        yield self._elementwise(f"{name}.act1", into, side, ACTIVATION_FLOPS["silu"])
        yield self._inner(f"{name}.conv1", into, width, side)
        yield self._norm(f"{name}.norm2", width, side)
        yield self._elementwise(f"{name}.act2", width, side, ACTIVATION_FLOPS["silu"])
        yield self._inner(f"{name}.conv2", width, width, side)
        if into != width:
            yield self._conv(f"{name}.conv_shortcut", _level(into), _level(width), side, 1)
        yield self._elementwise(f"{name}.residual", width, side, 1.0)

    def _middle(self, width: int) -> Operators:
        """Attention of one head over all latent pixels between two residual blocks."""
        name = "attentions.0"
        return (
            *self._resnet(width, width, 1, "resnets.0"),
            self._norm(f"{name}.group_norm", width, 1),
            *(self._linear(f"{name}.to_{which}", width) for which in "qkv"),
            Attention(name, self.precision, 1, 1, width, width, Mask.FULL, keeps_state=False,
                      stream=self.stream),
            self._linear(f"{name}.to_out.0", width),
            self._elementwise(f"{name}.residual", width, 1, 1.0),
            *self._resnet(width, width, 1, "resnets.1"),
        )  # fmt: skip

    def _exit(self, width: int, out: tuple[int, str], side: int) -> Operators:
        return (
            self._norm("conv_norm_out", width, side),
            self._elementwise("conv_act", width, side, ACTIVATION_FLOPS["silu"]),
            self._conv("conv_out", _level(width), out, side),
        )

    def _inner(self, name: str, into: int, out: int, side: int) -> Convolution2d:
        return self._conv(name, _level(into), _level(out), side)

    def _conv(
        self, name: str, into: tuple[int, str], out: tuple[int, str], side: int, kernel: int = 3
    ) -> Convolution2d:
        return Convolution2d(name, self.precision, into[0], out[0], kernel, side**2, Role.VISION,
                             labels=(out[1], into[1]), stream=self.stream)  # fmt: skip

    def _linear(self, name: str, width: int) -> Linear:
        return Linear(name, self.precision, width, width, Role.VISION, has_bias=True,
                      labels=(LEVELS, LEVELS), stream=self.stream)  # fmt: skip

    def _norm(self, name: str, width: int, side: int) -> Norm:
        """A group norm: the work an element of a LayerNorm, a weight and a bias a channel."""
        return Norm(name, self.precision, width, side**2, kind=NormKind.LAYER, has_bias=True,
                    role=Role.VISION, label=LEVELS, stream=self.stream)  # fmt: skip

    def _elementwise(self, name: str, width: int, side: int, flops: float) -> Elementwise:
        return Elementwise(name, self.precision, width * side**2, flops, stream=self.stream)


def _level(width: int) -> tuple[int, str]:
    return width, LEVELS
