"""How many entries there are where one entry stands for m tokens, and how many queries see.

A token that is the n-th of its request sees the floor(n / m) entries that are complete.

Symbols: S context, T new tokens, m tokens an entry, k most entries a query attends to.
"""

import numpy as np

from llmplan.ops.attention import Mask, pairs_per_request
from llmplan.ops.base import Array, Step


def entry_pairs(step: Step, mask: Mask, m: int, most: int) -> Array:
    """Query-entry pairs of all requests of a step, shapes [..., G] to [...].

    Causal: query i of T sees min(floor((S + i) / m), k) entries; k is ``most``, 0 for no limit.
    Full: every query sees all entries at hand, which is causal attention for m = 1 without mask.
    """
    return step.over_requests(_pairs_per_request(step, mask, m, most))


def _pairs_per_request(step: Step, mask: Mask, m: int, most: int) -> Array:
    T, S = step.new_tokens, step.context
    if mask is Mask.FULL:
        every: Array = T * np.floor((S + T) / m)
        return every
    return _sum_of_entries(S + T, m, most) - _sum_of_entries(S, m, most)


def _sum_of_entries(n: Array, m: int, most: int) -> Array:
    """Σ min(floor(i / m), most) for i = 1 … n.

    With q = floor(n / m): m·(0 + 1 + … + (q - 1)) for the m tokens that see each number of
    entries, and q for each of the last n - m·q + 1 tokens.
    """
    inside = np.minimum(n, most * m) if most else n
    q = np.floor(inside / m)
    total: Array = m * q * (q - 1) / 2 + q * (inside - m * q + 1) + (n - inside) * most
    return total


def pooled_pairs(step: Step, m: int, most: int) -> Array:
    """Query-key pairs of each request where queries choose k pools of m tokens as a whole.

    A query that is the n-th of its request sees the n tokens up to itself, less those of complete
    pools that are not among the best k: min(n, k·m + n mod m). With m = 1 that is a window of k.
    """
    every = pairs_per_request(step, Mask.CAUSAL, 0)
    complete = _pairs_per_request(step, Mask.CAUSAL, m, 0)
    chosen = _pairs_per_request(step, Mask.CAUSAL, m, most)
    result: Array = every - m * (complete - chosen)
    return result


def block_pairs(step: Step, m: int, most: int) -> Array:
    """Query-key pairs of each request where queries attend to k blocks of m keys, their own too.

    The n-th query of its request stands at place (n - 1) mod m of its own block and sees that up to
    itself; of the floor((n - 1) / m) blocks before it, k - 1 are chosen at most:
    1 + (n - 1) mod m + m·min(floor((n - 1) / m), k - 1).

    Shapes: step fields [..., G]; result [..., G].
    """
    S, T = step.context, step.new_tokens
    return _sum_of_blocks(S + T, m, most) - _sum_of_blocks(S, m, most)


def _sum_of_blocks(n: Array, m: int, most: int) -> Array:
    """The same, summed over the first n queries of a request: all keys, less blocks not chosen."""
    before = np.maximum(n - 1, 0)
    every = n * (n + 1) / 2
    chosen = _sum_of_entries(before, m, most - 1) if most > 1 else 0.0
    total: Array = every - m * (_sum_of_entries(before, m, 0) - chosen)
    return total


def complete_entries(step: Step, m: int) -> Array:
    """Entries of all requests that become complete in a step."""
    S, T = step.context, step.new_tokens
    return step.over_requests(np.floor((S + T) / m) - np.floor(S / m))


def entries_read(step: Step, m: int, most: int) -> Array:
    """Entries of all requests that are read: all complete ones, or at most k for every query."""
    at_hand = np.floor((step.context + step.new_tokens) / m)
    if most:
        at_hand = np.minimum(at_hand, _pairs_per_request(step, Mask.CAUSAL, m, most))
    return step.over_requests(at_hand)
