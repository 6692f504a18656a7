"""Softmax attention as torch has it: fused kernels, plain products, and the definition.

Decode folds the query heads of a group into the axis of queries, so that no key is copied for each
of them.

Symbols: B requests, T new tokens, n keys at hand, H query heads, K key/value heads, h and w widths
of keys and values.
Source: torch.nn.functional.scaled_dot_product_attention and torch.nn.attention.
"""

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch.backends.cuda import (
    SDPAParams,
    can_use_cudnn_attention,
    can_use_efficient_attention,
    can_use_flash_attention,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from llmplan.calibrate.kernel import Place
from llmplan.calibrate.runners.requests import HALVES, torch_dtype
from llmplan.ops.precision import Precision

Run: TypeAlias = Callable[..., torch.Tensor]
Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = tuple[Shape, Shape, Shape]

BACKENDS: Final = {
    "flash": (SDPBackend.FLASH_ATTENTION, can_use_flash_attention),
    "cudnn": (SDPBackend.CUDNN_ATTENTION, can_use_cudnn_attention),
    "efficient": (SDPBackend.EFFICIENT_ATTENTION, can_use_efficient_attention),
}
"""Fused kernels of torch, and the question whether one takes some inputs."""


def half_precision(precision: Precision) -> torch.dtype | str:
    """The 16-bit format of queries and cache, or why there is none."""
    activations, kv = precision.activations, precision.kv
    dtype = torch_dtype(kv)
    if dtype not in HALVES or torch_dtype(activations) != dtype:
        return (
            "torch's attention reads queries and cache in one format of 16 bits, not"
            f" {activations.name} and {kv.name}: kernels of an engine would"
        )
    return dtype


def offered(place: Place, dtype: torch.dtype, shapes: Shapes, *, causal: bool) -> list[str]:
    """The fused kernels that torch has for queries, keys and values of such shapes.

    Each is [B, heads, length, width]. The memory-efficient kernel is for what both others refuse.
    """
    query, key, value = shapes
    if not place.is_cuda:
        return ["flash"] if query[-1] == value[-1] else []
    q, k, v = (
        torch.empty(shape[-1], dtype=dtype, device=place.device).expand(shape) for shape in shapes
    )
    params = SDPAParams(q, k, v, None, 0.0, causal, query[1] != key[1])
    found = [word for word, (_backend, can_use) in BACKENDS.items() if can_use(params)]
    return [word for word in found if word != "efficient"] or found


def fused(word: str, *, causal: bool) -> Run:
    """One of torch's fused kernels on queries [B, H, T, h] and keys [B, K, n, h]."""
    backend = BACKENDS[word][0]

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        grouped = q.shape[1] != k.shape[1]
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)

    return run


def folded(word: str, scale: float | None = None) -> Run:
    """The same without a mask, the heads of a group as further queries of their key."""
    backend = BACKENDS[word][0]

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(backend):
            out = scaled_dot_product_attention(_fold(q, k), k, v, scale=scale)
        return out.reshape(*q.shape[:3], v.shape[-1])

    return run


def folded_masked(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The same with a mask [T, n], by whichever kernel of torch takes masks."""
    group = q.shape[1] // k.shape[1]
    out = scaled_dot_product_attention(_fold(q, k), k, v, attn_mask=mask.repeat(group, 1))
    return out.reshape(*q.shape[:3], v.shape[-1])


def _fold(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """[B, H, T, h] to [B, K, H/K·T, h]."""
    return q.reshape(q.shape[0], k.shape[1], -1, q.shape[-1])


def lower_right(new_tokens: int, keys: int) -> Run:
    """New tokens behind those of earlier chunks, causal as seen from the last key."""
    bias = causal_lower_right(new_tokens, keys)

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        grouped = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=grouped)

    return run


def softmax_with_sinks(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last axis; a sink logit, which broadcasts with an axis of 1, joins it."""
    if sinks is None:
        return scores.softmax(-1)
    joined = torch.cat((scores, sinks.expand(*scores.shape[:-1], 1)), -1)
    return joined.softmax(-1)[..., :-1]


def by_products(  # noqa: PLR0913, PLR0917 - what attention consists of
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor,
    sinks: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """Attention as two products with a softmax of all scores between them.

    Shapes: q [B, H, T, h], k [B, K, n, h], v [B, K, n, w]; mask broadcasts with [B, K, 1, T, n];
    sinks [H]; result [B, H, T, w].
    """
    B, H, T, h = q.shape
    K, n = k.shape[1:3]
    scores = (_fold(q, k) @ k.transpose(-1, -2)).float() * (scale or 1 / math.sqrt(h))
    scores = scores.view(B, K, H // K, T, n).masked_fill(~mask, -math.inf)
    logits = None if sinks is None else sinks.float().view(K, H // K, 1, 1)
    weights = softmax_with_sinks(scores, logits).to(v.dtype)
    return (weights.view(B, K, -1, n) @ v).reshape(B, H, T, v.shape[-1])


def exact(  # noqa: PLR0913, PLR0917 - as above
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    allowed: torch.Tensor,
    sinks: torch.Tensor | None = None,
    scale: float | None = None,
) -> torch.Tensor:
    """The definition in float64, head by head, for masks that broadcast with [B, H, T, n]."""
    H, K = q.shape[1], k.shape[1]
    every = allowed.expand(q.shape[0], H, q.shape[2], k.shape[2])
    outputs = []
    for head in range(H):
        key, value = k[:, head * K // H].double(), v[:, head * K // H].double()
        scores = q[:, head].double() @ key.mT * (scale or 1 / math.sqrt(q.shape[-1]))
        scores = torch.where(every[:, head], scores, -math.inf)
        outputs.append(
            softmax_with_sinks(scores, sinks[head].double() if sinks is not None else None) @ value
        )
    return torch.stack(outputs, 1)
