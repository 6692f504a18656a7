"""What measured rows of every kind have in common: their table, and how their words are read."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmplan.engines.words import INT4_GROUPS
from llmplan.errors import DocumentError, LayoutError, LlmplanError, UnverifiedModelError
from llmplan.hardware.catalogue import load_device
from llmplan.hardware.device import Device
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.latent import LatentAttention
from llmplan.ops.precision import LINEAR_ROLES, Role
from llmplan.parallel.layout import Layout
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.parallel.rank import stage_ranks

Row = dict[str, str]

MAX_BYTES: Final = 20_000_000
MAX_ROWS: Final = 100_000
GGUF_ROLES: Final = (*LINEAR_ROLES, Role.EMBEDDING, Role.HEAD)
"""What a GGUF file's average of bits a weight is taken over."""
LATENT_KEEPS_ATTENTION: Final = ("int4", "nvfp4")
KEPT_REMARK: Final = "attention is kept in 16 bits, as 4-bit copies of models with latents do"
_IN_BRACKETS: Final = re.compile(r"\s*\(.*\)\s*$")
_SEVERAL: Final = re.compile(r"\bclass\b|\+|^\d+ GPUs|/.*-class", re.IGNORECASE)


class Skipped(Exception):  # noqa: N818 (no error: the reason why a row is not answered)
    """The row cannot be answered; the message says why."""


def table_rows(path: Path, needed: tuple[str, ...], example: str) -> Iterator[Row]:
    """The rows of a table, blank where a cell is missing.

    Args:
        path: A CSV file.
        needed: Columns that it must have.
        example: A table that has them.

    Raises:
        DocumentError: It cannot be read, or lacks a column.
    """
    name = str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DocumentError(f"is larger than {MAX_BYTES:,} bytes.", name)
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = [column for column in needed if column not in (rows.fieldnames or ())]
            if missing:
                raise DocumentError(f"has no column '{missing[0]}'; see {example}.", name, 1)
            for number, row in enumerate(rows):
                if number >= MAX_ROWS:
                    raise DocumentError(f"has more than {MAX_ROWS:,} rows.", name)
                yield {key: value or "" for key, value in row.items() if key}
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    except (UnicodeDecodeError, csv.Error):
        raise DocumentError("is no CSV text.", name) from None


def model_of(cell: str) -> Model:
    """The model of the catalogue that a cell names; words in brackets after it say no name.

    Raises:
        Skipped: None, or one whose architecture is not known.
    """
    name = _IN_BRACKETS.sub("", cell)
    if not name:
        raise Skipped("names no model")
    try:
        return load_model(name)
    except UnverifiedModelError as error:
        raise Skipped(error.reason) from None
    except LlmplanError:
        raise Skipped("no spec") from None


def device_of(cell: str) -> Device:
    """The device of the catalogue that a cell names.

    Raises:
        Skipped: None, or several.
    """
    label = cell.strip()
    if not label:
        raise Skipped("names no GPU")
    if _SEVERAL.search(label):
        raise Skipped("names several GPUs or a class of them")
    try:
        return load_device(label)
    except LlmplanError:
        raise Skipped("names a GPU that is not in the catalogue") from None


def is_low_bit(model: Model) -> bool:
    """Whether linear weights are stored in less than 16 bits."""
    roles = {
        weight.role: operator.precision.of(weight.role).bits
        for operator, _ in model.decoder.counted
        for weight in operator.weights
    }
    return any(roles.get(role, 16) < 16 for role in LINEAR_ROLES)


def keeps_attention(words: str, model: Model) -> bool:
    """Whether a copy of the model in such a format leaves attention in 16 bits."""
    return words.startswith(LATENT_KEEPS_ATTENTION) and any(
        isinstance(operator, LatentAttention) for operator, _ in model.decoder.counted
    )


def with_attention_kept(words: str) -> str:
    """``--dtype`` for all linear weights but those of attention, which stay in 16 bits."""
    kept = (role for role in LINEAR_ROLES if role is not Role.ATTENTION)
    return ",".join(("attention=bf16", *(f"{role.value}={words}" for role in kept)))


def lowered_whole(
    model: Model, weights: str, states: StateFormats, layout: Layout
) -> tuple[Model, str]:
    """The model in a row's formats, and a remark; of int4 with groups that the split leaves whole.

    Raises:
        Skipped: Any size of int4 groups is cut by the split.
    """
    if "int4" not in weights:
        return lowered(model, weights, states), ""
    for group in INT4_GROUPS:
        sized = re.sub(r"(int4_\w+?)(?=,|$)", rf"\1_g{group}", weights)
        tried = lowered(model, sized, states)
        try:
            stage_ranks(tried, layout)
        except LayoutError:
            continue
        return tried, f"int4 in groups of {group}, the size is not stated"
    raise Skipped("layout: no size of int4 groups divides")
