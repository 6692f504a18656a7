"""Properties that hold for every operator: broadcasting, additivity, closed forms, monotony."""

from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.dtypes import BF16, bytes_for, listed_formats
from llmplan.ops.attention import Attention, Mask, attention_pairs, keys_read
from llmplan.ops.base import COST_FIELDS, Cost, Operator, State, StateKind, Step
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.counting import as_full_square
from llmplan.ops.entries import complete_entries, entries_read, entry_pairs
from llmplan.ops.latent import AbsorbedLatentAttention, ExpandedLatentAttention
from llmplan.ops.linear_attention import (
    ChunkedDeltaRule,
    ChunkedLightningAttention,
    DeltaRule,
    LightningAttention,
)
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Precision
from llmplan.units import (
    GIB,
    KIB,
    MIB,
    Provenance,
    format_gib,
    format_tokens,
    parse_bytes,
    parse_tokens,
    weakest,
)
from tests.small_models import SMALL, compiled

# the first draw of a kind imports and compiles, which a busy machine may take long over
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

OPERATORS = list(
    {
        type(operator): operator
        for small in SMALL.values()
        for operator, _ in compiled(small).counted()
    }.values()
)
"""One operator of every kind that the small models use."""

ADDITIVE = [name for name in COST_FIELDS if name not in ("weight_read_bytes", "launches")]
"""All but what a step pays once, however many requests it has."""

counts = st.integers(0, 1000)
sizes = st.integers(1, 300)
groups = st.tuples(counts, counts, counts)
masks = st.sampled_from([Mask.CAUSAL, Mask.WINDOW, Mask.CHUNK, Mask.FULL])


def values(cost: Cost) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(cost, name)) for name in COST_FIELDS}


def named(operator: Operator) -> str:
    return type(operator).__name__


@pytest.mark.parametrize("operator", OPERATORS, ids=named)
@given(points=st.lists(groups, min_size=1, max_size=6))
def test_an_array_element_equals_its_scalar(operator, points):
    sweep = values(operator.cost(Step.of(*np.array(points).T)))

    for index, point in enumerate(points):
        alone = values(operator.cost(Step.of(*point)))
        for name, field in sweep.items():
            at_point = np.broadcast_to(field, len(points))[index]
            assert at_point == pytest.approx(alone[name], rel=1e-12), name  # numpy's vector log1p


@pytest.mark.parametrize("operator", OPERATORS, ids=named)
@given(parts=st.lists(groups, min_size=2, max_size=4))
def test_flops_and_state_traffic_add_over_request_groups(operator, parts):
    together = Step(*(np.array(field, dtype=float) for field in zip(*parts, strict=True)))

    cost = operator.cost(together)

    alone = [operator.cost(Step.of(*part)) for part in parts]
    for name in ADDITIVE:
        assert getattr(cost, name) == sum(getattr(part, name) for part in alone), name


@pytest.mark.parametrize("operator", OPERATORS, ids=named)
@given(step=groups, repeats=st.integers(1, 50))
def test_a_repeated_operator_costs_its_repetitions(operator, step, repeats):
    cost = operator.cost(Step.of(*step))

    folded = values(cost.times(repeats))

    for name, value in values(cost).items():
        assert folded[name] == value * repeats, name


@pytest.mark.parametrize("operator", OPERATORS, ids=named)
@given(context=st.integers(0, 10_000))
def test_memory_never_falls_with_context(operator, context):
    for state in operator.states:
        assert 0 <= state.bytes_at(context) <= state.bytes_at(context + 1)


@pytest.mark.parametrize("operator", OPERATORS, ids=named)
def test_a_token_uses_at_most_all_parameters(operator):
    assert 0 <= operator.active_parameters <= operator.parameters
    assert operator.weights_bytes >= 2 * operator.parameters


@given(width=sizes, window=sizes, context=st.integers(0, 1000))
def test_a_window_bounds_the_memory_of_growing_keys(width, window, context):
    fmt = Precision().kv
    growing = State(StateKind.KV, width, fmt, "")
    bounded = State(StateKind.WINDOW, width, fmt, "", window)

    assert bounded.bytes_at(context) == growing.bytes_at(min(context, window))


def visible(new: int, context: int, mask: Mask, span: int) -> list[set[int]]:
    """For each new query the positions that it sees, one by one."""
    total = context + new
    seen = []
    for query in range(context, total):
        match mask:
            case Mask.CAUSAL:
                keys = range(query + 1)
            case Mask.WINDOW:
                keys = range(max(0, query - span + 1), query + 1)
            case Mask.CHUNK:
                keys = range(query - query % span, query + 1)
            case Mask.FULL:
                keys = range(max(0, context - span + 1) if span else 0, total)
        seen.append(set(keys))
    return seen


