"""Profiles of engines: terms by version, read from YAML.

``profiles/ENGINE.yaml`` holds what the engine's source code states; ``profiles/fitted.yaml`` what
was fitted to measured starts, and is written by ``tools/fit_engines.py`` only.
"""

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from llmplan.documents import load_document
from llmplan.engines.settings import EngineName
from llmplan.engines.versions import Release, Version, read_version, shown, version_of_day
from llmplan.errors import InputError, UnknownNameError, printable
from llmplan.units import Provenance
from llmplan.validation import validated

FOLDER: Final = Path(__file__).parent / "profiles"


class Ranks(StrEnum):
    """Which ranks a term holds for."""

    ANY = "any"
    ONE = "one"
    """A single GPU."""
    STAGES = "stages"
    """Pipeline stages only."""
    MANY = "many"
    """Several ranks split each layer."""


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Value(Strict):
    """A term from one version on.

    Attributes:
        since: First version it holds for.
        value: In the unit that the term's name ends in.
        ranks: Which ranks it holds for.
        below_capability: Compute capability that it holds below; none for all.
        switched: Whether it holds where GPUs are joined by a switch or mesh; none for both.
        provenance: published where the source code states it, fitted or assumed otherwise.
        rows: Measured starts that it was fitted to.
        residual: Median absolute difference to them, in the same unit.
    """

    since: str = ""
    value: float
    ranks: Ranks = Ranks.ANY
    below_capability: float | None = None
    switched: bool | None = None
    provenance: Provenance = Provenance.PUBLISHED
    rows: int | None = None
    residual: float | None = None

    def holds(self, version: Version, where: "Where") -> bool:
        """Whether it applies."""
        if self.ranks is not Ranks.ANY and self.ranks is not where.ranks:
            return False
        if self.switched is not None and self.switched is not where.switched:
            return False
        if self.below_capability is not None:
            least = UNKNOWN_CAPABILITY if where.capability is None else where.capability
            if least >= self.below_capability:
                return False
        return (read_version(self.since) or ()) <= version

    @property
    def specificity(self) -> tuple[int, float, Version]:
        """Narrower values win, then later ones."""
        conditions = (self.ranks is not Ranks.ANY) + (self.switched is not None)
        conditions += self.below_capability is not None
        below = self.below_capability or 0.0
        return conditions, -below, read_version(self.since) or ()


UNKNOWN_CAPABILITY: Final = 99.0
"""Compute capability of GPUs that have none: terms below some capability do not hold for them."""


@dataclass(frozen=True, slots=True)
class Where:
    """What a term may depend on beside the version."""

    ranks: Ranks = Ranks.ANY
    capability: float | None = None
    switched: bool = False


ANYWHERE: Final = Where()

Terms = dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]]


class EngineFile(Strict):
    """``profiles/ENGINE.yaml``.

    Attributes:
        valid_from: Oldest version that the profile was made for.
        valid_through: Newest version that was looked at.
        releases: First version of each line with the day of its release.
        terms: What the source code states.
    """

    engine: EngineName
    title: str
    source: str
    date: dt.date
    valid_from: str | None = None
    valid_through: str | None = None
    releases: dict[str, str] = {}
    terms: Terms = {}


class Error(Strict):
    """How far answers were from measured starts: absolute, relative to what was measured."""

    rows: int
    median: float
    p90: float


class FittedFile(Strict):
    """``profiles/fitted.yaml``: terms by engine, and the errors of answers with them."""

    data: str
    date: dt.date
    tool: str
    engines: dict[EngineName, Terms]
    errors: dict[EngineName, dict[str, Error]] = {}


