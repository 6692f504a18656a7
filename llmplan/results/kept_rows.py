"""Rows of the whole catalogue, kept between runs: reading every spec anew takes most of a list.

The file lies in the user's cache folder and may be deleted at any time. It is used only where
nothing has changed: its key is a digest of every spec's path and content, and of the program's own
files. Where it cannot be read or written, the rows are made anew and nothing is said.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs

import llmplan
from llmplan.results import schema

FILE: Final = "models.json"
MAX_BYTES: Final = 20_000_000


def kept_rows(
    specs: tuple[Path, ...], make: Callable[[], list[schema.ModelRow]]
) -> list[schema.ModelRow]:
    """The rows of these specs: as kept, or from ``make``, and then kept."""
    path = platformdirs.user_cache_path("llmplan") / FILE
    try:
        key = _digest(specs)
    except OSError:
        return make()  # which says what cannot be read
    rows = _read(path, key)
    if rows is None:
        rows = make()
        _write(path, key, rows)
    return rows


def _digest(specs: tuple[Path, ...]) -> str:
    """Of everything that a row is made from."""
    digest = hashlib.sha256(llmplan.__version__.encode())
    for file in sorted(Path(llmplan.__file__).parent.rglob("*.py")):
        state = file.stat()
        digest.update(f"{file}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    for spec in specs:
        content = hashlib.sha256(spec.read_bytes()).hexdigest()
        digest.update(f"{spec.absolute()}\0{content}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read(path: Path, key: str) -> list[schema.ModelRow] | None:
    """The rows of a file whose first line is the key."""
    try:
        with path.open("rb") as file:
            found, _, text = file.read(MAX_BYTES).partition(b"\n")
        if found.decode() == key:
            return schema.ModelsResult.model_validate_json(text).models
    except (OSError, ValueError):
        return None
    return None


def _write(path: Path, key: str, rows: list[schema.ModelRow]) -> None:
    """Whole or not at all: another run may read at the same time."""
    text = f"{key}\n{schema.ModelsResult(models=rows).model_dump_json()}"
    draft = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except (OSError, ValueError):
        if draft:
            Path(draft).unlink(missing_ok=True)
