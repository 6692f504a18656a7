"""A figure with the range to expect, from how far like figures were off."""

from dataclasses import dataclass
from typing import Final

from llmplan.perf.overheads import Spread
from llmplan.units import Provenance, weakest

MEASURED: Final = ("model", "class")
"""Scopes whose figures count as fitted; wider ones are assumed."""
SCOPES: Final = {
    "model": "{rows} runs of this model, engine and GPU, each kept out of the fit: median error"
    " {error}",
    "class": "{rows} runs of other models of this kind on this engine and GPU, each model left out"
    " of the fit: median error {error}",
    "device": "{rows} runs on this GPU, each model left out of the fit: median error {error}",
    "engine": "{rows} runs of this engine, each model left out of the fit: median error {error}",
    "none": "no like deployment was measured; {rows} runs of all kinds, each model left out of the"
    " fit: median error {error}",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with the range that eight of ten like measurements fell into.

    Attributes:
        low: 10th percentile of what was measured for like deployments.
        value: The estimate.
        high: 90th percentile.
        provenance: Fitted where this class was measured, assumed elsewhere.
        note: What the range was taken from.
    """

    low: float
    value: float
    high: float
    provenance: Provenance
    note: str


def figure_of(value: float, spread: Spread) -> Figure:
    """A value in the range of its class."""
    return Figure(
        value * (1 + spread.low),
        value,
        value * (1 + spread.high),
        Provenance.FITTED if spread.scope in MEASURED else Provenance.ASSUMED,
        SCOPES[spread.scope].format(rows=spread.rows, error=f"{spread.median_error:.0%}"),
    )


def of_request(first: Figure, later: Figure, tokens: float) -> Figure:
    """A whole request: its first token and so many further ones.

    Both ends are taken together, since what slows one slows the other.
    """
    return Figure(
        first.low + tokens * later.low,
        first.value + tokens * later.value,
        first.high + tokens * later.high,
        weakest(first.provenance, later.provenance),
        "the ranges of TTFT and TPOT together",
    )


def rate_within(value: float, time: Figure) -> Figure:
    """A rate whose range is the inverse of that of the time behind it."""
    return Figure(
        value * time.value / time.high if time.high else value,
        value,
        value * time.value / time.low if time.low else value,
        time.provenance,
        time.note,
    )


def as_it_comes(rate: float, capacity: Figure) -> Figure:
    """What is served of requests that come at a rate: all of it, but for a lower capacity."""
    return Figure(min(rate, capacity.low), rate, rate, capacity.provenance, capacity.note)
