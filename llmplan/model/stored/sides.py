"""A model and a file in the same words: entries and bytes by group."""

from collections.abc import Iterable
from dataclasses import dataclass

from llmplan.model.compiled import Model, Part
from llmplan.model.stored.tensors import StoredTensor, is_of_mtp, role_of
from llmplan.ops.base import Operator, Weight
from llmplan.ops.precision import Role

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Side:
    """Entries and bytes of one role on one side; scales count as bytes, not as entries."""

    entries: int = 0
    stored_bytes: int = 0

    def __add__(self, other: "Side") -> "Side":
        return Side(self.entries + other.entries, self.stored_bytes + other.stored_bytes)


def spec_sides(model: Model) -> dict[str, Side]:
    """Entries and bytes of a model by group; MTP modules and towers under their own name."""
    sides: dict[str, Side] = {}
    for component in model.components:
        for operator, repeats in component.counted:
            for weight in operator.weights:
                group = _spec_group(component.part, operator, weight)
                size = operator.weight_bytes(weight) * repeats
                sides[group] = sides.get(group, Side()) + Side(weight.elements * repeats, size)
    return sides


def _spec_group(part: Part, operator: Operator, weight: Weight) -> str:
    """A weight's group: that of its operator, since files keep biases beside their matrix."""
    if part is not Part.DECODER:
        return part.value
    if weight.is_buffer:
        return Role.BUFFER.value
    return _grouped(operator.weights[0].role)


def _grouped(role: Role) -> str:
    """Small parameters of a token mixer stand with its projections."""
    mixer = (Role.BIAS, Role.STATE, Role.CONVOLUTION)
    return Role.ATTENTION.value if role in mixer else role.value


def file_sides(tensors: Iterable[StoredTensor], model: Model) -> dict[str, Side]:
    """Entries and bytes of a file by the group that each tensor's name says.

    Computed tables are left out, and so is a head where the model says that it is the input table.
    """
    sides: dict[str, Side] = {}
    layers, tied = len(model.decoder.layers), has_tied_head(model)
    for tensor in tensors:
        group = _file_group(tensor, layers)
        if tensor.is_computed or (tied and group == Role.HEAD.value):
            continue
        entries = 0 if tensor.is_scale else tensor.logical_elements
        sides[group] = sides.get(group, Side()) + Side(entries, tensor.stored_bytes)
    return sides


def has_tied_head(model: Model) -> bool:
    """Whether the output head is the input table."""
    return not model.decoder.after[-1].weights


def _file_group(tensor: StoredTensor, layers: int) -> str:
    role = role_of(tensor.name)
    if role in (Role.VISION, Role.PROJECTOR):
        return role.value
    if is_of_mtp(tensor.name, layers):
        return Part.MTP.value
    return _grouped(role) if role else UNKNOWN
