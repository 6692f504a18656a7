"""Multi-head latent attention kernels, without projections.

Prefill expands keys and values of every head from the latent; decode leaves the latent as it is and
lets all heads read it as one shared key/value head. The tables name no model: their kernels are
built for the widths of one, whose spec is read.
"""

from functools import cache
from typing import Final

import numpy as np

from llmplan.errors import InputError
from llmplan.model.catalogue import load_model
from llmplan.ops.latent import LatentAttention
from llmplan.perf.kernels import Column, Columns, Labels, Operator, Parameter, Parameters
from llmplan.perf.operators.attention_curves import (
    DECODE,
    PREFILL,
    Decode,
    Prefill,
    bound_s,
    decode_s,
    prefill_s,
)
from llmplan.perf.rates import BITS, Rates

MODEL: Final = "deepseek-ai/DeepSeek-V3"
HEAD_TILE: Final = 64.0
"""Heads of a matrix tile: fewer cost as much."""
TRITON_HEAD_TILE: Final = 16.0
TRITON_DEVICES: Final = ("a100", "l4", "rtx-")
"""How devices are called for which vLLM has no other kernel: Ampere, Ada, Blackwell boards."""
ACTIVATION_BYTES: Final = 2.0


def flops_per_s(labels: Labels, device: Rates) -> float:
    """Rate of attention: queries are brought into the format of the cache."""
    return device.flops(labels["kv_dtype"])


@cache
def latent_attention(model: str) -> LatentAttention:
    """The latent attention of a model of the catalogue.

    Raises:
        InputError: It has none, or one whose queries see chosen keys only.
    """
    for operator in load_model(model).decoder.operators():
        if isinstance(operator, LatentAttention):
            if operator.index_topk:
                raise InputError(f"{model} attends to chosen keys, which these curves do not know.")
            return operator
    raise InputError(f"{model} has no latent attention.")


def context_work(columns: Columns, labels: Labels, widths: LatentAttention) -> Prefill:
    """Prefill with expanded heads."""
    batch, length, heads = columns["batch"], columns["kv_len"], columns["heads"]
    query = widths.qk_nope_head_dim + widths.qk_rope_head_dim
    per_head = query + widths.v_head_dim
    tokens = batch * length
    latent = widths.latent_width * BITS[labels["kv_dtype"]] / 8
    entries = tokens * heads * per_head * ACTIVATION_BYTES  # key and value
    return Prefill(
        batch=batch,
        length=length,
        window=np.zeros_like(length),
        heads=heads,
        flops_per_score=np.full_like(length, 2.0 * per_head),
        moved_bytes=2 * entries + tokens * latent,  # query and output are as wide
        entry_bytes=entries,
        slowdown=np.ones_like(length),
    )


def generation_bytes(
    columns: Columns, labels: Labels, widths: LatentAttention
) -> tuple[Column, Column]:
    """Bytes of latents, and of queries and outputs."""
    latent = widths.latent_width * BITS[labels["kv_dtype"]] / 8
    per_head = widths.latent_width + widths.kv_lora_rank
    others = columns["batch"] * columns["heads"] * per_head * ACTIVATION_BYTES
    return columns["batch"] * columns["kv_len"] * latent, others


def generation_flops(columns: Columns, heads: Column, widths: LatentAttention) -> Column:
    """FLOPs of so many heads that read latents."""
    per_pair = 2.0 * (widths.latent_width + widths.kv_lora_rank)
    flops: Column = columns["batch"] * columns["kv_len"] * heads * per_pair
    return flops


def _head_tile(labels: Labels, device: Rates) -> float:
    """Heads of a matrix tile of a kernel; tables of whole blocks do not name it."""
    kernel = labels.get("kernel", "")
    in_block = not kernel and "/vllm/" in labels["src"]
    if kernel == "triton" or (in_block and device.slug.startswith(TRITON_DEVICES)):
        return TRITON_HEAD_TILE
    return HEAD_TILE


def generation_work(
    p: Parameters, columns: Columns, labels: Labels, widths: LatentAttention, device: Rates
) -> Decode:
    """Decode with absorbed heads, all of which read a latent together."""
    batch, heads = columns["batch"], columns["heads"]
    entries, others = generation_bytes(columns, labels, widths)
    tile = _head_tile(labels, device)
    padded = np.ceil(heads / tile) * tile
    rate = flops_per_s(labels, device) * p["compute_frac"]
    return Decode(
        tasks=batch * padded / tile,
        keys=columns["kv_len"],
        splits=np.ones_like(batch),
        idle=np.zeros_like(batch),
        task_bytes=entries / batch,
        entry_bytes=entries,
        rereads=np.ones_like(batch),
        other_bytes=others,
        compute_s=generation_flops(columns, padded, widths) / rate,
        slowdown=np.ones_like(batch),
    )


def kernel_bound_s(columns: Columns, labels: Labels, model: str, device: Rates) -> Column:
    """Bound of the kernel without projections."""
    widths, rate = latent_attention(model), flops_per_s(labels, device)
    if labels["phase"] == "context":
        work = context_work(columns, labels, widths)
        return bound_s(work.flops, rate, work.moved_bytes, device)
    entries, others = generation_bytes(columns, labels, widths)
    flops = generation_flops(columns, columns["heads"], widths)
    return bound_s(flops, rate, entries + others, device)


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and memory at their peaks."""
    return kernel_bound_s(columns, labels, MODEL, device)


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Those of the phase."""
    if labels["phase"] == "context":
        return PREFILL
    return (*DECODE, Parameter("compute_frac", 0.6, 0.002, 1.0))


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The curve of the phase, at the widths that the tables are of."""
    return seconds_at(latent_attention(MODEL), p, columns, labels, device)


def seconds_at(
    widths: LatentAttention, p: Parameters, columns: Columns, labels: Labels, device: Rates
) -> Column:
    """The curve of the phase for a latent attention of any widths."""
    if labels["phase"] == "context":
        work = context_work(columns, labels, widths)
        return prefill_s(p, work, flops_per_s(labels, device), device)
    return decode_s(p, generation_work(p, columns, labels, widths, device), device)


MLA: Final = Operator(
    "mla",
    ("src", "kernel", "phase", "dtype", "kv_dtype"),
    ("batch", "kv_len", "heads"),
    parameters,
    seconds,
    bound_seconds,
)
