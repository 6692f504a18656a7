"""The time of kernels on the device at hand.

A GPU replays a captured graph between two events: launches from the host take longer than many
kernels run, and engines replay graphs too. Inputs are cold (``cold``). The median of many replays
counts; its spread is told with it.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final

import torch

from llmplan.calibrate.attempts import Failed, guarded, reason_of
from llmplan.calibrate.cold import (
    Inputs,
    affordable_copies,
    copies_for,
    distinct_bytes,
    generator_of,
    last_cache_bytes,
    one_set,
    room_for_inputs,
    warm_note,
)
from llmplan.calibrate.kernel import Kernel, Place
from llmplan.dtypes import divide_up
from llmplan.errors import InputError

MOST_CALLS: Final = 2048
"""Of one replay: a captured graph holds a node for every launch."""
_WARM_S: Final = 0.05
"""Untimed replays, until clocks have risen."""
LEAST_PATIENCE_S: Final = 0.5
"""One pass may take this long, however little time a point is given."""
PATIENCE_FRAC: Final = 0.25
"""One pass may take this part of a point's time: warming up, capturing and the fewest repeats are
some 20 passes, so that no kernel takes more than about five times its share."""
_NORMAL_IQR: Final = 1.349
"""Interquartile range of a normal distribution over its standard deviation."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much care one point is given.

    Attributes:
        seconds: Wall time, after which no more repeats are started once there are enough.
        error_frac: Standard error of the median, over the median, that is good enough.
        least_repeats: Timed replays at least, whatever they take.
        most_repeats: Timed replays at most.
        replay_s: Shortest replay, long beside the resolution of events (about 0.5 us).
    """

    seconds: float = 1.0
    error_frac: float = 0.005
    least_repeats: int = 5
    most_repeats: int = 200
    replay_s: float = 2e-3


@dataclass(frozen=True, slots=True)
class Timing:
    """The time of one pass over a kernel, or over a sequence of them.

    Attributes:
        seconds: Median over the repeats.
        least_seconds: Of the fastest repeat.
        spread_frac: Interquartile range of the repeats over the median.
        calls: Timed passes, all repeats together.
        copies: Sets of inputs that took turns.
        is_graph: Whether a captured graph was replayed, not launched call by call.
        note: What a reader should know before trusting it; empty where there is nothing.
    """

    seconds: float
    least_seconds: float
    spread_frac: float
    calls: int
    copies: int
    is_graph: bool
    note: str = ""


class TooSlowError(RuntimeError):
    """One pass takes too long for enough of them."""


@dataclass(frozen=True, slots=True)
class _Program:
    """What is timed as one: a captured graph, or a loop on the host."""

    replay: Callable[[], None]
    calls: int
    is_graph: bool
    note: str = ""


def measure(kernel: Kernel, place: Place, limits: Limits) -> Timing | Failed:
    """The time of one kernel."""
    return measure_together((kernel,), place, limits)


def measure_together(kernels: Sequence[Kernel], place: Place, limits: Limits) -> Timing | Failed:
    """The time of kernels back to back, as one: a whole layer.

    Each has inputs of its own, all of them cold. What one hands to the next in a model would be
    warm, which is little where weights are large.

    Raises:
        InputError: The device is neither a processor nor a GPU of CUDA or ROCm.
    """
    require_known(place)
    return guarded(kernels, place, lambda: _timing(kernels, place, limits))


def calls_for(pass_s: float, copies: int, replay_s: float) -> int:
    """Passes of one replay that lasts ``replay_s``: every set of inputs equally often."""
    wanted = math.ceil(replay_s / pass_s) if pass_s > 0 else MOST_CALLS
    return divide_up(max(1, min(wanted, MOST_CALLS)), copies) * copies


def median_error_frac(times: Sequence[float]) -> float:
    """Standard error of the median, over the median.

    That of n draws from a normal distribution of deviation σ is sqrt(π / 2) · σ / sqrt(n); σ is
    taken from the interquartile range, which a few slow repeats do not move.
    """
    deviation = spread_frac(times) / _NORMAL_IQR
    return math.sqrt(math.pi / 2) * deviation / math.sqrt(len(times))


def spread_frac(times: Sequence[float]) -> float:
    """Interquartile range over the median."""
    lower, middle, upper = statistics.quantiles(times, n=4, method="inclusive")
    return (upper - lower) / middle if middle else 0.0


def captured(run: Callable[[], None], place: Place) -> torch.cuda.CUDAGraph | str:
    """A graph of what ``run`` launches, after it ran on a side stream; or why there is none."""
    before = torch.cuda.current_stream(place.device)
    graph = torch.cuda.CUDAGraph()
    causes: list[Exception] = []
    try:
        with torch.cuda.graph(graph, stream=_side_stream(place.device)):
            try:
                run()
            except Exception as error:
                causes.append(error)
                raise
    except Exception as error:  # noqa: BLE001 (torch checks some values with ValueError)
        # the end of a failed capture raises too, before it hands the stream back
        reason = reason_of(causes[0] if causes else error)
    else:
        return graph
    causes.clear()
    torch.cuda.set_stream(before)
    torch.cuda.synchronize(place.device)
    return reason


def require_known(place: Place) -> None:
    """That the device is one whose clock is known here.

    Raises:
        InputError: It is not: its calls return before they are done, and would look fast.
    """
    if not (place.is_cuda or place.device.type == "cpu"):
        raise InputError(
            f"kernels are not timed on {place.device.type}. Use a GPU of CUDA or ROCm, or the "
            "processor with `--device cpu`."
        )


def current(place: Place) -> AbstractContextManager[object]:
    """Makes the place's GPU the current one: new streams and graphs belong to it."""
    return torch.cuda.device(place.device) if place.is_cuda else nullcontext()


