"""A model against what a file stores: entries and bytes by role, differences named."""

from dataclasses import dataclass
from pathlib import Path

from llmplan.errors import InputError, printable
from llmplan.model.compiled import Model
from llmplan.model.reading import load_config
from llmplan.model.stored.gguf_file import read_gguf
from llmplan.model.stored.safetensors_file import INDEX_SUFFIX, read_header, read_index
from llmplan.model.stored.sides import Side, file_sides, spec_sides


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