@given(
    batch=st.integers(1, 3),
    new=st.integers(0, 25),
    context=st.integers(0, 40),
    mask=masks,
    span=st.integers(1, 30),
)
def test_pairs_equal_a_count_one_by_one(batch, new, context, mask, span):
    span = 0 if mask is Mask.CAUSAL else span

    pairs = attention_pairs(Step.of(batch, new, context), mask, span)

    assert pairs == batch * sum(map(len, visible(new, context, mask, span)))


@given(
    batch=st.integers(1, 3),
    new=st.integers(1, 25),
    context=st.integers(0, 40),
    mask=masks,
    span=st.integers(1, 30),
)
def test_keys_read_equal_a_count_one_by_one(batch, new, context, mask, span):
    span = 0 if mask is Mask.CAUSAL else span

    keys = keys_read(Step.of(batch, new, context), mask, span)

    assert keys == batch * len(set().union(*visible(new, context, mask, span)))


@given(new=counts, context=counts, longer=st.integers(0, 100))
def test_a_window_of_the_whole_context_is_full_attention(new, context, longer):
    step = Step.of(1, new, context)
    full = Attention("attention", Precision(), 8, 2, 64, 64)
    span = new + context + longer + 1

    for mask in (Mask.WINDOW, Mask.CHUNK):
        bounded = replace(full, mask=mask, span=span)
        assert values(bounded.cost(step)) == values(full.cost(step))
        assert bounded.states[0].bytes_at(new + context) == full.states[0].bytes_at(new + context)


@given(new=counts, context=counts, mask=masks, span=st.integers(1, 500))
def test_no_mask_sees_more_than_the_full_square(new, context, mask, span):
    span = 0 if mask is Mask.CAUSAL else span
    step = Step.of(1, new, context)
    operator = Attention("attention", Precision(), 8, 2, 64, 64, mask, span)

    square = as_full_square(operator).cost(step)

    if mask is not Mask.CHUNK:  # a chunk may begin before the W - 1 keys that a window keeps
        assert operator.cost(step).attention_flops <= square.attention_flops
    assert operator.cost(step).attention_flops <= (
        as_full_square(replace(operator, span=0)).cost(step).attention_flops
    )


@given(prompt=st.integers(1, 200), cut=st.integers(0, 200), mask=masks, span=st.integers(1, 80))
def test_a_prompt_in_two_chunks_attends_as_in_one(prompt, cut, mask, span):
    cut = min(cut, prompt)
    mask = Mask.CAUSAL if mask is Mask.FULL else mask
    span = 0 if mask is Mask.CAUSAL else span

    first = attention_pairs(Step.of(1, cut, 0), mask, span)
    second = attention_pairs(Step.of(1, prompt - cut, cut), mask, span)

    assert first + second == attention_pairs(Step.prefill(1, prompt), mask, span)


@given(shape=st.tuples(sizes, sizes, sizes, sizes, sizes), topk=st.sampled_from([0, 64]))
def test_both_realisations_of_latent_attention_hold_the_same(shape, topk):
    arguments = ("attention", Precision(), *shape, topk)
    expanded, absorbed = ExpandedLatentAttention(*arguments), AbsorbedLatentAttention(*arguments)

    assert expanded.weights == absorbed.weights
    assert expanded.states == absorbed.states


@given(new=st.integers(1, 1000), context=counts, topk=st.integers(1, 5000))
def test_an_indexer_never_adds_work_to_attention(new, context, topk):
    step = Step.of(1, new, context)
    dense = AbsorbedLatentAttention("attention", Precision(), 16, 512, 128, 64, 128)

    sparse, full = replace(dense, index_topk=topk).cost(step), dense.cost(step)

    chosen = sum(min(context + query, topk) for query in range(1, new + 1))
    entry_bytes = dense.states[0].width_bytes
    assert sparse.attention_flops <= full.attention_flops
    assert sparse.state_read_bytes == entry_bytes * min(new + context, chosen)
    if topk >= new + context:
        assert values(sparse) == values(full)