@dataclass(frozen=True)
class Profile:
    """What is known of an engine at one version.

    Attributes:
        engine: The engine.
        version: The version answered for; empty where the engine has none.
        version_said: How the version was arrived at.
        remarks: What a reader should know of that.
        terms: All terms, by name.
        errors: Of answers beside measured starts, by metric.
    """

    engine: EngineName
    title: str
    version: Version
    version_said: str
    remarks: tuple[str, ...]
    terms: Terms
    errors: dict[str, Error] = field(default_factory=dict)
    _looked_up: dict[tuple[str, Where], Value] = field(
        default_factory=dict, compare=False, repr=False
    )

    def term(self, name: str, where: Where = ANYWHERE) -> Value:
        """The value of a term.

        Raises:
            KeyError: The profile has no such term: a mistake in a profile.
            InputError: The version is older than the first one that the term is known for.
        """
        known = self._looked_up.get((name, where))
        if known is None:
            holding = [value for value in self.terms[name] if value.holds(self.version, where)]
            if not holding:
                oldest = min((value.since for value in self.terms[name]), key=_as_version)
                raise InputError(
                    f"{self.title} {self.version_said} is older than what is known of it: name "
                    f"{self.engine.value}@{oldest} or a later version."
                )
            known = max(holding, key=lambda value: value.specificity)
            self._looked_up[name, where] = known
        return known

    def number(self, name: str, where: Where = ANYWHERE) -> float:
        """The number of a term."""
        return self.term(name, where).value

    def is_since(self, version: str) -> bool:
        """Whether the version answered for is this one or newer."""
        return self.version >= (read_version(version) or ())


def _as_version(text: str) -> Version:
    return read_version(text) or ()


def profile_of(asked: str) -> Profile:
    """The profile for ``vllm``, ``vllm@0.19``, ``sglang@2026-04-25``, ``generic``.

    Without a version, the newest that the profile was made for.

    Raises:
        UnknownNameError: No such engine.
        InputError: A version that cannot be read.
    """
    name, _, wanted = asked.strip().lower().partition("@")
    engine = _engine(name)
    file, fitted = _files(engine)
    terms = {**file.terms, **fitted}
    errors = _fitted().errors.get(engine, {})
    if not file.valid_through:
        if wanted:
            raise InputError(f"engine {engine} has no versions: write --engine {engine}.")
        return Profile(engine, file.title, (), "", (), terms, errors)
    releases = tuple(Release(read_version(v) or (), day) for v, day in file.releases.items())
    newest = read_version(file.valid_through) or ()
    if not wanted or wanted == "latest":
        said = f"{shown(newest)}, the newest that the profile was made for"
        return Profile(engine, file.title, newest, said, (), terms, errors)
    version, said = read_version(wanted), wanted
    if version is None:
        version = version_of_day(wanted, releases)
        said = f"{shown(version)}, out on {printable(wanted)}" if version else ""
    if version is None:
        raise InputError(
            f"'{printable(wanted)}' is no version of {engine}: write {engine}@{shown(newest)}, or "
            f"the day of a build, as in {engine}@2026-04-25."
        )
    remarks = _range_remarks(file, version)
    return Profile(engine, file.title, version, said, remarks, terms, errors)


def is_older_than_day(profile: Profile, day: str) -> bool:
    """Whether its version came before every release since a day, as in ``2025-04``."""
    releases = _files(profile.engine)[0].releases
    since = [read_version(version) or () for version, out in releases.items() if out >= day]
    return bool(profile.version and since) and profile.version < min(since)


def _range_remarks(file: EngineFile, version: Version) -> tuple[str, ...]:
    oldest, newest = (
        read_version(file.valid_from or "") or (),
        read_version(file.valid_through or ""),
    )
    if oldest <= version <= ((newest or ()) + (999,)):
        return ()
    range_said = f"{file.valid_from} to {file.valid_through}"
    said = f"{file.title} {shown(version)} is outside the versions that the profile was made for"
    return (f"{said} ({range_said}); the nearest is used.",)


ANY_PATCH: Final = 999
"""Patch releases of the newest version count as it."""


_SHORT: Final = {
    "llamacpp": EngineName.LLAMACPP,
    "llama-cpp": EngineName.LLAMACPP,
    "tensorrt-llm": EngineName.TRTLLM,
    "tensorrtllm": EngineName.TRTLLM,
    "trt-llm": EngineName.TRTLLM,
}


def _engine(name: str) -> EngineName:
    try:
        return _SHORT.get(name) or EngineName(name)
    except ValueError:
        names = [engine.value for engine in EngineName]
        raise UnknownNameError("engine", name, names, f"Engines: {', '.join(names)}.") from None


@cache
def _files(engine: EngineName) -> tuple[EngineFile, Terms]:
    file = validated(load_document(FOLDER / f"{engine.value}.yaml"), EngineFile)
    fitted = _fitted()
    return file, fitted.engines.get(engine, {})


@lru_cache(maxsize=1)
def _fitted() -> FittedFile:
    return validated(load_document(FOLDER / "fitted.yaml"), FittedFile)
