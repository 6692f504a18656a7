"""Loads of experts from a file: one number an expert, in any unit."""

import json
from pathlib import Path
from typing import Final

from llmplan.errors import InputError, printable

MOST_BYTES: Final = 10**7
"""A list of loads is short; anything longer is another file."""


def expert_load(path: Path) -> list[float]:
    """The numbers of a JSON list, or of a CSV file without a header, in the order of experts.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} is too long for a list of expert loads.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text file: write one number an expert.") from None
    items = (
        _json_items(text, path) if path.suffix == ".json" else text.replace("\n", ",").split(",")
    )
    return [_number(item, path) for item in items if item != ""]


def _json_items(text: str, path: Path) -> list[object]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list):
        raise InputError(f"{path} holds no JSON list of expert loads, as [3, 1, 2].")
    return items


def _number(item: object, path: Path) -> float:
    wrong = InputError(f"{path}: '{printable(str(item).strip())}' is no number. Write one each.")
    if isinstance(item, bool) or not isinstance(item, int | float | str):
        raise wrong
    try:
        return float(item)
    except (ValueError, OverflowError):
        raise wrong from None
