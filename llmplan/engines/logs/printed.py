"""Settings that an engine printed as Python: a reader of known keys, never an evaluation.

``{'max_model_len': 8192, 'speculative_config': {'method': 'mtp'}}`` and ``ServerArgs(tp_size=8)``
are split into tokens; a key inside brackets gets its parent before it
(``speculative_config.method``). What follows a broken or cut-off part is read as far as it makes
sense, and only keys that are asked for are ever used.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from llmplan.engines.settings import Settings
from llmplan.errors import printable
from llmplan.units import GIB

Scalar: TypeAlias = str | int | float | bool | None

MAX_PRINTED_CHARACTERS: Final = 32 * 1024
_MAX_DEPTH: Final = 8
_MAX_WHOLE: Final = 10**12
# a quote that is never closed makes one token, so that a text of such quotes is read in one pass
_TOKEN: Final = re.compile(
    r"'(?:[^'\\]|\\.){0,1000}'?|\"(?:[^\"\\]|\\.){0,1000}\"?"
    r"|[\[\](){}<>]|[=:,]|[^\s\[\](){}<>=:,'\"]+"
)
_NUMBER: Final = re.compile(r"-?\d{1,15}(\.\d{1,20})?(?:[eE][-+]?\d{1,2})?")
_SIGNS: Final = ("=", ":")
_OPENING: Final = ("(", "[", "{", "<")
_CLOSING: Final = (")", "]", "}", ">")
_WORDS: Final[dict[str, Scalar]] = {
    "True": True, "False": False, "None": None, "true": True, "false": False, "null": None
}  # fmt: skip


def printed_values(text: str, wanted: Container[str]) -> dict[str, Scalar]:
    """Plain values of the ``wanted`` keys of a printed dictionary or call; the first of each.

    Reading ends with the bracket that closes the text's first one, or one too many.
    """
    values: dict[str, Scalar] = {}
    parents: list[str] = []
    enclosed = text.startswith(("{", "("))
    key, last, holder = "", "", ""
    for found in _TOKEN.finditer(text[:MAX_PRINTED_CHARACTERS]):
        mark = found[0]
        if mark in _SIGNS:
            key, last = key or _name(last), ""
        elif mark in _OPENING:
            parents.append(key or holder)
            key, last, holder = "", "", ""
        elif mark in _CLOSING or mark == ",":
            key, last, holder = "", "", ""
            if mark == ",":
                continue
            if not parents or (enclosed and len(parents) == 1):
                break
            parents.pop()
        elif key:
            path = ".".join([*filter(None, parents[:_MAX_DEPTH]), key])
            if path in wanted:
                values.setdefault(path, _scalar(mark))
            key, last, holder = "", "", key
        else:
            last = mark
    return values


def _name(token: str) -> str:
    return token.strip("'\"")


def _scalar(written: str) -> Scalar:
    if written[0] in "'\"":
        return written[1:-1] if len(written) > 1 and written[-1] == written[0] else None
    if written in _WORDS:
        return _WORDS[written]
    if number := _NUMBER.fullmatch(written):
        return float(written) if number[1] or "e" in written.lower() else int(written)
    return written


@dataclass(frozen=True, slots=True)
class Key:
    """A printed key, the setting that it is, and how its value is read (None: says nothing)."""

    printed: str
    setting: str
    read: Callable[[Scalar], object]


def names_of(keys: Iterable[Key], *more: str) -> frozenset[str]:
    """The printed names of keys, and others that are wanted."""
    return frozenset([*(key.printed for key in keys), *more])


def settings_from(values: Mapping[str, Scalar], keys: Iterable[Key]) -> Settings:
    """The settings that printed values stand for; of several keys for one, the first with a say."""
    chosen: dict[str, Any] = {}
    for key in keys:
        if key.printed in values and key.setting not in chosen:
            read = key.read(values[key.printed])
            if read is not None:
                chosen[key.setting] = read
    return replace(Settings(), **chosen)


def whole(value: Scalar) -> int | None:
    """A positive whole number."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_WHOLE
    return int(value) if good and value is not None else None


def fraction(value: Scalar) -> float | None:
    """A share of memory; a 32-bit float's 0.8999999761581421 is the 0.9 that was typed."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        return None
    return round(float(value), 6)


def flag(value: Scalar) -> bool | None:
    """Yes or no."""
    return value if isinstance(value, bool) else None


def not_flag(value: Scalar) -> bool | None:
    """Yes or no of a key that says the opposite."""
    return not value if isinstance(value, bool) else None


def word(value: Scalar) -> str | None:
    """A format or method in the engine's word; ``auto`` says nothing, ``torch.`` is left out."""
    if not isinstance(value, str) or value in ("", "auto"):
        return None
    return printable(value.removeprefix("torch."), 60)


def name(value: Scalar) -> str | None:
    """A model's name or path."""
    return printable(value, 300) if isinstance(value, str) and value else None


def gib(value: Scalar) -> int | None:
    """Bytes of a number of GiB."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2**20:
        return None
    return round(value * GIB)
