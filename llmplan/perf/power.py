"""Draw of a GPU while it serves: what it takes to run at all, and more the busier it is.

The curve nears the thermal design power (TDP) with everything that the GPU does, and never
passes it: a GPU that reaches its power cap lowers its clocks instead.
"""

import datetime as dt
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmplan.documents import load_document, shipped_folder
from llmplan.errors import InputError
from llmplan.hardware.device import Device
from llmplan.model.compiled import Model
from llmplan.ops.base import Array, Number, Operator, Step
from llmplan.perf.profile import Strict
from llmplan.units import Provenance
from llmplan.validation import validated

WIDER_UNITS: Final = ("bf16", "fp16", "fp32")
"""Where a device has no unit for a format, weights are widened before they are multiplied."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Watts of one GPU; energy per output token is draw x GPUs / output tokens per second.

    Attributes:
        low_w: At least nine in ten draws of models that a fit had not seen are above it.
        value_w: Expected.
        high_w: At least nine in ten are below it; the TDP at most.
        provenance: Fitted, or assumed outside what was measured.
        note: What it was fitted to, and why it is assumed where it is.
    """

    low_w: Number
    value_w: Number
    high_w: Number
    provenance: Provenance
    note: str


@dataclass(frozen=True, slots=True)
class Busy:
    """How much of its peaks a GPU reaches, over time that includes all gaps between steps.

    Attributes:
        flops_frac: Matmuls, attention and convolutions, each of the peak of its unit.
        bytes_frac: Bytes between memory and the chip, of the bandwidth.
    """

    flops_frac: Number
    bytes_frac: Number


class Curve(Strict):
    """What one curve was fitted to, and how well.

    Attributes:
        rows: Rows that it was fitted to.
        models: Different architectures among them.
        base_frac: Share of the TDP that is drawn while steps run and do hardly anything.
        flops_gain: How fast the rest is approached with the share of peak FLOPs.
        bytes_gain: The same with the share of the memory bandwidth.
        flops_frac: Least and most in the rows.
        bytes_frac: Least and most in the rows.
        median_error: Median of absolute relative residuals.
        p90_error: 90th percentile.
        left_out_median_error: The same of rows that the fit has not seen.
        left_out_p90_error: 90th percentile of these.
        low_error: 10th percentile of measured over predicted of left-out rows, less one; the 5th
            of the pooled curve.
        high_error: 90th percentile; the 95th of the pooled curve.
    """

    rows: int
    models: int
    base_frac: float
    flops_gain: float
    bytes_gain: float
    flops_frac: tuple[float, float]
    bytes_frac: tuple[float, float]
    median_error: float
    p90_error: float
    left_out_median_error: float
    left_out_p90_error: float
    low_error: float
    high_error: float

    def tdp_frac(self, reached: Busy) -> Array:
        """Share of the TDP that is drawn.

        1 - (1 - base) · exp(-(flops_gain · f + bytes_gain · b)), f and b the shares of the peaks:
        each further bit of work takes a fixed part of what is left below the TDP.
        """
        load = self.flops_gain * np.asarray(reached.flops_frac, dtype=np.float64)
        load = load + self.bytes_gain * np.asarray(reached.bytes_frac, dtype=np.float64)
        drawn: Array = 1.0 - (1.0 - self.base_frac) * np.exp(-load)
        return drawn

    def is_measured(self, reached: Busy) -> NDArray[np.bool_]:
        """Whether rows reach from below to above these shares, point by point."""
        f, b = np.asarray(reached.flops_frac), np.asarray(reached.bytes_frac)
        (least_f, most_f), (least_b, most_b) = self.flops_frac, self.bytes_frac
        inside: NDArray[np.bool_] = (f >= least_f) & (f <= most_f) & (b >= least_b) & (b <= most_b)
        return inside


class PowerProfile(Strict):
    """``hardware/profiles/power.yaml``.

    Attributes:
        devices: By catalogue name; left-out rows are those of one architecture at a time.
        pooled: Of all devices, for those without rows; left-out rows are those of one device.
    """

    source: str
    licence: str
    date: dt.date
    tool: str
    devices: dict[str, Curve]
    pooled: Curve


