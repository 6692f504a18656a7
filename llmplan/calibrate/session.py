"""A calibration from beginning to end: operators, exchanges, whole layers, memory; a profile."""

import datetime as dt
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Final

import numpy as np

from llmplan import __version__
from llmplan.calibrate.attempts import Failed, LostDeviceError
from llmplan.calibrate.checking import verified
from llmplan.calibrate.cold import available_bytes
from llmplan.calibrate.exchanges import LARGEST_BYTES, Request, measured_exchanges
from llmplan.calibrate.grid import EFFORT_FRAC, Grid, Point, Room, Sliced
from llmplan.calibrate.journal import Head, Journal, Row, key_of
from llmplan.calibrate.kernel import SOURCE, Kernel, Place, Refused, offered
from llmplan.calibrate.layers import Slice, measured_layer, runnable, slices
from llmplan.calibrate.machine import Machine
from llmplan.calibrate.memory import MemoryConstants, memory_constants
from llmplan.calibrate.pace import Pace, Tick
from llmplan.calibrate.timing import Limits, measure
from llmplan.calibrate.watch import watched
from llmplan.errors import InputError
from llmplan.ops.moe import Experts
from llmplan.perf.calibration import peaks_of
from llmplan.perf.calibration_spec import (
    CalibrationProfile,
    Conditions,
    MeasuredDevice,
    MeasuredLayer,
    MeasuredMemory,
    Skipped,
)
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.fitting import FEWEST_ROWS, Calibrated, fitted_kernel
from llmplan.perf.points import Points, points_of
from llmplan.perf.rates import Rates
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows

EXCHANGES_FRAC: Final = 0.15
LAYERS_FRAC: Final = 0.25
"""Shares of the budget."""
MOST_POINT_S: Final = 1.0
LEAST_POINT_S: Final = 0.02
SETUP_S: Final = 0.03
"""Making inputs and warming up, beside the timed repeats: what --dry-run reckons with."""
ROOM_FRAC: Final = 0.1
"""Of free memory, for one set of inputs."""
CPU_ROOM_BYTES: Final = 256e6
CALL_S: Final = 0.1
"""One call at the peaks of a device that may be expected to be ten times slower."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be measured.

    Attributes:
        machine: Where.
        slug: The device's name in the catalogue.
        rates: Its peaks.
        grid: Points of operators.
        models: Whose layers are measured as wholes.
        budget_s: Time for everything.
        ranks: That exchange; 1 for none.
        skew: Exponent of routing that experts are measured under beside an even one; 0 for none.
        journal: The file that an interrupted calibration goes on from.
        is_fresh: Begin anew whatever it holds.
        are_peaks_own: Peaks were measured here: what is faster raises them.
    """

    machine: Machine
    slug: str
    rates: Rates
    grid: Grid
    models: tuple[Sliced, ...]
    budget_s: float
    ranks: int
    journal: Path
    skew: float = 0.0
    is_fresh: bool = False
    are_peaks_own: bool = False


@dataclass
class _Measured:
    """What a session has so far."""

    journal: Journal
    pace: Pace
    skipped: dict[str, str] = field(default_factory=dict)
    checked: set[tuple[object, ...]] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    is_lost: bool = False


def room_of(machine: Machine) -> Room:
    """What one point may take on a machine; making random inputs takes a processor long."""
    most_bytes = available_bytes(machine.place) * ROOM_FRAC
    if not machine.place.is_cuda:
        most_bytes = min(most_bytes, CPU_ROOM_BYTES)
    return Room(most_bytes, CALL_S * EFFORT_FRAC)


def expected_s(order: Order) -> float:
    """Time that the points take if none needs all repeats: what --dry-run says."""
    points = sum(
        SETUP_S + min(MOST_POINT_S, 20 * point.bound_s(order.rates) / EFFORT_FRAC)
        for point in order.grid.points
    )
    return min(points / _points_frac(order), order.budget_s)


def _points_frac(order: Order) -> float:
    """Share of the budget that operators have; they go first, as ranks take long to start."""
    return 1 - LAYERS_FRAC - (EXCHANGES_FRAC if order.ranks > 1 else 0.0)


def calibrated(order: Order, tick: Tick) -> CalibrationProfile:
    """Measure, fit, and compare with whole layers.

    Raises:
        InputError: The journal cannot be written, or nothing was measured.
        MissingPartError: scipy is not installed.
    """
    head = Head(order.grid.sha256, order.slug, order.machine.torch_version, fingerprint())
    journal = Journal(order.journal, head, is_fresh=order.is_fresh)
    found = _Measured(journal, Pace(tick, order.budget_s))
    start = time.monotonic()
    with watched(order.machine.place) as watch:
        _measure_points(order, found, start + order.budget_s * _points_frac(order))
        _measure_exchanges(order, found)
        if order.are_peaks_own:
            order = replace(order, rates=raised(order.rates, found.journal.rows.values()))
        points, fitted = _fitted(found, order.rates)
        layers, memory = _wholes(order, found, fitted, start + order.budget_s)
    found.pace.end()
    return CalibrationProfile(
        llmplan=__version__,
        curves=fingerprint(),
        date=dt.datetime.now(tz=dt.UTC).date(),
        device=_device(order),
        rates=peaks_of(order.rates),
        grid_sha256=order.grid.sha256,
        budget_s=order.budget_s,
        conditions=Conditions.model_validate(asdict(watch.conditions)),
        notes=tuple(dict.fromkeys(found.notes)),
        kernels=fitted,
        layers=layers,
        memory=memory,
        skipped=tuple(Skipped(name=n, reason=r) for n, r in sorted(found.skipped.items())),
        points=points,
    )


