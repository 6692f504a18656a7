"""Who works with whom: the numbers of ranks, and the groups that they form.

Ranks are numbered as data-parallel group x stage x prefill_cp x tp, the last one fastest.
Source: vLLM's initialize_model_parallel, whose groups these are; read 2026-11-22.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from llmplan.parallel.layout import Layout

Groups: TypeAlias = tuple[tuple[int, ...], ...]
"""Numbers of ranks, one tuple a group."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a rank stands along each axis of a layout."""

    dp: int
    stage: int
    prefill_cp: int
    tp: int


def seat(layout: Layout, rank: int) -> Seat:
    """The seat of a rank by its number."""
    shape = (layout.dp, layout.pp, layout.prefill_cp, layout.tp)
    return Seat(*(int(place) for place in np.unravel_index(rank, shape)))


def tensor_groups(layout: Layout, stage: int) -> Groups:
    """Ranks that split one layer."""
    return _rows(_stage(layout, stage), layout.tp)


def decode_context_groups(layout: Layout, stage: int) -> Groups:
    """Neighbours in a tensor group that share out the tokens of a cache."""
    return _rows(_stage(layout, stage), layout.decode_cp)


def prefill_context_groups(layout: Layout, stage: int) -> Groups:
    """Ranks of equal weights that share out the tokens of a prompt."""
    return _rows(_stage(layout, stage).transpose(0, 2, 1), layout.prefill_cp)


def expert_ranks(layout: Layout, stage: int) -> tuple[int, ...]:
    """Ranks over which the experts of a stage are spread, in the order of their experts."""
    return _rows(_stage(layout, stage), layout.stage_ranks)[0]


def stage_neighbours(layout: Layout, stage: int) -> Groups:
    """Each rank of a stage with the one of the next stage that it hands on to."""
    here, there = (_stage(layout, s).ravel().tolist() for s in (stage, stage + 1))
    return tuple(zip(here, there, strict=True))


def _stage(layout: Layout, stage: int) -> NDArray[np.int64]:
    """Ranks of a stage, shape [dp, prefill_cp, tp]."""
    ranks = np.arange(layout.gpus, dtype=np.int64)
    shaped = ranks.reshape(layout.dp, layout.pp, layout.prefill_cp, layout.tp)
    stage_of: NDArray[np.int64] = shaped[:, stage]
    return stage_of


def _rows(ranks: NDArray[np.int64], size: int) -> Groups:
    return tuple(tuple(row) for row in ranks.reshape(-1, size).tolist())
