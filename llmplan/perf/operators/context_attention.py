"""Prefill attention: causal, over ``kv_len`` new tokens, with or without a window."""

from typing import Final

import numpy as np

from llmplan.perf.kernels import Column, Columns, Labels, Operator, Parameter, Parameters
from llmplan.perf.operators.attention_curves import PREFILL, Prefill, bound_s, prefill_s
from llmplan.perf.rates import BITS, Rates

FULL_WIDTH: Final = 128.0
"""Head width that tiles are made for; wider heads leave room for fewer keys at once."""
ACTIVATION_BYTES: Final = 2.0


def _work(columns: Columns, labels: Labels, wide_power: float = 0.0) -> Prefill:
    batch, length, width = columns["batch"], columns["kv_len"], columns["head_dim"]
    elements = batch * length * width
    queries = 2 * elements * columns["heads"] * ACTIVATION_BYTES  # and outputs
    entries = 2 * elements * columns["kv_heads"]
    return Prefill(
        batch=batch,
        length=length,
        window=columns["window"],
        heads=columns["heads"],
        flops_per_score=4 * width,
        moved_bytes=queries + entries * BITS[labels["kv_dtype"]] / 8,
        entry_bytes=entries * ACTIVATION_BYTES,
        slowdown=np.maximum(width / FULL_WIDTH, 1) ** wide_power,
    )


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and memory at their peaks."""
    work = _work(columns, labels)
    return bound_s(work.flops, device.flops(labels["dtype"]), work.moved_bytes, device)


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Those of all prefill, and how fast wide heads lose.

    SGLang's Triton kernel walks all keys, and those outside the window cost it a part as well.
    """
    if labels["kernel"] == "triton":
        return (*PREFILL, Parameter("masked_frac", 0.4, 0.0, 1.0))
    return (*PREFILL, Parameter("wide_power", 0.1, 0.0, 2.0))


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The prefill curve."""
    work = _work(columns, labels, p.get("wide_power", 0.0))
    return prefill_s(p, work, device.flops(labels["dtype"]), device)


CONTEXT_ATTENTION: Final = Operator(
    "context_attention",
    ("src", "kernel", "dtype", "kv_dtype"),
    ("batch", "kv_len", "heads", "kv_heads", "head_dim", "window"),
    parameters,
    seconds,
    bound_seconds,
)
