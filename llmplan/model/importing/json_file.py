"""Bounded JSON: size, depth, no duplicate keys, no NaN; nothing is ever executed."""

import json
from pathlib import Path
from typing import Any, Final

from llmplan.errors import DocumentError, printable

MAX_BYTES: Final = 8_000_000
MAX_DEPTH: Final = 40


def load_json(path: Path, most_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        DocumentError: Missing, too large, not JSON, not an object, nested too deep, or with
            duplicate keys or numbers that are not finite.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(most_bytes + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    if len(raw) > most_bytes:
        raise DocumentError(f"is larger than {most_bytes:,} bytes.", name)
    return parse_json(raw, name)


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """The object in ``raw``; errors as in ``load_json``."""
    if _depth(raw) > MAX_DEPTH:
        raise DocumentError(f"is nested deeper than {MAX_DEPTH} levels.", name)

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
    except (UnicodeDecodeError, ValueError):
        raise DocumentError("holds text or numbers that cannot be read.", name) from None
    if not isinstance(data, dict):
        raise DocumentError("must hold an object of keys and values.", name)
    return data


def _depth(raw: bytes) -> int:
    """Deepest nesting, brackets inside strings left out."""
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            in_string = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
