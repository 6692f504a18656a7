"""A whole block of multi-head latent attention: its projections and the attention kernel.

The widths of the projections are those of the spec of the named model; ``heads`` are the ones of
this rank, and projections that a rank splits shrink with them. Decode absorbs ``kv_b_proj`` into
queries and outputs, which takes as many FLOPs, in 16 bits.
"""

from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from typing import Final

import numpy as np

from llmplan.model.catalogue import load_model
from llmplan.ops.linear import Linear, Split
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
from llmplan.perf.operators.attention_curves import SHARPNESS, decode_s, prefill_s
from llmplan.perf.operators.mla import (
    context_work,
    flops_per_s,
    generation_work,
    kernel_bound_s,
    latent_attention,
)
from llmplan.perf.rates import BITS, Rates

ACTIVATION_BYTES: Final = 2.0
PREFILL_KERNEL: Final = {
    "floor_us": 0.0,
    "task_us": 2.0,
    "softmax_flops": 250.0,
    "lone_gain": 1.0,
    "entry_passes": 0.5,
}
DECODE_KERNEL: Final = {"floor_us": 0.0, "split_us": 5.0, "task_us": 2.0, "lone_gb_per_s": 50.0}
"""Middling values of kernels by themselves; a block is too seldom measured to fit them. The launch
is part of the block's."""


@dataclass(frozen=True, slots=True)
class Projections:
    """Matrices of a block.

    Attributes:
        shared: (inputs, outputs) of those that every rank holds whole.
        split: Those of all heads of the model.
        latent: ``kv_b_proj`` of all heads.
        heads: Heads of the model.
    """

    shared: tuple[tuple[int, int], ...]
    split: tuple[tuple[int, int], ...]
    latent: tuple[int, int]
    heads: int


@cache
def projections(model: str) -> Projections:
    """The projections of a model's attention block: all that stand before its first residual."""
    widths = latent_attention(model)
    layers = (layer for layer, _ in load_model(model).decoder.distinct_layers)
    block = next(layer.operators for layer in layers if widths in layer.operators)
    before = takewhile(lambda operator: operator.name != "residual", block)
    linears = [operator for operator in before if isinstance(operator, Linear)]
    whole = [linear for linear in linears if linear.split is Split.REPLICATED]
    outputs, inputs = widths.weights[0].shape
    return Projections(
        shared=tuple((linear.in_features, linear.out_features) for linear in whole),
        split=tuple((x.in_features, x.out_features) for x in linears if x not in whole),
        latent=(inputs, outputs),
        heads=widths.num_attention_heads,
    )


def _tokens(columns: Columns, labels: Labels) -> Column:
    """New tokens of the step."""
    if labels["phase"] == "context":
        return columns["batch"] * columns["kv_len"]
    return columns["batch"]


def _matrices(columns: Columns, labels: Labels) -> tuple[Column, Column, Column]:
    """Elements of quantised matrices, of ``kv_b_proj``, and activations a token."""
    found = projections(labels["model"])
    share = columns["heads"] / found.heads
    elements = sum(i * o for i, o in found.shared) + share * sum(i * o for i, o in found.split)
    latent = share * found.latent[0] * found.latent[1]
    widths = sum(i + o for i, o in found.shared) + share * sum(map(sum, found.split))
    return elements, latent, widths + share * sum(found.latent)


def _projection_times(
    columns: Columns, labels: Labels, device: Rates
) -> tuple[Column, Column, Column]:
    """Arithmetic seconds at the peak, bytes of weights, bytes of activations."""
    elements, latent, widths = _matrices(columns, labels)
    tokens, weights = _tokens(columns, labels), labels["gemm_type"]
    of_latent = weights if labels["phase"] == "context" else "bfloat16"
    compute = 2 * tokens * elements / device.flops(weights)
    compute = compute + 2 * tokens * latent / device.flops(of_latent)
    stored = elements * BITS[weights] / 8 + latent * BITS[of_latent] / 8
    return compute, stored, tokens * widths * ACTIVATION_BYTES


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The kernel's bound, and that of the projections with weights that may be in the cache."""
    compute, stored, _ = _projection_times(columns, labels, device)
    memory = np.maximum(stored - device.l2_bytes, 0) / device.bytes_per_s
    kernel = kernel_bound_s(columns, labels, labels["model"], device)
    result: Column = np.maximum(compute, memory) + kernel
    return result


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Launches of the block, peak shares of projections, attention and memory; keys of a split."""
    found = (
        Parameter("block_us", 60.0, 5.0, 2000.0),
        Parameter("gemm_frac", 0.5, 0.02, 1.0),
        Parameter("compute_frac", 0.5, 0.002, 1.0),
        Parameter("memory_frac", 0.7, 0.02, 1.0),
    )
    if labels["phase"] == "context":
        return found
    return (*found, Parameter("log2_split_keys", 7.0, 4.0, 20.0))


def _kernel_s(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """The attention kernel without its launch."""
    widths = latent_attention(labels["model"])
    if labels["phase"] == "context":
        work = context_work(columns, labels, widths)
        return prefill_s({**PREFILL_KERNEL, **p}, work, flops_per_s(labels, device), device)
    step = generation_work(p, columns, labels, widths, device)
    return decode_s({**DECODE_KERNEL, **p}, step, device)


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Launches, projections, activations between them, and the attention kernel."""
    compute, stored, activations = _projection_times(columns, labels, device)
    rate = device.bytes_per_s * p["memory_frac"]
    linear = smooth_max(SHARPNESS, compute / p["gemm_frac"], stored / rate)
    kernel = _kernel_s(p, columns, labels, device)
    result: Column = p["block_us"] * US + linear + activations / rate + kernel
    return result


MLA_MODULE: Final = Operator(
    "mla_module",
    ("src", "model", "phase", "dtype", "kv_dtype", "gemm_type"),
    ("batch", "kv_len", "heads"),
    parameters,
    seconds,
    bound_seconds,
)
