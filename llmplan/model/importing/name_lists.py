"""What a list of module names means for the roles of a spec: all of a role, or none of it."""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from llmplan.errors import printable
from llmplan.model.importing.module_names import never_converted, units
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.view import ConfigView

MOST_EXPRESSIONS: Final = 100
"""Expressions of a list that speak about more than one layer; published lists have about ten."""
MOST_PATTERNS: Final = 10_000
"""Of a list; those published name 1,500 modules at most."""
MOST_LAYERS: Final = 500
"""Of a model whose list is read: its modules are written out, and no published one has as many."""
MOST_TRIALS: Final = 100_000
"""Names tried with expressions, all expressions together."""
MOST_CHARACTERS: Final = 200
MOST_WILDCARDS: Final = 3
_PREFIXES: Final = ("", "model.", "model.language_model.", "language_model.model.")
"""What may stand before ``layers.`` in a published checkpoint."""
_LEADING: Final = re.compile(r"^(?:(?:model|language_model|transformer|backbone|decoder)\.)+")
_DIGIT: Final = re.compile(r"\d")
_PLAIN: Final = re.compile(r"[\w.-]+")
_LAYER: Final = re.compile(r"layers\\?\.(\d+)(?=\\?\.|$)")
_SAFE: Final = re.compile(
    # no quantifier over a group and none over a quantifier: matching stays fast
    r"\^?(?:\.\*|\\d\+|\[0-9\]\+|\\\.|\.|[\w-]|\((?:\?:)?(?:[\w|.-]|\\\.)+\))*\$?"
)
_TOWER: Final = r"(?:visual|vision|vision_tower|vision_model|vision_encoder|vit)"
_BRIDGE: Final = (
    r"(?:multi_modal_projector|mm_projector|vision_adapter|projector|merger|connector|aligner"
    r"|embed_vision)"
)
_PATCHES: Final = r"(?:vision_embedder)"
_SOUND: Final = r"(?:embed_audio)"
_BESIDE: Final = {
    "vision": _TOWER,
    "projector": _BRIDGE,
    "patches": _PATCHES,
    "audio_projector": _SOUND,
}
"""What stands beside the decoder, part by part; patches are projected where there is no tower."""
_WHOLE_PART: Final = r"(?:re:)?\^?(?:\.?\*|(?:model|language_model)\\?\.)*{}[\\.*$]*"


class Syntax(StrEnum):
    """How a method reads its list."""

    MODULES = "modules"
    """Whole components of a name, or an expression from its start (transformers, AWQ)."""
    EXACT = "exact"
    """Full names, and expressions behind ``re:`` (compressed-tensors)."""
    WILDCARDS = "wildcards"
    """Full names with ``*`` (ModelOpt)."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a list names.

    Attributes:
        roles: Roles that it names as a whole in the decoder.
        mtp: Roles that it names as a whole in MTP modules.
        head: Whether it names the output head.
        vision: Whether it names the vision tower and the projector, as far as there are any.
    """

    roles: frozenset[str]
    mtp: frozenset[str]
    head: bool
    vision: bool


