"""Softmax attention by torch's scaled dot product attention, and by flash-attn where installed.

Prefill from an empty cache is a row of ``context_attention``, decode one of
``generation_attention``. Chunks of a prompt behind earlier ones, attention without a mask and parts
of Llama 4 chunks have no such row: they are rows of ``by_work``.

FLOPs are those of the pairs that a mask leaves; kernels that compute a whole square and
throw scores away run more.

Symbols: B requests, T new tokens, S context, H query heads, K key/value heads, n keys at hand.
Source: torch.nn.functional.scaled_dot_product_attention; Dao et al. 2023 (FlashAttention-2).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Final, TypeAlias

import torch

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.requests import (
    TOLERANCE,
    Requests,
    Row,
    drawn,
    drawn_sinks,
    work_row,
)
from llmplan.calibrate.runners.softmax import (
    Run,
    Shapes,
    by_products,
    exact,
    folded,
    folded_masked,
    fused,
    half_precision,
    lower_right,
    offered,
)
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Step
from llmplan.ops.cross_attention import CrossAttention

Rows: TypeAlias = Callable[[str], Row]

FLASH_ATTN_WIDTH: Final = 256
"""Widest head of the flash-attn package, as its README states."""
AMPERE: Final = (8, 0)
"""Oldest devices that it supports."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of attention: whose keys are at hand, and which of them queries see.

    Attributes:
        operator: Attention.
        requests: Of the step.
        dtype: Of queries and cache.
    """

    operator: Attention
    requests: Requests
    dtype: torch.dtype

    @property
    def kept(self) -> int:
        """Keys in state that new queries see: a window of W leaves W - 1 of them."""
        span, S = self.operator.span, self.requests.context
        if not span:
            return S
        return S % span if self.operator.mask is Mask.CHUNK else min(S, span - 1)

    @property
    def keys(self) -> int:
        """Keys at hand (n): those kept and the new ones."""
        return self.kept + self.requests.new_tokens

    @property
    def shapes(self) -> Shapes:
        """Of queries, keys and values."""
        o, B, n = self.operator, self.requests.count, self.keys
        K = o.num_key_value_heads
        return (
            (B, o.num_attention_heads, self.requests.new_tokens, o.head_dim),
            (B, K, n, o.head_dim),
            (B, K, n, o.v_head_dim),
        )

    @property
    def sees_all(self) -> bool:
        """Whether every query sees every key at hand."""
        return self.operator.mask is Mask.FULL or self.requests.new_tokens == 1

    def bounds(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """First and last position that each query sees, both [T]."""
        S, span = self.requests.context, self.operator.span
        own = torch.arange(S, self.requests.length, device=device)
        match self.operator.mask:
            case Mask.FULL:
                return torch.full_like(own, S - self.kept), torch.full_like(
                    own, self.requests.length - 1
                )
            case Mask.CAUSAL:
                return torch.zeros_like(own), own
            case Mask.WINDOW:
                return (own - span + 1).clamp(min=0), own
            case Mask.CHUNK:
                return own - own % span, own

    def mask(self, device: torch.device) -> torch.Tensor:
        """Which keys at hand a query sees, [T, n]."""
        first, last = (bound[:, None] for bound in self.bounds(device))
        S = self.requests.context
        position = torch.arange(S - self.kept, self.requests.length, device=device)
        return (position >= first) & (position <= last)

    @property
    def pairs(self) -> int:
        """Query-key pairs of one request."""
        first, last = self.bounds(torch.device("cpu"))
        return int((last - first + 1).sum())

    def seen(self, query: int) -> range:
        """Keys at hand that one query sees, one position after the other."""
        S, span = self.requests.context, self.operator.span
        first, own = S - self.kept, S + query
        match self.operator.mask:
            case Mask.FULL:
                return range(self.keys)
            case Mask.CAUSAL:
                return range(own + 1)
            case Mask.WINDOW:
                return range(max(own + 1 - span, 0) - first, own + 1 - first)
            case Mask.CHUNK:
                return range(own // span * span - first, own + 1 - first)

    def allowed(self, device: torch.device) -> torch.Tensor:
        """``mask`` once more, row by row, for the definition."""
        rows = torch.zeros(self.requests.new_tokens, self.keys, dtype=torch.bool, device=device)
        for query in range(self.requests.new_tokens):
            seen = self.seen(query)
            rows[query, seen.start : seen.stop] = True
        return rows

    @property
    def flops(self) -> float:
        """2·(h_qk + h_v) FLOPs a head and pair."""
        o = self.operator
        per_pair = 2 * (o.head_dim + o.v_head_dim) * o.num_attention_heads
        return float(per_pair * self.requests.count * self.pairs)

    def row(self, table: str, kernel: str) -> Row:
        """The row of a table of attention; new tokens of decode count as further heads."""
        o, T = self.operator, self.requests.new_tokens
        is_window = o.mask is Mask.WINDOW
        labels = {"kernel": kernel, "dtype": "bfloat16", "kv_dtype": "bfloat16"}
        columns = {
            "batch": self.requests.count,
            "kv_len": (self.requests.context if is_window else self.kept) + T,
            "heads": o.num_attention_heads * (T if table == "generation_attention" else 1),
            "kv_heads": o.num_key_value_heads,
            "head_dim": (o.head_dim + o.v_head_dim) / 2,
            "window": o.span if is_window else 0,
        }
        return Row(table, labels, {name: float(value) for name, value in columns.items()})

    def kernel(self, row: Row, place: Place, run: Run, *, masked: bool = False) -> Kernel:
        """A kernel on random queries, keys and values; then the mask and sinks that it wants."""

        def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
            parts = [drawn(place, generator, self.dtype, *shape) for shape in self.shapes]
            if masked:
                parts.append(self.mask(place.device))
            if self.operator.has_sinks:
                heads = self.operator.num_attention_heads
                parts.append(drawn_sinks(place, generator, self.dtype, heads))
            return tuple(parts)

        def reference(
            q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: torch.Tensor
        ) -> torch.Tensor:
            sinks = rest[-1] if self.operator.has_sinks else None
            return exact(q, k, v, self.allowed(q.device), sinks)

        return Kernel(*row, self.flops, inputs, run, reference, TOLERANCE[self.dtype])


@kernels.register
def _attention(operator: Attention, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    return attention_kernels(operator, step, place)


def attention_kernels(
    operator: Attention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """Kernels of attention that sees whatever its mask leaves."""
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused(type(operator).__name__, dtype),)
    call = Call(operator, Requests.of(step), dtype)

    def by_work(kernel: str) -> Row:
        return work_row(operator, step, kernel)

    if call.requests.is_decode:
        return tuple(_decode(call, place))
    if call.requests.context or operator.mask is Mask.FULL:
        return tuple(_without_table(call, place, by_work))
    return tuple(_prefill(call, place, by_work))


def _masked(call: Call, place: Place, rows: Rows) -> Kernel:
    """Any mask and any widths: torch's kernels with a mask, or products where there are sinks."""
    if call.operator.has_sinks:
        return call.kernel(rows("reference_products"), place, by_products, masked=True)
    return call.kernel(rows("reference_masked"), place, folded_masked, masked=True)


