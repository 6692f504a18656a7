"""Finding a model: by catalogue name, by Hugging Face id, or by the path of a spec file."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmplan.documents import load_document, shipped_folder
from llmplan.errors import DocumentError, InputError, UnknownNameError, printable
from llmplan.model.check import check_spec
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.spec import ModelSpec
from llmplan.validation import validated

SPEC_SUFFIXES: Final = (".yaml", ".yml")
_LATER_SUFFIXES: Final = (".safetensors", ".gguf")
_HUB_ID: Final = re.compile(r"^ *- ([\w.-]+/[\w.-]+)$", re.MULTILINE)
_NEXT_STEP: Final = (
    "`llmplan models` lists them; docs/add-a-model.md says how to add one as a YAML file."
)


def load_model(name: str | Path) -> Model:
    """The model called ``name``: a catalogue name, a hub id, or the path of a spec or config file.

    Raises:
        UnknownNameError: In no catalogue, with the nearest names.
        DocumentError: The spec cannot be read or contradicts itself.
    """
    text = str(name)
    if text.endswith(".json"):
        return load_config(Path(text))
    return load_spec(_spec_path(text), text)


def load_config(path: Path) -> Model:
    """The model that a publisher's ``config.json`` describes.

    Raises:
        DocumentError: The file cannot be read, or holds an architecture or key that is not known.
    """
    from llmplan.model.importing.config import import_config  # noqa: PLC0415 (rarely needed)

    return compile_spec(*import_config(path))


def load_spec(path: Path, called: str = "") -> Model:
    """The model that the spec file ``path`` describes, or its variant with the hub id ``called``.

    Raises:
        DocumentError: The file cannot be read or contradicts itself.
    """
    document = load_document(path, _shown(path))
    spec = validated(document, ModelSpec)
    if path.parent == shipped_folder("specs") and spec.name != path.stem:
        raise document.error(f"must equal the file's name, {path.stem}.", ("name",))
    check_spec(spec, document)
    return compile_spec(with_variant(spec, called), document)


def with_variant(spec: ModelSpec, called: str) -> ModelSpec:
    """The spec with the context of its variant ``called``; unchanged for any other name."""
    for variant in spec.variants:
        if called.strip().lower() in (hub_id.lower() for hub_id in variant.hf_ids):
            context = variant.max_position_embeddings
            return spec.model_copy(update={"max_position_embeddings": context})
    return spec


def spec_paths() -> tuple[Path, ...]:
    """The spec files of the catalogue, by name."""
    return tuple(sorted(shipped_folder("specs").glob("*.yaml"), key=lambda path: path.stem))


def model_names() -> tuple[str, ...]:
    """The names of the catalogue."""
    return tuple(path.stem for path in spec_paths())


def _shown(path: Path) -> str:
    folder = shipped_folder("specs")
    return f"specs/{path.name}" if path.parent == folder else str(path)


def _spec_path(name: str) -> Path:
    if name.endswith(SPEC_SUFFIXES):
        return Path(name)
    if name.endswith(_LATER_SUFFIXES):
        raise InputError(
            f"'{printable(name)}' cannot be read: this version reads model specs (.yaml) and "
            "config.json files."
        )
    wanted = name.strip().lower()
    if re.fullmatch(r"[a-z0-9._-]+", wanted):
        direct = shipped_folder("specs") / f"{wanted}.yaml"
        if direct.is_file():
            return direct
    aliases = dict(_hub_ids())
    if wanted in aliases:
        return aliases[wanted]
    raise UnknownNameError("model", name, (*model_names(), *aliases), _NEXT_STEP)


def _hub_ids() -> Iterator[tuple[str, Path]]:
    """Every Hugging Face id of the catalogue in lower case, with its spec.

    Only list items that look like ids are read: parsing every file would take ten times longer.
    """
    for path in spec_paths():
        for item in _HUB_ID.finditer(path.read_text(encoding="utf-8")):
            yield item[1].lower(), path


def check_hub_ids() -> None:
    """Raise where one Hugging Face id stands in two specs.

    Raises:
        DocumentError: Naming both.
    """
    seen: dict[str, Path] = {}
    for hub_id, path in _hub_ids():
        if hub_id in seen:
            raise DocumentError(f"{hub_id} stands in {seen[hub_id].name} as well.", _shown(path))
        seen[hub_id] = path
