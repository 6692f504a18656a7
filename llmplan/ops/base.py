"""What every operator states: its weights, its state, and its cost for one forward step.

Symbols: B requests, T new tokens per request, S tokens already in state, G request groups.
"""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cached_property
from math import prod
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from llmplan.dtypes import Format, bytes_for, divide_exactly
from llmplan.errors import InputError
from llmplan.ops.precision import Precision, Role

Array: TypeAlias = NDArray[np.float64]
Number: TypeAlias = "Array | float"
IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One forward pass: a list of request groups, the last axis of each field.

    Prefill is one group, decode one, a mixed batch several. Fields broadcast, so a sweep is one
    ``Step`` whose leading axes are the points.

    Attributes:
        requests: Requests of each group, shape [..., G].
        new_tokens: New tokens of each of its requests (T), shape [..., G].
        context: Tokens each request already holds in state (S), shape [..., G].
    """

    requests: Array
    new_tokens: Array
    context: Array

    @classmethod
    def of(cls, requests: ArrayLike, new_tokens: ArrayLike, context: ArrayLike) -> "Step":
        """A step of one group a point: arguments broadcast and get the group axis.

        Raises:
            InputError: A field is negative, or not finite.
        """
        parts = [np.asarray(part, dtype=np.float64) for part in (requests, new_tokens, context)]
        if any(not np.all(np.isfinite(part)) or np.any(part < 0) for part in parts):
            raise InputError("requests, new tokens and context must be finite and not negative.")
        return cls(*(part[..., np.newaxis] for part in parts))

    @classmethod
    def prefill(cls, requests: ArrayLike, prompt: ArrayLike) -> "Step":
        """Whole prompts from an empty state."""
        return cls.of(requests, prompt, 0)

    @classmethod
    def decode(cls, requests: ArrayLike, context: ArrayLike) -> "Step":
        """One new token for each request that already holds ``context`` tokens."""
        return cls.of(requests, 1, context)

    @cached_property
    def tokens(self) -> Array:
        """New tokens of the step, all groups, shape [...]."""
        total: Array = (self.requests * self.new_tokens).sum(axis=-1)
        return total

    @cached_property
    def sequences(self) -> Array:
        """Requests of the step, all groups, shape [...]."""
        total: Array = np.asarray(self.requests, dtype=np.float64).sum(axis=-1)
        return total

    def over_requests(self, per_request: Array) -> Array:
        """The sum over all requests of a value per request, [..., G] to [...]."""
        total: Array = (self.requests * per_request).sum(axis=-1)
        return total


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step asks of the hardware; fields are 0.0 or arrays of the step's shape.

    FLOPs are apart by the unit that does them: matmuls with weights, attention over state (scores
    and values; the recurrence of linear attention), convolutions, state-space scans, and vector
    work (norms, activations, softmax, rotary).
    """

    matmul_flops: Number = 0.0
    attention_flops: Number = 0.0
    convolution_flops: Number = 0.0
    scan_flops: Number = 0.0
    vector_flops: Number = 0.0
    weight_read_bytes: Number = 0.0
    state_read_bytes: Number = 0.0
    state_written_bytes: Number = 0.0
    activation_bytes: Number = 0.0
    launches: Number = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(_sum(getattr(self, f), getattr(other, f)) for f in COST_FIELDS))

    def times(self, count: int) -> "Cost":
        """The cost of ``count`` such operators."""
        if count == 1:
            return self
        return Cost(*(getattr(self, f) * count for f in COST_FIELDS))

    @property
    def model_flops(self) -> Number:
        """Matmuls, attention and convolutions: what ``llmplan flops`` reports first."""
        return _sum(_sum(self.matmul_flops, self.attention_flops), self.convolution_flops)

    @property
    def moved_bytes(self) -> Number:
        """Bytes between memory and the chip."""
        states = _sum(self.state_read_bytes, self.state_written_bytes)
        return _sum(_sum(self.weight_read_bytes, states), self.activation_bytes)


COST_FIELDS = tuple(item.name for item in fields(Cost))


def _sum(left: Number, right: Number) -> Number:
    """Sum that leaves absent terms alone, so that a sweep adds no arrays of zeros."""
    if isinstance(left, float) and left == 0.0:
        return right
    if isinstance(right, float) and right == 0.0:
        return left
    return left + right


