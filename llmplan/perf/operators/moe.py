"""Expert MLPs of a mixture of experts: one grouped product per matrix, on one of tp x ep GPUs.

``tokens``, ``inter`` and ``experts`` are of the whole layer: a rank holds experts / ep of them,
each inter / tp wide, and works on the rows routed to these.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np

from llmplan.perf.kernels import (
    Column,
    Columns,
    Labels,
    Operator,
    Parameter,
    Parameters,
    smooth_max,
)
from llmplan.perf.operators.expert_load import RankLoad, rank_load
from llmplan.perf.rates import BITS, UNITS, Rates

US: Final = 1e-6
NS: Final = 1e-9
ROUNDING: Final = 1.4
"""Power between the sum of arithmetic and memory times, 1, and the larger one: experts with many
rows and with few run at once, so they overlap in part."""
RESIDENCY: Final = 3.0
"""How sharply a working set leaves the last-level cache."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a rank does, each of shape [rows].

    Attributes:
        row_flops: FLOPs of one row through one expert.
        rows: Rows computed.
        hit: Experts whose weights are read.
        weight_bytes: Their weights.
        activation_bytes: Rows in, between the products, and out; tokens out.
        spread_bytes: One copy of every token for each of its experts, on this rank or not.
    """

    row_flops: Column
    rows: Column
    hit: Column
    weight_bytes: Column
    activation_bytes: Column
    spread_bytes: Column


def work(columns: Columns, labels: Labels) -> Work:
    """Under the routing that the table names."""
    return work_under(rank_load(columns), columns, labels)


def work_under(load: RankLoad, columns: Columns, labels: Labels) -> Work:
    """Two matrices of a kernel named ``nongated``, else three: gate, up and down."""
    matrices = 2 if "nongated" in labels["kernel"] else 3
    weight, hidden = BITS[labels["dtype"]] / 8, columns["hidden"]
    width = np.ceil(columns["inter"] / columns["tp"])
    active = 2.0 if UNITS[labels["dtype"]] in ("bf16", "fp16") else 1.0
    between = (matrices - 1) * 2.0 + active
    return Work(
        row_flops=2 * matrices * hidden * width,
        rows=load.rows,
        hit=load.hit,
        weight_bytes=load.hit * matrices * hidden * width * weight,
        activation_bytes=load.rows * (hidden * active + width * between + hidden * 2.0)
        + columns["tokens"] * hidden * 2.0,
        spread_bytes=columns["tokens"] * columns["topk"] * hidden * 2.0,
    )


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and of reading the weights hit, less what the cache may hold.

    Under a power law the load of the measured rank is expected, so that a row may be faster.
    """
    need = work(columns, labels)
    compute = need.rows * need.row_flops / device.flops(labels["dtype"])
    memory = np.maximum(need.weight_bytes - device.l2_bytes, 0) / device.bytes_per_s
    result: Column = np.maximum(compute, memory)
    return result


def parameters(_labels: Labels) -> tuple[Parameter, ...]:
    """Launches, peak shares, padding of an expert's rows, moving of rows, gain from the cache."""
    return (
        Parameter("floor_us", 20.0, 1.0, 500.0),
        Parameter("compute_frac", 0.6, 0.01, 1.0),
        Parameter("memory_frac", 0.75, 0.02, 1.0),
        Parameter("padding_rows", 32.0, 0.0, 512.0),
        Parameter("activation_frac", 0.5, 0.01, 1.0),
        Parameter("spread_frac", 0.5, 0.002, 100.0),
        Parameter("expert_ns", 10.0, 0.0, 20000.0),
        Parameter("cache_gain", 1.5, 1.0, 8.0),
    )


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The curve, under the routing that the table names."""
    return work_seconds(p, work(columns, labels), labels, device)


def work_seconds(p: Parameters, need: Work, labels: Labels, device: Rates) -> Column:
    """Launches, arithmetic and weights, and the moving of rows."""
    padded = need.rows + need.hit * p["padding_rows"]
    compute = padded * need.row_flops / (device.flops(labels["dtype"]) * p["compute_frac"])
    touched = need.weight_bytes + need.activation_bytes
    resident = 1 / (1 + (touched / max(device.l2_bytes, 1.0)) ** RESIDENCY)
    bytes_per_s = device.bytes_per_s * (1 + (p["cache_gain"] - 1) * resident)
    memory = need.weight_bytes / (bytes_per_s * p["memory_frac"])
    moving = need.activation_bytes / (bytes_per_s * p["activation_frac"])
    spreading = need.spread_bytes / (bytes_per_s * p["spread_frac"])
    launches = p["floor_us"] * US + need.hit * p["expert_ns"] * NS
    return launches + smooth_max(ROUNDING, compute, memory) + moving + spreading


def exponent(distribution: str) -> float:
    """Of a power law, from ``power_law_1.2``; 0 for ``balanced``.

    Raises:
        ValueError: Another distribution.
    """
    if distribution == "balanced":
        return 0.0
    if found := re.fullmatch(r"power_law_(\d+(?:\.\d+)?)", distribution):
        return float(found[1])
    raise ValueError(distribution)


MOE = Operator(
    "moe",
    ("src", "kernel", "dtype"),
    ("tokens", "hidden", "inter", "topk", "experts", "tp", "ep", "distribution"),
    parameters,
    seconds,
    bound_seconds,
    {"distribution": exponent},
)
