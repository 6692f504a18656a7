"""Whole decoder layers, measured as one and predicted as the sum of their kernels.

They are no part of any fit. Each operator runs as the kernel that the fitted curves hold for the
fastest; kernels of one table are alternatives, those of several tables are parts of an operator.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from llmplan.calibrate.attempts import Failed
from llmplan.calibrate.grid import LAYER_STEPS, Point, Room, Sliced
from llmplan.calibrate.kernel import SOURCE, Kernel, Place, offered
from llmplan.calibrate.timing import Limits, measure_together
from llmplan.ops.base import Operator
from llmplan.parallel.rank import stage_ranks
from llmplan.perf.calibration_spec import MeasuredLayer
from llmplan.perf.merged import launches
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import Rates
from llmplan.perf.registry import OPERATORS


@dataclass(frozen=True, slots=True)
class Slice:
    """One kind of layer of a model, in one step.

    Attributes:
        of: The model and its layout.
        layer: The layer's name.
        operators: As a rank runs them.
        step: Requests, new tokens and context.
    """

    of: Sliced
    layer: str
    operators: tuple[Operator, ...]
    step: tuple[int, int, int]

    @property
    def name(self) -> str:
        """Model and layer."""
        return f"{self.of.model.identity.name} {self.layer}"

    @property
    def points(self) -> tuple[Point, ...]:
        """Its operators in its step."""
        name = self.of.model.identity.name
        return tuple(Point(operator, *self.step, name) for operator in self.operators)


def slices(models: Sequence[Sliced], rates: Rates, room: Room) -> Iterator[Slice]:
    """Every kind of layer of the models, in steps that are small enough for the device."""
    for each in models:
        decoder = stage_ranks(each.model, each.layout)[0].model.decoder
        for layer, _ in decoder.distinct_layers:
            run = tuple(o for launch in launches(layer.operators) for o in launch.operators)
            for step in LAYER_STEPS:
                found = Slice(each, layer.name, run, step)
                taken = sum(point.inputs_bytes for point in found.points)
                lasting = sum(point.bound_s(rates) for point in found.points)
                if taken <= room.most_bytes and lasting <= room.most_s:
                    yield found


def measured_layer(
    found: Slice, fitted: Sequence[Fitted], rates: Rates, place: Place, limits: Limits
) -> MeasuredLayer | Failed:
    """A layer's time beside the sum of its kernels' times; or why it could not be run."""
    chosen: list[Kernel] = []
    predicted = 0.0
    for point in found.points:
        run = runnable(point, fitted, rates, place)
        if isinstance(run, Failed):
            return Failed(found.name, run.reason)
        for kernel, seconds in run:
            chosen.append(kernel)
            predicted += seconds
    took = measure_together(chosen, place, limits)
    if isinstance(took, Failed):
        return took
    requests, new_tokens, context = found.step
    return MeasuredLayer(
        model=found.of.model.identity.name,
        layer=found.layer,
        phase="decode" if new_tokens == 1 else "prefill",
        requests=requests,
        new_tokens=new_tokens,
        context=context,
        layout=str(found.of.layout),
        predicted_s=float(f"{predicted:.6g}"),
        measured_s=float(f"{took.seconds:.6g}"),
    )


def runnable(
    point: Point, fitted: Sequence[Fitted], rates: Rates, place: Place
) -> list[tuple[Kernel, float]] | Failed:
    """The kernels that do an operator's work, and what the curves say of each."""
    best: dict[str, tuple[Kernel, float]] = {}
    reasons = []
    for kernel in offered(point.operator, point.step, place):
        if not isinstance(kernel, Kernel):
            reasons.append(kernel.reason)
            continue
        seconds = curve_seconds(kernel, fitted, rates)
        if seconds is None:
            reasons.append(f"{kernel.labels.get('kernel', kernel.table)} was not fitted")
        elif kernel.table not in best or seconds < best[kernel.table][1]:
            best[kernel.table] = (kernel, seconds)
    if not best:
        name = type(point.operator).__name__
        return Failed(name, f"{name}: {reasons[0] if reasons else 'nothing to run'}")
    return list(best.values())


def curve_seconds(kernel: Kernel, fitted: Sequence[Fitted], rates: Rates) -> float | None:
    """What the curve that was fitted for a kernel says of it; None where there is none."""
    labels = {"src": SOURCE, **kernel.labels}
    for each in fitted:
        if each.operator == kernel.table and each.labels == labels:
            columns = {name: np.array([value]) for name, value in kernel.columns.items()}
            operator = OPERATORS[kernel.table]
            cold = rates_at(labels, rates)
            return float(operator.seconds(each.parameters, columns, labels, cold)[0])
    return None
