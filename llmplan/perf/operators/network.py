"""All-reduce and send-receive over the links of a node and between nodes.

A quick protocol for small messages and one of full rate with a ramp, over the links of a node;
where ranks are on several nodes, the network adds its latency and limits the rate. ``bytes`` is the
whole buffer.
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
    smooth_min,
)
from llmplan.perf.rates import Rates

PROTOCOLS: Final = 4.0
PATHS: Final = 2.0
GB: Final = 1e9


def _crosses(columns: Columns) -> Column:
    """1 where ranks are on several nodes, else 0."""
    crosses: Column = (columns["gpus"] > columns["gpus_per_node"]).astype(np.float64)
    return crosses


def bound_seconds(columns: Columns, _labels: Labels, device: Rates) -> Column:
    """The buffer once over the link of a device; 0 between nodes, whose rate no device states."""
    if not device.link_bytes_per_s:
        return np.zeros_like(columns["bytes"])
    seconds: Column = (1 - _crosses(columns)) * columns["bytes"] / device.link_bytes_per_s
    return seconds


def parameters(_labels: Labels) -> tuple[Parameter, ...]:
    """Latency, ramp and both rates within a node; latency and rate between nodes.

    ``ranks_power`` is how rates within a node fall with the peers of a rank.
    """
    return (
        Parameter("latency_us", 8.0, 0.5, 200.0),
        Parameter("rank_us", 1.0, 0.0, 50.0),
        Parameter("quick_gb_s", 5.0, 0.1, 500.0),
        Parameter("ramp_us", 20.0, 0.0, 500.0),
        Parameter("full_gb_s", 150.0, 1.0, 2000.0),
        Parameter("ranks_power", 0.0, -0.35, 3.0),
        Parameter("node_us", 15.0, 0.0, 500.0),
        Parameter("node_gb_s", 8.0, 0.1, 400.0),
    )


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The node's links, and the network where it is crossed; never below the link."""
    size, ranks = columns["bytes"], np.maximum(columns["gpus"], 2.0)
    passes = 2 * (ranks - 1) / ranks if labels["op"] == "all_reduce" else 1.0
    slow = passes * size * (ranks - 1) ** p["ranks_power"] / GB
    links = smooth_min(PROTOCOLS, slow / p["quick_gb_s"], p["ramp_us"] * US + slow / p["full_gb_s"])
    network = passes * size / (p["node_gb_s"] * GB)
    crosses = _crosses(columns)
    transfer = np.where(crosses > 0, smooth_max(PATHS, links, network), links)
    took = (p["latency_us"] + p["rank_us"] * (ranks - 2) + p["node_us"] * crosses) * US + transfer
    result: Column = np.maximum(took, bound_seconds(columns, labels, device))
    return result


NETWORK = Operator(
    "network",
    ("src", "topology", "op"),
    ("gpus", "gpus_per_node", "bytes"),
    parameters,
    seconds,
    bound_seconds,
)
