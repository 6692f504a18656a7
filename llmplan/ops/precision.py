"""Which role of a model is stored in which format."""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Final

from llmplan.dtypes import BF16, FP32, Format


class Role(StrEnum):
    """What a weight is for; precision is chosen by role."""

    ATTENTION = "attention"
    FFN = "ffn"
    SHARED_EXPERTS = "shared_experts"
    EXPERTS = "experts"
    EMBEDDING = "embedding"
    HEAD = "head"
    NORM = "norm"
    ROUTER = "router"
    BIAS = "bias"
    CONVOLUTION = "convolution"
    STATE = "state"
    VISION = "vision"
    PROJECTOR = "projector"
    BUFFER = "buffer"


LINEAR_ROLES: Final = (Role.ATTENTION, Role.FFN, Role.SHARED_EXPERTS, Role.EXPERTS)
"""The roles that one ``--dtype`` sets: those that published low-precision checkpoints convert."""


@dataclass(frozen=True, slots=True)
class Precision:
    """Formats by role: one field a weight role, then those of what a request keeps.

    Attributes:
        attention: Projections of every token mixer, softmax or linear.
        ffn: Dense feed-forward weights.
        shared_experts: Experts that every token passes.
        experts: Routed experts.
        embedding: Input table and learned positions.
        head: Output head where it is not the input table.
        norm: Norm weights and biases.
        router: Routers and expert gates.
        bias: Biases of linear layers and attention sinks.
        convolution: Short convolutions.
        state: Parameters of recurrent state: decay, step size, per-head gates.
        vision: The vision tower.
        projector: What carries vision features into the decoder.
        buffer: Stored entries that are no parameters, such as routing biases.
        kv: Keys and values in the cache, growing or windowed.
        recurrent: Recurrent state of a request.
        convolution_columns: Inputs that convolutions and token shifts keep of a request.
        indexer_keys: Keys of a sparse-attention indexer.
        activations: What flows between operators.
    """

    attention: Format = BF16
    ffn: Format = BF16
    shared_experts: Format = BF16
    experts: Format = BF16
    embedding: Format = BF16
    head: Format = BF16
    norm: Format = BF16
    router: Format = BF16
    bias: Format = BF16
    convolution: Format = BF16
    state: Format = BF16
    vision: Format = BF16
    projector: Format = BF16
    buffer: Format = FP32
    kv: Format = BF16
    recurrent: Format = BF16
    convolution_columns: Format = BF16
    indexer_keys: Format = BF16
    activations: Format = BF16

    def __hash__(self) -> int:
        """Of the fields that differ most often: equality looks at all, and hashes are many."""
        return hash((self.attention.name, self.experts.name, self.kv.name))

    def of(self, role: Role) -> Format:
        """The format that weights of ``role`` are stored in."""
        fmt: Format = getattr(self, role.value)
        return fmt

    def with_roles(self, formats: tuple[tuple[Role, Format], ...]) -> "Precision":
        """The same with the formats of some roles replaced."""
        return replace(self, **{role.value: fmt for role, fmt in formats})


PRECISION_FIELDS: Final = tuple(item.name for item in fields(Precision))
