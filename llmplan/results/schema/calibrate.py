"""What was measured on a device, and how well curves hold it."""

from datetime import date

from llmplan.results.schema.common import Published
from llmplan.units import Provenance


class CalibratedOperator(Published):
    """One kernel that was measured and fitted."""

    kind: str
    """Operator table: gemm, context_attention, moe …; for operators timed by their work, their
    class."""
    format: str
    """Of weights and activations, and of the cache where there is one."""
    kernel: str
    """What ran; a name that begins with reference is torch's plain arithmetic."""
    points: int
    """Measured points."""
    efficiency: float
    """Time at the peaks of the device over measured time, in the middle of all points."""
    residual_median: float
    """Of absolute errors of the curve at its own points."""
    residual_p90: float
    """90th percentile."""
    held_out_error_frac: float | None
    """Median error at points that a fit had not seen; null for fewer than ten points."""
    provenance: Provenance
    """measured, or fitted where the points were imported."""


class CalibratedPoint(Published):
    """One measured point beside the curve of its kernel."""

    kind: str
    """Of its kernel."""
    format: str
    """Of its kernel."""
    kernel: str
    """What ran."""
    sizes: str
    """Number columns of its row, as m 64, n 4096, k 4096; those that are 0 are left out."""
    measured_s: float
    """Median of repeated timings."""
    predicted_s: float | None
    """By the curve; null where the profile is of other curves than there are now."""
    tokens: float | None
    """Rows of a matrix product; null for other operators."""
    flops_per_s: float | None
    """Reached by a matrix product; null for other operators."""
    provenance: Provenance
    """Of the measured time."""


class CalibratedPeak(Published):
    """Dense rate of a format in matrix products, which shares of the peak are of."""

    format: str
    """As kernels name it."""
    flops_per_s: float
    """Of its arithmetic unit."""
    provenance: Provenance
    """measured where the device is none of the shipped catalogue."""


class CalibratedLayer(Published):
    """A whole layer that was kept out of the fit."""

    model: str
    """Catalogue name."""
    layer: str
    """Its name in the model."""
    phase: str
    """prefill or decode."""
    requests: int
    """Of the step."""
    new_tokens: int
    """Of a request."""
    context: int
    """Tokens that a request holds already."""
    layout: str
    """How the model is split: what ran is one rank's part."""
    predicted_s: float | None
    """Sum of its kernels; null where they were fitted anew since."""
    measured_s: float
    """As one."""
    error_frac: float | None
    """Predicted over measured, less one."""
    provenance: Provenance
    """Of the measured time."""


class CalibratedMemory(Published):
    """Memory that is no tensor; null where it is not known."""

    context_bytes: int | None
    """Of a process that uses the device."""
    allocator_slack_bytes: int | None
    """What torch's allocator held beyond tensors at its peak."""
    graph_pool_bytes: int | None
    """Pool of a captured graph of one layer."""
    activation_bytes: int | None
    """Most that results and buffers of one layer held at once."""
    provenance: Provenance
    """Of all of it."""


class PlannedPoints(Published):
    """Points of one kind that are to be measured."""

    kind: str
    """Operator class."""
    format: str
    """Of its weights; empty where it has none."""
    points: int
    """How many."""


class SkippedKernel(Published):
    """What was not measured."""

    name: str
    """Kernel or operator."""
    reason: str
    """Why."""


class CalibrateResult(Published):
    """``llmplan calibrate`` and ``llmplan calibrate show``."""

    profile: str | None
    """The file; null where nothing was measured."""
    device: str
    """Catalogue name."""
    device_name: str
    """As the driver calls it."""
    date: date
    """Of the measurement, or of the plan."""
    torch: str | None
    """Version."""
    driver: str | None
    """Version; null where it cannot be read."""
    is_dry_run: bool
    """Whether this is a plan only."""
    budget_s: float
    """Time that was allowed."""
    expected_s: float | None
    """Time that the plan takes; null after the run."""
    grid: list[PlannedPoints]
    """What is to be measured, by kind; empty after the run."""
    left_out: int | None
    """Points that are too large for the device; null after the run."""
    operators: list[CalibratedOperator]
    """Fitted kernels."""
    points: list[CalibratedPoint]
    """Of fitted kernels, some 400 at the most: of each kernel as many, spread over its times."""
    peaks: list[CalibratedPeak]
    """Of the formats of measured matrix products."""
    layers: list[CalibratedLayer]
    """Whole layers."""
    layer_median_error_frac: float | None
    """Of absolute errors of whole layers; null without any."""
    layer_p90_error_frac: float | None
    """90th percentile."""
    memory: CalibratedMemory | None
    """Beside tensors; null where torch does not count it."""
    throttled: list[str]
    """Reasons for which the device lowered its clocks meanwhile."""
    skipped: list[SkippedKernel]
    """What was left out."""
    provenance: dict[str, Provenance]
    """Of the figures without one of their own."""


class KernelChange(Published):
    """One kernel in two profiles."""

    kind: str
    """Operator table."""
    format: str
    """Of weights and activations."""
    kernel: str
    """What ran."""
    times: float | None
    """Later over earlier time, in the middle of the measured points; null where only one has it."""
    points: int
    """Where both were asked."""
    only: str
    """earlier or later, where the other profile does not have it; else empty."""
    provenance: Provenance
    """Of the ratio."""


class CalibrateDiffResult(Published):
    """``llmplan calibrate diff``."""

    earlier: str
    """File."""
    later: str
    """File."""
    changes: list[KernelChange]
    """By kernel."""


class CalibrateFilesResult(Published):
    """``llmplan calibrate export``, ``import`` and ``refit``."""

    files: list[str]
    """What was written."""
    device: str
    """Catalogue name."""
    kernels: int
    """Kernels in them."""
    points: int
    """Measured points in them."""
    skipped: list[SkippedKernel]
    """What was left out."""