@dataclass(frozen=True, slots=True)
class Weight:
    """One stored tensor of an operator.

    Attributes:
        name: Name within the operator, empty for its only weight.
        shape: As stored, input axis last.
        role: Decides its format.
        labels: Where each axis comes from, in words of the spec's keys.
        active_frac: Share of it that one token uses (top-k / experts for routed experts).
        is_buffer: Stored, but no parameter (routing bias).
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    labels: tuple[str, ...]
    active_frac: tuple[int, int] = (1, 1)
    is_buffer: bool = False

    @property
    def elements(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def active_elements(self) -> int:
        """Entries that one token uses; exact, since experts are equal."""
        used, of = self.active_frac
        return divide_exactly(self.elements * used, of)


class StateKind(StrEnum):
    """How a part of a request's state behaves."""

    KV = "kv"
    WINDOW = "window"
    INDEXER = "indexer"
    RECURRENT = "recurrent"
    CONVOLUTION = "convolution"
    CROSS = "cross"
    """Keys and values of a request's image, as many as the image has tokens."""


@dataclass(frozen=True, slots=True)
class State:
    """What a request keeps in one operator.

    Attributes:
        kind: Growing keys and values, windowed ones, indexer keys, or fixed state.
        width: Elements per entry (kv, window, indexer) or per request (all others).
        format: Element format.
        formula: ``width`` in words of the spec's keys.
        window: Tokens kept at most; 0 where nothing is dropped.
        tokens_per_entry: Tokens that one entry stands for; only complete entries are kept.
        entry_label: That number in words of the spec's keys.
    """

    kind: StateKind
    width: int
    format: Format
    formula: str
    window: int = 0
    tokens_per_entry: int = 1
    entry_label: str = "compress_ratio"

    @property
    def is_fixed(self) -> bool:
        """Whether the size does not depend on the context at all."""
        return self.kind in (StateKind.RECURRENT, StateKind.CONVOLUTION, StateKind.CROSS)

    @property
    def width_bytes(self) -> int:
        """Bytes of one entry, or of the whole fixed state."""
        return bytes_for((self.width,), self.format)

    def bytes_at(self, context: int) -> int:
        """Bytes of one request that holds ``context`` tokens."""
        if self.is_fixed:
            return self.width_bytes
        kept = min(context, self.window) if self.window else context
        entries, _waiting = divmod(kept, self.tokens_per_entry)
        return self.width_bytes * entries


class Stream(StrEnum):
    """What passes through an operator in one step.

    A language model has tokens only. The parts of a diffusion pipeline see an image of so many
    tokens, its prompt, both joined, or one vector an image; its autoencoder works on latent pixels.
    """

    TOKENS = "tokens"
    IMAGE = "image"
    PROMPT = "prompt"
    JOINT = "joint"
    VECTOR = "vector"
    DECODING = "decoding"
    ENCODING = "encoding"
    """Latent pixels of an image that is read in; none where an image is made from text."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Base of all operators: a name within its layer and the formats it is stored in.

    Subclasses state ``weights``, ``states`` and ``cost``; totals are sums over operators.

    Attributes:
        name: Name within its layer.
        precision: Formats by role.
        block: Name of the spec's block that states it; empty outside blocks.
        stream: What passes through it.
    """

    name: str
    precision: Precision
    block: str = field(default="", compare=False, kw_only=True)
    stream: Stream = field(default=Stream.TOKENS, kw_only=True)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Stored tensors."""
        return ()

    @property
    def states(self) -> tuple[State, ...]:
        """What each request keeps."""
        return ()

    def cost(self, step: Step) -> Cost:
        """Cost of one forward step."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """Parameters, buffers apart."""
        return sum(w.elements for w in self.weights if not w.is_buffer)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses."""
        return sum(w.active_elements for w in self.weights if not w.is_buffer)

    @property
    def buffers(self) -> int:
        """Stored entries that are no parameters."""
        return sum(w.elements for w in self.weights if w.is_buffer)

    @property
    def weights_bytes(self) -> int:
        """Stored bytes, scales and buffers included."""
        return sum(map(self.weight_bytes, self.weights))

    def weight_bytes(self, weight: Weight) -> int:
        """Stored bytes of one of its tensors."""
        return bytes_for(weight.shape, self.precision.of(weight.role))

    @property
    def activation_width_bytes(self) -> float:
        """Bytes of one activation element."""
        return self.precision.activations.bits_per_weight / 8


AnyOperator = TypeVar("AnyOperator", bound=Operator)
_NAMES: dict[type, tuple[str, ...]] = {}


def changed(operator: AnyOperator, /, **values: Any) -> AnyOperator:
    """An operator with some fields replaced: ``dataclasses.replace`` without its checks.

    Rewrites of a whole catalogue make a hundred thousand operators, which this does in a third of
    the time. Operators have no checks of their own to skip.
    """
    cls = type(operator)
    names = _NAMES.get(cls)
    if names is None:
        names = _NAMES[cls] = tuple(item.name for item in fields(cls))
    new = object.__new__(cls)
    for name in names:
        value = values[name] if name in values else getattr(operator, name)
        object.__setattr__(new, name, value)
    return new
