"""The diffusion transformer of FLUX.1 as operators; names are the checkpoint's.

Image and prompt tokens are two streams of one width. In a double-stream block each has its own
projections and network, and both attend together; a single-stream block takes both as one. Every
norm is shifted, scaled and gated by values projected from one vector an image: time step, guidance
and the prompt's vector.
"""

from dataclasses import dataclass, replace
from typing import Final

from llmplan.model.compiled import Component, Layer, Part
from llmplan.model.feed_forward_blocks import ACTIVATION_FLOPS
from llmplan.model.frame import Operators
from llmplan.model.pipeline_spec import FluxTransformerSpec
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Operator, Stream
from llmplan.ops.linear import Linear
from llmplan.ops.norm import ROTARY_FLOPS, Elementwise, Norm, NormKind
from llmplan.ops.precision import Precision, Role

TIME_CHANNELS: Final = 256
"""Sines and cosines of a time step: ``num_channels`` in diffusers' embeddings."""
MLP_RATIO: Final = 4
"""Inner width of the networks over the width of the streams: ``mlp_ratio`` in diffusers."""
MODULATION_FLOPS: Final = 4.0
"""Scale, shift, gate and residual sum of an element."""
STREAM: Final = "num_attention_heads x attention_head_dim"


def transformer_component(spec: FluxTransformerSpec, precision: Precision) -> Component:
    """The whole transformer."""
    build = _Builder(spec, precision)
    double = Layer("double_stream", (*build.double_stream(),))
    single = Layer("single_stream", (*build.single_stream(),))
    return Component(
        Part.TRANSFORMER,
        build.inputs(),
        (double,) * spec.num_layers + (single,) * spec.num_single_layers,
        build.outputs(),
    )