def _measure_exchanges(order: Order, found: _Measured) -> None:
    """All of them, also where an interrupted run had some: what was refused is kept nowhere."""
    if order.ranks < 2:
        return
    kind = order.machine.place.device.type
    request = Request(kind, order.budget_s * EXCHANGES_FRAC, LARGEST_BYTES[kind])
    answer = measured_exchanges(request, order.ranks)
    for row in answer.rows:
        labels = {"src": SOURCE, **row.labels}
        found.journal.add(
            Row(row.table, labels, row.columns, row.seconds, row.spread_frac, row.note)
        )
    found.skipped.update({refused.name: refused.reason for refused in answer.refused})


def _measure_points(order: Order, found: _Measured, deadline: float) -> None:
    total = len(order.grid.points)
    for done, point in enumerate(order.grid.points):
        found.pace.at(_points_frac(order) * done / total)
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            found.notes.append(
                f"the budget was spent after {done} of {total} points, of every kind some"
            )
            break
        share_s = min(max(2 * left_s / (total - done), LEAST_POINT_S), MOST_POINT_S)
        try:
            _measure(point, order, found, Limits(seconds=share_s))
        except LostDeviceError as error:
            _lose(found, error)
            break


def _lose(found: _Measured, error: LostDeviceError) -> None:
    """Nothing more can be measured by this process; what was is kept."""
    found.is_lost = True
    found.notes.append(
        f"the GPU ran nothing more after {error}: only what was measured before is in the profile"
    )


def _wholes(
    order: Order, found: _Measured, fitted: Sequence[Calibrated], deadline: float
) -> tuple[tuple[MeasuredLayer, ...], MeasuredMemory | None]:
    """Whole layers, and the memory of a process that runs one; as far as the GPU lives."""
    layers: list[MeasuredLayer] = []
    if found.is_lost:
        return (), None
    try:
        layers.extend(_layers(order, found, fitted, deadline))
        return tuple(layers), _memory(order, tuple(layers), fitted, found)
    except LostDeviceError as error:
        _lose(found, error)
        return tuple(layers), None


def _measure(point: Point, order: Order, found: _Measured, limits: Limits) -> None:
    place = order.machine.place
    for kernel in _kernels(point, place, order.skew):
        if not isinstance(kernel, Kernel):
            found.skipped.setdefault(kernel.name, kernel.reason)
            continue
        labels = {"src": SOURCE, **kernel.labels}
        known = found.journal.rows.get(key_of(kernel.table, labels, kernel.columns))
        if known:
            _say(kernel, known, found)
            continue
        if failed := _check(kernel, order, found):
            found.skipped.setdefault(failed.name, failed.reason)
            continue
        took = measure(kernel, place, limits)
        columns = dict(kernel.columns)
        if isinstance(took, Failed):
            row = Row(kernel.table, labels, columns, 0.0, 0.0, took.reason)
        else:
            row = Row(kernel.table, labels, columns, took.seconds, took.spread_frac, took.note)
        found.journal.add(row)
        _say(kernel, row, found)


def _say(kernel: Kernel, row: Row, found: _Measured) -> None:
    """What a profile tells of a row, whether it was measured now or before an interruption."""
    name = kernel.labels.get("kernel", kernel.table)
    if not row.is_measured:
        found.skipped.setdefault(f"{name} at {_sizes(kernel)}", row.note)
    elif row.note.startswith("launched eagerly"):
        found.notes.append(f"{name}: {row.note}")


def _kernels(point: Point, place: Place, skew: float) -> Iterator[Kernel | Refused]:
    """All ways to do a point's work; experts also with tokens that favour some of them."""
    yield from offered(point.operator, point.step, place)
    if skew and isinstance(point.operator, Experts):
        yield from offered(point.operator, point.step, replace(place, skew=skew))


def _check(kernel: Kernel, order: Order, found: _Measured) -> Failed | None:
    """That a kernel is right, the first time that it is met; later ones differ in size alone."""
    name = (kernel.table, tuple(sorted(kernel.labels.items())))
    if name in found.checked:
        return None
    error = verified(kernel, order.machine.place)
    if isinstance(error, Failed):
        return error
    found.checked.add(name)
    return None


def _sizes(kernel: Kernel) -> str:
    return ", ".join(f"{name} {value:,.10g}" for name, value in kernel.columns.items() if value)