def warm_up(run: Callable[[], None], place: Place) -> None:
    """Run three times: what is compiled, tuned or loaded on first use is then ready.

    On a GPU on a side stream, as a capture that follows wants it.
    """
    if not place.is_cuda:
        for _ in range(3):
            run()
        return
    main, side = torch.cuda.current_stream(place.device), _side_stream(place.device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    main.wait_stream(side)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all captures of a GPU: matmul libraries keep a workspace for every stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _timing(kernels: Sequence[Kernel], place: Place, limits: Limits) -> Timing:
    deadline = time.monotonic() + limits.seconds
    with torch.inference_mode(), current(place):
        sets, pass_s = _sets(kernels, place, limits)
        program = _program(kernels, sets, pass_s, place, limits)
        times = _repeated(program, place, limits, deadline)
        notes = program.note, warm_note(sets, place), _error_note(times, limits)
    seconds = statistics.median(times)
    return Timing(
        seconds=seconds / program.calls,
        least_seconds=min(times) / program.calls,
        spread_frac=spread_frac(times),
        calls=program.calls * len(times),
        copies=len(sets),
        is_graph=program.is_graph,
        note="; ".join(filter(None, notes)),
    )


def _sets(kernels: Sequence[Kernel], place: Place, limits: Limits) -> tuple[list[Inputs], float]:
    """The sets of inputs that take turns, and about how long one pass takes."""
    generator = generator_of(place)
    first = one_set(kernels, generator)
    once = _loop(kernels, [first], 1)
    once()  # alone: what is compiled or loaded on first use does not count
    _refuse_slow(min(_seconds(once, 1, place)), limits)
    warm_up(once, place)
    pass_s = min(_seconds(once, 2, place))
    copies = copies_for(distinct_bytes(first), last_cache_bytes(place), room_for_inputs(place))
    copies = affordable_copies(copies, pass_s, limits.seconds)
    return [first, *(one_set(kernels, generator) for _ in range(copies - 1))], pass_s


def _refuse_slow(pass_s: float, limits: Limits) -> None:
    """That enough passes are possible without taking the time of many other points.

    Raises:
        TooSlowError: They are not.
    """
    most_s = max(limits.seconds * PATIENCE_FRAC, LEAST_PATIENCE_S)
    if pass_s > most_s:
        raise TooSlowError(f"too slow: one pass takes {pass_s:.2g} s, more than {most_s:.2g} s")


def _program(
    kernels: Sequence[Kernel],
    sets: list[Inputs],
    pass_s: float,
    place: Place,
    limits: Limits,
) -> _Program:
    calls = calls_for(pass_s, len(sets), limits.replay_s)
    run = _loop(kernels, sets, calls)
    if not place.is_cuda:
        return _Program(run, calls, is_graph=False)
    graph = captured(run, place)
    if isinstance(graph, str):
        return _Program(run, calls, is_graph=False, note=f"launched eagerly: {graph}")
    # the estimate was launched by the host; a graph may be several times as fast
    replay_s = min(_seconds(graph.replay, 3, place))
    more = calls_for(replay_s / calls, len(sets), limits.replay_s)
    if more > calls:
        again = captured(_loop(kernels, sets, more), place)
        if not isinstance(again, str):
            return _Program(again.replay, more, is_graph=True)
    return _Program(graph.replay, calls, is_graph=True)


def _loop(kernels: Sequence[Kernel], sets: list[Inputs], calls: int) -> Callable[[], None]:
    """Runs ``calls`` passes, the sets taking turns."""

    def run() -> None:
        for call in range(calls):
            for kernel, tensors in zip(kernels, sets[call % len(sets)], strict=True):
                kernel.run(*tensors)

    return run


def _repeated(program: _Program, place: Place, limits: Limits, deadline: float) -> list[float]:
    """Seconds of replays, until their median is known well enough or the time is spent."""
    rough_s = _seconds(program.replay, 1, place)[0]
    for _ in range(min(100, int(_WARM_S / rough_s) if rough_s > 0 else 100)):
        program.replay()
    times: list[float] = []
    while True:
        times += _seconds(program.replay, limits.least_repeats, place)
        is_known = median_error_frac(times) <= limits.error_frac
        if is_known or len(times) >= limits.most_repeats or time.monotonic() >= deadline:
            return times


def _seconds(replay: Callable[[], None], repeats: int, place: Place) -> list[float]:
    """How long each of several replays takes."""
    return (_gpu_seconds if place.is_cuda else _host_seconds)(replay, repeats)


def _gpu_seconds(replay: Callable[[], None], repeats: int) -> list[float]:
    """Between events that are queued without a pause.

    An untimed replay goes first. Without it the GPU would wait, inside the first interval, for the
    host to launch what follows the event.
    """
    events = [
        torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        for _ in range(repeats + 1)
    ]
    replay()
    events[0].record()
    for event in events[1:]:
        replay()
        event.record()
    events[-1].synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in pairwise(events)]


def _host_seconds(replay: Callable[[], None], repeats: int) -> list[float]:
    marks = [time.perf_counter()]
    for _ in range(repeats):
        replay()
        marks.append(time.perf_counter())
    return [end - begin for begin, end in pairwise(marks)]


def _error_note(times: Sequence[float], limits: Limits) -> str:
    error_frac = median_error_frac(times)
    if error_frac <= limits.error_frac:
        return ""
    return f"median uncertain by {error_frac:.1%} after {len(times)} repeats"
