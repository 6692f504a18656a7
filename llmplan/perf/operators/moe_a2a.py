"""Dispatch of tokens to their experts and the combination of results, between ranks of one node.

Low-latency kernels send a token once for every expert, high-throughput ones once for every rank
that holds one of its experts; part of it stays on its own rank. ``tokens`` are those of a rank.
All tables are of one node.
"""

from typing import Final

import numpy as np

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
from llmplan.perf.rates import BITS, Rates

HOST: Final = 8.0


def _ranks_reached(columns: Columns) -> Column:
    """Distinct ranks that a token's experts sit on, for experts chosen alike."""
    ranks = np.maximum(columns["ep"], 1.0)
    reached: Column = ranks * (1 - (1 - 1 / ranks) ** columns["topk"])
    return reached


def _away(columns: Columns) -> Column:
    """Share of a token's experts that are on other ranks."""
    ranks = np.maximum(columns["ep"], 1.0)
    share: Column = (ranks - 1) / ranks
    return share


def _least_bytes(labels: Labels) -> float:
    """Bytes of an element on the way; one where the table does not state the format.

    High-throughput kernels combine in 16 bits whatever they dispatch.
    """
    if labels["phase"] == "combine" and "_ht" in labels["backend"]:
        return 2.0
    return BITS.get(labels["dtype"], 8.0) / 8


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """Bytes that leave a rank over its link; 0 for devices without one."""
    copies = _ranks_reached(columns) * _away(columns)
    moved = columns["tokens"] * columns["hidden"] * _least_bytes(labels) * copies
    if not device.link_bytes_per_s:
        return np.zeros_like(moved)
    seconds: Column = moved / device.link_bytes_per_s
    return seconds


def parameters(_labels: Labels) -> tuple[Parameter, ...]:
    """A floor, time per expert, the share of the link, and what the host takes to launch.

    The share counts 16 bits an element, so that narrower formats reach more than 1.
    """
    return (
        Parameter("floor_us", 40.0, 1.0, 400.0),
        Parameter("expert_ns", 20.0, 0.0, 2000.0),
        Parameter("rate_frac", 0.5, 0.02, 4.0),
        Parameter("host_us", 50.0, 0.1, 600.0),
    )


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Floor and transfer, or the host; never below the link.

    Raises:
        ValueError: The device has no link.
    """
    if not device.link_bytes_per_s:
        raise ValueError(f"{device.slug} has no link")
    copies = columns["topk"] if "_ll" in labels["backend"] else _ranks_reached(columns)
    moved = columns["tokens"] * columns["hidden"] * 2.0 * copies * _away(columns)
    fixed = p["floor_us"] * US + columns["experts"] * p["expert_ns"] * 1e-9
    kernel = fixed + moved / (device.link_bytes_per_s * p["rate_frac"])
    took = smooth_max(HOST, np.full_like(kernel, p["host_us"] * US), kernel)
    result: Column = np.maximum(took, bound_seconds(columns, labels, device))
    return result


MOE_A2A = Operator(
    "moe_a2a",
    ("src", "backend", "phase", "dtype"),
    ("ep", "nodes", "hidden", "topk", "experts", "tokens"),
    parameters,
    seconds,
    bound_seconds,
)
