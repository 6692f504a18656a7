"""What a calibration profile holds: what was measured on one device, and the kernels fitted to it.

Where and how it was measured, fitted kernels, whole layers beside their prediction, and every
measured point, so that it can be fitted again when curves change.
"""

import datetime as dt
from typing import Final, Literal

import numpy as np
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llmplan.perf.fitting import Calibrated
from llmplan.perf.points import Points
from llmplan.perf.profile import Strict

FORMAT: Final = "llmplan-calibration-1"


class _Record(Strict):
    model_config = ConfigDict(allow_inf_nan=False)


class MeasuredDevice(_Record):
    """The device as its driver describes it, and the software that ran on it.

    Attributes:
        slug: Its name in the catalogue.
        name: As the driver or the processor calls it.
        memory_bytes: What the driver gives a process.
        cache_bytes: Last cache before memory.
        cores: Multiprocessors or compute units; of a processor, threads.
        capability: CUDA compute capability or gfx target.
        driver: Its version.
        runtime: CUDA or ROCm with its version.
        torch_version: With its build.
        host: The processor beside the device.
    """

    slug: str
    name: str | None = None
    memory_bytes: int | None = None
    cache_bytes: int | None = None
    cores: int | None = None
    capability: str | None = None
    driver: str | None = None
    runtime: str | None = None
    torch_version: str | None = None
    host: str | None = None


class ClockRange(_Record):
    """Clocks while kernels ran.

    Attributes:
        least_hz: Lowest.
        median_hz: Median.
        most_hz: Highest.
    """

    least_hz: float
    median_hz: float
    most_hz: float


class Conditions(_Record):
    """What the device was like meanwhile; nothing where it could not be read.

    Attributes:
        sm_clock_hz: Of the multiprocessors.
        memory_clock_hz: Median.
        power_w: Median.
        power_limit_w: What the driver enforces.
        temperature_c: Highest.
        throttled: What lowered the clocks; empty where nothing did.
        host_clock_hz: Mean over the cores of the host.
        load: Processes of the host that ran or waited to.
        samples: Readings of the device.
        note: Why fields are unknown.
    """

    sm_clock_hz: ClockRange | None = None
    memory_clock_hz: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    throttled: tuple[str, ...] | None = None
    host_clock_hz: float | None = None
    load: float | None = None
    samples: int = 0
    note: str = ""


class Peaks(_Record):
    """Rates of the device that kernels were fitted with: their shares are of these.

    Attributes:
        bytes_per_s: Memory bandwidth.
        flops_per_s: Dense rate by unit.
        l2_bytes: Last-level cache.
        sms: Multiprocessors.
        link_bytes_per_s: Link between devices, one direction.
        peers: Devices that map each other's memory.
    """

    bytes_per_s: PositiveFloat
    flops_per_s: dict[str, PositiveFloat]
    l2_bytes: NonNegativeFloat
    sms: NonNegativeInt
    link_bytes_per_s: NonNegativeFloat
    peers: PositiveInt


class MeasuredLayer(_Record):
    """One layer run as a whole, beside the sum of its operators.

    Attributes:
        model: Catalogue name.
        layer: Which one, in words.
        phase: Prefill or decode.
        requests: Of the step.
        new_tokens: A request.
        context: Tokens that a request holds already.
        layout: How the model is split, as ``tp2``.
        predicted_s: By the kernels of this profile; None where they were fitted anew since.
        measured_s: Measured.
    """

    model: str
    layer: str
    phase: str
    requests: int
    new_tokens: int
    context: int
    layout: str
    predicted_s: PositiveFloat | None = None
    measured_s: PositiveFloat

    @property
    def error(self) -> float | None:
        """Predicted over measured, less one."""
        return None if self.predicted_s is None else self.predicted_s / self.measured_s - 1


class MeasuredMemory(_Record):
    """Memory of a process that no tensor is; nothing where it is unknown.

    Attributes:
        context_bytes: Context of the device, with the kernels that were loaded.
        allocator_slack_bytes: Reserved beyond the most that tensors held at once.
        graph_pool_bytes: What a captured graph keeps.
        activation_bytes: Most that results and buffers held at once.
        note: Why a value is unknown.
    """

    context_bytes: int | None = None
    allocator_slack_bytes: int | None = None
    graph_pool_bytes: int | None = None
    activation_bytes: int | None = None
    note: str = ""


class Skipped(_Record):
    """What was not measured or not fitted.

    Attributes:
        name: Operator class or kernel.
        reason: Why.
    """

    name: str
    reason: str


class CalibrationProfile(_Record):
    """``SLUG.calibrated.yaml``.

    Attributes:
        format: Version of this form.
        sha256: Of the content without this line; written by ``written``.
        llmplan: Version that wrote it.
        curves: Fingerprint of the curves that the kernels are parameters of.
        date: Of the measurement.
        device: The device.
        rates: Peaks that the kernels were fitted with.
        grid_sha256: Of the grid of shapes that was asked for.
        budget_s: Time that was allowed.
        conditions: What the device was like.
        notes: Remarks.
        kernels: Fitted kernels.
        layers: Whole layers, measured and predicted.
        memory: What a process holds beside tensors.
        skipped: What was left out, and why.
        points: All measured rows.
    """

    format: Literal["llmplan-calibration-1"] = FORMAT
    sha256: str = ""
    llmplan: str
    curves: str
    date: dt.date
    device: MeasuredDevice
    rates: Peaks | None = None
    grid_sha256: str
    budget_s: float
    conditions: Conditions = Conditions()
    notes: tuple[str, ...] = ()
    kernels: tuple[Calibrated, ...]
    layers: tuple[MeasuredLayer, ...] = ()
    memory: MeasuredMemory | None = None
    skipped: tuple[Skipped, ...] = ()
    points: tuple[Points, ...]

    @property
    def layer_error(self) -> tuple[float, float] | None:
        """Median and 90th percentile of absolute errors of whole layers; None without any."""
        off = [abs(layer.error) for layer in self.layers if layer.error is not None]
        return (float(np.median(off)), float(np.quantile(off, 0.9))) if off else None