def _decode(call: Call, place: Place) -> Iterator[Kernel | Refused]:
    def rows(kernel: str) -> Row:
        return call.row("generation_attention", kernel)

    query, key, value = call.shapes
    grouped = (query[0], key[1], query[1] // key[1] * query[2], query[3])
    words = offered(place, call.dtype, (grouped, key, value), causal=False)
    if call.operator.has_sinks or not call.sees_all or not words:
        yield _masked(call, place, rows)
    else:
        for word in words:
            name = "sdpa_folded" if word == "flash" else f"sdpa_folded_{word}"
            yield call.kernel(rows(name), place, folded(word))
    yield from _flash_attn(call, place, rows)


def _prefill(call: Call, place: Place, by_work: Rows) -> Iterator[Kernel | Refused]:
    """From an empty cache; whole Llama 4 chunks are requests of their own."""
    o, T = call.operator, call.requests.new_tokens
    if o.mask is Mask.CHUNK and o.span < T and T % o.span:
        yield _masked(call, place, by_work)
        return
    if o.mask is Mask.CHUNK:
        length = min(T, o.span)
        requests = Requests(call.requests.count * (T // length), length, 0)
        call = Call(replace(o, mask=Mask.CAUSAL, span=0), requests, call.dtype)

    def rows(kernel: str) -> Row:
        return call.row("context_attention", kernel)

    words = offered(place, call.dtype, call.shapes, causal=True)
    hides_keys = call.operator.span and call.operator.span < T
    if o.has_sinks or hides_keys or not words:
        yield _masked(call, place, rows)
    else:
        for word in words:
            yield call.kernel(rows(f"sdpa_{word}"), place, fused(word, causal=True))
    yield from _flash_attn(call, place, rows)


def _without_table(call: Call, place: Place, by_work: Rows) -> Iterator[Kernel | Refused]:
    """Encoders, and chunks of a prompt behind earlier ones."""
    o = call.operator
    words = offered(place, call.dtype, call.shapes, causal=False)
    if o.has_sinks or not words or o.mask in {Mask.WINDOW, Mask.CHUNK}:
        yield _masked(call, place, by_work)
    elif o.mask is Mask.CAUSAL:
        run = lower_right(call.requests.new_tokens, call.keys)
        yield call.kernel(by_work("sdpa_lower_right"), place, run)
    else:
        for word in words:
            yield call.kernel(by_work(f"sdpa_{word}"), place, fused(word, causal=False))
    yield from _flash_attn(call, place, by_work)


def _flash_attn(call: Call, place: Place, rows: Rows) -> Iterator[Kernel | Refused]:
    """The kernels of the flash-attn package, whose layout is [B, length, heads, width]."""
    reason = _no_flash_attn(call, place)
    if reason:
        if place.is_cuda:
            yield Refused("flash_attn", reason)
        return
    module = import_module("flash_attn")
    o = call.operator
    sight = {
        "causal": o.mask is not Mask.FULL,
        "window_size": (o.span - 1, 0) if o.mask is Mask.WINDOW else (-1, -1),
    }

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if call.requests.is_decode:
            out: torch.Tensor = module.flash_attn_with_kvcache(
                q, k, v, cache_seqlens=call.keys, **sight
            )
        else:
            out = module.flash_attn_func(q, k, v, **sight)
        return out

    plain = call.kernel(rows("flash_attn"), place, run)

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return tuple(part.transpose(1, 2).contiguous() for part in plain.inputs(generator))

    def reference(*parts: torch.Tensor) -> torch.Tensor:
        return plain.reference(*(part.transpose(1, 2) for part in parts)).transpose(1, 2)

    yield replace(plain, inputs=inputs, reference=reference)


def _no_flash_attn(call: Call, place: Place) -> str:
    """Why the flash-attn package does not run; empty where it does."""
    o = call.operator
    crosses = o.mask is Mask.CHUNK and call.kept + call.requests.new_tokens > o.span
    reasons = {
        "needs a CUDA device of capability 8.0": place.capability < AMPERE,
        "has no sinks": o.has_sinks,
        "has no chunks": crosses,
        "has equal widths up to 256 only": o.head_dim != o.v_head_dim
        or o.head_dim > FLASH_ATTN_WIDTH,
        "is not installed": find_spec("flash_attn") is None,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


@kernels.register
def _cross(operator: CrossAttention, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """Text queries over the keys of an image: folded, since there is no mask."""
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused("CrossAttention", dtype),)
    requests, tolerance = Requests.of(step), TOLERANCE[dtype]
    H, K, h = operator.num_attention_heads, operator.num_key_value_heads, operator.head_dim
    query = (requests.count, H, requests.new_tokens, h)
    image = (requests.count, K, operator.image_tokens, h)
    grouped = (requests.count, K, H // K * requests.new_tokens, h)
    flops = float(4 * h * H * requests.tokens * operator.image_tokens)

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return tuple(drawn(place, generator, dtype, *shape) for shape in (query, image, image))

    def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        every = torch.ones(1, 1, dtype=torch.bool, device=q.device)
        return exact(q, k, v, every)

    words = offered(place, dtype, (grouped, image, image), causal=False)
    if not words:
        return (Refused("CrossAttention", f"torch has no fused attention for heads of {h}"),)
    return tuple(
        Kernel(
            *work_row(operator, step, f"sdpa_{word}"),
            flops,
            inputs,
            folded(word),
            reference,
            tolerance,
        )
        for word in words
    )
