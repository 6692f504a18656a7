"""From an operator back to the spec: which key, on which line, gave which value."""

import re
from dataclasses import dataclass
from typing import Final

from llmplan.documents import Document, KeyPath
from llmplan.model.compiled import Model
from llmplan.ops.base import Operator

_WORD: Final = re.compile(r"projector\.\d+\.[a-z_]+|[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_SECTION: Final = {"decoder": (), "mtp": (), "vision": ("vision",), "projector": ("projector",)}


@dataclass(frozen=True, slots=True)
class KeyFinder:
    """Looks spec keys up for the operators of one layer.

    Attributes:
        document: The spec file.
        places: Key paths to look under, nearest first.
    """

    document: Document
    places: tuple[KeyPath, ...]

    def substituted(self, formula: str) -> str:
        """``formula`` with every key that the spec states replaced by its value."""
        return _WORD.sub(lambda match: self._value(match[0]), formula)

    def sources(self, formula: str) -> str:
        """The keys of a formula with the lines that state them."""
        found = dict.fromkeys(_WORD.findall(formula))
        lines = ((key, self._path(key)) for key in found)
        return ", ".join(
            f"{key} ({self.document.path}:{self.document.line(path)})"
            for key, path in lines
            if path
        )

    def _value(self, key: str) -> str:
        path = self._path(key)
        if not path:
            return key
        value: object = self.document.data
        for part in path:
            value = value[part]  # type: ignore[index]
        return f"{value:,}" if isinstance(value, int) else key

    def _path(self, key: str) -> KeyPath:
        parts = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        paths = ((*place, *parts) for place in self.places)
        return next((path for path in paths if path in self.document.lines), ())


def key_finders(model: Model) -> dict[Operator, KeyFinder]:
    """For each operator, a finder that looks in the blocks of the first layer that holds it."""
    finders: dict[Operator, KeyFinder] = {}
    document = model.identity.document
    for component in model.components:
        section: KeyPath = _SECTION[component.part.value]
        stem = KeyFinder(document, (section, ()))
        for layer, _ in component.distinct_layers:
            names = _block_names(document, layer.name)
            places = tuple((*section, "blocks", name) for name in names)
            nested = tuple((*place, "indexer") for place in places)
            finder = KeyFinder(document, (*places, *nested, section, ()))
            for operator in layer.operators:
                finders.setdefault(operator, finder)
        for operator in (*component.before, *component.after):
            finders.setdefault(operator, stem)
    return finders


def _block_names(document: Document, layer_name: str) -> tuple[str, ...]:
    """Block names of a layer; an MTP layer's stand under the key ``mtp``."""
    if layer_name == "mtp" and "mtp" in document.data:
        return tuple(document.data["mtp"]["blocks"])
    return tuple(layer_name.split("+"))
