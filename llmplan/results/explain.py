"""What a key of a result means, its unit, how it is computed and what changes it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmplan.documents import load_document
from llmplan.errors import UnknownNameError
from llmplan.results import schema
from llmplan.results.common import Said
from llmplan.results.key_spec import CommandKeys, KeyEntry, KeysFile
from llmplan.results.key_units import stated_unit
from llmplan.results.keys import ResultKey, result_keys
from llmplan.validation import validated

FILE: Final = Path(__file__).parent / "keys.yaml"
_PLACES: Final = re.compile(r"\[[^\]]*\]|\{[^}]*\}|\.\d+(?=\.|$)")
"""What stands for one entry of a list or mapping: ``[]``, ``[0]``, ``{}`` or ``.0``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainQuestion:
    """What one key means, or all of them.

    Attributes:
        key: Its place in a result, or the end of it; the command may stand before it.
    """

    key: str | None = None

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            UnknownNameError: No result has such a key.
        """
        keys = result_keys()
        found, deeper = (keys, ()) if self.key is None else named_keys(self.key, keys)
        commands = keys_file().commands
        result = schema.ExplainResult(
            keys=[_row(key, commands.get(key.command_word, CommandKeys())) for key in found],
            others=list(dict.fromkeys(f"{key.command_word}.{key.name}" for key in deeper)),
        )
        return Said("explain", {"key": self.key}).answered(result)


def keys_file() -> KeysFile:
    """What stands beside the schema."""
    return validated(load_document(FILE), KeysFile)


def named_keys(
    name: str, keys: tuple[ResultKey, ...]
) -> tuple[tuple[ResultKey, ...], tuple[ResultKey, ...]]:
    """The keys that a name means, and those deeper in a result that it may mean as well.

    A name is the place of a key, as JSON or CSV have it, or the end of that place. Where one key
    stands at exactly that place, those that only end so are the deeper ones.

    Raises:
        UnknownNameError: No key, with the nearest ones.
    """
    plain = _PLACES.sub("", name.strip()).removeprefix("result.")
    exact = tuple(key for key in keys if plain in (key.plain, key.whole))
    ending = tuple(key for key in keys if key.whole.endswith(f".{plain}") and key not in exact)
    if exact:
        return exact, ending
    found = ending or tuple(key for key in keys if _is_member(plain, key))
    if not found:
        known = [known for key in keys for known in (key.plain, key.plain.rpartition(".")[2])]
        raise UnknownNameError("key", name, known, "`llmplan explain` lists all keys.")
    return found, ()


def _is_member(plain: str, key: ResultKey) -> bool:
    """Whether a place with names of entries, as ``breakdown.decode.matmul``, is that of a key."""
    place = re.escape(key.name).replace(r"\[\]", "").replace(r"\{\}", r"\.[^.]+")
    return bool(re.fullmatch(rf"({key.command_word}\.)?{place}", plain))


def _row(key: ResultKey, stated: CommandKeys) -> schema.KeyRow:
    entries = tuple(_entries(key, stated))
    figures = entries if key.is_number else entries[:1]
    changed_by = next((entry.changed_by for entry in figures if entry.changed_by), [])
    page = next((entry.page for entry in entries if entry.page), stated.page)
    return schema.KeyRow(
        command=key.command,
        key=key.name,
        type=key.type,
        meaning=key.meaning,
        within=key.within,
        unit=_unit(key, entries) if key.is_number else "",
        formula=entries[0].formula,
        provenance=next((entry.provenance for entry in figures if entry.provenance), []),
        changed_by=stated.spelled_out(changed_by),
        page=page or f"docs/cli.md#llmplan-{key.command_word}",
    )


def _unit(key: ResultKey, entries: tuple[KeyEntry, ...]) -> str:
    """The unit that it states by entry or name, or else the nearest object that holds it."""
    units = (
        entry.unit or stated_unit(part)
        for entry, part in zip(entries, reversed(key.parts), strict=True)
    )
    return next(filter(None, units), "")


def _entries(key: ResultKey, stated: CommandKeys) -> Iterator[KeyEntry]:
    """Its own entry, which may be empty, then those of the objects that hold it."""
    place = key.plain
    while place:
        yield stated.keys.get(place, KeyEntry())
        place = place.rpartition(".")[0]