def raised(rates: Rates, rows: Iterable[Row]) -> Rates:
    """Peaks that no measured product exceeds: of a busy moment they may have been too low."""
    operator = OPERATORS["gemm"]
    free = dict.fromkeys(rates.flops_per_s, np.inf)
    memory, arithmetic = replace(rates, flops_per_s=free), replace(rates, bytes_per_s=np.inf)
    faster, wider = 1.0, 1.0
    for row in rows:
        if row.table != operator.name or not row.is_measured:
            continue
        columns = {name: np.array([row.columns[name]]) for name in operator.numbers}
        by_memory, by_arithmetic = (
            float(operator.bound_seconds(columns, row.labels, peaks)[0]) / row.seconds
            for peaks in (memory, arithmetic)
        )
        wider, faster = max(wider, by_memory), max(faster, by_arithmetic)
    units = {unit: rate * faster for unit, rate in rates.flops_per_s.items()}
    return replace(rates, bytes_per_s=rates.bytes_per_s * wider, flops_per_s=units)


def _fitted(found: _Measured, rates: Rates) -> tuple[tuple[Points, ...], tuple[Calibrated, ...]]:
    """Measured rows by kernel, and their curves."""
    kinds: dict[tuple[object, ...], list[Row]] = {}
    for row in found.journal.rows.values():
        if row.is_measured:
            kinds.setdefault((row.table, tuple(sorted(row.labels.items()))), []).append(row)
    points, fitted = [], []
    for rows in kinds.values():
        words = (word for label, word in rows[0].labels.items() if word and label != "src")
        name = " ".join((rows[0].table, *words))
        try:
            kept, curve = _fitted_kind(rows, rates)
        except (InputError, ValueError, ArithmeticError) as error:  # of this kernel alone
            found.skipped[name] = f"not fitted: {error}"
            continue
        points.append(kept)
        if curve:
            fitted.append(curve)
        else:
            found.skipped[name] = "too few measured rows to fit"
    return tuple(points), tuple(fitted)


def _fitted_kind(rows: Sequence[Row], rates: Rates) -> tuple[Points, Calibrated | None]:
    """The rows of one kernel, and its curve where they are enough.

    Raises:
        InputError: A row holds a number that cannot be.
    """
    operator = OPERATORS[rows[0].table]
    columns = {name: np.array([row.columns[name] for row in rows]) for name in operator.numbers}
    measured = KernelRows(
        rows[0].labels,
        columns,
        np.array([row.seconds for row in rows]),
        tuple(range(1, len(rows) + 1)),
    )
    kept = points_of(operator, measured, np.array([row.spread_frac for row in rows]))
    measured = kept.kernel_rows()  # as a later refit reads them
    usable = ~operator.is_trap(measured.labels, measured.columns, rates)
    is_enough = usable.sum() >= FEWEST_ROWS
    return kept, fitted_kernel(operator, measured, rates) if is_enough else None


def _layers(
    order: Order, found: _Measured, fitted: Sequence[Calibrated], deadline: float
) -> Iterator[MeasuredLayer]:
    machine = order.machine
    waiting = list(slices(order.models, order.rates, _layer_room(machine)))
    small = {each.name for each in waiting}
    for each in slices(order.models, order.rates, Room(inf, inf)):
        if each.name not in small:
            found.skipped[f"layer {each.name}"] = "too large, or too slow, for this device"
    for done, each in enumerate(waiting):
        found.pace.at(1 - LAYERS_FRAC * (1 - done / len(waiting)))
        left_s = deadline - time.monotonic()
        if left_s <= 0 and done:
            found.notes.append(f"the budget was spent after {done} of {len(waiting)} layers")
            return
        share_s = min(max(left_s / (len(waiting) - done), 0.1), 2.0)
        took = measured_layer(each, fitted, order.rates, machine.place, Limits(seconds=share_s))
        if isinstance(took, Failed):
            found.skipped.setdefault(f"layer {took.name}", took.reason)
        else:
            yield took


def _layer_room(machine: Machine) -> Room:
    """A layer is some twenty operators."""
    single = room_of(machine)
    return Room(3 * single.most_bytes, 5 * single.most_s)


def _memory(
    order: Order,
    layers: tuple[MeasuredLayer, ...],
    fitted: Sequence[Calibrated],
    found: _Measured,
) -> MeasuredMemory | None:
    """What a process holds beside tensors, with a layer as what it does."""
    machine = order.machine
    some: Slice | None = next(slices(order.models, order.rates, _layer_room(machine)), None)
    if not (layers and some and machine.place.is_cuda):
        return None
    chosen = []
    for point in some.points:
        run = runnable(point, fitted, order.rates, machine.place)
        chosen += [] if isinstance(run, Failed) else [kernel for kernel, _ in run]
    constants = memory_constants(chosen, machine.place)
    if not isinstance(constants, MemoryConstants):
        found.skipped["memory"] = constants.reason
        return None
    return MeasuredMemory.model_validate(asdict(constants))


def _device(order: Order) -> MeasuredDevice:
    machine = order.machine
    said = {name: getattr(machine, name) for name in MeasuredDevice.model_fields if name != "slug"}
    return MeasuredDevice.model_validate({"slug": order.slug, **said})
