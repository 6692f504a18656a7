"""From an operator back to the spec: which key, on which line, gave which value."""

import re
from dataclasses import dataclass
from typing import Final

from llmplan.documents import Document, KeyPath
from llmplan.model.compiled import PIPELINE_PARTS, Model, Part
from llmplan.ops.base import Operator

_WORD: Final = re.compile(r"projector\.\d+\.[a-z_]+|[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_NESTED: Final = ("indexer", "block_indexer", "attention", "mlp")
"""What a block may hold inside."""
_SECTION: Final[dict[Part, KeyPath]] = {
    Part.DECODER: (),
    Part.MTP: (),
    Part.VISION: ("vision",),
    Part.PROJECTOR: ("projector",),
}


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
    """For each operator, a finder that looks in its block, then around the blocks."""
    document = model.identity.document
    return {
        operator: _finder(document, _section(component.part), operator.block)
        for component in reversed(model.components)
        for operator, _ in component.counted
    }


def _section(part: Part) -> KeyPath:
    return ("pipeline", part.value) if part in PIPELINE_PARTS else _SECTION[part]


def _finder(document: Document, section: KeyPath, block: str) -> KeyFinder:
    place = (*section, "blocks", block)
    nested = ((*place, part) for part in _NESTED)
    inside: tuple[KeyPath, ...] = (place, *nested) if block else ()
    return KeyFinder(document, (*inside, section, ()))
