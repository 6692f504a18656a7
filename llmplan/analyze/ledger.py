"""Entries and bytes of a model as files hold them, so that any published total can be rebuilt.

A published total may count parameters alone, or the tensors of the repository: buffers, scales, MTP
modules and copies of tied tables. Each stands here by itself.
"""

from dataclasses import dataclass
from typing import Final

from llmplan.analyze.parameters import parameter_counts
from llmplan.dtypes import divide_up, scale_entries
from llmplan.model.compiled import Component, Model, Part
from llmplan.ops.embedding import Embedding, TiedHead
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class Stored:
    """What components store.

    Attributes:
        entries: Parameters and buffers.
        scale_entries: Scales beside them.
        elements_bytes: Parameters alone.
        scales_bytes: Scales, zero points and headers of blocks.
        buffers_bytes: Buffers, scales included where their format has any.
    """

    entries: int
    scale_entries: int
    elements_bytes: int
    scales_bytes: int
    buffers_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.elements_bytes + self.scales_bytes + self.buffers_bytes

    def __add__(self, other: "Stored") -> "Stored":
        return Stored(
            self.entries + other.entries,
            self.scale_entries + other.scale_entries,
            self.elements_bytes + other.elements_bytes,
            self.scales_bytes + other.scales_bytes,
            self.buffers_bytes + other.buffers_bytes,
        )


NOTHING: Final = Stored(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Ledger:
    """All entries and bytes of one model in its published formats; exact.

    Attributes:
        logical: Parameters, as ``ParameterCounts.total``.
        active: Of these, used by one token.
        buffers: Stored entries that are no parameters.
        mtp: MTP modules, their buffers included.
        vision: Vision tower and projector, part of logical.
        tied_copy: Entries that a file holds twice where it stores a tied head by itself.
        padding: Entries of vocabulary rows that no token has; None where no spec key says.
        without_mtp: What is stored without MTP modules.
        with_mtp: The same with them.
    """

    logical: int
    active: int
    buffers: int
    mtp: int
    vision: int
    tied_copy: int
    padding: int | None
    without_mtp: Stored
    with_mtp: Stored


def ledger(model: Model) -> Ledger:
    """The ledger of a model, as sums over operators."""
    counts = parameter_counts(model)
    served = stored(model.served().components)
    tied = any(isinstance(operator, TiedHead) for operator, _ in model.decoder.counted)
    return Ledger(
        counts.total,
        counts.active,
        counts.buffers,
        counts.mtp,
        counts.vision,
        counts.embedding if tied else 0,
        _padding(model, tables=1 if tied else 2),
        served,
        served + stored(model.parts(Part.MTP)),
    )


def stored(components: tuple[Component, ...]) -> Stored:
    """What components store in the formats of their operators."""
    total = NOTHING
    for component in components:
        for operator, repeats in component.counted:
            for weight in operator.weights:
                fmt = operator.precision.of(weight.role)
                whole = operator.weight_bytes(weight) * repeats
                elements = divide_up(weight.elements * fmt.bits, 8) * repeats
                is_buffer = weight.role is Role.BUFFER
                total += Stored(
                    weight.elements * repeats,
                    scale_entries(weight.shape, fmt) * repeats,
                    0 if is_buffer else elements,
                    0 if is_buffer else whole - elements,
                    whole if is_buffer else 0,
                )
    return total


def _padding(model: Model, tables: int) -> int | None:
    unpadded: int | None = model.identity.document.data.get("unpadded_vocab_size")
    if unpadded is None:
        return None
    table = next(o for o, _ in model.decoder.counted if isinstance(o, Embedding))
    return (table.vocab_size - unpadded) * table.hidden_size * tables
