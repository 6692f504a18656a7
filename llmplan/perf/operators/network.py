"""All-reduce and send-receive over the links of a node and between nodes.

A quick protocol for small messages and one of full rate with a ramp, over the links of a node;
where ranks are on several nodes, the network adds its latency and limits the rate. Networks of
clouds let a burst pass at a rate that they do not sustain. The host that launches all this takes
its time as well, and small messages were often measured waiting for it. ``bytes`` is the whole
buffer.
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
BURST: Final = 4.0
HOST: Final = 8.0
GB: Final = 1e9
MB: Final = 1e6


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


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Latency, ramp and both rates within a node; latency and rate between nodes; the host.

    ``ranks_power`` is how rates within a node fall with the peers of a rank, ``adapters_power`` how
    the rate between nodes grows with the devices of a node.
    """
    shared = (
        Parameter("latency_us", 8.0, 0.5, 200.0),
        Parameter("quick_gb_s", 5.0, 0.1, 500.0),
        Parameter("ramp_us", 20.0, 0.0, 500.0),
        Parameter("full_gb_s", 150.0, 1.0, 2000.0),
        Parameter("node_us", 15.0, 0.0, 500.0),
        Parameter("node_gb_s", 8.0, 0.1, 400.0),
        Parameter("host_us", 10.0, 0.0, 300.0),
    )
    if labels["op"] == "all_reduce":
        return (
            *shared,
            Parameter("rank_us", 1.0, 0.0, 50.0),
            Parameter("ranks_power", 0.0, -0.35, 3.0),
            Parameter("adapters_power", 0.5, 0.0, 1.0),
        )
    return (
        *shared,
        Parameter("burst_gb_s", 20.0, 0.1, 400.0),
        Parameter("burst_mb", 0.0, 0.0, 64.0),
    )


def _link_s(p: Parameters, columns: Columns, sent: Column) -> Column:
    """Seconds of ``sent`` bytes over the links of a node."""
    peers = np.maximum(columns["gpus"], 2.0) - 1
    slow = sent * peers ** p.get("ranks_power", 0.0) / GB
    return smooth_min(PROTOCOLS, slow / p["quick_gb_s"], p["ramp_us"] * US + slow / p["full_gb_s"])


def _network_s(p: Parameters, columns: Columns, sent: Column) -> Column:
    """Seconds of ``sent`` bytes between nodes: what follows a burst goes at the rate sustained."""
    shared = sent / columns["gpus_per_node"] ** p.get("adapters_power", 0.0)
    sustained = np.maximum(shared - p.get("burst_mb", 0.0) * MB, 0) / (p["node_gb_s"] * GB)
    if "burst_gb_s" not in p:
        return sustained
    return smooth_max(BURST, shared / (p["burst_gb_s"] * GB), sustained)


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The node's links, the network where it is crossed, or the host; never below the link."""
    ranks = np.maximum(columns["gpus"], 2.0)
    passes = 2 * (ranks - 1) / ranks if labels["op"] == "all_reduce" else 1.0
    sent = passes * columns["bytes"]
    links, network = _link_s(p, columns, sent), _network_s(p, columns, sent)
    crosses = _crosses(columns)
    transfer = np.where(crosses > 0, smooth_max(PATHS, links, network), links)
    waiting = p["latency_us"] + p.get("rank_us", 0.0) * (ranks - 2) + p["node_us"] * crosses
    took = waiting * US + transfer
    took = smooth_max(HOST, np.full_like(took, p["host_us"] * US), took)
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
