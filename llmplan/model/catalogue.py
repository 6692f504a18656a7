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
_LATER_SUFFIXES: Final = (".json", ".safetensors", ".gguf")
_NEXT_STEP: Final = (
    "`llmplan models` lists them; docs/add-a-model.md says how to add one as a YAML file."
)


def load_model(name: str | Path) -> Model:
    """The model called ``name``: a catalogue name, a Hugging Face id, or a path to a spec file.

    Raises:
        UnknownNameError: In no catalogue, with the nearest names.
        DocumentError: The spec cannot be read or contradicts itself.
    """
    return load_spec(_spec_path(str(name)))


def load_spec(path: Path) -> Model:
    """The model that the spec file ``path`` describes.

    Raises:
        DocumentError: The file cannot be read or contradicts itself.
    """
    document = load_document(path, _shown(path))
    spec = validated(document, ModelSpec)
    if path.parent == shipped_folder("specs") and spec.name != path.stem:
        raise document.error(f"must equal the file's name, {path.stem}.", ("name",))
    check_spec(spec, document)
    return compile_spec(spec, document)


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
            f"'{printable(name)}' is not a spec: this version reads model specs (.yaml). "
            "docs/add-a-model.md says how to write one from a config.json."
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

    Only lines of the ``hf_ids`` list are looked at: parsing every file would take ten times longer.
    """
    for path in spec_paths():
        inside = False
        for line in path.read_text(encoding="utf-8").splitlines():
            if inside and (item := re.fullmatch(r"\s*- ([\w.-]+/[\w.-]+)", line)):
                yield item[1].lower(), path
            elif inside:
                break
            inside = inside or line.rstrip() == "hf_ids:"


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
