"""Operators that have no table of their own, timed by the work that they state.

Norms, activations, look-ups, convolutions and recurrences: a launch, then the slowest of matrix
arithmetic, other arithmetic and memory. ``steps`` is the number of positions that a recurrence
must walk one after the other; 1 where there is none.
"""

from typing import Final

import numpy as np

from llmplan.ops.base import Operator as ModelOperator
from llmplan.ops.base import Step
from llmplan.perf.kernels import (
    US,
    Column,
    Columns,
    Labels,
    Operator,
    Parameter,
    Parameters,
    smooth_max,
)
from llmplan.perf.rates import Rates

NS: Final = 1e-9
RESIDENCY: Final = 3.0
"""How sharply a working set leaves the last-level cache."""
VECTOR_SHARE: Final = 1 / 16
"""Rate of vector units beside that of 16-bit products, for devices that state none."""


def columns_of(operator: ModelOperator, step: Step) -> Columns:
    """The row that an operator's work in a step is, each of shape [rows]."""
    cost = operator.cost(step)
    rows = np.zeros(np.shape(step.tokens))
    longest = np.max(np.where(step.requests > 0, step.new_tokens, 0.0), axis=-1)
    return {
        "flops": rows + cost.model_flops,
        "other_flops": rows + cost.scan_flops + cost.vector_flops,
        "bytes": rows + cost.moved_bytes,
        "steps": rows + (longest if np.any(cost.scan_flops) else 1.0),
    }


def vector_flops_per_s(device: Rates) -> float:
    """Rate of arithmetic that is no matrix product."""
    return device.flops_per_s.get("fp32", device.flops("bf16") * VECTOR_SHARE)


def bound_seconds(columns: Columns, _labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and of memory, less what the last-level cache may hold."""
    compute = columns["flops"] / device.flops("bf16")
    memory = np.maximum(columns["bytes"] - device.l2_bytes, 0) / device.bytes_per_s
    result: Column = np.maximum(compute, memory)
    return result


def parameters(_labels: Labels) -> tuple[Parameter, ...]:
    """Launch, shares of the peaks, gain from the cache, and time of one position of a walk."""
    return (
        Parameter("floor_us", 4.0, 0.1, 2000.0),
        Parameter("compute_frac", 0.5, 0.001, 1.0),
        Parameter("vector_frac", 0.3, 0.0005, 1.0),
        Parameter("memory_frac", 0.6, 0.005, 1.0),
        Parameter("cache_gain", 1.5, 1.0, 8.0),
        Parameter("step_ns", 0.0, 0.0, 1e6),
    )


def seconds(p: Parameters, columns: Columns, _labels: Labels, device: Rates) -> Column:
    """Launch and walk, then the slowest of what the work asks for."""
    resident = 1 / (1 + (columns["bytes"] / max(device.l2_bytes, 1.0)) ** RESIDENCY)
    bytes_per_s = device.bytes_per_s * (1 + (p["cache_gain"] - 1) * resident)
    work = smooth_max(
        2.0,
        columns["flops"] / (device.flops("bf16") * p["compute_frac"]),
        columns["other_flops"] / (vector_flops_per_s(device) * p["vector_frac"]),
        columns["bytes"] / (bytes_per_s * p["memory_frac"]),
    )
    walk = np.maximum(columns["steps"] - 1, 0) * p["step_ns"] * NS
    return p["floor_us"] * US + walk + work


BY_WORK: Final = Operator(
    "by_work",
    ("src", "kernel", "op"),
    ("flops", "other_flops", "bytes", "steps"),
    parameters,
    seconds,
    bound_seconds,
)
