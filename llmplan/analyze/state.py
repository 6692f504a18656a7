"""What a request keeps: bytes per token, fixed bytes, and bytes at any context."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from llmplan.model.compiled import Model
from llmplan.ops.base import IntArray, State, StateKind


@dataclass(frozen=True, slots=True)
class RequestState:
    """State of one request, summed over layers.

    Attributes:
        growing_bytes_per_token: Keys and values of layers without limit, entries that stand for
            many tokens by their share, rounded up.
        indexer_bytes_per_token: Keys of sparse-attention indexers, likewise.
        recurrent_bytes: Recurrent state.
        convolution_bytes: Convolution columns and token shifts.
        windows: (window in tokens, bytes a token) of windowed layers, equal windows together.
        entries: (tokens an entry, bytes an entry) of keys, values and indexer keys that grow.
        cross_bytes: Keys and values of a request's image, of as many tokens as the spec says.
    """

    growing_bytes_per_token: int
    indexer_bytes_per_token: int
    recurrent_bytes: int
    convolution_bytes: int
    windows: tuple[tuple[int, int], ...]
    entries: tuple[tuple[int, int], ...]
    cross_bytes: int = 0

    @property
    def window_bytes_per_token(self) -> int:
        """Bytes a token adds to windowed layers while these are not full."""
        return sum(width for _, width in self.windows)

    @property
    def full_window_bytes(self) -> int:
        """Bytes of windowed layers with every window full."""
        return sum(window * width for window, width in self.windows)

    @property
    def fixed_bytes(self) -> int:
        """Bytes a long request holds whatever its length: ``unvarying_bytes`` and full windows."""
        return self.unvarying_bytes + self.full_window_bytes

    @property
    def unvarying_bytes(self) -> int:
        """Bytes of any request from its first token: recurrent, convolution, its image."""
        return self.recurrent_bytes + self.convolution_bytes + self.cross_bytes

    def bytes_at(self, context: int) -> int:
        """Bytes of one request that holds ``context`` tokens; exact."""
        windows = sum(min(context, window) * width for window, width in self.windows)
        return self._grown(context) + windows + self.unvarying_bytes

    def bytes_over(self, contexts: IntArray) -> IntArray:
        """``bytes_at`` for every point of a sweep, int64 of the same shape."""
        total = contexts * 0 + self.unvarying_bytes
        for tokens, width in self.entries:
            total = total + np.floor_divide(contexts, tokens) * width
        for window, width in self.windows:
            total = total + np.minimum(contexts, window) * width
        return total

    def _grown(self, context: int) -> int:
        """Bytes of the entries that ``context`` tokens complete."""
        return sum(divmod(context, tokens)[0] * width for tokens, width in self.entries)

    def bytes_reserved_as_full(self, context: int) -> int:
        """Bytes where an engine reserves windowed layers for the whole context."""
        grown = self._grown(context) + self.window_bytes_per_token * context
        return grown + self.unvarying_bytes

    def longest_context(self, budget_bytes: int, most: int) -> int:
        """The longest context up to ``most`` whose state fits ``budget_bytes``; 0 if none does."""
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.bytes_at(middle) <= budget_bytes:
                low = middle
            else:
                high = middle - 1
        return low


def request_state(model: Model) -> RequestState:
    """The state of one request of ``model``, MTP modules included where it has them."""
    states = [
        (state, repeats) for operator, repeats in model.counted() for state in operator.states
    ]

    def width_bytes(kind: StateKind) -> int:
        return sum(state.width_bytes * n for state, n in states if state.kind is kind)

    grows = [(s, n) for s, n in states if s.kind in (StateKind.KV, StateKind.INDEXER)]
    windows = [(s, n) for s, n in states if s.kind is StateKind.WINDOW]
    return RequestState(
        bytes_per_token((s, n) for s, n in grows if s.kind is StateKind.KV),
        bytes_per_token((s, n) for s, n in grows if s.kind is StateKind.INDEXER),
        width_bytes(StateKind.RECURRENT),
        width_bytes(StateKind.CONVOLUTION),
        _together((state.window, state.width_bytes * n) for state, n in windows),
        _together((state.tokens_per_entry, state.width_bytes * n) for state, n in grows),
        width_bytes(StateKind.CROSS),
    )


def bytes_per_token(states: Iterable[tuple[State, int]]) -> int:
    """Bytes that a token adds to states with their repeats, on average; rounded up once."""
    return ceil(sum(Fraction(s.width_bytes * n, s.tokens_per_entry) for s, n in states))


def _together(sizes: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(key, bytes) with the bytes of equal keys added, in order of the keys."""
    sums: dict[int, int] = {}
    for key, size in sizes:
        sums[key] = sums.get(key, 0) + size
    return tuple(sorted(sums.items()))
