"""Which rank holds which routed experts, and how even the work is under skewed load.

Contiguous experts are how engines start: equal runs in order, the first ranks one more where the
experts do not divide. Under a stated load they are balanced greedily: copies of the experts that
carry most, then every copy, heaviest first, to the rank with the least load that has a free slot.

Source: DeepSeek-AI's EPLB (github.com/deepseek-ai/EPLB, its "global" policy). Simplified: one load
for all layers instead of one a layer; experts of a group are not kept on a node; a rank holds two
copies of an expert only where no other rank has a free slot.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import TypeAlias

from llmplan.errors import InputError, LayoutError

Held: TypeAlias = tuple[tuple[int, ...], ...]
"""Experts by number, one tuple a rank; a redundant copy has the number of its expert."""
Shares: TypeAlias = tuple[float, ...]
"""Share of all routed tokens that each expert gets; together 1."""


@dataclass(frozen=True, slots=True)
class ExpertPlacement:
    """The experts of one layer over the ranks of a stage; all layers are placed alike.

    Attributes:
        held: Experts of each rank.
        shares: Load of each expert.
        imbalance_before: Largest load of a rank over the mean, experts contiguous, no copies.
        imbalance: The same as placed.
    """

    held: Held
    shares: Shares
    imbalance_before: float
    imbalance: float

    @property
    def copies(self) -> Counter[int]:
        """How often each expert is held."""
        return Counter(expert for experts in self.held for expert in experts)

    @property
    def rank_shares(self) -> Shares:
        """Load of each rank."""
        return rank_shares(self.held, self.shares)


def even_shares(experts: int) -> Shares:
    """Every expert alike."""
    return (1 / experts,) * experts


def zipf_shares(experts: int, exponent: float) -> Shares:
    """Expert i (from 1) gets a load in proportion to 1/i^exponent.

    The heavy experts are neighbours, which is the worst case for contiguous placement.

    Raises:
        InputError: The exponent is negative, or no finite number.
    """
    if not 0 <= exponent <= 100:
        raise InputError("--zipf is an exponent from 0 (even) to 100.")
    return stated_shares([(1 + expert) ** -exponent for expert in range(experts)], experts)


def stated_shares(load: Sequence[float], experts: int) -> Shares:
    """Measured loads in any unit, as shares.

    Raises:
        InputError: Not one for each expert, or none above zero.
    """
    if len(load) != experts:
        raise InputError(f"{len(load)} expert loads are given; the model has {experts} experts.")
    if min(load) < 0 or not 0 < sum(load) < float("inf"):
        raise InputError("expert loads are finite numbers, none below zero and not all zero.")
    total = sum(load)
    return tuple(each / total for each in load)


def placed_experts(shares: Shares, ranks: int, redundant: int) -> ExpertPlacement:
    """Experts over ``ranks``, with ``redundant`` copies beside the originals.

    Without copies they stay contiguous where moving them gains nothing.

    Raises:
        LayoutError: Some rank would hold none.
    """
    if len(shares) + redundant < ranks:
        raise LayoutError(f"{ranks} ranks are more than {len(shares) + redundant} experts.")
    start = contiguous(len(shares), ranks)
    before = imbalance(start, shares)
    moved = balanced(shares, ranks, redundant)
    after = imbalance(moved, shares)
    if not redundant and before <= after:
        return ExpertPlacement(start, shares, before, before)
    return ExpertPlacement(moved, shares, before, after)


def contiguous(experts: int, ranks: int) -> Held:
    """Runs of experts in order; the first ranks hold one more where they do not divide.

    Source: vLLM's determine_expert_map, strategy linear.
    """
    numbers = iter(range(experts))
    return tuple(tuple(next(numbers) for _ in range(n)) for n in _slots(experts, ranks))


def balanced(shares: Shares, ranks: int, redundant: int) -> Held:
    """Copies of the heaviest experts, then longest processing time first."""
    copies = _copies(shares, redundant)
    each = [(shares[expert] / copies[expert], expert) for expert in copies.elements()]
    free = list(_slots(len(each), ranks))
    loads = [0.0] * ranks
    held: list[Counter[int]] = [Counter() for _ in range(ranks)]
    for load, expert in sorted(each, key=lambda item: (-item[0], item[1])):
        open_ranks = (rank for rank in range(ranks) if free[rank])
        rank = min(open_ranks, key=lambda r: (expert in held[r], loads[r], r))
        held[rank][expert] += 1
        loads[rank] += load
        free[rank] -= 1
    return tuple(tuple(sorted(experts.elements())) for experts in held)


def _copies(shares: Shares, redundant: int) -> Counter[int]:
    """One of each expert, and each further copy to the one whose copies carry most."""
    copies = Counter(range(len(shares)))
    heaviest = [(-share, expert) for expert, share in enumerate(shares)]
    heapify(heaviest)
    for _ in range(redundant):
        _, expert = heaviest[0]
        copies[expert] += 1
        heapreplace(heaviest, (-shares[expert] / copies[expert], expert))
    return copies


def _slots(experts: int, ranks: int) -> Iterator[int]:
    each, left = divmod(experts, ranks)
    return (each + (rank < left) for rank in range(ranks))


def rank_shares(held: Held, shares: Shares) -> Shares:
    """Load of each rank; the copies of an expert share its load evenly."""
    copies = Counter(expert for experts in held for expert in experts)
    return tuple(sum(shares[expert] / copies[expert] for expert in experts) for experts in held)


def imbalance(held: Held, shares: Shares) -> float:
    """Largest load of a rank over the mean of all; 1 is even."""
    return max(rank_shares(held, shares)) * len(held)
