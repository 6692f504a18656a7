"""Time of routed experts, under routing that favours some of them."""

from dataclasses import replace
from typing import Final

import numpy as np

from llmplan.ops.base import Operator, Step
from llmplan.ops.moe import Experts
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.kernels import Column, Columns
from llmplan.perf.operators.expert_load import RankLoad
from llmplan.perf.operators.moe import work_seconds, work_under
from llmplan.perf.rates import BITS
from llmplan.perf.routing import experts_hit, fullest_rank_times
from llmplan.perf.table_formats import table_formats
from llmplan.perf.timed import PROBE_TOKENS, Timed, by_curves, timed
from llmplan.units import Provenance

BLOCK_SCALED: Final = "fp8_block"
"""Kernels of it do all that those of fewer scales do, and more: where a table's are faster, engines
have no reason to run the others."""
ACTIVATIONS_CHOSEN: Final = ("mxfp4",)
"""Stored formats for which engines differ in what activations they multiply with on one device."""


@timed.register
def _experts(operator: Experts, step: Step, shelf: KernelShelf) -> Timed:
    curve = expert_curve(operator, shelf)
    if not curve:
        return timed.dispatch(Operator)(operator, step, shelf)
    tokens = np.maximum(step.tokens * operator.token_groups, 1.0)
    among = operator.routed_among or operator.num_experts
    share = operator.num_experts / among
    hit = experts_hit(operator, tokens, shelf.skew)
    fullest = fullest_rank_times(operator, shelf.skew)
    load = RankLoad(tokens * operator.num_experts_per_tok * share * fullest, hit)
    columns = _expert_columns(operator, tokens)
    curve.note(columns)
    need = work_under(load, columns, curve.labels)
    width = operator.precision.experts.bits_per_weight / BITS[curve.labels["dtype"]]
    need = replace(need, weight_bytes=need.weight_bytes * width)
    if operator.token_groups > 1:
        # behind a dispatch a rank sees the copies that are its own, not all
        need = replace(need, spread_bytes=need.spread_bytes * share)
    seconds = work_seconds(curve.parameters, need, curve.labels, shelf.rates)
    return by_curves("experts", seconds, curve)


def _expert_columns(operator: Experts, tokens: Column) -> Columns:
    def whole(value: float) -> Column:
        return np.full_like(tokens, float(value))

    among = operator.routed_among or operator.num_experts
    return {
        "tokens": tokens,
        "hidden": whole(operator.hidden_size),
        "inter": whole(operator.moe_intermediate_size),
        "topk": whole(operator.num_experts_per_tok),
        "experts": whole(among),
        "tp": whole(1),
        "ep": whole(among / operator.num_experts),
        "distribution": whole(0),
    }


def expert_curve(operator: Experts, shelf: KernelShelf) -> Curve | None:
    """The kernel of an engine's experts in their format."""
    stored = operator.precision.experts.name
    probe = _expert_columns(operator, np.array(PROBE_TOKENS))
    formats = table_formats(stored, shelf)
    has_coarse_scales = "fp8" in formats and BLOCK_SCALED not in formats
    if has_coarse_scales:
        formats = (*formats, BLOCK_SCALED)
    found = [c for name in formats if (c := shelf.best("moe", {"dtype": name}, probe))]
    if has_coarse_scales:
        found.sort(key=lambda curve: curve.pace(probe))
    elif stored in ACTIVATIONS_CHOSEN:
        found.sort(key=lambda curve: curve.provenance is Provenance.ASSUMED)
    return found[0] if found else None
