"""A compiled model: components made of layers made of operators.

Every total is a sum over ``Component.counted``; no other description of a model exists.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Final

from llmplan.documents import Document
from llmplan.ops.base import Operator


class Part(StrEnum):
    """The components a model may have."""

    DECODER = "decoder"
    MTP = "mtp"
    VISION = "vision"
    PROJECTOR = "projector"
    TRANSFORMER = "transformer"
    TEXT_ENCODER = "text_encoder"
    TEXT_ENCODER_2 = "text_encoder_2"
    VAE = "vae"


PIPELINE_PARTS: Final = (Part.TRANSFORMER, Part.TEXT_ENCODER, Part.TEXT_ENCODER_2, Part.VAE)
"""The parts of a diffusion pipeline; all are loaded, none is optional."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Attributes:
        name: The names of its blocks, joined by ``+``.
        operators: What it computes, in order.
    """

    name: str
    operators: tuple[Operator, ...]


@dataclass(frozen=True)
class Component:
    """A part of a model: operators before its layers, the layers in order, operators after.

    Equal layers are one shared ``Layer`` object.
    """

    part: Part
    before: tuple[Operator, ...]
    layers: tuple[Layer, ...]
    after: tuple[Operator, ...]

    @cached_property
    def distinct_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Each different layer with how often it stands, in order of first appearance."""
        by_id = {id(layer): layer for layer in self.layers}
        return tuple((by_id[key], n) for key, n in Counter(map(id, self.layers)).items())

    @cached_property
    def counted(self) -> tuple[tuple[Operator, int], ...]:
        """Each different operator with how often it stands."""
        counts: Counter[Operator] = Counter()
        for operator in (*self.before, *self.after):
            counts[operator] += 1
        for layer, repeats in self.distinct_layers:
            for operator in layer.operators:
                counts[operator] += repeats
        return tuple(counts.items())

    def operators(self) -> Iterator[Operator]:
        """Every operator, those of equal layers once."""
        yield from self.before
        for layer, _ in self.distinct_layers:
            yield from layer.operators
        yield from self.after

    def rewritten(self, rule: Callable[[Operator], Operator]) -> "Component":
        """The same component with every operator replaced by ``rule``."""
        layers = {
            id(layer): Layer(layer.name, tuple(map(rule, layer.operators)))
            for layer, _ in self.distinct_layers
        }
        return Component(
            self.part,
            tuple(map(rule, self.before)),
            tuple(layers[id(layer)] for layer in self.layers),
            tuple(map(rule, self.after)),
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """What a model is called and where its description comes from.

    Attributes:
        variants: Ids of siblings with another published context, and that context.
        assumptions: What was assumed from the name that was asked for.
        document: The spec file, which knows the line of every key.
        unused_entries: What published files hold beside the model, and how many entries.
    """

    name: str
    family: str
    hf_ids: tuple[str, ...]
    variants: tuple[tuple[str, int], ...]
    architecture: str
    license: str
    release_date: str | None
    source: str
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]
    document: Document
    unused_entries: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Diffusion:
    """How a diffusion pipeline makes an image.

    Attributes:
        image_size: Pixels a side of the published image.
        num_inference_steps: Steps that it is published to take.
        latent_side: Pixels a side of a latent pixel.
        token_side: Pixels a side of an image token.
        prompt_tokens: Prompt tokens that the transformer sees.
        encoder_tokens: Tokens that each text encoder runs on.
    """

    image_size: int
    num_inference_steps: int
    latent_side: int
    token_side: int
    prompt_tokens: int
    encoder_tokens: tuple[tuple[Part, int], ...]


@dataclass(frozen=True)
class Model:
    """A compiled model.

    Attributes:
        identity: Names and sources.
        context_length: Longest context in tokens that the model is published for; of a pipeline,
            tokens of a prompt.
        components: Decoder first; MTP modules, vision tower and projector where there are any.
        diffusion: How a diffusion pipeline runs; None for a language model.
    """

    identity: Identity
    context_length: int
    components: tuple[Component, ...]
    diffusion: Diffusion | None = None

    @property
    def decoder(self) -> Component:
        """The language model itself; of a pipeline, the diffusion transformer."""
        return self.components[0]

    def parts(self, *wanted: Part) -> tuple[Component, ...]:
        """The components of these kinds that the model has."""
        return tuple(c for c in self.components if c.part in wanted)

    def served(self, *, mtp: bool = False, vision: bool = True) -> "Model":
        """The model as it is loaded: MTP modules on request, vision unless it is left out."""
        wanted = {Part.DECODER, *PIPELINE_PARTS}
        wanted |= {Part.MTP} if mtp else set()
        wanted |= {Part.VISION, Part.PROJECTOR} if vision else set()
        return replace(self, components=self.parts(*wanted))

    def rewritten(self, rule: Callable[[Operator], Operator]) -> "Model":
        """The same model with every operator replaced by ``rule``."""
        return replace(self, components=tuple(c.rewritten(rule) for c in self.components))

    def counted(self) -> Iterator[tuple[Operator, int]]:
        """Each different operator of all components with how often it stands."""
        for component in self.components:
            yield from component.counted
