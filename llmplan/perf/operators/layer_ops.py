"""Parts of a dense layer in 16 bits: projections, norms, rotary embedding, activation, additions.

``heads``, ``kv_heads`` and ``inter`` are of the whole model; a rank has 1 / tp of them.
"""

from typing import Final

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
from llmplan.perf.rates import Rates

US: Final = 1e-6
NS: Final = 1e-9
BYTES: Final = 2.0
"""Of one element."""
RESIDENCY: Final = 3.0
"""How sharply a working set leaves the last-level cache."""
ACTIVATION: Final = "mlp_act"
PROJECTIONS: Final = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")


def work(columns: Columns, labels: Labels) -> tuple[Column, Column, Column]:
    """FLOPs, bytes moved, and the width of a token: of a projection its output, else all elements.

    Raises:
        KeyError: An operation that no table has.
    """
    tokens = columns["tokens"]
    if labels["op"] in PROJECTIONS:
        n, k = _projection(columns, labels["op"])
        return 2 * tokens * n * k, (tokens * (n + k) + n * k) * BYTES, n
    elements = _elements(columns)[labels["op"]]
    return np.zeros_like(tokens), tokens * elements * BYTES, elements


def _projection(columns: Columns, op: str) -> tuple[Column, Column]:
    """Output and input width: queries, keys and values at once, gate and up at once."""
    hidden, tp, head = columns["hidden"], columns["tp"], columns["hidden"] / columns["heads"]
    queries = columns["heads"] / tp * head
    keys = np.maximum(columns["kv_heads"] / tp, 1) * head
    inter = columns["inter"] / tp
    return {
        "attn_pre_proj": (queries + 2 * keys, hidden),
        "attn_post_proj": (hidden, queries),
        "mlp_up_proj": (inter * (1 + columns["gated"]), hidden),
        "mlp_down_proj": (hidden, inter),
    }[op]


def _elements(columns: Columns) -> dict[str, Column]:
    """Elements read and written for a token."""
    hidden, tp = columns["hidden"], columns["tp"]
    turned = (columns["heads"] + np.maximum(columns["kv_heads"], tp)) / tp
    return {
        "add": 3 * hidden,
        "input_layernorm": 2 * hidden,
        "post_attention_layernorm": 2 * hidden,
        "attn_rope": 2 * turned * hidden / columns["heads"],
        "mlp_act": (2 + columns["gated"]) * columns["inter"] / tp,
        "emb": 2 * hidden,
    }


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and of memory, less what the last-level cache may hold."""
    flops, moved, _ = work(columns, labels)
    memory = np.maximum(moved - device.l2_bytes, 0) / device.bytes_per_s
    result: Column = np.maximum(flops / device.flops("fp16"), memory)
    return result


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Launch floor, peak share of memory, gain from the cache; of projections also arithmetic.

    Of the others the time of one element: a token is worked on by one block, however few there are.
    An activation without a gate is worked on as a whole instead, at its own share of memory.
    """
    shared = (
        Parameter("floor_us", 3.0, 0.1, 100.0),
        Parameter("memory_frac", 0.8, 0.02, 1.0),
        Parameter("cache_gain", 1.5, 1.0, 8.0),
        Parameter("sharpness", 2.0, 1.0, 8.0),
    )
    if labels["op"] == ACTIVATION:
        own = Parameter("ungated_frac", 0.8, 0.02, 1.0)
        return (*shared, Parameter("element_ns", 0.1, 0.0, 10.0), own)
    if labels["op"] not in PROJECTIONS:
        return (*shared, Parameter("element_ns", 0.1, 0.0, 10.0))
    return (
        *shared,
        Parameter("compute_frac", 0.7, 0.05, 1.0),
        Parameter("half_tokens", 32.0, 0.0, 4096.0),
        Parameter("half_width", 256.0, 0.0, 8192.0),
    )


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Floor, memory and arithmetic, the largest with rounded corners."""
    flops, moved, width = work(columns, labels)
    resident = 1 / (1 + (moved / max(device.l2_bytes, 1.0)) ** RESIDENCY)
    bytes_per_s = device.bytes_per_s * (1 + (p["cache_gain"] - 1) * resident)
    share = np.full_like(moved, p["memory_frac"])
    if labels["op"] == ACTIVATION:
        gated = columns["gated"] > 0
        share, width = np.where(gated, share, p["ungated_frac"]), np.where(gated, width, 0.0)
    memory = moved / (bytes_per_s * share)
    floor = np.full_like(moved, p["floor_us"] * US)
    if labels["op"] not in PROJECTIONS:
        return smooth_max(p["sharpness"], floor + width * p["element_ns"] * NS, memory)
    full = saturating(columns["tokens"], p["half_tokens"]) * saturating(width, p["half_width"])
    compute = flops / (device.flops("fp16") * p["compute_frac"] * full)
    return smooth_max(p["sharpness"], floor, memory, compute)


LAYER_OPS = Operator(
    "layer_ops",
    ("src", "op"),
    ("tokens", "hidden", "inter", "heads", "kv_heads", "gated", "tp"),
    parameters,
    seconds,
    bound_seconds,
)
