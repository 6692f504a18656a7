"""Matrix products: y[m, n] = x[m, k] W[k, n]."""

import numpy as np

from llmplan.perf.kernels import (
    Column,
    Columns,
    Labels,
    Operator,
    Parameter,
    Parameters,
    saturating,
    smooth_max,
)
from llmplan.perf.rates import BITS, Rates

US = 1e-6


def _work(columns: Columns, labels: Labels) -> tuple[Column, Column]:
    """FLOPs, and bytes of weight, input and output."""
    m, n, k = columns["m"], columns["n"], columns["k"]
    weight = BITS[labels["dtype"]] / 8
    activation = 2.0 if labels["dtype"].endswith("_wo") else weight
    return 2 * m * n * k, n * k * weight + m * k * activation + m * n * 2.0


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and memory at their peaks."""
    flops, moved = _work(columns, labels)
    compute = flops / device.flops(labels["dtype"])
    result: Column = np.maximum(compute, moved / device.bytes_per_s)
    return result


def parameters(_labels: Labels) -> tuple[Parameter, ...]:
    """A launch floor, peak shares of both rates, and the sizes where these are half reached."""
    return (
        Parameter("floor_us", 4.0, 0.5, 100.0),
        Parameter("compute_frac", 0.75, 0.05, 1.0),
        Parameter("memory_frac", 0.85, 0.1, 1.0),
        Parameter("half_m", 64.0, 0.0, 4096.0),
        Parameter("half_moved_mb", 1.0, 0.0, 100.0),
        Parameter("sharpness", 2.0, 1.0, 8.0),
    )


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Floor, arithmetic and memory, the largest with rounded corners."""
    flops, moved = _work(columns, labels)
    rate = device.flops(labels["dtype"]) * p["compute_frac"]
    compute = flops / (rate * saturating(columns["m"], p["half_m"]))
    memory = moved / (
        device.bytes_per_s * p["memory_frac"] * saturating(moved, p["half_moved_mb"] * 1e6)
    )
    return smooth_max(p["sharpness"], np.full_like(flops, p["floor_us"] * US), compute, memory)


GEMM = Operator(
    "gemm", ("src", "kernel", "dtype"), ("m", "n", "k"), parameters, seconds, bound_seconds
)
