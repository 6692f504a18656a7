"""Attention over the tokens of an image, whose keys and values are projected once a request.

The image comes with the first step of a request: a step projects it for every request that holds
no tokens yet. From then on its keys and values are kept, and do not grow with the context.

Symbols: H query heads, K key/value heads, h head size, I image tokens, T new tokens.
"""

from dataclasses import dataclass, replace

from llmplan.ops.attention import SOFTMAX_FLOPS_PER_SCORE
from llmplan.ops.base import Array, Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.linear import Linear
from llmplan.ops.norm import Norm


def starting_requests(step: Step) -> Array:
    """Requests of a step that hold no tokens yet, fields [..., G], result [..., G]."""
    first: Array = step.requests * (step.context == 0)
    return first


def _of_images(step: Step, image_tokens: int) -> Step:
    """The same step as a stream of image tokens, those of the starting requests."""
    first = starting_requests(step)
    return Step(first, first * 0 + image_tokens, first * 0)


def _where_there_are_any(cost: Cost, step: Step) -> Cost:
    """Weights are not read, and nothing is launched, where no request starts."""
    started = (starting_requests(step).sum(axis=-1) > 0) * 1.0
    return replace(
        cost, weight_read_bytes=cost.weight_read_bytes * started, launches=cost.launches * started
    )


@dataclass(frozen=True, slots=True)
class ImageLinear(Linear):
    """A matrix that only image tokens pass.

    Attributes:
        image_tokens: Tokens of a request's image (I).
    """

    image_tokens: int = 0

    @property
    def weights(self) -> tuple[Weight, ...]:
        """As ``Linear``; a text token uses none of it."""
        own = Linear.weights.__get__(self)
        return tuple(replace(weight, active_frac=(0, 1)) for weight in own)

    def cost(self, step: Step) -> Cost:
        """2 · in · out FLOPs an image token, in the first step of each request.

        Shapes: step fields [..., G]; result [...].
        """
        images = _of_images(step, self.image_tokens)
        return _where_there_are_any(Linear.cost(self, images), step)


@dataclass(frozen=True, slots=True)
class ImageNorm(Norm):
    """A norm that only image tokens pass.

    Attributes:
        image_tokens: Tokens of a request's image (I).
    """

    image_tokens: int = 0

    @property
    def weights(self) -> tuple[Weight, ...]:
        """As ``Norm``; a text token uses none of it."""
        own = Norm.weights.__get__(self)
        return tuple(replace(weight, active_frac=(0, 1)) for weight in own)

    def cost(self, step: Step) -> Cost:
        """As ``Norm``, in the first step of each request."""
        images = _of_images(step, self.image_tokens)
        return _where_there_are_any(Norm.cost(self, images), step)


@dataclass(frozen=True, slots=True)
class CrossAttention(Operator):
    """Scores, softmax and weighted values over the image of a request; no mask, no positions.

    Attributes:
        num_attention_heads: Query heads (H).
        num_key_value_heads: Key/value heads (K).
        head_dim: Width of a head (h).
        image_tokens: Tokens of a request's image (I).
    """

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    image_tokens: int

    @property
    def kv_width(self) -> int:
        """Elements of one image token's key and value."""
        return 2 * self.num_key_value_heads * self.head_dim

    @property
    def states(self) -> tuple[State, ...]:
        """Keys and values of the image, whatever the context."""
        width = self.image_tokens * self.kv_width
        formula = "image_tokens x 2 x num_key_value_heads x head_dim"
        return (State(StateKind.CROSS, width, self.precision.kv, formula),)

    def cost(self, step: Step) -> Cost:
        """2 · 2h FLOPs per head, text token and image token; the image is read once a request.

        Its keys and values are written in the first step of each request.

        Shapes: step fields [..., G]; result [...].
        Source: Dubey et al. 2024 (Llama 3), section 7.2.
        """
        scores = self.num_attention_heads * self.image_tokens * step.tokens
        image_bytes = self.image_tokens * self.kv_width * self.precision.kv.bits_per_weight / 8
        query_width = 2 * self.num_attention_heads * self.head_dim
        return Cost(
            attention_flops=2.0 * 2.0 * self.head_dim * scores,
            vector_flops=SOFTMAX_FLOPS_PER_SCORE * scores,
            state_read_bytes=image_bytes * step.sequences,
            state_written_bytes=image_bytes * starting_requests(step).sum(axis=-1),
            activation_bytes=query_width * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )
