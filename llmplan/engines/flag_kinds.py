"""What the value of a flag may be, and how a table describes a flag."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

Value = bool | int | float | str | tuple[int, ...] | None
"""A value that was read; None where the word means the engine's default."""

Takes = Literal["none", "one", "maybe", "many", "switch"]
"""Words after a flag: none, one, one if it fits, one or more, or true/false if it fits."""

MAX_COUNT: Final = 2**50


@dataclass(frozen=True, slots=True)
class Kind:
    """A sort of value.

    Attributes:
        read: From the words to the value; raises ValueError, whose text says what is expected.
        takes: Words that belong to the flag.
    """

    read: Callable[[str], Value]
    takes: Takes = "one"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag that bears on memory.

    Attributes:
        spelled: Its spellings, separated by spaces; the first is shown in messages.
        sets: The setting, or a name that the engine's own rules turn into settings.
        kind: Its value.
        also: Settings that those rules derive from it.
    """

    spelled: str
    sets: str
    kind: Kind
    also: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Flags that do not bear on memory."""

    spelled: str
    takes: Takes = "one"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A flag that does not bear on memory at these values, and does at others."""

    spelled: str
    values: str
    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Flags that bear on memory in a way that no setting describes."""

    spelled: str
    why: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Flags that name a file of settings."""

    spelled: str


@dataclass(frozen=True, slots=True)
class Object:
    """A flag whose value is a JSON object; its keys are flags of their own: ``--x.key``."""

    spelled: str


Entry = Flag | Ignored | Fixed | Refused | Unread | Object


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text) if re.fullmatch(r"-?[0-9]{1,16}", text) else least - 1
        if not least <= number <= MAX_COUNT:
            raise ValueError(f"a whole number of {least} or more")
        return number

    return read


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{0,12}\.?[0-9]{1,20}|[0-9]{1,12}\.", text):
        raise ValueError("a number")
    return float(text)


def _fraction(text: str) -> float:
    number = _number(text)
    if not 0 < number <= 1:
        raise ValueError("a number above 0, at most 1")
    return number


def _ratio(text: str) -> float:
    number = _number(text)
    if not number > 0:
        raise ValueError("a number above 0")
    return number


def _gib(text: str) -> int:
    return int(_number(text) * 2**30)


def _mib(text: str) -> int:
    return _whole(0)(text) * 2**20


def _word(text: str) -> str:
    if not re.fullmatch(r"[!-~]{1,300}", text):
        raise ValueError("a name without spaces")
    return text


def _truth(text: str) -> bool:
    if text.lower() not in {"", "true", "false"}:
        raise ValueError("true or false")
    return text.lower() != "false"


def _on_off(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError("on or off")
    return text == "on"


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_whole(1)(size) for size in re.split(r"[\s,]+", text.strip("[] ")))


def _devices(text: str) -> int:
    """How many GPUs a list names: ``0,1`` or ``CUDA0,CUDA1``; none is 0. It may end in a comma."""
    names = [] if text in {"none", "-1"} else text.removesuffix(",").split(",")
    if len(set(names)) != len(names) or not all(re.fullmatch(r"[\w:/.-]+", n) for n in names):
        raise ValueError("GPUs, each once, separated by commas")
    return len(names)


def suffixed(multipliers: dict[str, int], whole: frozenset[str]) -> Kind:
    """Whole numbers that may end in a suffix; those of ``whole`` take no decimal point."""

    def read(text: str) -> int:
        match = re.fullmatch(r"([0-9]{1,16}(?:\.[0-9]{1,16})?)([A-Za-z]{0,2})", text)
        suffix = match[2] if match else ""
        decimal = match is not None and "." in match[1]
        if (
            match is None
            or suffix not in {"", *multipliers}
            or (decimal and suffix in {"", *whole})
        ):
            shown = ", ".join(multipliers)
            raise ValueError(f"a whole number, or one with a suffix of {shown}")
        factor = multipliers.get(suffix, 1)
        # The engines multiply as floats where there is a point, and round down.
        number = int(float(match[1]) * factor) if decimal else int(match[1]) * factor
        return _whole(1)(str(number))

    return Kind(read)


def one_of(words: str) -> Kind:
    """A word of a list, as it is written there."""

    def read(text: str) -> str:
        if text not in words.split():
            raise ValueError(f"one of {', '.join(words.split())}")
        return text

    return Kind(read)


def renamed(names: dict[str, str]) -> Kind:
    """A word that llmplan has its own name for; an empty one stands for the default."""

    def read(text: str) -> str | None:
        if text not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return names[text] or None

    return Kind(read)


COUNT: Final = Kind(_whole(1))
WHOLE: Final = Kind(_whole(0))
FRACTION: Final = Kind(_fraction)
RATIO: Final = Kind(_ratio)
GIB: Final = Kind(_gib)
MIB: Final = Kind(_mib)
WORD: Final = Kind(_word)
SIZES: Final = Kind(_sizes, "many")
DEVICES: Final = Kind(_devices)
ON_OFF: Final = Kind(_on_off)
ON: Final = Kind(lambda _: True, "none")
OFF: Final = Kind(lambda _: False, "none")
SWITCH: Final = Kind(_truth, "switch")
"""vLLM's booleans: ``--x``, ``--no-x``, and in JSON true or false."""
SWITCH_OFF: Final = Kind(lambda text: not _truth(text), "switch")
