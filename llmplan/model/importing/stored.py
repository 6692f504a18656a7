"""Specs from weight files: the architecture from the config, the formats from the header."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llmplan.documents import Document
from llmplan.dtypes import BF16, FORMATS, FP32
from llmplan.errors import DocumentError, InputError, printable
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model, Part
from llmplan.model.importing.config import body_of_config, finished_spec, spec_of_config
from llmplan.model.importing.gguf import config_of_gguf
from llmplan.model.importing.json_file import load_json
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.pipelines import import_pipeline, is_pipeline
from llmplan.model.pipeline_spec import PipelineSpec
from llmplan.model.spec import ModelSpec
from llmplan.model.stored.gguf_file import read_gguf
from llmplan.model.stored.safetensors_file import (
    INDEX_SUFFIX,
    SHARD_NUMBER,
    read_header,
    read_index,
)
from llmplan.model.stored.sides import Side, file_sides, has_tied_head, spec_sides
from llmplan.model.stored.tensors import StoredTensor, is_of_mtp, weight_role
from llmplan.ops.precision import Role

SUFFIXES: Final = (".json", ".safetensors", ".gguf")
"""What ``import_file`` reads."""
_PLAIN: Final = {"BF16": "bf16", "F16": "fp16", "F32": "fp32"}
_DEFAULTS: Final = {role: FP32 if role is Role.BUFFER else BF16 for role in Role}
_PART_OF_MANY: Final = (
    "is one of several files: give the .safetensors.index.json beside it, which names them all."
)
_NO_CONFIG: Final = (
    "has no config.json beside it, and a weight file does not say its architecture: put the "
    "publisher's config.json into the same folder."
)


def import_file(path: Path) -> tuple[ModelSpec | PipelineSpec, Document]:
    """The spec of a config, a safetensors file or index with its config, or a GGUF file.

    A config may be that of a diffusion pipeline.

    Raises:
        InputError: A file of another kind.
        DocumentError: The file cannot be read, or what it holds is not known.
    """
    name = path.name
    if name.endswith(".gguf"):
        return _of_gguf(path)
    if name.endswith((".safetensors", INDEX_SUFFIX)):
        return _of_safetensors(path)
    if name.endswith(".json"):
        data = load_json(path)
        return import_pipeline(data, path) if is_pipeline(data) else spec_of_config(data, str(path))
    raise InputError(
        f"'{printable(str(path))}' is nothing to import: give a config.json, a .safetensors file, "
        "its .safetensors.index.json, a .gguf file, or ORG/NAME of a repository."
    )


def _of_safetensors(path: Path) -> tuple[ModelSpec, Document]:
    config = path.parent / "config.json"
    if SHARD_NUMBER.search(path.name) and not path.name.endswith("-00001-of-00001.safetensors"):
        raise DocumentError(_PART_OF_MANY, str(path))
    is_index = path.name.endswith(INDEX_SUFFIX)
    tensors = read_index(path)[0] if is_index else read_header(path)
    if not config.is_file():
        raise DocumentError(_NO_CONFIG, str(path))
    return spec_of_tensors(body_of_config(load_json(config), str(config)), str(config), tensors)


def _of_gguf(path: Path) -> tuple[ModelSpec, Document]:
    header = read_gguf(path)
    body = body_of_config(config_of_gguf(header, str(path)), str(path))
    return spec_of_tensors(body, str(path), header.tensors)


def spec_of_tensors(
    body: Spec, name: str, tensors: Sequence[StoredTensor]
) -> tuple[ModelSpec, Document]:
    """The spec of a config's body with the formats that its tensors are stored in.

    Raises:
        DocumentError: The tensors hold another number of entries than the config says, or formats
            that contradict it.
    """
    model = compile_spec(*finished_spec(body, name))
    held = file_sides(tensors, model)
    _refuse_other_counts(spec_sides(model), held, name)
    body = {**body, "precision": _precision(body, tensors, model, name)}
    model = compile_spec(*finished_spec(body, name))
    note = _difference(spec_sides(model), held, _mixed_roles(tensors, model))
    return finished_spec({**body, "notes": [*body.get("notes", []), *note]} if note else body, name)


def _refuse_other_counts(said: dict[str, Side], held: dict[str, Side], name: str) -> None:
    """Refuse a file of another size; MTP modules may be left out on either side."""
    mtp = Part.MTP.value
    both = mtp in said and mtp in held
    spec, file = (
        sum(side.entries for group, side in sides.items() if both or group != mtp)
        for sides in (said, held)
    )
    if spec != file:
        raise DocumentError(
            f"describes {spec:,} entries, but the tensors hold {file:,}: they belong to different "
            "models, or tensors are missing, or the architecture has parts that are not known.",
            name,
        )


def _precision(
    body: Spec, tensors: Sequence[StoredTensor], model: Model, name: str
) -> dict[str, str]:
    """Formats by role: that of most of its bytes, where the config does not say a packed one."""
    stated: dict[str, str] = dict(body.get("precision", {}))
    known = {weight.role for o, _ in model.counted() for weight in o.weights}
    for role, sizes in _stored_formats(tensors, model).items():
        if role in known:
            (stored, _), *_ = sizes.most_common(1)
            stated[role.value] = _format(stated.get(role.value), stored, role, name)
    return {
        role.value: stated[role.value]
        for role in Role
        if role.value in stated and (stated[role.value] != _DEFAULTS[role].name)
    }


def _format(stated: str | None, stored: str, role: Role, name: str) -> str:
    """The name of a stored format; packed and scaled ones are known from the config alone."""
    plain = _PLAIN.get(stored, stored if stored in FORMATS else None)
    is_converted = stated is not None and stated not in _PLAIN.values()
    if plain is None and not is_converted:
        raise DocumentError(
            f"has {role.value} stored as {stored}, but no quantization_config that says how.", name
        )
    if plain is not None and is_converted:
        raise DocumentError(f"says {stated} for {role.value}, but {stored} is stored.", name)
    return plain or str(stated)


def _stored_formats(tensors: Sequence[StoredTensor], model: Model) -> dict[Role, Counter[str]]:
    """Stored bytes by role and format, MTP modules, scales and computed tables left out."""
    layers, tied = len(model.decoder.layers), has_tied_head(model)
    sizes: dict[Role, Counter[str]] = {}
    for tensor in tensors:
        role = weight_role(tensor.name)
        skipped = tensor.is_scale or tensor.is_computed or is_of_mtp(tensor.name, layers)
        if role and not skipped and not (tied and role is Role.HEAD):
            sizes.setdefault(role, Counter())[tensor.format] += tensor.stored_bytes
    return sizes


def _mixed_roles(tensors: Sequence[StoredTensor], model: Model) -> list[str]:
    """Roles that are stored in several formats, with these, as words."""
    found = _stored_formats(tensors, model)
    return [f"{role.value} ({', '.join(sizes)})" for role, sizes in found.items() if len(sizes) > 1]


def _difference(said: dict[str, Side], held: dict[str, Side], mixed: list[str]) -> list[str]:
    """A note where the spec does not come to the bytes of the file."""
    mtp, notes = Part.MTP.value, list[str]()
    if mtp in said and mtp not in held:
        notes.append("The file holds no MTP modules; the config says that there are some.")
    if mtp in held and mtp not in said:
        notes.append("The file's MTP modules are left out.")
    spec, file = (
        sum(side.stored_bytes for group, side in sides.items() if not notes or group != mtp)
        for sides in (said, held)
    )
    if spec != file:
        why = f": mixed in the file are {', '.join(mixed)}" if mixed else ""
        less = "fewer" if spec < file else "more"
        text = f"The spec has {abs(spec - file):,} bytes {less} than the file's {file:,}{why}."
        notes.append(text[:400])
    return notes
