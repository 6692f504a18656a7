"""Measured points of a profile beside its curves: a sample that is large enough for a chart."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from llmplan.catalogs import catalogue_file, is_shipped
from llmplan.perf.calibration_spec import CalibrationProfile
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.points import Points
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import Rates
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows
from llmplan.results import schema
from llmplan.results.calibration_names import format_of, kernel_of, kind_of
from llmplan.units import Provenance

MOST_POINTS: Final = 400
"""That an answer holds; ``llmplan calibrate export`` writes all."""
PRODUCTS: Final = "gemm"
"""Table of matrix products, whose rows are tokens."""
DEVICES: Final = "hardware/devices"
DIGITS: Final = 6
"""Of a predicted time."""


def shown_points(profile: CalibrationProfile, rates: Rates) -> list[schema.CalibratedPoint]:
    """Points of every fitted kernel, without those that its fit left out."""
    is_current = profile.curves == fingerprint()
    measured = [(kernel, rows_of(kernel, profile.points, rates)) for kernel in profile.kernels]
    most = share([len(rows.measured_s) for _, rows in measured], MOST_POINTS)
    return [
        point
        for kernel, rows in measured
        for point in _points(kernel, sampled(rows, most), rates, is_current=is_current)
    ]


def shown_peaks(profile: CalibrationProfile, rates: Rates) -> list[schema.CalibratedPeak]:
    """Dense rates of the formats of matrix products."""
    names = [kernel.labels["dtype"] for kernel in profile.kernels if kernel.operator == PRODUCTS]
    path = catalogue_file(DEVICES, profile.device.slug)
    is_published = path is not None and is_shipped(path, DEVICES)
    said = Provenance.PUBLISHED if is_published else Provenance.MEASURED
    return [
        schema.CalibratedPeak(format=name, flops_per_s=rates.flops(name), provenance=said)
        for name in dict.fromkeys(names)
    ]


def rows_of(kernel: Fitted, points: Sequence[Points], rates: Rates) -> KernelRows:
    """The rows that a kernel was fitted to; none where the profile does not keep them."""
    operator = OPERATORS[kernel.operator]
    for each in points:
        if each.operator == kernel.operator and each.labels == kernel.labels:
            rows = each.kernel_rows()
            return rows.of(~operator.is_trap(rows.labels, rows.columns, rates))
    nothing = np.zeros(0)
    return KernelRows(kernel.labels, dict.fromkeys(operator.numbers, nothing), nothing, ())


def share(counts: Sequence[int], total: int) -> int:
    """The most of each that may be taken so that all together are no more than ``total``.

    At least one, so that nothing goes without.
    """
    most = max(counts, default=0)
    while most > 1 and sum(min(count, most) for count in counts) > total:
        most -= 1
    return most


def sampled(rows: KernelRows, most: int) -> KernelRows:
    """At most so many rows, evenly spread from the shortest time to the longest."""
    count = len(rows.measured_s)
    if count <= most:
        return rows
    by_time = np.argsort(rows.measured_s, kind="stable")
    chosen = np.zeros(count, bool)
    chosen[by_time[np.linspace(0, count - 1, most).round().astype(int)]] = True
    return rows.of(chosen)


def _points(
    kernel: Fitted, rows: KernelRows, rates: Rates, *, is_current: bool
) -> list[schema.CalibratedPoint]:
    operator = OPERATORS[kernel.operator]
    named, rates = kernel.parameters, rates_at(kernel.labels, rates)
    predicted = operator.seconds(named, rows.columns, kernel.labels, rates) if is_current else None
    is_product = kernel.operator == PRODUCTS
    found = []
    for row, seconds in enumerate(rows.measured_s):
        at = {name: float(values[row]) for name, values in rows.columns.items()}
        said = None if predicted is None else float(f"{predicted[row]:.{DIGITS}g}")
        flops = 2 * at["m"] * at["n"] * at["k"] if is_product else None
        found.append(
            schema.CalibratedPoint(
                kind=kind_of(kernel.operator, kernel.labels),
                format=format_of(kernel.labels),
                kernel=kernel_of(kernel.labels),
                sizes=", ".join(f"{name} {value:.10g}" for name, value in at.items() if value),
                measured_s=float(seconds),
                predicted_s=said,
                tokens=at["m"] if is_product else None,
                flops_per_s=None if flops is None else float(f"{flops / seconds:.{DIGITS}g}"),
                provenance=Provenance.MEASURED,
            )
        )
    return found