@cache
def power_profile() -> PowerProfile:
    """The shipped curves."""
    path = shipped_folder("hardware") / "profiles" / "power.yaml"
    return validated(load_document(path), PowerProfile)


def gpu_draw(device: Device, flops_frac: Number, bytes_frac: Number) -> Draw:
    """What one GPU draws while steps run at these shares of its peaks; arrays broadcast.

    Idler than any row, it waits part of the time, and what it then draws is not known: the low end
    falls with the bytes moved, as if it drew nothing.

    Raises:
        InputError: The device has no known TDP, or a share is negative or not finite.
    """
    if device.tdp_w is None:
        raise InputError(
            f"{device.slug} has no known power: add tdp_w, with its source, to {device.file}."
        )
    if any(np.any(~np.isfinite(s)) or np.any(np.asarray(s) < 0) for s in (flops_frac, bytes_frac)):
        raise InputError("shares of peak FLOPs and bandwidth must be finite and not negative.")
    profile, reached = power_profile(), Busy(flops_frac, bytes_frac)
    own = profile.devices.get(device.slug)
    curve = own or profile.pooled
    inside = np.asarray(own is not None) & curve.is_measured(reached)
    # the pooled errors are those on a device that was left out: wider than any device's own
    low = np.where(inside, curve.low_error, profile.pooled.low_error)
    high = np.where(inside, curve.high_error, profile.pooled.high_error)
    working = np.minimum(np.asarray(bytes_frac) / curve.bytes_frac[0], 1.0)
    value_w = device.tdp_w * curve.tdp_frac(reached)
    return Draw(
        _plain(value_w * (1.0 + low) * working),
        _plain(value_w),
        _plain(np.minimum(value_w * (1.0 + high), device.tdp_w)),
        Provenance.FITTED if np.all(inside) else Provenance.ASSUMED,
        _note(device, own, profile, is_inside=bool(np.all(inside))),
    )


def busy(model: Model, step: Step, step_s: Number, device: Device) -> Busy:
    """Shares of a device's peaks of a rank that does such a step every ``step_s`` seconds.

    Args:
        model: What the rank holds.
        step: The step, with the tokens that the rank sees.
        step_s: From the start of one step to that of the next.
        device: The rank's GPU.

    Raises:
        InputError: The device's bandwidth or rate is not known.
    """
    if device.bandwidth_bytes_per_s is None:
        raise InputError(f"{device.slug} has no known memory bandwidth.")
    flops_s, moved_bytes = np.zeros(()), np.zeros(())
    wide = _flops_per_s(device, "bf16")
    for operator, repeats in model.counted():
        cost = operator.cost(step)
        in_16_bits = np.asarray(cost.attention_flops) + np.asarray(cost.convolution_flops)
        matmul_s = np.asarray(cost.matmul_flops) / _flops_per_s(device, _matmul_unit(operator))
        flops_s = flops_s + repeats * (matmul_s + in_16_bits / wide)
        moved_bytes = moved_bytes + repeats * np.asarray(cost.moved_bytes)
    return Busy(
        _plain(flops_s / step_s), _plain(moved_bytes / device.bandwidth_bytes_per_s / step_s)
    )


def _matmul_unit(operator: Operator) -> str:
    """The unit of an operator's largest matrix; 16 bits where it has none."""
    matrices = [w for w in operator.weights if len(w.shape) > 1 and not w.is_buffer]
    if not matrices:
        return "bf16"
    return operator.precision.of(max(matrices, key=lambda w: w.elements).role).compute


def _flops_per_s(device: Device, unit: str) -> float:
    for known in (unit, *WIDER_UNITS):
        if rate := device.peak_flops_per_s(known):
            return rate
    raise InputError(f"{device.slug} has no known rate for {unit} or wider formats.")


def _plain(value: Array) -> Number:
    return value if np.ndim(value) else float(value)


def _note(device: Device, own: Curve | None, profile: PowerProfile, *, is_inside: bool) -> str:
    if own is None:
        return (
            f"no draw of {device.slug} was measured: the curve is that of "
            f"{' and '.join(profile.devices)} in shares of the TDP, the range that between them"
        )
    text = f"fitted to {own.rows} measured draws with {own.models} architectures"
    return text if is_inside else f"{text}; busier or idler than any of them"
