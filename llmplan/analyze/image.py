"""FLOPs and activations of a diffusion pipeline that makes one image from text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

from llmplan.analyze.flops import TokenFlops, flops_by_unit
from llmplan.errors import InputError
from llmplan.model.compiled import Component, Diffusion, Model, Part
from llmplan.ops.base import Cost, Operator, Step, Stream
from llmplan.units import format_tokens


@dataclass(frozen=True, slots=True)
class Image:
    """An image to make.

    Attributes:
        width: Pixels.
        height: Pixels.
        steps: Denoising steps.
        true_cfg: Whether a second, negative prompt is encoded and followed (true guidance).
    """

    width: int
    height: int
    steps: int
    true_cfg: bool = False


@dataclass(frozen=True, slots=True)
class ImageFlops:
    """FLOPs of one image.

    Attributes:
        parts: Each part with its FLOPs in one run, and how often it runs.
        per_step: The transformer in one denoising step.
    """

    parts: tuple[tuple[Part, TokenFlops, int], ...]
    per_step: float

    @property
    def per_image(self) -> float:
        """All parts as often as they run."""
        return sum(flops.total * runs for _, flops, runs in self.parts)


def image_flops(model: Model, diffusion: Diffusion, image: Image) -> ImageFlops:
    """FLOPs of each part: text encoders once a prompt, the transformer each step, the decoder once.

    Raises:
        InputError: The image is no whole number of tokens.
    """
    prompts = 2 if image.true_cfg else 1
    often = {Part.TRANSFORMER: prompts * image.steps, Part.VAE: 1}
    parts = tuple(
        (
            component.part,
            flops_by_unit(component_cost(component, diffusion, image), 1),
            often.get(component.part, prompts),
        )
        for component in model.components
    )
    transformer = next(flops for part, flops, _ in parts if part is Part.TRANSFORMER)
    return ImageFlops(parts, prompts * transformer.total)


def component_cost(component: Component, diffusion: Diffusion, image: Image) -> Cost:
    """Cost of one run of a part."""
    costs = (o.cost(step).times(n) for o, n, step in running(component, diffusion, image))
    return reduce(add, costs, Cost())


def image_activation_bytes(model: Model, diffusion: Diffusion, image: Image) -> int:
    """Estimate: what the operator that moves most reads and writes; parts run one at a time."""
    moved = (
        float(operator.cost(step).activation_bytes)
        for component in model.components
        for operator, _, step in running(component, diffusion, image)
    )
    return round(max(moved))


def published_image(diffusion: Diffusion) -> Image:
    """The image that the model is published for."""
    side = diffusion.image_size
    return Image(side, side, diffusion.num_inference_steps)


def running(
    component: Component, diffusion: Diffusion, image: Image
) -> Iterator[tuple[Operator, int, Step]]:
    """Operators that run, how often they stand, and what passes through each."""
    sizes = _stream_sizes(component.part, diffusion, image)
    for operator, repeats in component.counted:
        if operator.stream in sizes:
            yield operator, repeats, Step.prefill(1, sizes[operator.stream])


def _stream_sizes(part: Part, diffusion: Diffusion, image: Image) -> dict[Stream, int]:
    """Tokens of each stream of one image; no image is read in."""
    tokens = _area(image, diffusion.token_side)
    prompt = diffusion.prompt_tokens
    return {
        Stream.TOKENS: dict(diffusion.encoder_tokens).get(part, 0),
        Stream.IMAGE: tokens,
        Stream.PROMPT: prompt,
        Stream.JOINT: tokens + prompt,
        Stream.VECTOR: 1,
        Stream.DECODING: _area(image, diffusion.latent_side),
    }


def _area(image: Image, side: int) -> int:
    """Squares of ``side`` pixels that an image is made of."""
    for name, size in (("width", image.width), ("height", image.height)):
        if size % side:
            raise InputError(f"--{name} {format_tokens(size)} is no multiple of {side} pixels.")
    return (image.width // side) * (image.height // side)
