"""Differential attention in torch's plain products: a reference, not what engines run."""

import math
from typing import Final

import torch

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.attention import Call
from llmplan.calibrate.runners.requests import TOLERANCE, Requests, drawn, work_row
from llmplan.calibrate.runners.softmax import exact, half_precision
from llmplan.dtypes import divide_exactly
from llmplan.ops.base import Step
from llmplan.ops.differential import LAMBDAS, DifferentialAttention

LAMBDA_INIT: Final = 0.2
"""0.8 - 0.6·exp(-0.3·layer) of the first layer (0). Source: Ye et al. 2024."""
LAMBDA_STD: Final = 0.1
"""Of the four vectors at the start of training, as transformers' DiffLlama draws them."""


@kernels.register
def _differential(
    operator: DifferentialAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """Both maps from one softmax; values of two key/value heads lie side by side."""
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused("DifferentialAttention", dtype),)
    if operator.num_key_value_heads % 2:
        return (Refused("DifferentialAttention", "values come from pairs of key/value heads"),)
    call = Call(operator, Requests.of(step), dtype)
    H, K = operator.num_attention_heads, operator.num_key_value_heads
    query, key, value = call.shapes
    wide = (value[0], divide_exactly(K, 2), value[2], 2 * value[3])
    widths = operator.head_dim + 2 * operator.v_head_dim
    flops = float(2 * widths * H * call.requests.count * call.pairs)

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        parts = [drawn(place, generator, dtype, *shape) for shape in (query, key, wide)]
        vectors = drawn(place, generator, dtype, len(LAMBDAS), operator.head_dim) * LAMBDA_STD
        return (*parts, call.mask(place.device), vectors)

    def reference(*parts: torch.Tensor) -> torch.Tensor:
        q, k, v, _mask, vectors = parts
        maps = exact(q, k, torch.cat((v, v), 1), call.allowed(q.device))
        first, second = maps.chunk(2, 1)
        return first - _lambda(vectors.double()) * second

    row = work_row(operator, step, "reference_products")
    return (Kernel(*row, flops, inputs, differential, reference, TOLERANCE[dtype]),)


def _lambda(vectors: torch.Tensor) -> torch.Tensor:
    """exp(q1·k1) - exp(q2·k2) + λ_init, from ``LAMBDAS`` [4, h]."""
    q1, k1, q2, k2 = vectors.unbind()
    return (q1 * k1).sum().exp() - (q2 * k2).sum().exp() + LAMBDA_INIT


def differential(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, vectors: torch.Tensor
) -> torch.Tensor:
    """(first half of the maps - λ · second half) · values.

    Shapes: q [B, H, T, h], k [B, K, n, h], v [B, K/2, n, w], mask [T, n]; result [B, H/2, T, w].
    """
    B, H, T, h = q.shape
    K, n = k.shape[1:3]
    scores = (q.reshape(B, K, -1, h) @ k.mT).float() / math.sqrt(h)
    scores = scores.view(B, K, H // K, T, n).masked_fill(~mask, -math.inf)
    maps = scores.softmax(-1).to(v.dtype).view(B, 2, K // 2, -1, n).transpose(1, 2)
    outputs = (maps.reshape(B, K // 2, -1, n) @ v).view(B, K // 2, 2, H // K, T, -1)
    first, second = outputs.unbind(2)
    return (first - _lambda(vectors.float()).to(v.dtype) * second).reshape(B, H // 2, T, -1)
