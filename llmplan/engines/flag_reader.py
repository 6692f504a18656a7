"""Words to settings, by a table: what a flag takes, who knows it, and whether two agree."""

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from llmplan.engines.flag_kinds import (
    OFF,
    Entry,
    Fixed,
    Flag,
    Ignored,
    Kind,
    Object,
    Refused,
    Takes,
    Unread,
    Value,
)
from llmplan.errors import InputError, UnknownNameError, printable

_NUMBER: Final = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_NEXT_STEP: Final = (
    "It might change memory, so the command is not read without it. If it does not, leave it out."
)


def normal(name: str) -> str:
    """A flag as the tables look it up: ``--max_model_len`` is ``--max-model-len``."""
    return name.replace("_", "-") if name.startswith("--") else name


@dataclass(frozen=True, slots=True)
class Index:
    """A table by spelling."""

    what: str
    entries: dict[str, Entry]

    def entry(self, name: str) -> Entry:
        """What the table says of a flag.

        Raises:
            UnknownNameError: It says nothing.
        """
        found = self.entries.get(normal(name))
        if found is None:
            known = [entry.spelled.split() for entry in self.entries.values()]
            names = {name for spelled in known for name in spelled}
            raise UnknownNameError(self.what, name, sorted(names), _NEXT_STEP)
        return found

    def knows(self, name: str) -> bool:
        """Whether the table has the flag."""
        return normal(name) in self.entries


def index(what: str, table: Iterable[Entry]) -> Index:
    """A table by spelling, with the ``--no-`` twins of switches."""
    entries: dict[str, Entry] = {}
    for entry in table:
        for name in entry.spelled.split():
            entries[normal(name)] = entry
            twin = f"--no-{normal(name).removeprefix('--')}"
            match entry:
                case Flag(spelled, sets, Kind(takes="switch"), also) if name.startswith("--"):
                    entries[twin] = Flag(spelled, sets, OFF, also)
                case Ignored(_, "switch") if name.startswith("--"):
                    entries[twin] = entry
    return Index(what, entries)


@dataclass(slots=True)
class Said:
    """What a command has said so far."""

    values: dict[str, Any] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def put(self, name: str, value: Value, flag: str) -> None:
        """Keep a value.

        Raises:
            InputError: An earlier flag said otherwise.
        """
        if name in self.by and self.values.get(name) != value:
            raise InputError(
                f"{self.by[name]} and {flag} say different things of "
                f"{name.replace('_', ' ')}; leave one out"
            )
        self.by.setdefault(name, flag)
        if value is not None:
            self.values[name] = value


def read_flag(known: Index, said: Said, token: str, rest: deque[str]) -> None:
    """Read one flag, with as many of the words after it as belong to it.

    Raises:
        InputError: It is not known, or its value cannot be read.
    """
    if re.fullmatch(r"-O[0-9]", token) and not known.knows(token):
        token = f"-O={token[-1]}"
    name, equals, value = token.partition("=")
    read_named(known, said, name, [value] if equals else None, rest)


def read_named(
    known: Index, said: Said, name: str, given: list[str] | None, rest: deque[str]
) -> None:
    """Read a flag whose value stands apart, or is ``given``."""
    shown = printable(name)
    match known.entry(name):
        case Flag(_, sets, kind):
            text = " ".join(_values(shown, kind.takes, given, rest, kind))
            said.put(sets, _read(shown, kind, text), shown)
        case Ignored(_, takes):
            _values(shown, takes, given, rest)
            said.ignored.append(shown)
        case Fixed(_, values, why):
            text = " ".join(_values(shown, "one", given, rest))
            if text not in values.split():
                raise InputError(f"{shown}: expected {' or '.join(values.split())}; {why}")
            said.ignored.append(shown)
        case Refused(_, why):
            raise InputError(f"{shown} bears on memory and is not read: {why}")
        case Unread():
            file = _values(shown, "one", given, rest)[0]
            said.unread.append(printable(file, 300))
        case Object(spelled):
            text = " ".join(_values(shown, "one", given, rest))
            for key, leaf in _leaves(shown, text, spelled.split()[0]):
                read_named(known, said, key, leaf, deque())


def expand_dotted(known: Index, token: str) -> str:
    """``-sc.method=mtp`` as the table spells it: ``--speculative-config.method=mtp``."""
    head, dot, tail = token.partition(".")
    if dot and "=" not in head and known.knows(head):
        entry = known.entry(head)
        if isinstance(entry, Object):
            return f"{entry.spelled.split()[0]}.{tail}"
    return token


def is_flag(token: str) -> bool:
    """Whether a word is a flag rather than a value or the name of a model."""
    return len(token) > 1 and token[0] == "-" and not _NUMBER.fullmatch(token)


def _read(shown: str, kind: Kind, text: str) -> Value:
    try:
        return kind.read(text)
    except ValueError as error:
        raise InputError(f"{shown} {printable(text)}: expected {error}") from None


def _values(
    shown: str, takes: Takes, given: list[str] | None, rest: deque[str], kind: Kind | None = None
) -> list[str]:
    """The words that belong to a flag, taken off the rest."""
    if given is not None:
        if takes == "none":
            raise InputError(f"{shown} takes no value")
        return given
    match takes:
        case "none":
            return []
        case "switch":
            fits = bool(rest) and rest[0].lower() in {"true", "false"}
            return [rest.popleft()] if fits else []
        case "maybe":
            fits = bool(rest) and kind is not None and _fits(kind, rest[0])
            return [rest.popleft()] if fits else ["on"]
        case _:
            return _taken(shown, rest, most=1 if takes == "one" else len(rest))


def _taken(shown: str, rest: deque[str], most: int) -> list[str]:
    """The words up to the next flag: at least one, at most so many."""
    taken: list[str] = []
    while rest and not is_flag(rest[0]) and len(taken) < most:
        taken.append(rest.popleft())
    if not taken:
        raise InputError(f"{shown} is without its value")
    return taken


def _fits(kind: Kind, word: str) -> bool:
    try:
        kind.read(word)
    except ValueError:
        return False
    return True


def _leaves(shown: str, text: str, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """The keys of a JSON object as flags, each with its value as words."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in items}) != len(items):
            raise ValueError
        return dict(items)

    try:
        found = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{shown}: expected a JSON object in single quotes, each key once")
    for key, value in found.items():
        name = f"{prefix}.{key}"
        if isinstance(value, dict):
            raise InputError(f"{printable(name)}: an object inside an object is not read")
        if isinstance(value, list):
            yield name, [_scalar(item) for item in value]
        elif value is not None:
            yield name, [_scalar(value)]


def _scalar(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
