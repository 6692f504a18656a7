"""Decode attention: one new token for each of ``batch`` requests that hold ``kv_len`` keys."""

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
)
from llmplan.perf.operators.attention_curves import (
    DECODE,
    TILE,
    Decode,
    bound_s,
    decode_s,
    seen_keys,
)
from llmplan.perf.rates import BITS, Rates

FULL_WIDTH: Final = 128.0
"""Head width that rows and tiles are made for."""
WHOLE_TILES: Final = ("fa3", "vllm_flash_attn_fa3")
"""FlashAttention 3 reads the tile in which a window begins as a whole."""
NARROW_POWER: Final = 0.1
"""How fast heads lose that are narrower than tiles: little, in all kernels."""
ROWS: Final = 16.0
"""Rows of the smallest matrix tile: so many query heads of a group cost as much as one."""
LARGEST_GROUP: Final = 32.0
"""Query heads of a group that TensorRT-LLM's matrix kernels take; more, or one alone, run on the
vector units."""
ACTIVATION_BYTES: Final = 2.0
IDLE: Final = 2.0
"""TensorRT-LLM splits by the context, so that with a window most parts find no keys; what they cost
over joining."""
IDLE_TASKS: Final = 16.0
"""Tasks at which half of it is reached."""
INTEL: Final = "arc-"
"""Devices whose kernels share a name with FlashAttention 2 and nothing else."""
FLASH_ATTENTION_2: Final = ("vllm_flash_attn", "vllm_flash_attn_fa2")


def _on_vector_units(labels: Labels) -> bool:
    """Whether some groups of a kernel bypass the matrix units."""
    return labels["kernel"] == "torch_flow"


def _bytes(columns: Columns, labels: Labels) -> tuple[Column, Column]:
    """Bytes of keys and values that are seen, and of queries and outputs."""
    elements = 2 * columns["batch"] * columns["head_dim"]
    keys = seen_keys(columns["kv_len"], columns["window"])
    entries = elements * columns["kv_heads"] * keys * BITS[labels["kv_dtype"]] / 8
    return entries, elements * columns["heads"] * ACTIVATION_BYTES


def _flops(columns: Columns) -> Column:
    keys = seen_keys(columns["kv_len"], columns["window"])
    flops: Column = 4 * columns["batch"] * columns["heads"] * keys * columns["head_dim"]
    return flops


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and memory at their peaks."""
    entries, others = _bytes(columns, labels)
    return bound_s(_flops(columns), device.flops(labels["dtype"]), entries + others, device)


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Those of all decode, the arithmetic, and how fast heads lose that are wide.

    FlashAttention 2 treats all widths alike, but its parts are not one for each multiprocessor.
    """
    found = (*DECODE, Parameter("compute_frac", 0.3, 0.002, 1.0))
    if _on_vector_units(labels):
        return (*found, Parameter("vector_frac", 0.08, 0.005, 1.0))
    if labels["kernel"] in ("flash_attention", *FLASH_ATTENTION_2):
        return (*found, Parameter("parts_per_sm", 1.0, 0.25, 8.0))
    return (*found, Parameter("wide_power", 0.1, 0.0, 1.0))


def _compute_s(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Arithmetic of groups padded to matrix tiles, or on the vector units."""
    group = columns["heads"] / columns["kv_heads"]
    flops, rate = _flops(columns), device.flops(labels["dtype"]) * p["compute_frac"]
    matrix: Column = flops * np.ceil(group / ROWS) * ROWS / group / rate
    if not _on_vector_units(labels):
        return matrix
    vector = flops / (device.flops_per_s["fp32"] * p["vector_frac"])
    large = np.where(group > LARGEST_GROUP, np.maximum(vector, matrix), matrix)
    result: Column = np.where(group == 1, vector, large)
    return result


def _as_read(columns: Columns, labels: Labels) -> Columns:
    """Columns with windows as long as a kernel reads them."""
    if labels["kernel"] not in WHOLE_TILES:
        return columns
    window = columns["window"]
    return {**columns, "window": np.where(window > 0, window + TILE, 0.0)}


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The decode curve.

    FlashAttention 2 serves the query heads of a group together, and splits along the keys, only
    where there is a group and no window; else every query head reads the keys by itself.
    """
    columns = _as_read(columns, labels)
    group = columns["heads"] / columns["kv_heads"]
    entries, others = _bytes(columns, labels)
    alone = np.zeros_like(group, dtype=bool)
    if labels["kernel"] in FLASH_ATTENTION_2 and not device.slug.startswith(INTEL):
        alone = (group == 1) | (columns["window"] > 0)
    idle = np.zeros_like(group)
    if _on_vector_units(labels):
        unseen = 1 - seen_keys(columns["kv_len"], columns["window"]) / columns["kv_len"]
        idle = IDLE * unseen * saturating(columns["batch"] * columns["kv_heads"], IDLE_TASKS)
    width = columns["head_dim"] / FULL_WIDTH
    slowdown = np.ones_like(width)
    if "wide_power" in p:
        narrow = np.maximum(1 / width, 1) ** NARROW_POWER
        slowdown = narrow * np.maximum(width, 1) ** p["wide_power"]
    reads = np.where(alone, group, 1)
    work = Decode(
        tasks=columns["batch"] * columns["kv_heads"] * reads,
        keys=seen_keys(columns["kv_len"], columns["window"]),
        splits=np.where(alone, 0, 1),
        idle=idle,
        task_bytes=entries / (columns["batch"] * columns["kv_heads"]),
        entry_bytes=entries,
        rereads=reads,
        other_bytes=others,
        compute_s=_compute_s(p, columns, labels, device),
        slowdown=slowdown,
    )
    return decode_s(p, work, device)


GENERATION_ATTENTION: Final = Operator(
    "generation_attention",
    ("src", "kernel", "dtype", "kv_dtype"),
    ("batch", "kv_len", "heads", "kv_heads", "head_dim", "window"),
    parameters,
    seconds,
    bound_seconds,
)
