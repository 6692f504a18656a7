"""Multi-head latent attention (MLA): one compressed key-value vector a token for all heads.

Two realisations of the same weights. *Expanded*: keys and values of every head are formed from the
latent (prefill; how the model is defined). *Absorbed*: the up-projection is folded into queries and
outputs, and all heads attend to the latent itself (decode in serving engines).

Symbols: H heads, c ``kv_lora_rank``, r ``qk_rope_head_dim``, n ``qk_nope_head_dim``,
v ``v_head_dim``.
Source: DeepSeek-AI 2024 (DeepSeek-V2).
"""

from dataclasses import dataclass

import numpy as np

from llmplan.ops.attention import (
    SOFTMAX_FLOPS_PER_SCORE,
    Mask,
    attention_pairs,
    keys_read,
)
from llmplan.ops.base import Array, Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.entries import pooled_pairs
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class LatentAttention(Operator):
    """What both realisations share: the up-projection ``kv_b_proj`` and the cached latent.

    Attributes:
        num_attention_heads: Heads (H).
        kv_lora_rank: Width of the latent (c).
        qk_nope_head_dim: Head width of queries and keys without rotary part (n).
        qk_rope_head_dim: Width of the shared rotary key (r).
        v_head_dim: Head width of values (v).
        index_topk: Keys each query attends to at most, chosen by an indexer; 0 for all.
        index_kpool: Keys that are chosen together; what is no whole pool yet is attended besides.
        has_sinks: One learned logit a head joins each softmax.
    """

    num_attention_heads: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    index_topk: int = 0
    mask: Mask = Mask.CAUSAL
    index_kpool: int = 1
    has_sinks: bool = False

    @property
    def weights(self) -> tuple[Weight, ...]:
        """``kv_b_proj``: from the latent to every head's key (n) and value (v); sink logits."""
        out = self.num_attention_heads * (self.qk_nope_head_dim + self.v_head_dim)
        labels = ("num_attention_heads x (qk_nope_head_dim + v_head_dim)", "kv_lora_rank")
        up = Weight("kv_b_proj", (out, self.kv_lora_rank), Role.ATTENTION, labels)
        if not self.has_sinks:
            return (up,)
        heads = (self.num_attention_heads,)
        return (up, Weight("sinks", heads, Role.BIAS, ("num_attention_heads",)))

    @property
    def latent_width(self) -> int:
        """Elements a token adds to the cache, whatever the number of heads."""
        return self.kv_lora_rank + self.qk_rope_head_dim

    @property
    def states(self) -> tuple[State, ...]:
        """Latent and rotary key of every token."""
        formula = "kv_lora_rank + qk_rope_head_dim"
        return (State(StateKind.KV, self.latent_width, self.precision.kv, formula),)

    def scores(self, step: Step) -> Array:
        """Head-key scores of a step; an indexer leaves ``index_topk`` keys a query at most."""
        if self.index_topk and self.mask is Mask.CAUSAL:
            return self.num_attention_heads * step.over_requests(self._chosen(step))
        return self.num_attention_heads * attention_pairs(step, self.mask, 0)

    def up_projection_flops(self, tokens: Array) -> Array:
        """FLOPs of ``kv_b_proj`` for so many tokens, expanded or absorbed alike."""
        per_head = self.qk_nope_head_dim + self.v_head_dim
        return 2.0 * self.num_attention_heads * per_head * self.kv_lora_rank * tokens

    def cost_with(self, step: Step, head_widths: int, latents: Array) -> Cost:
        """Cost when a score touches ``head_widths`` elements and ``latents`` entries are read."""
        scores = self.scores(step)
        entry_bytes = self.latent_width * self.precision.kv.bits_per_weight / 8
        query = self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim
        return Cost(
            matmul_flops=self.up_projection_flops(step.tokens),
            attention_flops=2.0 * head_widths * scores,
            vector_flops=SOFTMAX_FLOPS_PER_SCORE * scores,
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=entry_bytes * latents,
            state_written_bytes=entry_bytes * step.tokens,
            activation_bytes=self.num_attention_heads
            * query
            * self.activation_width_bytes
            * step.tokens,
            launches=2.0,
        )

    def latents_read(self, step: Step) -> Array:
        """Cache entries read: all kept ones, or at most ``index_topk`` for every query."""
        if not self.index_topk:
            return keys_read(step, Mask.CAUSAL, 0)
        at_hand = step.context + step.new_tokens
        return step.over_requests(np.minimum(at_hand, self._chosen(step)))

    def _chosen(self, step: Step) -> Array:
        """Query-key pairs of each request that an indexer leaves."""
        return pooled_pairs(step, self.index_kpool, self.index_topk // self.index_kpool)


@dataclass(frozen=True, slots=True)
class ExpandedLatentAttention(LatentAttention):
    """MLA as the model is defined: per-head keys (n + r) and values (v).

    Each token's keys and values are counted as expanded once, when it enters; an engine that keeps
    latents and expands them again for later chunks pays ``up_projection_flops`` for these too.
    """

    def cost(self, step: Step) -> Cost:
        """2·(n + r + v) FLOPs per head and pair, plus ``kv_b_proj`` on new tokens."""
        widths = self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim
        return self.cost_with(step, widths, self.latents_read(step))


@dataclass(frozen=True, slots=True)
class AbsorbedLatentAttention(LatentAttention):
    """MLA as engines decode: all heads attend to the latent as one shared key/value head."""

    def cost(self, step: Step) -> Cost:
        """2·((c + r) + c) FLOPs per head and pair, plus ``kv_b_proj`` on queries and outputs."""
        widths = 2 * self.kv_lora_rank + self.qk_rope_head_dim
        return self.cost_with(step, widths, self.latents_read(step))
