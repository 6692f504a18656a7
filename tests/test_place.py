"""Placement: every rank holds its part, experts are balanced, and bytes sent add up."""

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmplan.analyze.memory import weights_bytes
from llmplan.errors import LayoutError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.model.catalogue import load_model, model_names
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.ops.collective import Collective, CollectiveKind
from llmplan.ops.linear import Linear, Split, Tokens
from llmplan.ops.moe import Experts
from llmplan.parallel.collectives import Phase, PlacedCollective, collectives
from llmplan.parallel.experts import (
    balanced,
    contiguous,
    even_shares,
    imbalance,
    placed_experts,
    stated_shares,
    zipf_shares,
)
from llmplan.parallel.groups import (
    decode_context_groups,
    expert_ranks,
    prefill_context_groups,
    seat,
    stage_neighbours,
    tensor_groups,
)
from llmplan.parallel.layout import Layout, stage_sizes
from llmplan.parallel.placement import Placement, placement
from llmplan.parallel.rank import stage_ranks
from llmplan.parallel.traffic import NETWORK, Links, sent_in_phase, sent_once
from llmplan.results.engine_options import LayoutOptions
from llmplan.results.place import PlaceQuestion
from llmplan.units import format_runs
from tests.program import llmplan

on_whole_models = settings(deadline=None, max_examples=150)

names = st.sampled_from(model_names())