@given(
    new=st.integers(1, 300),
    context=st.integers(0, 1000),
    m=st.sampled_from([1, 4, 128]),
    most=st.sampled_from([0, 3, 64]),
)
def test_every_query_sees_the_entries_complete_at_its_position(new, context, m, most):
    step = Step.of(1, new, context)
    seen = [(context + query) // m for query in range(1, new + 1)]

    assert entry_pairs(step, Mask.CAUSAL, m, most) == sum(min(n, most or n) for n in seen)
    assert complete_entries(step, m) == seen[-1] - context // m
    assert entries_read(step, m, 0) == seen[-1]


@given(new=st.integers(1, 300), context=counts, window=st.integers(1, 200))
def test_compressed_attention_without_entries_is_window_attention(new, context, window):
    step = Step.of(1, new, context)
    compressed = CompressedAttention("attention", Precision(), 16, 64, window)
    windowed = Attention("attention", Precision(), 16, 1, 64, 64, Mask.WINDOW, window)

    assert compressed.cost(step).attention_flops == windowed.cost(step).attention_flops
    # one vector is key and value
    assert 2 * compressed.cost(step).state_read_bytes == windowed.cost(step).state_read_bytes


@given(tokens=st.integers(0, 10**6), m=st.integers(1, 200), ratio=st.integers(1, 64))
def test_a_state_keeps_complete_entries_only(tokens, m, ratio):
    state = State(StateKind.KV, ratio, BF16, "head_dim", tokens_per_entry=m)

    assert state.bytes_at(tokens) == tokens // m * state.width_bytes
    assert state.bytes_at(m) == state.width_bytes
    assert state.bytes_at(m - 1) == 0


@given(heads=sizes, key=sizes, value=sizes, chunk=sizes)
def test_chunked_linear_attention_adds_work_but_no_weights(heads, key, value, chunk):
    for recurrent, chunked in (
        (DeltaRule, ChunkedDeltaRule),
        (LightningAttention, ChunkedLightningAttention),
    ):
        token = recurrent("state", Precision(), heads, heads, key, value)
        dense = chunked("state", Precision(), heads, heads, key, value, chunk_size=chunk)
        assert dense.weights == token.weights
        assert dense.states == token.states
        assert dense.token_flops() > token.token_flops()


@given(data=st.data(), experts=st.integers(1, 512))
def test_experts_hit_rise_from_k_to_all(data, experts):
    k = data.draw(st.integers(1, experts))
    tokens = np.array(sorted(data.draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=6))))
    operator = Experts("experts", Precision(), 16, 16, experts, k)

    hit = operator.experts_hit(tokens.astype(float))

    assert np.all(hit >= 0)
    assert np.all(hit <= experts)
    assert all(before <= after for before, after in pairwise(hit))
    assert operator.experts_hit(np.array(0.0)) == 0
    assert operator.experts_hit(np.array(1.0)) == pytest.approx(k, rel=1e-9)  # expm1 of log1p


@given(tokens=st.integers(1, 10**6))
def test_no_more_expert_weights_are_read_than_there_are(tokens):
    operator = Experts("experts", Precision(), 64, 32, 16, 4)

    read = operator.cost(Step.of(1, tokens, 0)).weight_read_bytes

    assert read <= operator.weights_bytes * (1 + 1e-12)  # expected share, in floating point


@given(
    shape=st.lists(sizes, min_size=1, max_size=4).map(tuple),
    fmt=st.sampled_from(listed_formats()),
)
def test_stored_bytes_hold_every_element(shape, fmt):
    assert bytes_for(shape, fmt) * 8 >= prod(shape) * fmt.bits


@given(stack=st.integers(1, 64), rows=sizes, columns=sizes, fmt=st.sampled_from(listed_formats()))
def test_a_stack_of_matrices_takes_the_sum_of_its_matrices(stack, rows, columns, fmt):
    assert bytes_for((stack, rows, columns), fmt) == stack * bytes_for((rows, columns), fmt)


@given(rows=sizes, columns=sizes, fmt=st.sampled_from(listed_formats()))
def test_stored_bytes_never_fall_with_the_shape(rows, columns, fmt):
    size = bytes_for((rows, columns), fmt)

    assert size <= bytes_for((rows + 1, columns), fmt)
    assert size <= bytes_for((rows, columns + 1), fmt)


@given(tokens=st.integers(1, 10**12))
def test_token_counts_read_back_what_was_written(tokens):
    written = format_tokens(tokens).replace(",", "")

    assert parse_tokens(written) == tokens


@given(size=st.integers(1, 2**44))
def test_memory_reads_back_to_the_digits_that_were_written(size):
    written = format_gib(size).replace(",", "")
    last_digit = {"GiB": GIB, "MiB": MIB, "KiB": KIB}.get(written.split()[1], 0) / 100

    # half a unit of the second decimal, and one byte that parsing cuts off
    assert abs(parse_bytes(written) - size) <= last_digit / 2 + 1


@given(size=st.integers(0, 10**6), unit=st.sampled_from(["B", "KiB", "MiB", "GiB", "kB", "MB"]))
def test_whole_sizes_are_exact(size, unit):
    assert parse_bytes(f"{size}{unit}") == size * parse_bytes(f"1{unit}")


@given(st.lists(st.sampled_from(list(Provenance)), min_size=1))
def test_the_weakest_provenance_wins_in_any_order(terms):
    assert weakest(*terms) == weakest(*reversed(terms))
    assert weakest(*terms) in terms
