"""Time of one operator of a rank in one step: a fitted kernel where there is one, else its bounds.

Points of a sweep are rows, shape [rows]; request groups are looked at one after the other, since a
step's prefill and decode run as different kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Final

import numpy as np

from llmplan.ops.attention import Attention, Mask, attention_pairs
from llmplan.ops.base import Cost, Operator, Step
from llmplan.ops.embedding import TiedHead
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import GroupedLinear, Linear, Tokens
from llmplan.ops.moe import Experts, Router
from llmplan.ops.precision import Role
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.kernels import US, Column, Columns, Labels
from llmplan.perf.merged import Launch
from llmplan.perf.operators.expert_load import RankLoad
from llmplan.perf.operators.mla import seconds_at
from llmplan.perf.operators.moe import work_seconds, work_under
from llmplan.perf.rates import BITS, UNITS
from llmplan.perf.routing import experts_hit, fullest_rank_times
from llmplan.units import Provenance

DECODE_TOKENS: Final = 16
"""New tokens a request up to which a step reads its cache once for all of them, as decode does."""
TABLE_FORMATS: Final = {
    "bf16": ("bfloat16",),
    "fp16": ("bfloat16",),
    "fp32": ("bfloat16",),
    "fp8": ("fp8_block", "fp8"),
    "fp8_tensor": ("fp8",),
    "fp8_channel": ("fp8",),
    "mxfp8": ("fp8_block", "fp8"),
    "int8": ("sq", "fp8"),
    "nvfp4": ("nvfp4", "w4a8_mxfp4_mxfp8", "int4_wo"),
    "mxfp4": ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4", "int4_wo"),
}
"""How tables call a stored format, the first choice first."""
WEIGHT_ONLY: Final = ("int4_wo", "int8_wo", "bfloat16")
GENERIC_COMPUTE_FRAC: Final = 0.5
GENERIC_MEMORY_FRAC: Final = 0.7
GENERIC_FLOOR_US: Final = 3.0
VECTOR_FLOOR_US: Final = 1.5
PROBE_TOKENS: Final = (1.0, 32.0, 512.0, 8192.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One kernel of a step.

    Attributes:
        name: Its operators.
        kind: What it is: gemm, attention, experts, vector, collective …
        seconds: One call, shape [rows].
        cost: What it asks of the hardware.
        compute_s: Arithmetic at the peak of its format, shape [rows].
        memory_s: Bytes at the memory bandwidth, shape [rows].
        network_s: Bytes at the rate of its link, shape [rows].
        count: Calls a step.
        provenance: Of its time.
        reason: What stands for what, where it is assumed.
        error: Low and high end of the kernel's residuals, as shares of its time.
    """

    name: str
    kind: str
    seconds: Column
    cost: Cost
    compute_s: Column
    memory_s: Column
    network_s: Column
    count: int = 1
    provenance: Provenance = Provenance.ASSUMED
    reason: str = ""
    error: tuple[float, float] = (-0.4, 0.6)

    @property
    def bound_s(self) -> Column:
        """No step is faster than the slowest of what it asks for."""
        result: Column = np.maximum(np.maximum(self.compute_s, self.memory_s), self.network_s)
        return result


def part_of(launch: Launch, step: Step, shelf: KernelShelf) -> Part:
    """The time of a kernel in a step whose fields have shape [rows, groups]."""
    first = launch.operators[0]
    if launch.is_vector:
        return _vector(launch, step, shelf)
    cost = first.cost(step)
    compute_s, memory_s = bounds(first, cost, step, shelf)
    found = timed(first, step, shelf)
    floor = np.maximum(compute_s, memory_s)
    return Part(
        launch.name,
        found.kind,
        np.maximum(found.seconds, floor),
        cost,
        compute_s,
        memory_s,
        np.zeros_like(floor),
        provenance=found.provenance,
        reason=found.reason,
        error=found.error,
    )


def unit_of(operator: Operator) -> str:
    """Arithmetic unit of an operator's products."""
    weights = operator.weights
    if isinstance(operator, Attention | LatentAttention) or not weights:
        return "bf16"
    stored = operator.precision.of(weights[0].role)
    return UNITS[_table_formats(stored.name)[0]]


