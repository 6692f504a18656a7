"""Every key of every command's result, read from the schema."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from llmplan.described import field_descriptions
from llmplan.results.schema import Result

_COMMAND: Final = re.compile(r"``llmplan ([^`]+)``")
_MARKS: Final = re.compile(r"[\[\]{}]")
_WORDS: Final = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True, slots=True)
class ResultKey:
    """One key of one result.

    Attributes:
        command: Command that gives it, with an option where only that does: ``models --compare``.
        parts: Place in the result, ``[]`` behind the name of a list and ``{}`` behind a mapping.
        kinds: Types of its value, or of the values in its lists and mappings.
        meaning: Description of the field.
        within: Description of the object that holds it; empty at the top.
    """

    command: str
    parts: tuple[str, ...]
    kinds: tuple[Any, ...]
    meaning: str
    within: str

    @property
    def name(self) -> str:
        """With the marks: ``components[].total``."""
        return ".".join(self.parts)

    @property
    def plain(self) -> str:
        """Without them: ``components.total``."""
        return _MARKS.sub("", self.name)

    @property
    def command_word(self) -> str:
        """The command without options."""
        return self.command.partition(" ")[0]

    @property
    def whole(self) -> str:
        """Behind its command: ``params.components.total``."""
        return f"{self.command_word}.{self.plain}"

    @property
    def is_number(self) -> bool:
        """Whether numbers may stand there."""
        return int in self.kinds or float in self.kinds

    @property
    def type(self) -> str:
        """What may stand there, in words."""
        kinds = [kind for kind in self.kinds if not (kind is int and float in self.kinds)]
        return " or ".join(dict.fromkeys(map(_type_words, kinds)))


def result_keys() -> tuple[ResultKey, ...]:
    """All keys, by command in the order of the schema.

    Keys of a new result need nothing more than its class in ``Result`` with descriptions.
    """
    return tuple(
        key for result in get_args(Result) for key in _keys_in(result, _command(result), (), "")
    )


def _command(result: type[BaseModel]) -> str:
    """The command that a result's description names first."""
    named = _COMMAND.search(result.__doc__ or "")
    if named is None:
        raise TypeError(f"the description of {result.__name__} names no command")
    return named[1]


def _keys_in(
    model: type[BaseModel], command: str, parents: tuple[str, ...], within: str
) -> Iterator[ResultKey]:
    texts = field_descriptions(model)
    for field, info in model.model_fields.items():
        marks, kinds = _inside(info.annotation)
        parts = (*parents, (info.alias or field) + marks)
        meaning = " ".join(texts[field].split())
        yield ResultKey(command, parts, kinds, meaning, within)
        for kind in filter(_is_object, kinds):
            yield from _keys_in(kind, command, parts, meaning)


def _inside(annotation: Any) -> tuple[str, tuple[Any, ...]]:
    """Marks of the lists and mappings of a type, outermost first, and the types inside."""
    is_union = get_origin(annotation) in {Union, UnionType}
    members = get_args(annotation) if is_union else (annotation,)
    null = (NoneType,) if NoneType in members else ()
    kinds = tuple(kind for kind in members if kind is not NoneType)
    origin = get_origin(kinds[0])
    if origin not in {list, dict}:
        return "", (*kinds, *null)
    marks, inner = _inside(get_args(kinds[0])[-1])
    return ("[]" if origin is list else "{}") + marks, (*inner, *null)


def _is_object(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type_words(kind: Any) -> str:
    if kind is NoneType:
        return "null"
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(kind)
    return "object" if _is_object(kind) else _WORDS.get(kind, "any value")
