"""Curves that all attention kernels share: prefill over tiles of queries, decode over the cache.

Prefill is arithmetic: tiles of queries are spread over the multiprocessors, each walks the keys it
sees, and the one with most keys ends last. Decode is memory: each key/value head of each request is
a task that reads its part of the cache; where tasks are few they are split along the keys.

Tables repeat one call, so that keys which fit the cache of the device are found there. A model does
not: a device given with ``l2_bytes`` of 0 reads everything from memory.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmplan.ops.attention import Mask, attention_pairs
from llmplan.ops.base import Step
from llmplan.perf.kernels import US, Column, Parameter, Parameters, saturating, smooth_max
from llmplan.perf.operators.gemm import UNKNOWN_SMS
from llmplan.perf.rates import Rates

TILE: Final = 128.0
"""Queries, and keys, of one tile."""
SHARPNESS: Final = 3.0
"""How well arithmetic and memory overlap: 1 is one after the other."""
CACHE_BYTES_PER_SM_S: Final = 35e9
"""What a multiprocessor reads from the cache, as kernels do on devices with slow memory."""
SPLIT_KEYS: Final = 256.0
"""Keys at which half of the cost of joining split tasks is paid."""
WHOLE: Final = 1e-6
"""So that rounding makes no further wave."""


def bound_s(flops: Column, flops_per_s: float, moved: Column, device: Rates) -> Column:
    """The slower of arithmetic and memory at their peaks; what fits the cache is not read."""
    memory = np.maximum(moved - device.l2_bytes, 0) / device.bytes_per_s
    result: Column = np.maximum(flops / flops_per_s, memory)
    return result


def seen_keys(length: Column, window: Column) -> Column:
    """Keys that the last query sees; a window of 0 is none."""
    result: Column = np.where(window > 0, np.minimum(length, window), length)
    return result


def causal_scores(batch: Column, length: Column, window: Column) -> Column:
    """Query-key pairs of a head over all requests, shape [rows]."""
    pairs = np.zeros_like(length)
    for span in np.unique(window):
        rows = window == span
        mask = Mask.WINDOW if span > 0 else Mask.CAUSAL
        step = Step.prefill(batch[rows], length[rows])
        pairs[rows] = attention_pairs(step, mask, int(span))
    return pairs


def _cached_share(moved: Column, device: Rates) -> Column:
    """Time of reading ``moved`` over and over, relative to reading it from memory."""
    if not device.l2_bytes:
        return np.ones_like(moved)
    found = 1 / (1 + (moved / device.l2_bytes) ** 3)
    cache = (device.sms or UNKNOWN_SMS) * CACHE_BYTES_PER_SM_S
    result: Column = 1 - found * (1 - 1 / max(1.0, cache / device.bytes_per_s))
    return result


@dataclass(frozen=True, slots=True)
class Prefill:
    """Work of one prefill kernel; columns have shape [rows].

    Attributes:
        batch: Requests.
        length: New tokens of each.
        window: Keys a query sees at most; 0 for all.
        heads: Query heads.
        flops_per_score: Of one query-key pair of a head.
        moved_bytes: Queries, keys, values and outputs.
        entry_bytes: Keys and values alone, in 16 bits.
        slowdown: Of arithmetic, at least 1.
    """

    batch: Column
    length: Column
    window: Column
    heads: Column
    flops_per_score: Column
    moved_bytes: Column
    entry_bytes: Column
    slowdown: Column

    @property
    def flops(self) -> Column:
        """Of exactly the pairs that the mask leaves."""
        pairs = causal_scores(self.batch, self.length, self.window)
        result: Column = self.heads * pairs * self.flops_per_score
        return result


PREFILL: Final = (
    Parameter("floor_us", 12.0, 0.5, 200.0),
    Parameter("task_us", 1.0, 0.0, 100.0),
    Parameter("compute_frac", 0.6, 0.01, 1.0),
    Parameter("softmax_flops", 80.0, 0.0, 2048.0),
    Parameter("memory_frac", 0.7, 0.05, 1.0),
    Parameter("lone_gain", 1.0, 0.25, 8.0),
    Parameter("entry_passes", 0.3, 0.0, 50.0),
)
"""Launch, start of a tile, peak shares, softmax of a score as FLOPs, the speed of one tile on its
own over an even share of the device, and how often keys and values are moved once more before."""


def _mean_keys(length: Column, window: Column, most: Column) -> Column:
    """Keys a tile of queries walks, in the mean; a tile on the diagonal is computed whole."""
    mean = causal_scores(np.ones_like(length), length, window) / length
    result: Column = np.minimum(mean + TILE / 2, most)
    return result


def prefill_s(p: Parameters, work: Prefill, flops_per_s: float, device: Rates) -> Column:
    """Tiles over the multiprocessors, not below the longest one, beside the bytes moved.

    With ``masked_frac``, keys outside the window cost that part of the others.
    """
    sms = device.sms or UNKNOWN_SMS
    tiles = np.ceil(work.length / TILE)
    none = np.zeros_like(work.window)
    seen = np.where(work.window > 0, np.minimum(work.length, work.window + TILE), work.length)
    masked = p.get("masked_frac", 0.0)
    keys = (1 - masked) * _mean_keys(work.length, work.window, seen)
    keys = keys + masked * _mean_keys(work.length, none, work.length)
    reach = seen + masked * (work.length - seen)
    tasks = work.batch * work.heads * tiles
    per_key = TILE * (work.flops_per_score + p["softmax_flops"]) * work.slowdown
    rate = flops_per_s * p["compute_frac"]
    share = _cached_share(work.moved_bytes, device) / device.bytes_per_s
    body = smooth_max(
        SHARPNESS,
        tasks * keys * per_key / rate,
        reach * per_key / (rate / sms * p["lone_gain"]),
        work.moved_bytes * share / p["memory_frac"],
    )
    before = p["entry_passes"] * work.entry_bytes * share
    result: Column = p["floor_us"] * US + tasks / sms * p["task_us"] * US + body + before
    return result


@dataclass(frozen=True, slots=True)
class Decode:
    """Work of one decode kernel; columns have shape [rows].

    Attributes:
        tasks: Parts of the cache that are read by themselves: requests by key/value heads.
        keys: Keys of each.
        splits: Whether a task may be split along its keys; 1 or 0.
        idle: Parts that find nothing to do, over those of a long context.
        task_bytes: Keys and values that one task reads.
        entry_bytes: Those of all requests.
        rereads: How often they are moved, at least 1.
        other_bytes: Queries and outputs.
        compute_s: Arithmetic with the whole device busy.
        slowdown: Of reading, at least 1.
    """

    tasks: Column
    keys: Column
    splits: Column
    idle: Column
    task_bytes: Column
    entry_bytes: Column
    rereads: Column
    other_bytes: Column
    compute_s: Column
    slowdown: Column


DECODE: Final = (
    Parameter("floor_us", 8.0, 0.5, 200.0),
    Parameter("split_us", 3.0, 0.0, 50.0),
    Parameter("task_us", 1.0, 0.0, 100.0),
    Parameter("memory_frac", 0.85, 0.02, 1.0),
    Parameter("log2_split_keys", 8.0, 4.0, 20.0),
    Parameter("lone_gb_per_s", 25.0, 1.0, 1000.0),
)
"""Launch, joining of splits, start of a task, peak share of memory, keys of a split, and how fast a
task walks its keys with the device to itself."""


def decode_s(p: Parameters, work: Decode, device: Rates) -> Column:
    """Reading the cache beside the arithmetic, and no faster than the longest walk over keys.

    With ``parts_per_sm``, tasks are split until every multiprocessor has so many parts, and the one
    with most parts walks longest.
    """
    sms = device.sms or UNKNOWN_SMS
    share = _cached_share(work.entry_bytes, device)
    moved = work.entry_bytes * work.rereads * work.slowdown * share + work.other_bytes
    wanted, is_filling = work.keys / 2 ** p["log2_split_keys"], "parts_per_sm" in p
    if is_filling:
        wanted = np.minimum(wanted, p["parts_per_sm"] * sms / work.tasks)
    parts = np.maximum(work.splits * wanted, 1)
    waves = np.ceil(work.tasks * parts / sms - WHOLE) if is_filling else np.ones_like(parts)
    body = smooth_max(
        SHARPNESS,
        work.compute_s / np.minimum(work.tasks * parts / sms, 1),
        moved / (device.bytes_per_s * p["memory_frac"]),
        waves * work.task_bytes * work.slowdown / parts / (p["lone_gb_per_s"] * 1e9),
    )
    joining = p["split_us"] * (work.splits * saturating(work.keys, SPLIT_KEYS) + work.idle)
    fixed = (p["floor_us"] + joining) * US
    result: Column = fixed + work.tasks / sms * p["task_us"] * US + body
    return result
