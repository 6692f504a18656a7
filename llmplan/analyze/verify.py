"""A model against what a file stores: entries and bytes by role, differences named."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llmplan.errors import InputError, printable
from llmplan.model.catalogue import load_config
from llmplan.model.compiled import Model, Part
from llmplan.model.stored.gguf_file import read_gguf
from llmplan.model.stored.safetensors_file import INDEX_SUFFIX, read_header, read_index
from llmplan.model.stored.tensors import StoredTensor, layer_of, role_of
from llmplan.ops.base import Operator, Weight
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class Side:
    """Entries and bytes of one role on one side; scales count as bytes, not as entries."""

    entries: int = 0
    stored_bytes: int = 0

    def __add__(self, other: "Side") -> "Side":
        return Side(self.entries + other.entries, self.stored_bytes + other.stored_bytes)


@dataclass(frozen=True, slots=True)
class RoleCheck:
    """One group of weights, side by side.

    Attributes:
        role: Role, component outside the decoder, or ``unknown``.
        spec: What the model says.
        file: What the file holds.
    """

    role: str
    spec: Side
    file: Side

    @property
    def agrees(self) -> bool:
        """Whether entries and bytes are equal."""
        return self.spec == self.file


def verify(model: Model, path: Path) -> tuple[RoleCheck, ...]:
    """The model beside a config, a safetensors file or index, or a GGUF file.

    Raises:
        InputError: A file of another kind.
        DocumentError: The file cannot be read.
    """
    said = spec_sides(model)
    held = _held(model, path)
    roles = dict.fromkeys((*said, *held))
    return tuple(RoleCheck(role, said.get(role, Side()), held.get(role, Side())) for role in roles)


def _held(model: Model, path: Path) -> dict[str, Side]:
    name = path.name
    if name.endswith(INDEX_SUFFIX):
        return file_sides(read_index(path)[0], model)
    if name.endswith(".json"):
        return spec_sides(load_config(path))
    if name.endswith(".safetensors"):
        return file_sides(read_header(path), model)
    if name.endswith(".gguf"):
        return file_sides(read_gguf(path).tensors, model)
    raise InputError(
        f"'{printable(str(path))}' is no file to verify against: give a config.json, a "
        ".safetensors file, its .safetensors.index.json, or a .gguf file."
    )


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
    """Entries and bytes of a file by the group that each tensor's name says."""
    sides: dict[str, Side] = {}
    layers = len(model.decoder.layers)
    for tensor in tensors:
        group = _file_group(tensor, layers)
        entries = 0 if tensor.is_scale else tensor.logical_elements
        sides[group] = sides.get(group, Side()) + Side(entries, tensor.stored_bytes)
    return sides


def _file_group(tensor: StoredTensor, layers: int) -> str:
    role, layer = role_of(tensor.name), layer_of(tensor.name)
    if role in (Role.VISION, Role.PROJECTOR):
        return role.value
    if tensor.name.startswith("mtp.") or (layer is not None and layer >= layers):
        return Part.MTP.value
    return _grouped(role) if role else "unknown"