def bounds(operator: Operator, cost: Cost, step: Step, shelf: KernelShelf) -> tuple[Column, Column]:
    """Seconds of arithmetic and of memory at their peaks, shape [rows].

    Activations may stay in caches between kernels, so only weights and state are counted.
    """
    rows = np.zeros(np.shape(step.tokens))
    peak = shelf.rates.flops(unit_of(operator))
    compute = (rows + cost.model_flops) / peak
    moved = rows + cost.weight_read_bytes + cost.state_read_bytes + cost.state_written_bytes
    return compute, moved / shelf.rates.bytes_per_s


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of a kernel, shape [rows], and how they are known."""

    kind: str
    seconds: Column
    provenance: Provenance = Provenance.ASSUMED
    reason: str = "no kernel of its kind is fitted: peak rates at usual shares"
    error: tuple[float, float] = (-0.4, 0.6)


def _by(kind: str, seconds: Column, *curves: Curve) -> Timed:
    """Timed by fitted kernels; the weakest of them decides how far it is known."""
    weakest = max(curves, key=lambda curve: curve.provenance is Provenance.ASSUMED)
    error = (
        min(curve.fitted.low_error for curve in curves),
        max(curve.fitted.high_error for curve in curves),
    )
    return Timed(kind, seconds, weakest.provenance, weakest.reason, error)


@singledispatch
def timed(operator: Operator, step: Step, shelf: KernelShelf) -> Timed:
    """Seconds of one call of an operator: bounds at usual shares of the peaks, and a launch."""
    cost = operator.cost(step)
    rows = np.zeros(np.shape(step.tokens))
    compute = (rows + cost.model_flops) / (shelf.rates.flops("bf16") * GENERIC_COMPUTE_FRAC)
    compute = compute + (rows + cost.scan_flops + cost.vector_flops) / _vector_flops(shelf)
    memory = (rows + cost.moved_bytes) / (shelf.rates.bytes_per_s * GENERIC_MEMORY_FRAC)
    kind = type(operator).__name__
    return Timed(kind, GENERIC_FLOOR_US * US + np.maximum(compute, memory))


def _vector_flops(shelf: KernelShelf) -> float:
    return shelf.rates.flops_per_s.get("fp32", shelf.rates.flops("bf16") / 16) * 0.5


def _vector(launch: Launch, step: Step, shelf: KernelShelf) -> Part:
    """A chain of vector operators: each reads what the one before wrote, from the cache."""
    costs = [operator.cost(step) for operator in launch.operators]
    rows = np.zeros(np.shape(step.tokens))
    moved = np.maximum.reduce([rows + cost.moved_bytes for cost in costs])
    seconds = VECTOR_FLOOR_US * US + moved / (shelf.rates.bytes_per_s * GENERIC_MEMORY_FRAC)
    whole = sum(costs, start=Cost())
    return Part(launch.name, "vector", seconds, whole, rows, rows, rows, reason="usual share")


def _table_formats(name: str) -> tuple[str, ...]:
    if name in TABLE_FORMATS:
        return TABLE_FORMATS[name]
    if name.startswith(("int8", "q8")):
        return ("int8_wo", "bfloat16")
    if name in BITS:
        return (name,)
    return WEIGHT_ONLY


def _gemm_curve(formats: tuple[str, ...], shelf: KernelShelf) -> Curve | None:
    tokens = np.array(PROBE_TOKENS)
    probe = {"m": tokens, "n": np.full_like(tokens, 4096), "k": np.full_like(tokens, 4096)}
    for name in formats:
        if curve := shelf.best("gemm", {"dtype": name}, probe):
            return curve
    return None


def product(m: Column, n: float, k: float, stored: str, shelf: KernelShelf) -> Timed | None:
    """``m`` tokens by a matrix of k x n."""
    curve = _gemm_curve(_table_formats(stored), shelf)
    if not curve:
        return None
    rows = np.maximum(m, 1.0)
    columns = {"m": rows, "n": np.full_like(rows, n), "k": np.full_like(rows, k)}
    return _by("gemm", curve.seconds(columns), curve)


@timed.register
def _linear(operator: Linear, step: Step, shelf: KernelShelf) -> Timed:
    tokens = operator.tokens.in_step(step)
    stored = operator.precision.of(operator.role).name
    found = product(tokens, operator.out_features, operator.in_features, stored, shelf)
    return found or timed.dispatch(Operator)(operator, step, shelf)


@timed.register
def _grouped(operator: GroupedLinear, step: Step, shelf: KernelShelf) -> Timed:
    """Groups run as one batched product: as wide as all outputs."""
    return _linear(operator, step, shelf)


@timed.register
def _head(operator: TiedHead, step: Step, shelf: KernelShelf) -> Timed:
    stored = operator.precision.of(Role.EMBEDDING).name
    sequences = Tokens.LAST.in_step(step)
    found = product(sequences, operator.vocab_size, operator.hidden_size, stored, shelf)
    return found or timed.dispatch(Operator)(operator, step, shelf)


@timed.register
def _router(operator: Router, step: Step, shelf: KernelShelf) -> Timed:
    """The scores, and two small kernels that choose."""
    found = product(step.tokens, operator.num_experts, operator.hidden_size, "bf16", shelf)
    if not found:
        return timed.dispatch(Operator)(operator, step, shelf)
    return replace(found, kind="router", seconds=found.seconds + 2 * VECTOR_FLOOR_US * US)


@timed.register
def _experts(operator: Experts, step: Step, shelf: KernelShelf) -> Timed:
    curve = _expert_curve(operator, shelf)
    if not curve:
        return timed.dispatch(Operator)(operator, step, shelf)
    tokens = np.maximum(step.tokens * operator.token_groups, 1.0)
    among = operator.routed_among or operator.num_experts
    share = operator.num_experts / among
    hit = experts_hit(operator, tokens, shelf.skew)
    fullest = fullest_rank_times(operator, shelf.skew)
    load = RankLoad(tokens * operator.num_experts_per_tok * share * fullest, hit)
    columns = _expert_columns(operator, tokens)
    need = work_under(load, columns, curve.labels)
    if operator.token_groups > 1:
        # behind a dispatch a rank sees the copies that are its own, not all
        need = replace(need, spread_bytes=need.spread_bytes * share)
    seconds = work_seconds(curve.parameters, need, curve.labels, shelf.rates)
    return _by("experts", seconds, curve)


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


def _expert_curve(operator: Experts, shelf: KernelShelf) -> Curve | None:
    stored = operator.precision.experts.name
    probe = _expert_columns(operator, np.array(PROBE_TOKENS))
    for name in _table_formats(stored):
        if curve := shelf.best("moe", {"dtype": name}, probe):
            return curve
    return None


def _kv_words(name: str) -> str:
    return "fp8" if name.startswith("fp8") else "bfloat16"


def _attention_curve(kind: str, labels: Labels, probe: Columns, shelf: KernelShelf) -> Curve | None:
    """The best kernel whose arithmetic is in the format of the cache or in 16 bits."""
    found = [
        curve
        for dtype in dict.fromkeys(("bfloat16", labels["kv_dtype"]))
        if (curve := shelf.best(kind, {**labels, "dtype": dtype}, probe))
    ]
    ours = [curve for curve in found if f"/{shelf.engine}/" in curve.labels["src"]] or found
    if not ours:
        return None
    return min(ours, key=lambda curve: float(np.log(curve.seconds(probe)).mean()))


def _over_groups(
    step: Step,
    decode: Callable[[Column, Column, Column], Column],
    prefill: Callable[[Column, Column, Column], Column],
) -> Column:
    """Sum over request groups of decode or prefill time, by the new tokens of each."""
    fields = np.broadcast_arrays(step.requests, step.new_tokens, step.context)
    total = np.zeros(fields[0].shape[:-1])
    for group in range(fields[0].shape[-1]):
        requests, new, context = (np.asarray(part[..., group], np.float64) for part in fields)
        runs = (requests > 0) & (new > 0)
        for rows, seconds in (
            (runs & (new <= DECODE_TOKENS), decode),
            (runs & (new > DECODE_TOKENS), prefill),
        ):
            if rows.any():
                total[rows] += seconds(requests[rows], new[rows], context[rows])
    return total


def _continued(whole: Callable[[Column], Column], new: Column, context: Column) -> Column:
    """Prefill behind ``context`` tokens: that of all tokens less that of those before."""
    seconds = whole(context + new)
    later = context > 0
    if later.any():
        before = whole(np.where(later, context, new))
        launch = whole(np.ones_like(new))
        seconds = np.where(later, np.maximum(seconds - before, 0) + launch, seconds)
    return seconds


@timed.register
def _attention(operator: Attention, step: Step, shelf: KernelShelf) -> Timed:
    K, heads = operator.num_key_value_heads, operator.num_attention_heads
    labels = {"kv_dtype": _kv_words(operator.precision.kv.name)}
    window = operator.span if operator.mask is not Mask.CAUSAL else 0

    def columns(batch: Column, length: Column, rows: Column) -> Columns:
        return {
            "batch": batch,
            "kv_len": length,
            "heads": heads * rows,
            "kv_heads": np.full_like(batch, K),
            "head_dim": np.full_like(batch, (operator.head_dim + operator.v_head_dim) / 2),
            "window": np.full_like(batch, window),
        }

    ones = np.ones(4)
    probe = columns(np.array(PROBE_TOKENS[:4]) ** 0.5, np.full(4, 2048.0), ones)
    decoding = _attention_curve("generation_attention", labels, probe, shelf)
    probe = columns(ones, np.array([128.0, 512, 2048, 8192]), ones)
    filling = _attention_curve("context_attention", labels, probe, shelf)
    if not decoding or not filling:
        return timed.dispatch(Operator)(operator, step, shelf)

    def decode(batch: Column, new: Column, context: Column) -> Column:
        return decoding.seconds(columns(batch, context + new, new))

    def prefill(batch: Column, new: Column, context: Column) -> Column:
        one = np.ones_like(new)
        return _continued(lambda n: filling.seconds(columns(batch, n, one)), new, context)

    return _by("attention", _over_groups(step, decode, prefill), decoding, filling)


@timed.register
def _latent(operator: LatentAttention, step: Step, shelf: KernelShelf) -> Timed:
    """Expanded heads in prefill, absorbed ones in decode, as engines run it."""
    heads, kv = operator.num_attention_heads, _kv_words(operator.precision.kv.name)
    topk = float(operator.index_topk) or np.inf
    per_head = operator.qk_nope_head_dim + operator.v_head_dim

    def columns(batch: Column, length: Column, rows: Column) -> Columns:
        return {"batch": batch, "kv_len": length, "heads": heads * rows}

    ones = np.ones(4)
    labels = {"dtype": "bfloat16", "kv_dtype": kv}
    probe = columns(np.array(PROBE_TOKENS[:4]) ** 0.5, np.full(4, 2048.0), ones)
    decoding = shelf.best("mla", {**labels, "phase": "generation"}, probe)
    probe = columns(ones, np.array([128.0, 512, 2048, 8192]), ones)
    filling = shelf.best("mla", {**labels, "phase": "context"}, probe)
    up = product(step.tokens, heads * per_head, operator.kv_lora_rank, "bf16", shelf)
    if not (decoding and filling and up):
        return timed.dispatch(Operator)(operator, step, shelf)

    def decode(batch: Column, new: Column, context: Column) -> Column:
        seen = np.minimum(context + new, topk)
        return seconds_at(
            operator, decoding.parameters, columns(batch, seen, new), decoding.labels, shelf.rates
        )

    def prefill(batch: Column, new: Column, context: Column) -> Column:
        one = np.ones_like(new)

        def whole(length: Column) -> Column:
            work = columns(batch, length, one)
            return seconds_at(operator, filling.parameters, work, filling.labels, shelf.rates)

        everything = _continued(whole, new, context)
        if not operator.index_topk:
            return everything
        # chosen keys are attended to in the latent, which is wider than a head
        alone = Step(np.ones_like(new)[:, None], new[:, None], context[:, None])
        pairs = attention_pairs(alone, Mask.CAUSAL, 0)
        chosen = operator.scores(alone) / heads
        wider = (operator.latent_width + operator.kv_lora_rank) / (
            per_head + operator.qk_rope_head_dim
        )
        return everything * np.minimum(chosen / pairs * wider, 1.0)

    seconds = _over_groups(step, decode, prefill) + up.seconds
    return _by("latent attention", seconds, decoding, filling)