class Names:
    """The module names of a spec's body, and what patterns among them match."""

    def __init__(self, body: Spec) -> None:
        self._trials = 0
        self._units = units(body)
        self._parts = [part for part in _BESIDE if body.get(part)]
        if body.get("projector") and not body.get("vision"):
            self._parts.append("patches")
        own = {name for unit in self._units for name in unit.names}
        self._names = own | set(never_converted(body))
        self._by_part: dict[str, set[str]] = defaultdict(set)
        self._by_layer: dict[str, set[str]] = defaultdict(set)
        self._by_shape: dict[str, set[str]] = defaultdict(set)
        for name in self._names:
            if layer := _LAYER.match(name):
                self._by_layer[layer[1]].add(name)
            self._by_shape[_DIGIT.sub("0", name)].add(name)
            for part in _components(name):
                self._by_part[part].add(name)

    def named(self, settings: ConfigView, key: str, patterns: list[str], syntax: Syntax) -> Named:
        """The roles that patterns name.

        Raises:
            DocumentError: A pattern names nothing known, or some modules of a role only.
        """
        if len(patterns) > MOST_PATTERNS:
            raise settings.refusal(key, f"has more than {MOST_PATTERNS:,} entries")
        expressions = [p for p in patterns if not _PLAIN.fullmatch(p) and not _LAYER.search(p)]
        if len(expressions) > MOST_EXPRESSIONS:
            raise settings.refusal(key, f"has more than {MOST_EXPRESSIONS} expressions")
        beside = [pattern for pattern in patterns if _names_vision(pattern)]
        hits = {pattern: self._matches(settings, key, pattern, syntax) for pattern in set(patterns)}
        for pattern in patterns:
            if not hits[pattern] and pattern not in beside:
                raise settings.refusal(key, f"'{printable(pattern)}' names no part that is known")
        matched = set().union(*hits.values())
        roles = {mtp: self._whole_roles(matched, in_mtp=mtp) for mtp in (False, True)}
        self._refuse_parts(settings, key, hits, roles)
        return Named(roles[False], roles[True], "lm_head" in matched, self._all_vision(beside))

    def _whole_roles(self, matched: set[str], *, in_mtp: bool) -> frozenset[str]:
        """Roles of which every unit is covered in one of its spellings."""
        covered: dict[str, bool] = {}
        for unit in self._units:
            if unit.in_mtp == in_mtp:
                whole = any(names <= matched for names in unit.spellings)
                covered[unit.role] = covered.get(unit.role, True) and whole
        return frozenset(role for role, whole in covered.items() if whole)

    def _refuse_parts(
        self,
        settings: ConfigView,
        key: str,
        hits: dict[str, set[str]],
        roles: dict[bool, frozenset[str]],
    ) -> None:
        partial = [unit for unit in self._units if unit.role not in roles[unit.in_mtp]]
        of_parts: set[str] = set().union(*(unit.names for unit in partial)) if partial else set()
        for pattern, matched in hits.items():
            if matched & of_parts:
                role = next(unit.role for unit in partial if unit.names & matched)
                why = f"'{printable(pattern)}' names some modules of {role} only; precision is read"
                raise settings.refusal(key, f"{why} for all layers of a role at once")

    def _all_vision(self, patterns: Iterable[str]) -> bool:
        """Whether tower and projector, as far as the model has them, are named as a whole."""
        return all(
            any(re.fullmatch(_WHOLE_PART.format(_BESIDE[part]), pattern) for pattern in patterns)
            for part in self._parts
        )

    def _matches(self, settings: ConfigView, key: str, pattern: str, syntax: Syntax) -> set[str]:
        if len(pattern) > MOST_CHARACTERS:
            raise settings.refusal(key, f"has a pattern of more than {MOST_CHARACTERS} characters")
        if _PLAIN.fullmatch(pattern):
            name = _LEADING.sub("", pattern)
            if syntax is Syntax.EXACT:
                return {name} & self._names
            return set(self._by_part.get(name, ()))
        expression = self._expression(settings, key, pattern, syntax)
        candidates = list(self._candidates(pattern))
        self._trials += len(candidates)
        if self._trials > MOST_TRIALS:
            raise settings.refusal(key, "has more expressions than are tried on so many modules")
        return {
            name
            for some, names in candidates
            if any(expression.match(prefix + some) for prefix in _PREFIXES)
            for name in names
        }

    def _candidates(self, pattern: str) -> Iterator[tuple[str, set[str]]]:
        """Names to try, each with those that must match where it does.

        A pattern without digits cannot tell names apart that differ in their digits.
        """
        if layer := _LAYER.search(pattern):
            yield from ((name, {name}) for name in self._by_layer[layer[1]])
        elif _DIGIT.search(pattern.replace("[0-9]", "")):
            yield from ((name, {name}) for name in self._names)
        else:
            yield from self._by_shape.items()

    def _expression(
        self, settings: ConfigView, key: str, pattern: str, syntax: Syntax
    ) -> re.Pattern[str]:
        """A pattern as a regular expression whose matching is known to be fast."""
        wildcards = pattern.removesuffix("*").count("*") + pattern.count("+")
        if wildcards > MOST_WILDCARDS or ".*.*" in pattern or "**" in pattern:
            most = f"has more than {MOST_WILDCARDS} wildcards, or two in a row"
            raise settings.refusal(key, f"'{printable(pattern)}' {most}")
        if syntax is Syntax.WILDCARDS:
            return re.compile(fnmatch.translate(pattern))
        text = pattern.removeprefix("re:") if syntax is Syntax.EXACT else pattern
        if not _SAFE.fullmatch(text) or (syntax is Syntax.EXACT and text == pattern):
            raise settings.refusal(key, f"'{printable(pattern)}' is no expression that can be read")
        try:
            return re.compile(text if syntax is Syntax.EXACT else rf"(?:{text})(?:\.|$)")
        except re.error:
            why = f"'{printable(pattern)}' is no expression that can be read"
            raise settings.refusal(key, why) from None


def _components(name: str) -> Iterable[str]:
    """Every run of components of a dotted name."""
    parts = name.split(".")
    return {".".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)}


def _names_vision(pattern: str) -> bool:
    """Whether a pattern speaks about what stands beside the decoder of a multimodal model."""
    words = "|".join(_BESIDE.values())
    return re.search(rf"(?:^|[^a-z_])(?:{words})(?:$|[^a-z])", pattern) is not None
