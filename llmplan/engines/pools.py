"""Cache pools: exact bytes, blocks shared by groups of layers, and pools apart."""

from dataclasses import dataclass
from typing import Final

from llmplan.dtypes import divide_up
from llmplan.engines.facts import LayerCache

Caches = tuple[tuple[LayerCache, int], ...]

SHORTEST: Final = 1
"""Tokens of the shortest request."""


@dataclass(frozen=True, slots=True)
class ExactPool:
    """A pool handed out by the byte: what requests keep, without rounding.

    Attributes:
        caches: What each layer keeps, with how many layers keep that.
        ways: Ranks over which the tokens are shared out.
    """

    caches: Caches
    ways: int = 1

    @property
    def unit(self) -> str:
        """What it is handed out in."""
        return "bytes, without rounding to blocks"

    def request_bytes(self, context: int) -> int:
        """What the layers keep of one request."""
        own = divide_up(context, self.ways)
        return sum(cache.bytes_at(own) * layers for cache, layers in self.caches)

    def printed_tokens(self, pool_bytes: int, max_model_len: int) -> int:
        """Tokens in requests of the full length."""
        per_request = self.request_bytes(max_model_len)
        return max(pool_bytes, 0) * max_model_len // per_request if per_request else 0

    def printed_concurrency(self, pool_bytes: int, max_model_len: int) -> float:
        """Requests of the full length."""
        per_request = self.request_bytes(max_model_len)
        return max(pool_bytes, 0) / per_request if per_request else 0.0


@dataclass(frozen=True, slots=True)
class BlockGroup:
    """Layers that share a block table.

    Attributes:
        tokens: Tokens of one block of these layers.
        window: Tokens a request keeps at most; 0 for all.
        fixed_blocks: Blocks of a request whatever its length (recurrent state); 0 otherwise.
    """

    tokens: int
    window: int = 0
    fixed_blocks: int = 0

    def blocks(self, context: int, in_flight: int) -> int:
        """Blocks of a request of ``context`` tokens, ``in_flight`` of which may be in a step.

        A window may start inside a block, so it takes one more.
        """
        if self.fixed_blocks:
            return self.fixed_blocks
        if not self.window:
            return divide_up(context, self.tokens)
        return divide_up(min(self.window - 1 + in_flight, context), self.tokens) + 1


@dataclass(frozen=True, slots=True)
class BlockPool:
    """Blocks of one size that every group of layers draws from.

    Attributes:
        block_bytes: Bytes of a block over all layers of a group.
        groups: The groups.
        in_flight: Most tokens of one step.
        ways: Ranks over which the tokens of a cache are shared out.
        tokens_by_concurrency: Tokens are printed as concurrency times length.
    """

    block_bytes: int
    groups: tuple[BlockGroup, ...]
    in_flight: int
    ways: int = 1
    tokens_by_concurrency: bool = False

    @property
    def unit(self) -> str:
        """What it is handed out in."""
        least = min(group.tokens for group in self.groups)
        several = f", {len(self.groups)} groups of layers" if len(self.groups) > 1 else ""
        return f"blocks of {least} tokens{several}"

    def request_blocks(self, context: int) -> int:
        """Blocks of one request, all groups."""
        own = divide_up(max(context, SHORTEST), self.ways)
        return sum(group.blocks(own, self.in_flight) for group in self.groups)

    def request_bytes(self, context: int) -> int:
        """Bytes of these blocks."""
        return self.request_blocks(context) * self.block_bytes

    def printed_tokens(self, pool_bytes: int, max_model_len: int) -> int:
        """Blocks over groups times block size; by concurrency in later versions."""
        blocks = max(pool_bytes, 0) // self.block_bytes
        if self.tokens_by_concurrency and len(self.groups) > 1:
            return int(self.printed_concurrency(pool_bytes, max_model_len) * max_model_len)
        return blocks // len(self.groups) * min(g.tokens for g in self.groups) * self.ways

    def printed_concurrency(self, pool_bytes: int, max_model_len: int) -> float:
        """Blocks over those of one request of the full length."""
        return max(pool_bytes, 0) // self.block_bytes / self.request_blocks(max_model_len)


@dataclass(frozen=True, slots=True)
class SplitPool:
    """A pool for layers that keep all tokens, one for windows, and slots for recurrent state.

    Attributes:
        full_token_bytes: Bytes a token of layers that keep all.
        window_token_bytes: Bytes a token of windowed layers.
        window_ratio: Tokens of the window pool by tokens of the full pool.
        window: Longest window.
        slot_bytes: Recurrent state of one request.
        slots: Slots given; 0 for a share of the pool.
        slot_ratio: Bytes of the slots over bytes of the rest, where no number is given.
        ways: Ranks over which the tokens of a cache are shared out.
    """

    full_token_bytes: int
    window_token_bytes: int
    window_ratio: float
    window: int
    slot_bytes: int
    slots: int
    slot_ratio: float
    ways: int = 1

    @property
    def unit(self) -> str:
        """What it is handed out in."""
        parts = ["tokens"]
        if self.window_token_bytes:
            parts.append(f"a window pool of {self.window_ratio:g} as many")
        if self.slot_bytes:
            parts.append("slots of recurrent state")
        return ", ".join(parts)

    @property
    def _pooled_token_bytes(self) -> float:
        """Bytes of the pools per token of the full one; of windows alone where none keeps all."""
        if not self.full_token_bytes:
            return float(self.window_token_bytes)
        return self.full_token_bytes + self.window_ratio * self.window_token_bytes

    def _slots(self, pool_bytes: int) -> int:
        if not self.slot_bytes:
            return 0
        share = self.slot_ratio / (1 + self.slot_ratio)
        return self.slots or int(max(pool_bytes, 0) * share) // self.slot_bytes

    def request_bytes(self, context: int) -> int:
        """Bytes of both pools and a slot."""
        own = divide_up(context, self.ways)
        windowed = min(own, self.window) * self.window_token_bytes
        return own * self.full_token_bytes + windowed + self.slot_bytes

    def printed_tokens(self, pool_bytes: int, max_model_len: int) -> int:  # noqa: ARG002
        """Tokens of the full pool."""
        left = max(pool_bytes, 0) - self._slots(pool_bytes) * self.slot_bytes
        per_token = self._pooled_token_bytes
        return int(max(left, 0) / per_token) * self.ways if per_token else 0

    def printed_concurrency(self, pool_bytes: int, max_model_len: int) -> float:
        """Full pool over the length, and no more than slots and windows allow."""
        tokens = self.printed_tokens(pool_bytes, max_model_len)
        limits = [tokens / max_model_len] if max_model_len else []
        if self.slot_bytes:
            limits.append(float(self._slots(pool_bytes)))
        if self.window_token_bytes and self.full_token_bytes:
            kept = min(self.window, max_model_len)
            limits.append(tokens * self.window_ratio / kept if kept else 0.0)
        return min(limits, default=0.0)
