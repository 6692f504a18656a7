"""Versions of engines: reading and ordering them, and the release of a day."""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

Version: TypeAlias = tuple[int, ...]
"""(major, minor, patch …) of a release; pre-releases count as the release they lead to."""

_NUMBER: Final = re.compile(
    r"(?<![\d.])v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?!\d)"
)
_DAY: Final = re.compile(r"(20\d\d)(?:-(\d\d)(?:-(\d\d))?)?")
_UNRELEASED: Final = (0, 1)
"""Builds of a main branch call themselves 0.1.dev…: their number says nothing."""


@dataclass(frozen=True, slots=True)
class Release:
    """The first version of a line and the day it came out."""

    version: Version
    day: str


def read_version(text: str) -> Version | None:
    """The version in ``0.19.0``, ``v0.8.5.post1``, ``0.10.x``; None for builds without a number.

    A range such as ``0.24-0.25`` is read as its first.
    """
    match = _NUMBER.search(text)
    if not match:
        return None
    version = tuple(int(part) for part in match.groups() if part is not None)
    return None if version[:2] == _UNRELEASED and ".dev" in text else version


def version_of_day(text: str, releases: tuple[Release, ...]) -> Version | None:
    """The newest release that was out on ``2026-04-25``, in ``2026-04`` or in ``2025``.

    Of a month without a day, its middle is taken; of a year alone, its end.
    """
    match = _DAY.search(text)
    if not match:
        return None
    day = f"{match[1]}-{match[2] or '12'}-{match[3] or ('15' if match[2] else '31')}"
    out = [release.version for release in releases if release.day <= day]
    return out[-1] if out else None


def shown(version: Version) -> str:
    """As people write it."""
    return ".".join(map(str, version))
