"""What every engine answers: what it holds back on a GPU, and what its cache pool then holds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from llmplan.engines.settings import Settings
from llmplan.units import Provenance


@dataclass(frozen=True, slots=True)
class Term:
    """A size with where it comes from.

    Attributes:
        bytes: The size.
        provenance: Where it comes from.
        note: How it was arrived at, in words.
    """

    bytes: int
    provenance: Provenance
    note: str


NOTHING: Final = Term(0, Provenance.EXACT, "nothing")


@dataclass(frozen=True, slots=True)
class Default:
    """A setting that nobody stated: what the engine takes, and why.

    Attributes:
        setting: Name in ``Settings``.
        value: What the engine takes.
        why: The rule.
    """

    setting: str
    value: object
    why: str


def filled(
    asked: Settings, rules: Iterable[tuple[str, object, str]]
) -> tuple[Settings, tuple[Default, ...]]:
    """The settings with rules of (setting, value, why) where nothing was stated."""
    defaults = tuple(Default(*rule) for rule in rules if getattr(asked, rule[0]) is None)
    return asked.with_values({d.setting: d.value for d in defaults}), defaults


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine holds on one GPU before requests come.

    Attributes:
        budget_bytes: What it may fill.
        weights: Stored weights and what loading adds to them.
        activations: Peak of a step, kept free for it.
        non_torch: Communication buffers and libraries.
        graphs: Captured graphs.
        graphs_in_budget: Whether these come out of the budget or out of what it leaves over.
        pool_bytes: Cache pool; negative where the weights leave nothing.
        pool_note: How the engine arrives at it.
        beside: What is held beside the model: adapters, a draft model, logits of prompts.
    """

    budget_bytes: int
    weights: Term
    activations: Term
    non_torch: Term
    graphs: Term
    graphs_in_budget: bool
    pool_bytes: int
    pool_note: str
    beside: Term = NOTHING


class CachePool(Protocol):
    """How a cache pool is handed out to requests."""

    @property
    def unit(self) -> str:
        """What it is handed out in, in words."""

    def request_bytes(self, context: int) -> int:
        """Bytes that one request of ``context`` tokens takes from the pool."""

    def printed_tokens(self, pool_bytes: int, max_model_len: int) -> int:
        """Tokens that the engine prints at start-up."""

    def printed_concurrency(self, pool_bytes: int, max_model_len: int) -> float:
        """Requests of the full length that the engine prints at start-up."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An engine's answer for one rank.

    Attributes:
        settings: All settings, defaults filled in.
        defaults: Those that nobody stated.
        held: What is held back.
        cache: How the pool is handed out.
        remarks: What a reader should know.
    """

    settings: Settings
    defaults: tuple[Default, ...]
    held: Held
    cache: CachePool
    remarks: tuple[str, ...] = ()
