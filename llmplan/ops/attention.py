"""Softmax attention over keys and values that a request keeps: MHA, GQA and MQA.

Symbols: H query heads, K key/value heads, h_qk and h_v head sizes, W window, T new tokens,
S context.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from llmplan.ops.base import Array, Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.precision import Role

SOFTMAX_FLOPS_PER_SCORE: Final = 5.0
"""Scale, maximum, subtract, exponential, sum: the vector work of one attention score."""


class Mask(StrEnum):
    """Which keys a query sees."""

    CAUSAL = "causal"
    WINDOW = "window"
    """The last ``span`` keys, itself included."""
    CHUNK = "chunk"
    """Keys of its own chunk of ``span`` positions, up to itself (Llama 4)."""
    FULL = "full"
    """Every key at hand, before and after: encoders, and counters that ignore the causal mask."""


def attention_pairs(step: Step, mask: Mask, span: int) -> Array:
    """Query-key pairs of all requests of a step, shapes [..., G] to [...]."""
    return step.over_requests(pairs_per_request(step, mask, span))


def pairs_per_request(step: Step, mask: Mask, span: int) -> Array:
    """Query-key pairs of one request of each group.

    Causal: query i of T sees S + i keys, so T·S + T(T+1)/2. Window W: min(S + i, W). Chunk C: the
    query at position p sees p mod C + 1 keys. Full: all new keys and ``kept_keys``.

    Shapes: step fields [..., G]; result [..., G].
    """
    T, S = step.new_tokens, step.context
    match mask:
        case Mask.FULL:
            return T * (kept_keys(S, mask, span) + T)
        case Mask.CAUSAL:
            return _prefix_sum(S + T) - _prefix_sum(S)
        case Mask.WINDOW:
            return _clipped_sum(S + T, span) - _clipped_sum(S, span)
        case Mask.CHUNK:
            return _sawtooth_sum(S + T, span) - _sawtooth_sum(S, span)


def _prefix_sum(n: Array) -> Array:
    """1 + 2 + … + n."""
    return n * (n + 1) / 2


def _clipped_sum(n: Array, cap: int) -> Array:
    """Σ min(i, cap) for i = 1 … n."""
    inside = np.minimum(n, cap)
    return _prefix_sum(inside) + (n - inside) * cap


def _sawtooth_sum(n: Array, period: int) -> Array:
    """Σ (i mod period, counted 1 … period) for i = 1 … n."""
    whole = np.floor(n / period)
    return whole * (period * (period + 1) / 2) + _prefix_sum(n - whole * period)


def kept_keys(context: Array, mask: Mask, span: int) -> Array:
    """Keys in state that new queries of a request see, the query's own key not among them.

    A window of W leaves W - 1 of them, a chunk only those of the chunk that is not yet full.
    """
    if not span:
        return context
    return np.mod(context, span) if mask is Mask.CHUNK else np.minimum(context, span - 1)


def keys_read(step: Step, mask: Mask, span: int) -> Array:
    """Keys of all requests that a fused kernel reads once: those seen in state and the new ones."""
    return step.over_requests(kept_keys(step.context, mask, span) + step.new_tokens)


@dataclass(frozen=True, slots=True)
class Attention(Operator):
    """Scores, softmax and weighted values; the projections are ``Linear`` operators beside it.

    Attributes:
        num_attention_heads: Query heads (H).
        num_key_value_heads: Key/value heads (K).
        head_dim: Width of a query and key head (h_qk).
        v_head_dim: Width of a value head (h_v).
        mask: Which keys a query sees.
        span: Window or chunk length; 0 where the mask has none.
        has_sinks: One learned logit a head joins each softmax (gpt-oss).
        keeps_state: False in encoders, whose keys live for one step only.
    """

    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    v_head_dim: int
    mask: Mask = Mask.CAUSAL
    span: int = 0
    has_sinks: bool = False
    keeps_state: bool = True

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The sink logits, where there are any."""
        if not self.has_sinks:
            return ()
        return (Weight("sinks", (self.num_attention_heads,), Role.BIAS, ("num_attention_heads",)),)

    @property
    def kv_width(self) -> int:
        """Elements of one token's key and value."""
        return self.num_key_value_heads * (self.head_dim + self.v_head_dim)

    @property
    def states(self) -> tuple[State, ...]:
        """Keys and values of every token kept."""
        if not self.keeps_state:
            return ()
        kind = StateKind.WINDOW if self.span else StateKind.KV
        formula = "2 x num_key_value_heads x head_dim"
        if self.head_dim != self.v_head_dim:
            formula = "num_key_value_heads x (head_dim + v_head_dim)"
        return (State(kind, self.kv_width, self.precision.kv, formula, self.span),)

    def cost(self, step: Step) -> Cost:
        """2·(h_qk + h_v) FLOPs per head and pair; keys and values are read once a request.

        Each pair costs one dot product of length h_qk and one axpy of length h_v. Queries of a
        group share the read of their key/value head.

        Shapes: step fields [..., G]; result [...].
        Source: Dao et al. 2023 (FlashAttention-2), with exact causal pairs.
        """
        scores = self.num_attention_heads * attention_pairs(step, self.mask, self.span)
        entry_bytes = self.kv_width * self.precision.kv.bits_per_weight / 8
        query_width = self.num_attention_heads * (self.head_dim + self.v_head_dim)
        return Cost(
            attention_flops=2.0 * (self.head_dim + self.v_head_dim) * scores,
            vector_flops=SOFTMAX_FLOPS_PER_SCORE * scores,
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=entry_bytes * keys_read(step, self.mask, self.span),
            state_written_bytes=entry_bytes * step.tokens if self.keeps_state else 0.0,
            activation_bytes=query_width * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )
