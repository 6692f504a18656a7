"""How tokens spread over experts: distinct experts hit, and rows of the fullest rank.

Tokens do not choose experts evenly. Popularity is taken to be log-normal with spread ``skew``
(standard deviation of its logarithm): 0 is even routing, which hits the most experts.
"""

from functools import cache
from math import expm1, sqrt
from statistics import NormalDist
from typing import Final

import numpy as np

from llmplan.ops.moe import Experts
from llmplan.perf.kernels import Column

NODES: Final = 9
"""Of the quadrature over popularity."""


@cache
def _popularity(skew: float) -> tuple[tuple[float, float], ...]:
    """(share of experts, popularity over the mean) of each node; mean popularity is 1."""
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    share = weights / weights.sum()
    times = np.exp(skew * points)
    times /= float((share * times).sum())
    return tuple(zip(share.tolist(), times.tolist(), strict=True))


def experts_hit(operator: Experts, tokens: Column, skew: float) -> Column:
    """Expected distinct experts of a rank that so many tokens use, shape [rows].

    With no skew exactly ``Experts.experts_hit``.
    """
    even = operator.experts_hit(tokens)
    if not skew:
        return even
    among = operator.routed_among or operator.num_experts
    chance = operator.num_experts_per_tok / among
    if chance >= 1:
        return even
    missed = np.zeros_like(tokens)
    for share, times in _popularity(skew):
        missed = missed + share * np.exp(tokens * np.log1p(-min(chance * times, 1 - 1e-9)))
    hit: Column = operator.num_experts * (1 - missed)
    return np.minimum(hit, even)


def fullest_rank_times(operator: Experts, skew: float) -> float:
    """Rows of the fullest rank over those of the mean one, where experts are spread over ranks.

    A rank's share is a mean over its experts, whose popularity has a relative spread of
    √(exp(skew²) - 1); of n ranks the fullest is Φ⁻¹((n - 0.375)/(n + 0.25)) deviations above.
    Source: Blom 1958 (expected normal order statistics).
    """
    among = operator.routed_among or operator.num_experts
    ranks = among / operator.num_experts
    if ranks <= 1 or not skew:
        return 1.0
    deviation = sqrt(expm1(skew**2) / operator.num_experts)
    above = NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))
    return 1 + max(above, 0.0) * deviation
