"""Rows and experts that the most loaded rank of a mixture of experts works on.

Balanced routing spreads tokens x k rows evenly. Power-law routing follows how the tables were
measured (ai-dynamo/aiconfigurator, collector/helper.py): the expert loads are drawn from a density
x^-a between 1 and 0.8 tokens, scaled to tokens x k rows, held to at most ``tokens`` rows an
expert, and rounded; the rank whose experts hold most rows is the one measured. Its expected load
has no closed form, so it is the mean over a few fixed shuffles of the quantiles of that density.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from llmplan.perf.kernels import Column, Columns

SHUFFLES: Final = 24
LARGEST: Final = 0.8
"""Largest load drawn, in tokens."""
SMALL: Final = (0.01, 2.0)
"""Loads drawn where there are no more rows than experts."""
NEAR_ONE: Final = 1e-9
MOST_EXPERTS: Final = 65_536
MOST_TOKENS: Final = 2**31
MOST_EXPONENT: Final = 10.0


@dataclass(frozen=True, slots=True)
class RankLoad:
    """Load of the measured rank, each of shape [rows].

    Attributes:
        rows: Token-expert pairs computed on it.
        hit: Experts with at least one row: whose weights are read.
    """

    rows: Column
    hit: Column


def rank_load(columns: Columns) -> RankLoad:
    """Of every row of a table; ``distribution`` is the exponent, 0 for balanced routing."""
    keys = zip(
        *(columns[name] for name in ("tokens", "topk", "experts", "ep", "distribution")),
        strict=True,
    )
    found = np.array([_load(int(n), int(k), int(e), int(ep), a) for n, k, e, ep, a in keys])
    rows, hit = found.reshape(-1, 2).T
    return RankLoad(rows, hit)


@lru_cache(maxsize=65536)
def _load(tokens: int, topk: int, experts: int, ep: int, exponent: float) -> tuple[float, float]:
    """Rows, and experts hit, of the most loaded rank; not a number for sizes that cannot be."""
    sizes = 1 <= topk <= experts <= MOST_EXPERTS and 1 <= ep <= experts
    if not (sizes and 1 <= tokens <= MOST_TOKENS and exponent <= MOST_EXPONENT):
        return np.nan, np.nan
    local = experts // ep
    if exponent <= 0:
        rows = max(tokens * topk / ep, 1.0)
        return rows, min(float(local), rows)
    loads = shuffled_loads(tokens, topk, experts, exponent)
    ranks = loads[:, : local * (experts // local)].reshape(SHUFFLES, -1, local)
    per_rank = ranks.sum(axis=2)
    most = per_rank.argmax(axis=1)
    chosen = ranks[np.arange(SHUFFLES), most]
    return float(chosen.sum(axis=1).mean()), float((chosen > 0).sum(axis=1).mean())


def shuffled_loads(tokens: int, topk: int, experts: int, exponent: float) -> Column:
    """Rows of every expert under a power law, [shuffles, experts]."""
    total = tokens * topk
    least, most = (1.0, max(LARGEST * tokens, 1.0)) if total > experts else SMALL
    drawn = _quantile((np.arange(experts) + 0.5) / experts, exponent, least, most)
    rows = _summing_to(total, np.minimum(np.round(drawn / drawn.sum() * total), tokens), tokens)
    shuffled: Column = np.random.default_rng(0).permuted(np.tile(rows, (SHUFFLES, 1)), axis=1)
    return shuffled


def _quantile(share: Column, exponent: float, least: float, most: float) -> Column:
    """Inverse of the distribution function of a bounded power law; exponent 1 is log-uniform."""
    if abs(exponent - 1) < NEAR_ONE:
        uniform: Column = least * (most / least) ** share
        return uniform
    power = 1 - exponent
    inverse: Column = (least**power + share * (most**power - least**power)) ** (1 / power)
    return inverse


def _summing_to(total: int, ascending: Column, most: int) -> Column:
    """Rounded rows, those missing given to the experts with fewest, those too many taken there.

    ``total`` is at most ``most`` times the experts, so that there is room for all.
    """
    rows = ascending.copy()
    if (excess := int(rows.sum()) - total) > 0:
        taken = np.arange(len(rows)) < excess
        rows[-1] -= np.sum(taken & (rows == 0))
        rows[taken & (rows > 0)] -= 1
    while (missing := total - int(rows.sum())) > 0:
        with_room = np.flatnonzero(rows < most)[:missing]
        each = max(missing // len(with_room), 1)
        rows[with_room] = np.minimum(rows[with_room] + each, most)
    return rows
