"""What a request keeps: bytes per token, fixed bytes, and bytes at any context."""

from dataclasses import dataclass

import numpy as np

from llmplan.model.compiled import Model
from llmplan.ops.base import IntArray, StateKind


@dataclass(frozen=True, slots=True)
class RequestState:
    """State of one request, summed over layers.

    Attributes:
        growing_bytes_per_token: Keys and values of layers without limit.
        indexer_bytes_per_token: Keys of sparse-attention indexers.
        recurrent_bytes: Recurrent state.
        convolution_bytes: Convolution columns and token shifts.
        windows: (window in tokens, bytes a token) of windowed layers, equal windows together.
    """

    growing_bytes_per_token: int
    indexer_bytes_per_token: int
    recurrent_bytes: int
    convolution_bytes: int
    windows: tuple[tuple[int, int], ...]

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
        """Bytes a long request holds whatever its length: recurrent, convolution, full windows."""
        return self.recurrent_bytes + self.convolution_bytes + self.full_window_bytes

    def bytes_at(self, context: int) -> int:
        """Bytes of one request that holds ``context`` tokens; exact."""
        windows = sum(min(context, window) * width for window, width in self.windows)
        return context * self._per_token + windows + self.recurrent_bytes + self.convolution_bytes

    def bytes_over(self, contexts: IntArray) -> IntArray:
        """``bytes_at`` for every point of a sweep, int64 of the same shape."""
        total = contexts * self._per_token + (self.recurrent_bytes + self.convolution_bytes)
        for window, width in self.windows:
            total = total + np.minimum(contexts, window) * width
        return total

    @property
    def _per_token(self) -> int:
        return self.growing_bytes_per_token + self.indexer_bytes_per_token

    def bytes_reserved_as_full(self, context: int) -> int:
        """Bytes where an engine reserves windowed layers for the whole context."""
        grown = (self._per_token + self.window_bytes_per_token) * context
        return grown + self.recurrent_bytes + self.convolution_bytes

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

    windows: dict[int, int] = {}
    for state, repeats in states:
        if state.kind is StateKind.WINDOW:
            windows[state.window] = windows.get(state.window, 0) + state.width_bytes * repeats
    return RequestState(
        width_bytes(StateKind.KV),
        width_bytes(StateKind.INDEXER),
        width_bytes(StateKind.RECURRENT),
        width_bytes(StateKind.CONVOLUTION),
        tuple(sorted(windows.items())),
    )
