"""A checked spec of a diffusion pipeline to a compiled model."""

from collections.abc import Iterator
from dataclasses import replace

from llmplan.documents import Document
from llmplan.model.autoencoder import autoencoder_component, latent_side
from llmplan.model.check import Fault, precision_faults, stack_faults
from llmplan.model.compile import compile_spec, identity_of, native_precision, stacked_layers
from llmplan.model.compiled import Component, Diffusion, Model, Part
from llmplan.model.flux_transformer import transformer_component
from llmplan.model.frame import Frame
from llmplan.model.pipeline_spec import PipelineSpec, TextEncoderSpec
from llmplan.model.spec import AttentionBlock, ModelSpec
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator
from llmplan.ops.embedding import Embedding, LearnedVectors, PositionTable
from llmplan.ops.precision import Precision, Role


def check_pipeline(spec: PipelineSpec, document: Document) -> None:
    """Raise the first contradiction of a spec.

    Raises:
        DocumentError: With file, line, key and what to do.
    """
    for path, message in pipeline_faults(spec):
        raise document.error(message, path)


def pipeline_faults(spec: PipelineSpec) -> Iterator[Fault]:
    """All contradictions of a spec, in reading order."""
    yield from precision_faults(spec)
    parts = spec.pipeline
    for name in (Part.TEXT_ENCODER.value, Part.TEXT_ENCODER_2.value):
        encoder: TextEncoderSpec = getattr(parts, name)
        stated = encoder.num_hidden_layers
        at = ("pipeline", name)
        yield from stack_faults(encoder.blocks, encoder.layers, stated, at)
        mixers = [b for b in encoder.blocks.values() if isinstance(b, AttentionBlock)]
        if encoder.relative_attention_num_buckets and not mixers:
            yield (*at, "relative_attention_num_buckets"), "stands without attention."
    latents = parts.vae.latent_channels * spec.patch_size**2
    transformer = ("pipeline", "transformer")
    if parts.transformer.in_channels != latents:
        yield (
            (*transformer, "in_channels"),
            f"differs from latent_channels x patch_size x patch_size = {latents}.",
        )
    widths = (
        ("joint_attention_dim", Part.TEXT_ENCODER_2, parts.text_encoder_2.hidden_size),
        ("pooled_projection_dim", Part.TEXT_ENCODER, parts.text_encoder.hidden_size),
    )
    for key, part, width in widths:
        if getattr(parts.transformer, key) != width:
            yield (*transformer, key), f"differs from hidden_size {width} of {part.value}."
    side = latent_side(parts.vae) * spec.patch_size
    if spec.image_size % side:
        yield ("image_size",), f"{spec.image_size} is no multiple of {side}."


def compile_pipeline(
    spec: PipelineSpec, document: Document, assumptions: tuple[str, ...] = ()
) -> Model:
    """The operators of a spec that ``check_pipeline`` has passed."""
    precision, parts = native_precision(spec), spec.pipeline
    side = latent_side(parts.vae)
    prompt = parts.text_encoder_2.max_length
    return Model(
        identity_of(spec, document, assumptions),
        prompt,
        (
            transformer_component(parts.transformer, precision),
            _text_encoder(Part.TEXT_ENCODER, parts.text_encoder, precision),
            _text_encoder(Part.TEXT_ENCODER_2, parts.text_encoder_2, precision),
            autoencoder_component(parts.vae, precision),
        ),
        Diffusion(
            spec.image_size,
            spec.num_inference_steps,
            side,
            side * spec.patch_size,
            prompt,
            ((Part.TEXT_ENCODER, parts.text_encoder.max_length), (Part.TEXT_ENCODER_2, prompt)),
        ),
    )


def compile_any(
    spec: ModelSpec | PipelineSpec, document: Document, assumptions: tuple[str, ...] = ()
) -> Model:
    """The operators of a checked spec, of a language model or of a pipeline."""
    if isinstance(spec, PipelineSpec):
        return compile_pipeline(spec, document, assumptions)
    return compile_spec(spec, document, assumptions)


def _text_encoder(part: Part, spec: TextEncoderSpec, precision: Precision) -> Component:
    frame = Frame(spec.hidden_size, spec.norm, precision)
    layers = stacked_layers(spec.blocks, spec.layers, frame)
    before = tuple(_tables(spec, precision))
    component = Component(part, before, layers, (frame.stream_norm("final_norm"),))
    return component.rewritten(_without_state)


def _tables(spec: TextEncoderSpec, precision: Precision) -> Iterator[Operator]:
    D = spec.hidden_size
    yield Embedding("embed_tokens", precision, spec.vocab_size, D, is_tied=False)
    if spec.num_positions:
        yield PositionTable("embed_positions", precision, spec.num_positions, D)
    if spec.relative_attention_num_buckets:
        yield _distance_bias(spec, spec.relative_attention_num_buckets, precision)


def _distance_bias(spec: TextEncoderSpec, buckets: int, precision: Precision) -> LearnedVectors:
    """One value a distance and head, held once for all layers."""
    block, heads = next(
        (name, block.num_attention_heads)
        for name, block in spec.blocks.items()
        if isinstance(block, AttentionBlock)
    )
    labels = ("relative_attention_num_buckets", "num_attention_heads")
    name = "relative_attention_bias"
    return LearnedVectors(name, precision, buckets, heads, Role.EMBEDDING, labels, block=block)


def _without_state(operator: Operator) -> Operator:
    """An encoder runs once over its prompt, masked or not, and keeps nothing."""
    return replace(operator, keeps_state=False) if isinstance(operator, Attention) else operator
