"""Time of attention: decode over a cache, prefill over new tokens and those before them.

Request groups are looked at one after the other, since a step's prefill and decode run as
different kernels.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from llmplan.ops.attention import Attention, Mask, attention_pairs
from llmplan.ops.base import Operator, Step
from llmplan.ops.latent import LatentAttention
from llmplan.ops.precision import Role
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.kernels import Column, Columns, Labels
from llmplan.perf.operators.mla import seconds_at
from llmplan.perf.table_formats import kv_word, table_formats
from llmplan.perf.timed import PROBE_TOKENS, Timed, by_curves, timed
from llmplan.perf.timed_products import gemm_curve, product_s

DECODE_TOKENS: Final = 16
"""New tokens a request up to which a step reads its cache once for all of them, as decode does."""


def _attention_curve(kind: str, labels: Labels, probe: Columns, shelf: KernelShelf) -> Curve | None:
    """The best kernel whose arithmetic is in the format of the cache or in 16 bits."""
    found = [
        curve
        for dtype in dict.fromkeys(("bfloat16", labels["kv_dtype"]))
        if (curve := shelf.best(kind, {**labels, "dtype": dtype}, probe))
    ]
    ours = [c for c in found if c.own or f"/{shelf.engine}/" in c.labels["src"]] or found
    if not ours:
        return None
    return min(ours, key=lambda curve: curve.pace(probe))


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
    labels = {"kv_dtype": kv_word(operator.precision.kv.name)}
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

    return by_curves("attention", _over_groups(step, decode, prefill), decoding, filling)


@timed.register
def _latent(operator: LatentAttention, step: Step, shelf: KernelShelf) -> Timed:
    """Expanded heads in prefill, absorbed ones in decode, as engines run it.

    The projection of latents is a product in the format of its weights where it expands, and in 16
    bits where it is absorbed.
    """
    heads, kv = operator.num_attention_heads, kv_word(operator.precision.kv.name)
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
    # queries of chosen keys stay in the latent in prefill too
    stored = "bf16" if operator.index_topk else operator.precision.of(Role.ATTENTION).name
    absorbing = gemm_curve(table_formats("bf16", shelf), shelf, is_batched=True)
    expanding = gemm_curve(table_formats(stored, shelf), shelf)
    if not (decoding and filling and absorbing and expanding):
        return timed.dispatch(Operator)(operator, step, shelf)

    def up(curve: Curve, tokens: Column) -> Column:
        return product_s(curve, tokens, heads * per_head, operator.kv_lora_rank)

    def decode(batch: Column, new: Column, context: Column) -> Column:
        seen = np.minimum(context + new, topk)
        work = columns(batch, seen, new)
        decoding.note(work)
        absorbed = seconds_at(operator, decoding.parameters, work, decoding.labels, shelf.rates)
        return absorbed + up(absorbing, batch * new)

    def prefill(batch: Column, new: Column, context: Column) -> Column:
        one = np.ones_like(new)

        def whole(length: Column) -> Column:
            work = columns(batch, length, one)
            filling.note(work)
            return seconds_at(operator, filling.parameters, work, filling.labels, shelf.rates)

        everything = _continued(whole, new, context)
        projected = up(expanding, batch * new)
        if not operator.index_topk:
            return everything + projected
        # chosen keys are attended to in the latent, which is wider than a head
        alone = Step(np.ones_like(new)[:, None], new[:, None], context[:, None])
        pairs = attention_pairs(alone, Mask.CAUSAL, 0)
        chosen = operator.scores(alone) / heads
        wider = (operator.latent_width + operator.kv_lora_rank) / (
            per_head + operator.qk_rope_head_dim
        )
        return everything * np.minimum(chosen / pairs * wider, 1.0) + projected

    return by_curves("latent attention", _over_groups(step, decode, prefill), decoding, filling)