@dataclass(frozen=True, slots=True)
class _Builder:
    """Operators over the width of the streams."""

    spec: FluxTransformerSpec
    precision: Precision

    @property
    def width(self) -> int:
        return self.spec.num_attention_heads * self.spec.attention_head_dim

    def inputs(self) -> Operators:
        """From latents, prompt and time step to the streams and the one vector."""
        spec = self.spec
        vectors = [("time_text_embed.timestep_embedder", (TIME_CHANNELS, str(TIME_CHANNELS)))]
        if spec.guidance_embeds:
            vectors.append(("time_text_embed.guidance_embedder", vectors[0][1]))
        pooled = (spec.pooled_projection_dim, "pooled_projection_dim")
        vectors.append(("time_text_embed.text_embedder", pooled))
        return (
            *(operator for name, into in vectors for operator in self._embedder(name, into)),
            self._across("context_embedder", Stream.PROMPT,
                         (spec.joint_attention_dim, "joint_attention_dim")),
            self._across("x_embedder", Stream.IMAGE, (spec.in_channels, "in_channels")),
        )  # fmt: skip

    def _embedder(self, name: str, into: tuple[int, str]) -> Operators:
        return (
            self._across(f"{name}.linear_1", Stream.VECTOR, into),
            self._elementwise(f"{name}.act", Stream.VECTOR, ACTIVATION_FLOPS["silu"]),
            self._across(f"{name}.linear_2", Stream.VECTOR, (self.width, STREAM)),
        )

    def _across(self, name: str, stream: Stream, into: tuple[int, str]) -> Linear:
        """Into the width of the streams."""
        return Linear(name, self.precision, into[0], self.width, Role.PROJECTOR, has_bias=True,
                      labels=(STREAM, into[1]), stream=stream)  # fmt: skip

    def double_stream(self) -> Operators:
        """A block with weights of its own for image and prompt, and one attention over both."""
        image = self._half(Stream.IMAGE, "", ("to_q", "to_k", "to_v", "to_out.0"), "norm_")
        prompt_names = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        prompt = self._half(Stream.PROMPT, "_context", prompt_names, "norm_added_")
        (before, after), (before_prompt, after_prompt) = image, prompt
        return (*before, *before_prompt, *self._attention(), *after, *after_prompt)

    def _half(
        self, stream: Stream, suffix: str, names: tuple[str, ...], norm: str
    ) -> tuple[Operators, Operators]:
        """What one stream passes before the attention, and after it."""
        before = (
            self._modulation(f"norm1{suffix}.linear", 6),
            self._plain_norm(f"norm1{suffix}", stream),
            *(self._linear(f"attn.{name}", stream) for name in names[:3]),
            *(self._head_norm(f"attn.{norm}{which}", stream) for which in "qk"),
        )
        after = (
            self._linear(f"attn.{names[3]}", stream),
            self._elementwise(f"attention{suffix}.gate", stream, MODULATION_FLOPS),
            self._plain_norm(f"norm2{suffix}", stream),
            self._linear(f"ff{suffix}.net.0.proj", stream, out=MLP_RATIO, role=Role.FFN),
            self._elementwise(
                f"ff{suffix}.net.0.act", stream, ACTIVATION_FLOPS["gelu"], times=MLP_RATIO
            ),
            self._linear(f"ff{suffix}.net.2", stream, into=MLP_RATIO, role=Role.FFN),
            self._elementwise(f"ff{suffix}.gate", stream, MODULATION_FLOPS),
        )
        return before, after

    def single_stream(self) -> Operators:
        """A block with one set of weights; its attention and network run side by side."""
        stream = Stream.JOINT
        return (
            self._modulation("norm.linear", 3),
            self._plain_norm("norm", stream),
            *(self._linear(f"attn.to_{which}", stream) for which in "qkv"),
            *(self._head_norm(f"attn.norm_{which}", stream) for which in "qk"),
            *self._attention(),
            self._linear("proj_mlp", stream, out=MLP_RATIO, role=Role.FFN),
            self._elementwise("act_mlp", stream, ACTIVATION_FLOPS["gelu"], times=MLP_RATIO),
            self._linear("proj_out", stream, into=1 + MLP_RATIO, role=Role.FFN),
            self._elementwise("gate", stream, MODULATION_FLOPS),
        )

    def outputs(self) -> Operators:
        """From the image stream back to latents."""
        channels = self.spec.in_channels
        out = Linear(
            "proj_out",
            self.precision,
            self.width,
            channels,
            Role.PROJECTOR,
            has_bias=True,
            labels=("in_channels", STREAM),
            stream=Stream.IMAGE,
        )
        modulation = replace(self._modulation("norm_out.linear", 2), role=Role.PROJECTOR)
        return (modulation, self._plain_norm("norm_out", Stream.IMAGE), out)

    def _attention(self) -> tuple[Operator, ...]:
        heads, h = self.spec.num_attention_heads, self.spec.attention_head_dim
        return (
            self._elementwise("rotary_q", Stream.JOINT, ROTARY_FLOPS),
            self._elementwise("rotary_k", Stream.JOINT, ROTARY_FLOPS),
            Attention("attn", self.precision, heads, heads, h, h, Mask.FULL, keeps_state=False,
                      stream=Stream.JOINT),
        )  # fmt: skip

    def _linear(
        self, name: str, stream: Stream, into: int = 1, out: int = 1, role: Role = Role.ATTENTION
    ) -> Linear:
        """Between multiples of the streams' width."""
        labels = (_multiple(out), _multiple(into))
        return Linear(name, self.precision, into * self.width, out * self.width, role,
                      has_bias=True, labels=labels, stream=stream)  # fmt: skip

    def _modulation(self, name: str, values: int) -> Linear:
        """Shifts, scales and gates, each of the streams' width, from the one vector."""
        return self._linear(name, Stream.VECTOR, out=values, role=Role.FFN)

    def _plain_norm(self, name: str, stream: Stream) -> Norm:
        return Norm(name, self.precision, self.width, kind=NormKind.LAYER, has_weight=False,
                    stream=stream)  # fmt: skip

    def _head_norm(self, name: str, stream: Stream) -> Norm:
        return Norm(name, self.precision, self.spec.attention_head_dim,
                    self.spec.num_attention_heads, label="attention_head_dim",
                    stream=stream)  # fmt: skip

    def _elementwise(
        self, name: str, stream: Stream, flops_per_element: float, times: int = 1
    ) -> Elementwise:
        return Elementwise(
            name, self.precision, times * self.width, flops_per_element, stream=stream
        )


def _multiple(times: int) -> str:
    return STREAM if times == 1 else f"{times} x {STREAM}"
