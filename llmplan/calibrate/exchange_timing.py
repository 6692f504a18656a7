"""The time of a collective: all ranks repeat it in step, and the slowest counts.

On a GPU a captured graph of several calls is replayed between events, since engines replay graphs
too; where a library cannot be captured the host launches them, and the note says so.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Final

import torch

from llmplan.calibrate.collective_calls import Buffers
from llmplan.calibrate.kernel import Place, Refused
from llmplan.calibrate.ranks import Ranks
from llmplan.calibrate.timing import captured, spread_frac

SPAN_S: Final = 2e-3
"""Collectives are timed in a row that takes about this long."""
MOST_CALLS: Final = 50
WARM_CALLS: Final = 3
LEAST_S: Final = 1e-7
"""Below the resolution of any clock used."""
LEAST_REPEATS: Final = 3
MOST_REPEATS: Final = 100


@dataclass(frozen=True, slots=True)
class Timed:
    """The time of one collective.

    Attributes:
        seconds: Median of the repeats, of the slowest rank.
        spread_frac: Interquartile range over the median, of the worst rank.
        note: How it was timed.
    """

    seconds: float
    spread_frac: float
    note: str


def timed_together(ranks: Ranks, name: str, ready: Buffers, end: float) -> Timed | Refused:
    """The time of a collective that is ready on all ranks; those outside its group keep in step.

    How often it runs is agreed on: one call more on one rank would wait for ever.

    Args:
        ranks: All ranks.
        name: Of the collective, for a refusal.
        ready: What this rank runs.
        end: When to be done, by the monotonic clock of this rank.
    """
    device = ranks.device
    rough = ranks.attempt(name, lambda: 0.0 if ready.is_idle else _rough_s(ready.call, device))
    if isinstance(rough, Refused):
        return rough
    (once_s,) = ranks.greatest(rough)
    calls = max(1, min(ceil(SPAN_S / once_s), MOST_CALLS))
    replay, note = _replay(ranks, ready, calls)
    left_s = ranks.of_first(end - time.monotonic())
    affordable = int(left_s / once_s / calls) - 1  # one more goes first, untimed
    repeats = max(LEAST_REPEATS, min(affordable, MOST_REPEATS))
    times = ranks.attempt(
        name, lambda: [] if ready.is_idle else _replays_s(replay, repeats, device)
    )
    if isinstance(times, Refused):
        return times
    mine = (statistics.median(times) / calls, spread_frac(times)) if times else (0.0, 0.0)
    seconds, spread = ranks.greatest(*mine)
    return Timed(seconds, spread, f"{ranks.library} {note}, {repeats} times {calls}")


def _rough_s(call: Callable[[], object], device: torch.device) -> float:
    for _ in range(WARM_CALLS):
        call()
    return max(LEAST_S, statistics.median(_replays_s(call, WARM_CALLS, device)))


def _replay(ranks: Ranks, ready: Buffers, calls: int) -> tuple[Callable[[], object], str]:
    """Several calls in a row: a captured graph where all ranks have one, else launched."""

    def in_a_row() -> None:
        for _ in range(calls):
            ready.call()

    if ranks.device.type != "cuda":
        return in_a_row, "between processors"
    if torch.version.hip:
        # torch's watchdog may query an event while another thread captures, which HIP answers by
        # ending the process. Source: github:sgl-project/sglang issue 29235
        return in_a_row, "launched by the host"
    graph = None if ready.is_idle else captured(in_a_row, Place(ranks.device))
    if ranks.greatest(float(isinstance(graph, str)))[0]:
        return in_a_row, "launched by the host"
    replay = graph.replay if isinstance(graph, torch.cuda.CUDAGraph) else in_a_row
    return replay, "in a graph"


def _replays_s(replay: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """Seconds of each of several replays, behind one that lets ranks catch up with each other."""
    replay()
    if device.type != "cuda":
        marks = [time.perf_counter()]
        for _ in range(repeats):
            replay()
            marks.append(time.perf_counter())
        return [end - begin for begin, end in pairwise(marks)]
    events = [_event() for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        replay()
        event.record()
    events[-1].synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in pairwise(events)]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
