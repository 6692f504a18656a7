"""Collectives of one node: all-reduce, all-gather, reduce-scatter and all-to-all.

The library has a quick protocol of low rate and one of full rate that takes time to ramp up; its
latency grows with the ranks. Engines bring their own all-reduce for devices that map each other's
memory: every rank reads all of it (one shot), or a share that is then gathered (two shots). It is
used up to some size, beyond which, and over more ranks, the library takes over. ``bytes`` is the
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

PCIE_BYTES_PER_S: Final = 32e9 * 16 * 128 / 130 / 8
"""PCI Express 5.0 x16, one direction, for devices that have no link: shares are of it."""
LIBRARIES: Final = frozenset({"NCCL", "RCCL", "gloo"})
"""Kernels that are the library itself, of NVIDIA, of AMD and of processors."""
HOST_TIMES: Final = 100.0
"""How much longer than between GPUs a message between processes of a host may take at most."""
CROWDED_BYTES: Final = 1.4e6
"""Messages of more than two ranks about this large get in each other's way."""
QUICK_SHARE: Final = 1 / 3
"""Rate of the library's quick protocol beside the full one, behind an engine's own all-reduce."""
PROTOCOLS: Final = 4.0
SHOTS: Final = 8.0
HOST: Final = 8.0


def _ranks(columns: Columns) -> Column:
    """At least two: one rank moves nothing, and is not asked about."""
    ranks: Column = np.maximum(columns["gpus"], 2.0)
    return ranks


def _share(columns: Columns) -> Column:
    """Part of the buffer that leaves a rank when every rank has one of n parts already."""
    ranks = _ranks(columns)
    share: Column = (ranks - 1) / ranks
    return share


def _link(device: Rates) -> float:
    return device.link_bytes_per_s or PCIE_BYTES_PER_S


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """Bytes that must leave a rank, at the rate of its link; switches may add up an all-reduce."""
    share = 1.0 if labels["op"] == "all_reduce" else _share(columns)
    seconds: Column = columns["bytes"] * share / _link(device)
    return seconds


def _is_library(labels: Labels) -> bool:
    return labels["kernel"] in LIBRARIES


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """The library's latency, ramp and rate; of an engine's own kernel the same, and its reach.

    ``ranks_power`` is how rates fall with the ranks, ``crowded`` what large messages of
    several ranks take on top, ``sync_us`` the wait between two shots.
    """
    slowest = HOST_TIMES if labels["kernel"] == "gloo" else 1.0
    library = (
        Parameter("library_us", 8.0, 0.5, 100.0 * slowest),
        Parameter("library_rank_us", 1.5, 0.0, 20.0 * slowest),
        Parameter("small_frac", 0.3, 0.005, 2.0),
        Parameter("ramp_us", 40.0, 0.0, 500.0 * slowest),
        Parameter("large_frac", 0.7, 0.02, 2.0),
        Parameter("ranks_power", 0.0, -0.35, 2.0),
        Parameter("crowded", 0.2, 0.0, 2.0),
    )
    if _is_library(labels):
        return library
    own = (
        Parameter("latency_us", 4.0, 0.5, 60.0),
        Parameter("rank_us", 0.2, 0.0, 20.0),
        Parameter("sync_us", 3.0, 0.0, 50.0),
        Parameter("switch_mb", 16.0, 0.1, 64.0),
    )
    eager = (Parameter("host_us", 20.0, 0.0, 300.0),) if "eager" in labels["kernel"] else ()
    return library + own + eager


def _per_byte(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Seconds a byte at full share of the link, by ranks and size.

    The library's rings cross a host in pairs, an engine's own kernel reads from every peer.
    """
    ranks, size = _ranks(columns), columns["bytes"]
    sharing = ranks / 2 if _is_library(labels) else ranks - 1
    crowd = np.where(ranks > 2, size**3 / (size**3 + CROWDED_BYTES**3), 0.0)
    slow: Column = sharing ** p["ranks_power"] * (1 + p["crowded"] * crowd) / _link(device)
    return slow


def _own_s(p: Parameters, columns: Columns, size: Column, per_byte: Column) -> Column:
    """An engine's own all-reduce of ``size`` bytes, in one shot or two."""
    ranks = _ranks(columns)
    latency = (p["latency_us"] + p["rank_us"] * (ranks - 2)) * US
    one = (ranks - 1) * size * per_byte
    two = p["sync_us"] * US + 2 * _share(columns) * size * per_byte
    return latency + smooth_min(SHOTS, one, two)


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The library, or an engine's own kernel where it reaches; never below the link."""
    size, ranks = columns["bytes"], _ranks(columns)
    sent = size * _share(columns) * (2 if labels["op"] == "all_reduce" else 1)
    slow = _per_byte(p, columns, labels, device)
    quick_frac = p["small_frac"] if _is_library(labels) else QUICK_SHARE * p["large_frac"]
    took = (p["library_us"] + p["library_rank_us"] * (ranks - 2)) * US + smooth_min(
        PROTOCOLS, sent * slow / quick_frac, p["ramp_us"] * US + sent * slow / p["large_frac"]
    )
    if not _is_library(labels):
        switch = p["switch_mb"] * 1e6
        beyond = size**6 / (size**6 + switch**6)
        own = _own_s(p, columns, np.minimum(size, 2 * switch), slow / p["small_frac"])
        reached = (ranks <= device.peers) | ("MNNVL" in labels["kernel"])
        took = np.where(reached, own + beyond * np.maximum(took - own, 0), took)
        took = smooth_max(HOST, np.full_like(took, p.get("host_us", 0.0) * US), took)
    result: Column = np.maximum(took, bound_seconds(columns, labels, device))
    return result


COLLECTIVES = Operator(
    "collectives",
    ("src", "kernel", "op", "dtype"),
    ("gpus", "bytes"),
    parameters,
    seconds,
    bound_seconds,
)
