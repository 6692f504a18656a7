"""A config as its reader sees it: typed access, and a record of the keys that were read."""

from collections.abc import Callable
from math import isfinite
from typing import Any, Final, cast

from llmplan.errors import DocumentError, printable

_REQUIRED: Final = object()
MAX_SIZE: Final = 10**9
"""No published size comes near this; larger ones are mistakes."""
MAX_LAYERS: Final = 10_000
"""Most layers of a spec. Readers make lists of them, so that more is refused at once."""


class ConfigView:
    """One object of a config.

    Attributes:
        name: The file, as it should be named in messages.
        path: Where the object stands in the file.
    """

    def __init__(self, data: dict[str, Any], name: str, path: tuple[str, ...] = ()) -> None:
        self._data = data
        self._read: set[str] = set()
        self._parts: dict[str, ConfigView] = {}
        self.name = name
        self.path = path

    def keys(self) -> tuple[str, ...]:
        """Every key that is there, read or not."""
        return tuple(self._data)

    def has(self, key: str) -> bool:
        """Whether the key is there and not null; does not count as reading it."""
        return self._data.get(key) is not None

    def stated(self, key: str) -> bool:
        """Whether the key is there, null included: null overrides a class's default."""
        return key in self._data

    def count(self, key: str, default: Any = _REQUIRED) -> int:
        """A positive whole number; ``default`` is the class's own where the key is left out."""
        value = self._typed(key, default, _is_count, "a positive whole number")
        if "layer" in key and value is not None and value > MAX_LAYERS:
            raise self.refusal(key, f"is {value:,}, and {MAX_LAYERS:,} layers is the most")
        return cast("int", value)

    def size(self, key: str, default: Any = _REQUIRED) -> int:
        """A whole number that may be zero."""
        return cast("int", self._typed(key, default, _is_size, "a whole number"))

    def count_or_auto(self, key: str, auto: int, default: Any = "auto") -> int:
        """A positive whole number; ``auto`` where the config leaves it to its class."""
        value = self._typed(key, default, lambda v: v == "auto" or _is_count(v), "a count or auto")
        return auto if value == "auto" else cast("int", value)

    def flag(self, key: str, default: Any = _REQUIRED) -> bool:
        """True or false."""
        value = self._typed(key, default, lambda value: isinstance(value, bool), "true or false")
        return cast("bool", value)

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        """A number."""
        return cast("float", self._typed(key, default, _is_number, "a number"))

    def text(self, key: str, default: Any = _REQUIRED) -> str:
        """A string."""
        value = self._typed(key, default, lambda value: isinstance(value, str), "a string")
        return cast("str", value)

    def counts(self, key: str, default: Any = _REQUIRED) -> list[int]:
        """A list of whole numbers."""
        value = self._typed(key, default, _is_list_of(_is_size), "a list of whole numbers")
        return cast("list[int]", value)

    def flags(self, key: str, default: Any = _REQUIRED) -> list[bool]:
        """A list of true and false."""
        check = _is_list_of(lambda value: isinstance(value, bool))
        return cast("list[bool]", self._typed(key, default, check, "a list of true and false"))

    def numbers(self, key: str, default: Any = _REQUIRED) -> list[float]:
        """A list of numbers."""
        value = self._typed(key, default, _is_list_of(_is_number), "a list of numbers")
        return cast("list[float]", value)

    def texts(self, key: str, default: Any = _REQUIRED) -> list[str]:
        """A list of strings."""
        check = _is_list_of(lambda value: isinstance(value, str))
        return cast("list[str]", self._typed(key, default, check, "a list of strings"))

    def lists(self, key: str, default: Any = _REQUIRED) -> list[list[int]]:
        """A list of lists of whole numbers."""
        check = _is_list_of(_is_list_of(_is_size))
        value = self._typed(key, default, check, "a list of lists of whole numbers")
        return cast("list[list[int]]", value)

    def part(self, key: str) -> "ConfigView":
        """A nested object; its keys are checked with those of the whole."""
        if key not in self._parts:
            value = self._typed(key, _REQUIRED, lambda v: isinstance(v, dict), "an object")
            self._parts[key] = ConfigView(value, self.name, (*self.path, key))
        return self._parts[key]

    def parts(self, key: str) -> list["ConfigView"]:
        """A list of nested objects; their keys are checked with those of the whole."""
        check = _is_list_of(lambda value: isinstance(value, dict))
        values = self._typed(key, _REQUIRED, check, "a list of objects")
        if len(values) > MAX_LAYERS:
            raise self.refusal(key, f"has {len(values):,} items, and {MAX_LAYERS:,} is the most")
        for index, value in enumerate(values):
            name = f"{key}.{index}"
            self._parts.setdefault(name, ConfigView(value, self.name, (*self.path, name)))
        return [self._parts[f"{key}.{index}"] for index in range(len(values))]

    def renamed(self, names: dict[str, str]) -> "ConfigView":
        """This object with keys under other names; each is checked as a key of its own."""
        data = {names.get(key, key): value for key, value in self._data.items()}
        if len(data) != len(self._data):
            raise self.refusal(next(iter(names)), "stands beside its other name")
        self.ignore_all()
        self._parts["renamed"] = ConfigView(data, self.name, self.path)
        return self._parts["renamed"]

    def require(self, key: str, *accepted: Any, default: Any = None) -> None:
        """Refuse any value of ``key`` but those that the reader can say."""
        self._read.add(key)
        value = self._data.get(key, default)
        if value not in accepted:
            words = " or ".join(map(repr, accepted))
            raise self.refusal(key, f"is {printable(repr(value))}; only {words} can be read so far")

    def ignore(self, *keys: str) -> None:
        """Keys of this family that change no size; the reader says why beside the call."""
        self._read.update(keys)

    def ignore_all(self) -> None:
        """Every key of this object; the reader says why beside the call."""
        self._read.update(self._data)

    def refusal(self, key: str, why: str) -> DocumentError:
        """The error to raise where ``key`` cannot be read."""
        where = ".".join((*self.path, key))
        return DocumentError(
            f"{why.removesuffix('.')}. docs/add-a-model.md says how to add what is missing.",
            self.name,
            key=where,
        )

    def unread(self) -> list[tuple["ConfigView", str]]:
        """Keys that no reader looked at, nested objects included."""
        own = [(self, key) for key, value in self._data.items()
               if key not in self._read and value is not None]  # fmt: skip
        return own + [item for part in self._parts.values() for item in part.unread()]

    def _typed(self, key: str, default: Any, check: Callable[[Any], bool], what: str) -> Any:
        self._read.add(key)
        value = self._data.get(key)
        if value is None:
            if default is _REQUIRED:
                raise self.refusal(key, "is missing")
            return default
        if not check(value):
            raise self.refusal(key, f"must be {what}, but is {printable(repr(value))}")
        return value


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE


def _is_count(value: Any) -> bool:
    return _is_size(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))
