"""Finding a model: by catalogue name, by Hugging Face id, or by the path of a spec file.

Files are read by ``llmplan.model.reading``, loaded when one is: lists of kept rows read none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmplan.catalogs import catalogue_file, catalogue_files, is_shipped, shown_path
from llmplan.errors import DocumentError, UnknownNameError, printable
from llmplan.model.aliases import Reading, readings, short_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmplan.model.compiled import Model

SPEC_SUFFIXES: Final = (".yaml", ".yml")
CONFIG_SUFFIXES: Final = (".json", ".safetensors", ".gguf")
KIND: Final = "specs"
_ID: Final = r"[\w.-]+/[\w.-]+"
_HUB_ID: Final = re.compile(rf"^ *- [\"']?({_ID})[\"']?(?: +#.*)?$", re.MULTILINE)
_IDS_IN_BRACKETS: Final = re.compile(r"\bhf_ids: *\[([^]#]*)\]")
_NEXT_STEP: Final = (
    "`llmplan models` lists them; docs/add-a-model.md says how to add one as a YAML file."
)


def load_model(name: str | Path) -> Model:
    """The model called ``name``: a catalogue name, a hub id, or the path of a file.

    The file is a spec, a config, a safetensors file or index with its config, or a GGUF file.

    Raises:
        UnknownNameError: In no catalogue, with the nearest names.
        UnverifiedModelError: Known by name only.
        DocumentError: The spec cannot be read or contradicts itself.
    """
    from llmplan.model.reading import load_config, load_spec  # noqa: PLC0415 (lists need no spec)

    text = str(name)
    if text.endswith(SPEC_SUFFIXES):
        return load_spec(Path(text))
    if text.endswith(CONFIG_SUFFIXES):
        return load_config(Path(text))
    found = _found(text.strip())
    if found is None:
        from llmplan.model.listed import listed_names, refuse_listed  # noqa: PLC0415 (rarely needed)

        refuse_listed(text)
        known = (*model_names(), *dict(_hub_ids()), *listed_names())
        raise UnknownNameError("model", text, known, _NEXT_STEP)
    return load_spec(found.path, found)


def is_known(name: str) -> bool:
    """Whether a name is a path, or leads to a spec."""
    return name.endswith((*SPEC_SUFFIXES, *CONFIG_SUFFIXES)) or bool(_found(name.strip()))


@dataclass(frozen=True, slots=True)
class Found:
    """Where a name leads.

    Attributes:
        path: The spec.
        hub_id: The id of the spec that was matched, in lower case; empty for a catalogue name.
        reading: How the name was read where it is no id of the catalogue itself.
        asked: The name as given.
    """

    path: Path
    hub_id: str = ""
    reading: Reading | None = None
    asked: str = ""

    @property
    def remark(self) -> tuple[str, ...]:
        """What was assumed, to be said wherever the model is used."""
        if self.reading is None:
            own = not is_shipped(self.path, KIND)
            return (f"{self.path.stem} is read from {self.path}.",) if own else ()
        name, base = printable(self.asked), self.path.stem
        return (f"{name} is read as {base}{self.reading.remark}; `llmplan verify` compares files.",)


def _found(asked: str) -> Found | None:
    wanted = asked.lower()
    if re.fullmatch(r"[a-z0-9._-]+", wanted):
        direct = catalogue_file(KIND, wanted) or catalogue_files(KIND).get(wanted)
        if direct:
            return Found(direct)
    hub_ids = dict(_hub_ids())
    if wanted in hub_ids:
        return Found(hub_ids[wanted], wanted)
    if "/" not in wanted:
        return None
    by_short_name = {short_name(hub_id): hub_id for hub_id in reversed(hub_ids)}
    for reading in readings(wanted):
        base = reading.base.removeprefix("meta-")
        if base in by_short_name:
            hub_id = by_short_name[base]
            return Found(hub_ids[hub_id], hub_id, reading, asked)
    return None


def spec_paths() -> tuple[Path, ...]:
    """The spec files of the catalogue, by name."""
    return tuple(catalogue_files(KIND).values())


def model_names() -> tuple[str, ...]:
    """The names of the catalogue."""
    return tuple(path.stem for path in spec_paths())


def _hub_ids() -> Iterator[tuple[str, Path]]:
    """Every Hugging Face id of the catalogue in lower case, with its spec.

    Only list items that look like ids are read: parsing every file would take ten times longer.
    """
    for path in spec_paths():
        text = path.read_text(encoding="utf-8", errors="replace")
        for hub_id in (*_HUB_ID.findall(text), *_ids_in_brackets(text)):
            yield hub_id.lower(), path


def _ids_in_brackets(text: str) -> Iterator[str]:
    for listed in _IDS_IN_BRACKETS.findall(text):
        yield from re.findall(_ID, listed)


def check_hub_ids() -> None:
    """Raise where one Hugging Face id stands in two specs.

    Raises:
        DocumentError: Naming both.
    """
    seen: dict[str, Path] = {}
    for hub_id, path in _hub_ids():
        if hub_id in seen:
            raise DocumentError(
                f"{hub_id} stands in {seen[hub_id].name} as well.", shown_path(path, KIND)
            )
        seen[hub_id] = path
