"""Bounded JSON: size, depth, no duplicate keys, no NaN; nothing is ever executed."""

import json
import re
import stat
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from llmplan.errors import DocumentError, printable

MAX_BYTES: Final = 8_000_000
MAX_DEPTH: Final = 40
MAX_VALUES: Final = 1_000_000
"""Most items of all lists and objects together: empty ones cost far more memory than text."""
MAX_OBJECTS: Final = 300_000
MAX_QUOTES: Final = 1_200_000
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def load_json(path: Path, most_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        DocumentError: Missing, too large, not JSON, not an object, nested too deep, or with
            duplicate keys or numbers that are not finite.
    """
    name = str(path)
    try:
        regular_size(path)
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    if len(raw) > most_bytes:
        raise DocumentError(f"is larger than {most_bytes:,} bytes.", name)
    return parse_json(raw, name)


def regular_size(path: Path) -> int:
    """Bytes of a file; pipes and devices, which may never end, are refused.

    Raises:
        DocumentError: It is none.
        OSError: It cannot be looked at.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise DocumentError("is no regular file.", str(path))
    return about.st_size


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """The object in ``raw``; errors as in ``load_json``."""
    _refuse_shape(raw, name)

    def bound(constant: str) -> float:
        """Infinity, which published configs state as an upper limit; readers take no such size."""
        if constant == "NaN":
            raise DocumentError("holds NaN, which is no number.", name)
        return float(constant)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise DocumentError("is given twice.", name, key=printable(key))
            result[key] = value
        return result

    try:
        data = json.loads(raw, object_pairs_hook=unique, parse_constant=bound)
    except json.JSONDecodeError as error:
        raise DocumentError(f"is no valid JSON ({error.msg}).", name, error.lineno) from None
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise DocumentError("holds text or numbers that cannot be read.", name) from None
    if not isinstance(data, dict):
        raise DocumentError("must hold an object of keys and values.", name)
    return data


def _refuse_shape(raw: bytes, name: str) -> None:
    """Refuse nesting and counts beyond the limits before anything is built from them."""
    too_many = DocumentError("holds more lists, objects or values than are read.", name)
    if raw.count(b'"') > MAX_QUOTES:
        raise too_many
    outside = _STRING.sub(b"", raw)
    brackets = outside.translate(None, _BUT_BRACKETS)
    opened = brackets.count(b"[") + brackets.count(b"{")
    if opened > MAX_OBJECTS or outside.count(b",") > MAX_VALUES:
        raise too_many
    depths = accumulate(1 if bracket in b"[{" else -1 for bracket in brackets)
    if max(depths, default=0) > MAX_DEPTH:
        raise DocumentError(f"is nested deeper than {MAX_DEPTH} levels.", name)
