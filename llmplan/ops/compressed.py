"""Attention over a short window and over entries that each stand for many tokens.

One key serves as the value too, for all heads. Every query sees the last W tokens; layers that
compress also see one *entry* for each m tokens that are complete, all of them or the best that an
indexer chooses.

Symbols: H query heads, h ``head_dim``, W ``sliding_window``, m ``compress_ratio``, S context, T new
tokens.
Source: DeepSeek-AI 2026 (DeepSeek-V4); transformers' DeepseekV4ForCausalLM.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from llmplan.ops.attention import SOFTMAX_FLOPS_PER_SCORE, Mask, attention_pairs, keys_read
from llmplan.ops.base import Array, Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.entries import complete_entries, entries_read, entry_pairs
from llmplan.ops.precision import Role

POOL_FLOPS_PER_ELEMENT: Final = SOFTMAX_FLOPS_PER_SCORE + 3.0
"""Add the position bias, one softmax score, multiply and add."""


@dataclass(frozen=True, slots=True)
class CompressedAttention(Operator):
    """Scores, softmax and weighted values; the projections are ``Linear`` operators beside it.

    Attributes:
        num_attention_heads: Query heads (H).
        head_dim: Width of a head and of the one key that is the value too (h).
        sliding_window: Last tokens that every query sees (W).
        compress_ratio: Tokens that one entry stands for (m); 0 where the layer has the window only.
        index_topk: Entries a query attends to at most, chosen by an indexer; 0 for all.
    """

    num_attention_heads: int
    head_dim: int
    sliding_window: int
    compress_ratio: int = 0
    index_topk: int = 0
    mask: Mask = Mask.CAUSAL

    @property
    def weights(self) -> tuple[Weight, ...]:
        """One sink logit a head."""
        return (Weight("sinks", (self.num_attention_heads,), Role.BIAS, ("num_attention_heads",)),)

    @property
    def states(self) -> tuple[State, ...]:
        """Keys of the window, and the entries; tokens that wait for an entry are not counted."""
        width, kv = self.head_dim, self.precision.kv
        window = State(StateKind.WINDOW, width, kv, "head_dim", self.sliding_window)
        if not self.compress_ratio:
            return (window,)
        m = self.compress_ratio
        return (window, State(StateKind.KV, width, kv, "head_dim", tokens_per_entry=m))

    def cost(self, step: Step) -> Cost:
        """4·h FLOPs per head and pair: a score and a value of the same key.

        Pairs: min(S + i, W) window keys for query i, and floor((S + i) / m) entries, k at most.
        Window keys and entries are read once a request.

        Shapes: step fields [..., G]; result [...].
        Source: DeepSeek-AI 2026 (DeepSeek-V4).
        """
        scores = self.num_attention_heads * self._pairs(step)
        entry_bytes = self.head_dim * self.precision.kv.bits_per_weight / 8
        written, read = step.tokens, keys_read(step, Mask.WINDOW, self.sliding_window)
        if self.compress_ratio:
            written = written + complete_entries(step, self.compress_ratio)
            read = read + entries_read(step, self.compress_ratio, self.index_topk)
        width = 2 * self.num_attention_heads * self.head_dim
        return Cost(
            attention_flops=4.0 * self.head_dim * scores,
            vector_flops=SOFTMAX_FLOPS_PER_SCORE * scores,
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=entry_bytes * read,
            state_written_bytes=entry_bytes * written,
            activation_bytes=width * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )

    def _pairs(self, step: Step) -> Array:
        window = Mask.FULL if self.mask is Mask.FULL else Mask.WINDOW
        pairs = attention_pairs(step, window, self.sliding_window)
        if not self.compress_ratio:
            return pairs
        most = 0 if self.mask is Mask.FULL else self.index_topk
        return pairs + entry_pairs(step, self.mask, self.compress_ratio, most)


@dataclass(frozen=True, slots=True)
class Compressor(Operator):
    """Turns the projections of m tokens into one entry: a softmax over them, element by element.

    Its two projections are ``Linear`` operators beside it. What waits for an entry is not counted
    as state: at most 2·m tokens a layer.

    Attributes:
        compress_ratio: Tokens that an entry stands for (m).
        width: Elements projected a token; twice the entry's where entries overlap.
        label: ``width`` in words of the spec's keys.
        ratio_label: ``compress_ratio`` in these words.
    """

    compress_ratio: int
    width: int
    label: str = field(default="head_dim", compare=False)
    ratio_label: str = field(default="compress_ratio", compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """A bias for each position within an entry."""
        shape, labels = (self.compress_ratio, self.width), (self.ratio_label, self.label)
        return (Weight("position_bias", shape, Role.BIAS, labels),)

    def cost(self, step: Step) -> Cost:
        """Vector work for each projected element: bias, softmax, weighted sum.

        Shapes: step fields [..., G]; result [...].
        """
        elements = self.width * np.asarray(step.tokens)
        return Cost(
            vector_flops=POOL_FLOPS_PER_ELEMENT * elements,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=2 * self.activation_width_bytes * elements,
            launches=1.0,
        )
