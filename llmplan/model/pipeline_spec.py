"""The spec of a diffusion pipeline: text encoders, a transformer and an image autoencoder.

Keys use the names of the official config of each part; parts are named as their folders there.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from llmplan.described import described_schema
from llmplan.model.spec import (
    AttentionBlock,
    LayerRuns,
    MlpBlock,
    ModelSpec,
    NormSpec,
    SpecIdentity,
)
from llmplan.model.spec_values import BlockName, Count, Flag, SmallCount, Strict

PIPELINE: Final = "pipeline"
"""Value of the key ``kind`` that makes a spec one of a pipeline."""


EncoderBlock = Annotated[AttentionBlock | MlpBlock, Field(discriminator="kind")]


class TextEncoderSpec(Strict):
    """A text encoder: an input table, layers of attention and feed-forward blocks, a norm."""

    max_length: SmallCount
    """Tokens that a prompt is padded or cut to."""
    hidden_size: Count
    """Width."""
    num_hidden_layers: SmallCount
    """Layers."""
    vocab_size: Count
    """Rows of the input table."""
    num_positions: SmallCount | None = None
    """Learned position vectors beside the input table; absent without such a table."""
    relative_attention_num_buckets: SmallCount | None = None
    """Distances that have a learned bias a head, shared by all layers (T5)."""
    norm: NormSpec = NormSpec()
    """Norms of the residual stream."""
    blocks: dict[BlockName, EncoderBlock]
    """Named blocks."""
    layers: LayerRuns
    """Layer pattern."""


class FluxTransformerSpec(Strict):
    """A diffusion transformer of double-stream, then single-stream blocks (FLUX.1)."""

    num_attention_heads: SmallCount
    """Heads."""
    attention_head_dim: SmallCount
    """Width of a head; times heads, the width of both streams."""
    num_layers: SmallCount
    """Blocks with weights apart for image and prompt, joined in attention."""
    num_single_layers: SmallCount
    """Blocks with one set of weights for both."""
    in_channels: SmallCount
    """Latent channels of an image token, in and out."""
    joint_attention_dim: Count
    """Width of the prompt's tokens as they come from the text encoder."""
    pooled_projection_dim: Count
    """Width of the prompt's one vector."""
    guidance_embeds: Flag
    """Whether the strength of guidance is an input (distilled guidance)."""


class AutoencoderSpec(Strict):
    """A convolutional image autoencoder (AutoencoderKL), encoder and decoder."""

    image_channels: SmallCount = 3
    """Colour channels: in_channels and out_channels of the config."""
    latent_channels: SmallCount
    """Channels of a latent pixel."""
    block_out_channels: Annotated[tuple[SmallCount, ...], Field(min_length=1, max_length=8)]
    """Channels of each level; between two levels, the side of the image halves."""
    layers_per_block: SmallCount
    """Residual blocks of a level of the encoder; the decoder has one more."""


class PipelineParts(Strict):
    """The parts of a pipeline that hold weights."""

    transformer: FluxTransformerSpec
    """Runs once a step."""
    text_encoder: TextEncoderSpec
    """Gives the prompt's one vector; runs once."""
    text_encoder_2: TextEncoderSpec
    """Gives the prompt's tokens; runs once."""
    vae: AutoencoderSpec
    """Its decoder makes the image at the end."""


class PipelineSpec(SpecIdentity):
    """One diffusion pipeline."""

    kind: Literal["pipeline"]
    """pipeline"""
    image_size: SmallCount
    """Pixels a side of the published image."""
    num_inference_steps: SmallCount
    """Steps that an image is published to take."""
    patch_size: SmallCount
    """Latent pixels a side of an image token."""
    pipeline: PipelineParts
    """Its parts."""


def model_schema() -> dict[str, Any]:
    """JSON schema of a spec, of a language model or of a pipeline, for editors."""
    parts = {kind.__name__: described_schema(kind) for kind in (ModelSpec, PipelineSpec)}
    inner = {name: part for schema in parts.values() for name, part in schema.pop("$defs").items()}
    pipeline = {"properties": {"kind": {"const": PIPELINE}}, "required": ["kind"]}
    then, otherwise = ({"$ref": f"#/$defs/{name}"} for name in ("PipelineSpec", "ModelSpec"))
    return {"title": "Model", "if": pipeline, "then": then, "else": otherwise,
            "$defs": {**inner, **parts}}  # fmt: skip
