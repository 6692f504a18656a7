"""Options that say what is served, and how: traffic, drafts, pools for prompts, bounds."""

from dataclasses import dataclass
from typing import Any, Final

from llmplan.analyze.traffic import Scenario
from llmplan.errors import InputError, UnknownNameError, printable
from llmplan.units import parse_seconds, parse_tokens

DEFAULT_TOKENS: Final = 1024
"""Of a prompt and of an output where nothing is said."""
MOST_REQUESTS: Final = 10**6
LEAST_RATE: Final = 1e-6
MOST_RATE: Final = 1e6
"""Requests a second; beyond them every figure would be noise."""
SCENARIOS: Final = {
    "closed": Scenario.CLOSED_LOOP,
    "open": Scenario.OPEN_LOOP,
    "static": Scenario.STATIC_BATCH,
    "offline": Scenario.OFFLINE,
    "single": Scenario.SINGLE_STREAM,
}
"""Words of --scenario; their longer forms are read as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficOptions:
    """What is served, as typed; None where nothing was said.

    Attributes:
        isl: Prompt tokens.
        osl: Output tokens.
        concurrency: Requests in flight, or several such counts separated by commas.
        rate: Requests a second.
        scenario: A word of ``SCENARIOS``.
        spread: Lengths differ between requests; ``isl`` and ``osl`` are means.
        prefix_cache: Share of a prompt that is in the cache already.
        acceptance: Chance that a draft is right where all before it were.
        ttft: Bound on the time to the first token.
        tpot: Bound on the time between further tokens.
        disaggregate: GPUs for prompts, a colon, GPUs that decode.
        prefill_tp: GPUs that split each layer where prompts are worked on.
    """

    isl: str | None = None
    osl: str | None = None
    concurrency: str | None = None
    rate: float | None = None
    scenario: str | None = None
    spread: bool = False
    prefix_cache: float = 0.0
    acceptance: float | None = None
    ttft: str | None = None
    tpot: str | None = None
    disaggregate: str | None = None
    prefill_tp: int | None = None

    @property
    def tokens(self) -> tuple[int, int]:
        """Prompt and output tokens.

        Raises:
            InputError: No token count.
        """
        isl, osl = (DEFAULT_TOKENS if t is None else parse_tokens(t) for t in (self.isl, self.osl))
        return isl, osl

    def way(self) -> Scenario:
        """How requests come: at a rate where one is given, else so many in flight.

        Raises:
            InputError: A scenario and options that contradict it.
        """
        usual = "open" if self.rate is not None else "closed"
        word = usual if self.scenario is None else self.scenario.strip().lower()
        known = {**SCENARIOS, **{each.value: each for each in Scenario}}
        if word not in known:
            raise UnknownNameError("scenario", word, SCENARIOS, f"{', '.join(SCENARIOS)}.")
        found = known[word]
        if found is Scenario.OPEN_LOOP and self.rate is None:
            raise InputError("requests that come at random have a rate: add --rate, as --rate 2.5.")
        if self.rate is not None and found is not Scenario.OPEN_LOOP:
            raise InputError(f"--rate is of requests that come at random, not of {word}: drop one.")
        if self.rate is not None and not LEAST_RATE <= self.rate <= MOST_RATE:
            raise InputError(
                "--rate is a number of requests a second, from 0.000001 to 1,000,000: --rate 2.5."
            )
        if self.disaggregate is not None and found is not Scenario.CLOSED_LOOP:
            raise InputError(
                "pools for prompts are known with requests in flight only: --disaggregate goes "
                "with --concurrency, not with --rate or another --scenario."
            )
        if self.concurrency is not None and found in (Scenario.OPEN_LOOP, Scenario.SINGLE_STREAM):
            raise InputError(
                f"--concurrency does not go with {_decides(found)}: leave one of them out."
            )
        return found

    def requests(self) -> tuple[int, ...]:
        """Requests in flight, one count or several, each once; empty where nothing was said.

        Raises:
            InputError: No positive whole numbers.
        """
        if self.concurrency is None:
            return ()
        words = [word.strip() for word in self.concurrency.split(",")]
        is_read = all(word.isascii() and word.isdigit() and len(word) <= 7 for word in words)
        counts = tuple(map(int, words)) if is_read else ()
        if not counts or not all(1 <= count <= MOST_REQUESTS for count in counts):
            raise InputError(
                f"'{printable(self.concurrency)}' is no count of requests: --concurrency 64, or "
                f"several as 1,8,64, each from 1 to {MOST_REQUESTS:,}."
            )
        return tuple(dict.fromkeys(counts))

    def cached_frac(self) -> float:
        """Share of a prompt in the cache.

        Raises:
            InputError: Outside [0, 1).
        """
        if not 0 <= self.prefix_cache < 1:
            raise InputError("--prefix-cache is the share of a prompt in the cache: 0 or more, and "
                             "less than 1.")  # fmt: skip
        return self.prefix_cache

    def accepted_frac(self, tokens: int) -> float:
        """Chance that a draft is right, where any are made.

        Raises:
            InputError: Drafts without it, it without drafts, or outside [0, 1).
        """
        if not tokens:
            if self.acceptance is not None:
                raise InputError("--acceptance is of drafts: say --speculative-tokens, how many.")
            return 0.0
        if self.acceptance is None:
            raise InputError(
                "drafts help as far as they are accepted: add --acceptance, the chance that a "
                "draft is right where all before it were. With one draft a step it is the "
                "acceptance rate that the engine logs for your traffic."
            )
        if not 0 <= self.acceptance < 1:
            raise InputError("--acceptance is a chance: 0 or more, and less than 1.")
        return self.acceptance

    def limits(self) -> dict[str, float]:
        """Bounds on latencies in seconds, by key of the result.

        Raises:
            InputError: A time that cannot be read.
        """
        typed = {"ttft_s": self.ttft, "tpot_s": self.tpot}
        return {key: parse_seconds(text) for key, text in typed.items() if text is not None}

    def pools(self) -> tuple[int, int] | None:
        """GPUs for prompts and GPUs that decode; None where all do both.

        Raises:
            InputError: No two counts.
        """
        if self.disaggregate is None:
            if self.prefill_tp is not None:
                raise InputError("--prefill-tp is of GPUs for prompts only: add --disaggregate.")
            return None
        words = self.disaggregate.split(":")
        counts = [int(w) for w in words if w.isascii() and w.isdigit() and len(w) <= 6]
        if len(words) != 2 or len(counts) != 2 or not all(counts):
            raise InputError(
                f"'{printable(self.disaggregate)}' are no two pools: --disaggregate 4:4 has 4 GPUs "
                "for prompts and 4 that decode."
            )
        return counts[0], counts[1]

    def echo(self) -> dict[str, Any]:
        """As inputs of a result."""
        isl, osl = self.tokens
        return {
            "isl": isl,
            "osl": osl,
            "rate": self.rate,
            "scenario": self.way().value,
            "spread": self.spread,
            "prefix_cache_frac": self.prefix_cache,
            "acceptance": self.acceptance,
            **{f"{key[:4]}_limit_s": value for key, value in self.limits().items()},
            "disaggregate": self.disaggregate,
            "prefill_tp": self.prefill_tp,
        }


def _decides(scenario: Scenario) -> str:
    return "--rate" if scenario is Scenario.OPEN_LOOP else "a single request at a time"