@cache
def model(name: str) -> Model:
    return load_model(name).served()


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Layouts of at most 64 GPUs, legal for some model."""
    ep, tp = draw(st.booleans()), draw(st.sampled_from([1, 2, 4, 8]))
    return Layout(
        tp=tp,
        pp=draw(st.sampled_from([1, 2, 3])),
        dp=draw(st.sampled_from([1, 2, 3])) if ep else 1,
        ep=ep,
        decode_cp=draw(st.sampled_from([1, 1, 2])) if tp > 1 else 1,
        prefill_cp=draw(st.sampled_from([1, 1, 2])),
    )


def placed(name: str, layout: Layout, gpus: str = "16n8xH100") -> Placement:
    """The placement, where it is legal."""
    try:
        return placement(model(name), layout, parse_gpus(gpus))
    except LayoutError:
        assume(False)
        raise


def exchanged(name: str, layout: Layout) -> tuple[PlacedCollective, ...]:
    try:
        return collectives(model(name), layout)
    except LayoutError:
        assume(False)
        raise


# -- ranks and groups ----------------------------------------------------------------------------


def test_groups_are_those_of_the_engines_own_example():
    # 8 GPUs, tp 2, pp 4; docstring of initialize_model_parallel, vllm/distributed/parallel_state.py
    layout = Layout(tp=2, pp=4)

    tensor = [group for stage in range(4) for group in tensor_groups(layout, stage)]
    assert tensor == [(0, 1), (2, 3), (4, 5), (6, 7)]
    pairs = [stage_neighbours(layout, stage) for stage in range(3)]
    assert pairs == [((0, 2), (1, 3)), ((2, 4), (3, 5)), ((4, 6), (5, 7))]


@given(layout=layouts())
def test_every_rank_is_once_in_the_groups_of_each_axis(layout):
    every = list(range(layout.gpus))
    for groups in (tensor_groups, decode_context_groups, prefill_context_groups):
        found = [r for s in range(layout.pp) for group in groups(layout, s) for r in group]
        assert sorted(found) == every
    assert sorted(r for s in range(layout.pp) for r in expert_ranks(layout, s)) == every


@given(layout=layouts())
def test_a_seat_is_where_the_groups_say(layout):
    for stage in range(layout.pp):
        for group in tensor_groups(layout, stage):
            assert [seat(layout, rank).tp for rank in group] == list(range(layout.tp))
            assert {seat(layout, rank).stage for rank in group} == {stage}
        for group in prefill_context_groups(layout, stage):
            cp = [seat(layout, rank).prefill_cp for rank in group]
            assert cp == list(range(layout.prefill_cp))


# -- what ranks hold -----------------------------------------------------------------------------


def test_deepseek_v3_over_16_gpus_holds_16_experts_each():
    # config.json: 256 experts in 58 of 61 layers, 7168 x 2048, fp8 in blocks of 128
    one_expert = 3 * (7168 * 2048 + (7168 // 128) * (2048 // 128) * 4)
    routed = 58 * 256 * one_expert
    everything_else = 673_150_611_808 - routed

    ranks = placed("deepseek-v3", Layout(dp=16, ep=True), "2n8xH200").ranks

    assert [rank.experts for rank in ranks] == [
        tuple(range(16 * i, 16 * i + 16)) for i in range(16)
    ]
    assert {rank.weights_bytes for rank in ranks} == {everything_else + routed // 16}
    assert [(rank.node, rank.gpu) for rank in ranks] == [(i // 8, i % 8) for i in range(16)]
    assert {rank.expert_share for rank in ranks} == {1 / 16}


def test_llama_70b_over_16_gpus_holds_kv_heads_twice():
    # 64 query and 8 KV heads (config.json)
    ranks = placed("llama-3.1-70b", Layout(tp=16), "2n8xH100").ranks

    assert [list(rank.mixers[0].heads) for rank in ranks[:2]] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [list(rank.mixers[0].kv_heads) for rank in ranks] == [[i // 2] for i in range(16)]
    assert {rank.mixers[0].kv_copies for rank in ranks} == {2}


@on_whole_models
@given(name=names, layout=layouts())
def test_ranks_together_hold_the_whole(name, layout):
    found = placed(name, layout)
    whole = weights_bytes(model(name))

    copies = layout.dp * layout.prefill_cp
    for group in range(layout.dp):
        of_group = [r for r in found.ranks if r.seat.dp == group and r.seat.prefill_cp == 0]
        assert [n for r in of_group if r.seat.tp == 0 for n in r.layers] == list(
            range(len(model(name).decoder.layers))
        )
        if not layout.ep:
            assert sum(r.weights_bytes for r in of_group) >= whole
    assert sum(rank.weights_bytes for rank in found.ranks) >= whole
    if not layout.ep:
        assert sum(rank.weights_bytes for rank in found.ranks) >= whole * copies


@on_whole_models
@given(name=names, pp=st.sampled_from([1, 2, 3, 4]))
def test_stages_of_one_rank_hold_exactly_the_whole(name, pp):
    found = placed(name, Layout(pp=pp))

    tables = [o for o in model(name).decoder.before if getattr(o, "is_tied", False)]
    copied = tables[0].weights_bytes if tables and pp > 1 else 0
    assert sum(r.weights_bytes for r in found.ranks) == weights_bytes(model(name)) + copied


@on_whole_models
@given(name=names, layout=layouts())
def test_the_fullest_rank_of_a_stage_is_the_one_that_memory_counts(name, layout):
    found = placed(name, layout)

    for stage in stage_ranks(model(name), layout):
        of_stage = [r.weights_bytes for r in found.ranks if r.seat.stage == stage.stage]
        assert max(of_stage) == weights_bytes(stage.model)


@on_whole_models
@given(
    name=st.sampled_from(["deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "mixtral-8x7b"]),
    ranks=st.integers(1, 32),
)
def test_experts_that_do_not_divide_are_held_once_and_counted_so(name, ranks):
    found = placed(name, Layout(dp=ranks, ep=True))

    assert sorted(e for rank in found.ranks for e in rank.experts) == sorted(
        range(sum(len(rank.experts) for rank in found.ranks))
    )
    routed = sum(
        o.weights_bytes * n for o, n in model(name).decoder.counted if isinstance(o, Experts)
    )
    beside = weights_bytes(model(name)) - routed
    assert sum(r.weights_bytes for r in found.ranks) == ranks * beside + routed


@on_whole_models
@given(name=names, tp=st.sampled_from([1, 2, 4, 8, 16]))
def test_heads_are_held_once_and_kv_heads_as_often_as_said(name, tp):
    found = placed(name, Layout(tp=tp))

    for mixers in zip(*(rank.mixers for rank in found.ranks), strict=True):
        heads = [head for mixer in mixers for head in mixer.heads]
        kv_heads = Counter(head for mixer in mixers for head in mixer.kv_heads)
        assert heads == list(range(len(heads)))
        assert set(kv_heads.values()) == {mixers[0].kv_copies}
        assert sorted(kv_heads) == list(range(len(kv_heads)))


def test_stages_of_given_layers():
    found = placed("deepseek-v3", Layout(tp=8, pp=3, stage_layers=(20, 21, 20)), "3n8xH200")

    assert [rank.layers for rank in found.ranks[::8]] == [range(20), range(20, 41), range(41, 61)]


def test_a_stage_of_dense_layers_has_no_experts():
    # the first three layers of DeepSeek-V3 are dense: first_k_dense_replace (config.json)
    found = placed("deepseek-v3", Layout(pp=2, ep=True, stage_layers=(3, 58)), "2xH200")

    assert [len(rank.experts) for rank in found.ranks] == [0, 256]
    assert [rank.expert_share for rank in found.ranks] == [None, 1.0]


# -- experts under load --------------------------------------------------------------------------

loads = st.lists(st.integers(0, 10**6), min_size=1, max_size=80).filter(any)


def test_copies_go_where_the_balancer_of_deepseek_puts_them():
    # first layer of the example in the README of github.com/deepseek-ai/EPLB: 16 copies of 12
    # experts on 8 GPUs; 1, 4, 5 and 10 are held twice. Its placement by nodes has a busiest GPU
    # of 90 + 132/2 = 156; placement over all GPUs at once may not be worse.
    load = [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86]

    found = placed_experts(stated_shares(load, 12), 8, 4)

    assert sorted(e for e, n in found.copies.items() if n == 2) == [1, 4, 5, 10]
    assert found.imbalance * sum(load) / 8 <= 156


def test_contiguous_experts_leave_the_first_ranks_one_more():
    # determine_expert_map of vLLM, strategy linear: the remainder goes to the first ranks
    assert contiguous(7, 3) == ((0, 1, 2), (3, 4), (5, 6))


@given(load=loads, ranks=st.integers(1, 40), redundant=st.integers(0, 40))
def test_every_expert_is_held_and_slots_are_even(load, ranks, redundant):
    assume(len(load) + redundant >= ranks)
    shares = stated_shares(load, len(load))

    found = placed_experts(shares, ranks, redundant)

    slots = [len(experts) for experts in found.held]
    assert sum(slots) == len(load) + redundant
    assert max(slots) - min(slots) <= 1
    assert set(found.copies) == set(range(len(load)))
    assert sum(found.rank_shares) == pytest.approx(1)
    assert found.imbalance >= 1 - 1e-9
    if not redundant:
        assert found.imbalance <= found.imbalance_before


@given(load=loads, ranks=st.integers(1, 20), redundant=st.integers(0, 20))
def test_copies_never_make_the_heaviest_share_of_a_copy_heavier(load, ranks, redundant):
    assume(len(load) + redundant >= ranks)
    shares = stated_shares(load, len(load))
    copies = Counter(e for experts in balanced(shares, ranks, redundant) for e in experts)

    heaviest = max(shares[e] / n for e, n in copies.items())

    assert heaviest <= max(shares)
    more = Counter(e for experts in balanced(shares, ranks, redundant + 1) for e in experts)
    assert max(shares[e] / n for e, n in more.items()) <= heaviest


def test_zipf_zero_is_even_and_one_is_harmonic():
    assert zipf_shares(8, 0.0) == pytest.approx(even_shares(8))
    harmonic = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert zipf_shares(4, 1.0) == pytest.approx([1 / i / harmonic for i in (1, 2, 3, 4)])


def test_even_load_is_even():
    assert imbalance(contiguous(256, 16), even_shares(256)) == pytest.approx(1)


# -- collectives ---------------------------------------------------------------------------------


def summary(found: tuple[PlacedCollective, ...]) -> list[tuple[str, str, int, float]]:
    pairs = ((each, each.exchange.collective) for each in found)
    return [(c.kind.value, each.exchange.of, each.count, c.payload_bytes) for each, c in pairs]


def test_llama_70b_sums_twice_a_layer():
    # 80 layers, hidden size 8192, vocabulary 128256, bf16 (config.json)
    found = collectives(model("llama-3.1-70b"), Layout(tp=8))

    assert summary(found) == [
        ("all_reduce", "embed_tokens", 1, 8192 * 2),
        ("all_reduce", "o_proj", 80, 8192 * 2),
        ("all_reduce", "down_proj", 80, 8192 * 2),
        ("all_gather", "lm_head", 1, 128256 * 2),
    ]
    assert found[1].exchange.collective.sent_bytes_per_token == 2 * 7 / 8 * 16384


def test_shared_experts_join_the_sum_of_the_routed_ones():
    # 3 dense layers and 58 with one shared expert (config.json)
    found = collectives(model("deepseek-v3"), Layout(tp=8))

    counts = {e.exchange.of: e.count for e in found}
    assert counts == {"embed_tokens": 1, "o_proj": 61, "down_proj": 3, "experts": 58, "lm_head": 1}


def test_attention_dp_sends_each_token_to_its_eight_experts_and_back():
    # 8 of 256 experts a token, hidden size 7168 (config.json)
    found = collectives(model("deepseek-v3"), Layout(dp=16, ep=True))

    sent = 8 * 7168 * 2
    assert summary(found) == [
        ("all_to_all", "experts, dispatch", 58, sent),
        ("all_to_all", "experts, combine", 58, sent),
    ]
    assert found[0].groups == (tuple(range(16)),)
    assert found[0].exchange.collective.sent_bytes_per_token == sent * 15 / 16


def test_tensor_ranks_share_out_the_tokens_that_they_dispatch():
    found = {
        e.exchange.of: e for e in collectives(model("deepseek-v3"), Layout(tp=2, dp=4, ep=True))
    }

    assert found["experts, dispatch"].exchange.collective.sent_bytes_per_token == (
        8 * 7168 * 2 * 7 / 8 / 2
    )
    assert found["experts"].exchange.collective.kind is CollectiveKind.ALL_GATHER
    assert found["shared_experts.down_proj"].count == 58


def test_decode_context_parallelism_of_a_latent():
    # 128 heads over tp 8, latent 512 + 64 wide; queries of 8 x 16 heads meet on each rank
    found = collectives(model("deepseek-v3"), Layout(tp=8, decode_cp=8))

    of_decode = [e for e in found if e.exchange.phase is Phase.DECODE]
    assert summary(tuple(of_decode)) == [
        ("all_gather", "attention, queries", 61, 128 * 576 * 2),
        ("all_gather", "attention, softmax sums", 61, 8 * 128 * 4),
        ("reduce_scatter", "attention, outputs", 61, 128 * 512 * 2),
    ]


def test_one_rank_exchanges_nothing():
    for name in model_names():
        assert collectives(model(name), Layout()) == ()


@on_whole_models
@given(name=names, tp=st.sampled_from([2, 4, 8]))
def test_every_matrix_split_along_its_input_is_summed(name, tp):
    found = exchanged(name, Layout(tp=tp))

    sums = sum(e.count for e in found if e.exchange.collective.kind is CollectiveKind.ALL_REDUCE)
    rows = experts = 0
    for layer in model(name).decoder.layers:
        routed = any(isinstance(o, Experts) for o in layer.operators)
        shared = [o for o in layer.operators if isinstance(o, Linear) and "shared" in o.role]
        rows += sum(isinstance(o, Linear) and o.split is Split.ROW for o in layer.operators)
        rows -= sum(o.split is Split.ROW for o in shared) * routed
        experts += routed
    extra = sum(
        any(isinstance(o, Experts) and o.label != "hidden_size" for o in layer.operators)
        for layer in model(name).decoder.layers
    )
    tables = sum(type(o).__name__ in {"Embedding", "LayerInputTable"}
                 for o in model(name).decoder.before)  # fmt: skip
    # where experts work in a latent space, the sum of shared ones is another one
    assert sums == rows + experts + tables + extra


@on_whole_models
@given(name=names, layout=layouts())
def test_all_that_is_sent_crosses_some_link(name, layout):
    found = exchanged(name, layout)
    links = Links(parse_gpus("32n4xH100"))

    for each in found:
        collective = each.exchange.collective
        for ranks in each.groups:
            sent = sent_once(collective, ranks, links)
            senders = 1 if collective.kind is CollectiveKind.SEND else len(ranks)
            assert sum(sent.values()) == pytest.approx(senders * collective.sent_bytes_per_token)
            assert {rank for rank, _ in sent} <= set(ranks)


@on_whole_models
@given(name=names, layout=layouts())
def test_stages_run_the_collectives_of_the_whole(name, layout):
    """Counts add up over stages, hand-overs apart; each hand-over joins ranks of two stages."""
    found = exchanged(name, layout)
    alone = exchanged(name, Layout(**{**fields(layout), "pp": 1}))

    inner = [e for e in found if e.exchange.collective.kind is not CollectiveKind.SEND]
    assert counts(tuple(inner)) == counts(alone)
    assert len(found) - len(inner) == layout.pp - 1
    assert sum(stage_sizes(len(model(name).decoder.layers), layout)) == len(
        model(name).decoder.layers
    )


def fields(layout: Layout) -> dict[str, int]:
    return {name: getattr(layout, name) for name in Layout.__slots__}


def counts(found: tuple[PlacedCollective, ...]) -> Counter[object]:
    total: Counter[object] = Counter()
    for each in found:
        total[each.exchange] += each.count
    return total


@pytest.mark.parametrize(
    ("kind", "ranks", "sent"),
    # NCCL tests, PERFORMANCE.md: 2(n-1)/n for all-reduce, (n-1)/n for its halves and all-to-all
    [
        (CollectiveKind.ALL_REDUCE, 8, 1750.0),
        (CollectiveKind.ALL_GATHER, 8, 875.0),
        (CollectiveKind.REDUCE_SCATTER, 8, 875.0),
        (CollectiveKind.ALL_TO_ALL, 8, 875.0),
        (CollectiveKind.SEND, 2, 1000.0),
        (CollectiveKind.ALL_REDUCE, 1, 0.0),
    ],
)
def test_bytes_sent_by_a_ring(kind, ranks, sent):
    collective = Collective(kind, ranks, 1000)

    assert collective.sent_bytes_per_token == sent
    assert collective.bytes_sent(Step.prefill(3, 5)) == 15 * sent


def test_bytes_sent_broadcast_over_a_sweep():
    steps = Step.of(np.array([1, 2, 3]), 4, 100)

    every = Collective(CollectiveKind.ALL_GATHER, 2, 10)
    last = Collective(CollectiveKind.ALL_GATHER, 2, 10, Tokens.LAST)

    assert every.bytes_sent(steps).tolist() == [20, 40, 60]
    assert last.bytes_sent(steps).tolist() == [5, 10, 15]


# -- links ---------------------------------------------------------------------------------------


def test_a_ring_over_two_nodes_leaves_each_node_once():
    group = parse_gpus("2n8xH100")
    links = Links(group)
    ring = Collective(CollectiveKind.ALL_REDUCE, 16, 16384)

    sent = sent_once(ring, tuple(range(16)), links)

    assert {rank: size for (rank, link), size in sent.items() if link == NETWORK} == {
        7: 30720.0,
        15: 30720.0,
    }
    assert len(sent) == 16


def test_all_to_all_over_two_nodes_sends_8_of_16_parts_away():
    links = Links(parse_gpus("2n8xH200"))
    spread = Collective(CollectiveKind.ALL_TO_ALL, 16, 1600)

    sent = sent_once(spread, tuple(range(16)), links)

    assert {sent[rank, NETWORK] for rank in range(16)} == {800.0}
    assert sum(size for (rank, link), size in sent.items() if rank == 3 and link != NETWORK) == 700


def test_bridged_pairs_reach_others_over_the_host():
    links = Links(parse_gpus("4xA100-80GB-PCIe"))

    assert "bridge" in links.between(0, 1)
    assert links.between(1, 2).startswith("PCIe")
    assert "bridge" in links.between(2, 3)


def test_logits_of_a_prompt_are_left_out_of_what_a_token_sends():
    found = collectives(model("llama-3.1-70b"), Layout(tp=8))
    links = Links(parse_gpus("8xH100"))

    decode, prefill = (sent_in_phase(found, p, links) for p in (Phase.DECODE, Phase.PREFILL))

    assert set(prefill.values()) == {161 * 28672.0}
    assert set(decode.values()) == {161 * 28672.0 + 128256 * 2 * 7 / 8}


# -- the command ---------------------------------------------------------------------------------

REFUSED = [
    (("llama-3.1-8b", "--gpus", "8xH100", "--tp", "16"), "tp16 takes 16 GPUs; 8xh100-sxm has 8."),
    (("qwen2.5-7b", "--gpus", "8xH100"), "8 does not split q_proj: its 28 units"),
    (("llama-3.1-8b", "--gpus", "8xH100", "--ep", "8"), "has no routed experts"),
    (("llama-3.1-8b", "--gpus", "8xH100", "--zipf", "1"), "needs --ep"),
    (("mixtral-8x7b", "--gpus", "8xH100", "--dp", "2"), "needs expert parallelism"),
    (
        ("mixtral-8x7b", "--gpus", "8xH100", "--ep", "3", "--prefill-cp", "2"),
        "does not divide the 3 ranks",
    ),
    (("mixtral-8x7b", "--gpus", "8xH100", "--pp-layers", "16,x"), "lists the layers of each stage"),
    (("mixtral-8x7b", "--gpus", "8xH100", "--pp-layers", "16,15"), "are no split of 32 layers"),
    (("mixtral-8x7b", "--gpus", "8xH100", "--ep", "8", "--zipf", "-1"), "from 0 (even) to 100"),
    (
        ("mixtral-8x7b", "--gpus", "8xH100", "--ep", "8", "--redundant-experts", "3"),
        "must divide by",
    ),
    (("deepseek-v3.2", "--gpus", "8xH200", "--cp", "8"), "chooses keys with an indexer"),
    (
        ("mixtral-8x7b", "--gpus", "2xH100", "--ep", "2", "--expert-load", "no.csv"),
        "cannot be read",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    REFUSED,
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_cannot_be_is_refused_with_the_rule(arguments, message):
    outcome = llmplan("place", *arguments)

    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert message in outcome.stderr


@pytest.mark.parametrize(
    ("name", "text"), [("load.csv", "1\n2\n3\n4\n4\n3\n2\n1\n"), ("load.json", "[1,2,3,4,4,3,2,1]")]
)
def test_a_load_is_read_from_a_file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    envelope = PlaceQuestion(model="mixtral-8x7b", gpus="2xH100", expert_load=path,
                             layout=LayoutOptions(ep=2)).ask()  # fmt: skip

    assert envelope.result.expert_balance.most_loaded_share == 0.2
    assert envelope.result.expert_balance.imbalance == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("load.csv", "1,2,three", "'three' is no number"),
        ("load.json", '{"a": 1}', "no JSON list"),
        ("load.json", "[[1], 2]", "is no number"),
        ("load.json", "[true, 2]", "is no number"),
        ("load.csv", "1,2,3", "3 expert loads are given; the model has 8 experts"),
        ("load.csv", "1,1,1,1,1,1,1,-1", "none below zero"),
        ("load.csv", "0,0,0,0,0,0,0,0", "not all zero"),
        ("load.csv", "1,1,1,1,1,1,1,inf", "finite"),
        ("load.csv", "nan,1,1,1,1,1,1,1", "finite"),
    ],
)
def test_a_bad_load_is_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    outcome = llmplan(
        "place", "mixtral-8x7b", "--gpus", "2xH100", "--ep", "2", "--expert-load", str(path)
    )

    assert outcome.exit_code == 2
    assert message in outcome.stderr


def test_weights_that_are_too_much_for_a_gpu_are_a_no():
    outcome = llmplan("place", "llama-3.1-70b", "--gpus", "1xH100", "--format", "json")

    assert outcome.exit_code == 1
    assert json.loads(outcome.stdout)["result"]["weights_fit"] is False


def test_the_contract_of_the_result():
    result = json.loads(
        llmplan("place", "mixtral-8x7b", "--gpus", "8xH100", "--format", "json").stdout
    )["result"]

    assert len(result["ranks"]) == 8
    keys = {"rank", "node", "gpu", "stage", "layers", "heads", "kv_heads", "experts", "bytes"}
    assert keys <= set(result["ranks"][0])
    assert result["collectives"]


@pytest.mark.parametrize(
    ("options", "tp"),
    [((), 8), (("--pp", "2"), 8), (("--pp", "4"), 4), (("--pp-layers", "16,16"), 8)],
)
def test_tensor_parallelism_takes_what_is_left_of_a_node(options, tp):
    outcome = llmplan("place", "mixtral-8x7b", "--gpus", "2n8xH100", "--format", "json", *options)

    answer = json.loads(outcome.stdout)
    assert answer["inputs"]["tp"] == tp
    assert any(f"{tp} is taken" in warning for warning in answer["warnings"])


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (
            ("deepseek-v3", "--gpus", "2n8xH200", "--tp", "2", "--dp", "8", "--ep", "16"),
            "split over tp",
        ),
        (("deepseek-v3", "--gpus", "8xH200"), "MTP modules"),
        (("gemma-3-27b", "--gpus", "2xH100"), "vision tower"),
        (("llama-3.1-8b", "--gpus", "8xH100", "--tp", "2"), "6 of 8 GPUs stay idle"),
    ],
)
def test_what_a_reader_should_know_is_said(arguments, note):
    assert note in llmplan("place", *arguments).stderr


def test_the_picture_stays_within_80_columns():
    outcome = llmplan("place", "deepseek-v3", "--gpus", "2n8xH200", "--dp", "16", "--ep", "16")

    drawn = [line for line in outcome.stdout.splitlines() if line[:1] in "┌│└"]
    assert drawn
    assert max(map(len, drawn)) <= 80
    assert "E240-255" in outcome.stdout


def test_runs_of_numbers():
    assert format_runs([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert format_runs([]) == ""
