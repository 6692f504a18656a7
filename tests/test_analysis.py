"""One model, one question: sums over operators, sweeps, suggestions and explanations."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.analyze.explain import (
    Explained,
    explained_flops,
    explained_parameters,
    explained_state,
)
from llmplan.analyze.flops import decoder_only, flops_report, step_cost
from llmplan.analyze.memory import weights_bytes
from llmplan.analyze.parameters import parameter_counts
from llmplan.analyze.state import RequestState, request_state
from llmplan.analyze.sweep import decode_sweep
from llmplan.documents import shipped_folder
from llmplan.dtypes import known_state_names, state_format_named
from llmplan.model.catalogue import load_model, model_names
from llmplan.model.compiled import Model, Part
from llmplan.ops.base import COST_FIELDS, Step
from llmplan.ops.counting import as_full_square
from llmplan.ops.precision import LINEAR_ROLES, Role
from llmplan.parallel.precision import StateFormats, lowered
from tests.program import llmplan

NAMES = model_names()
KINDS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3.2", "qwen3-next-80b-a3b", "mamba2-2.7b")
"""Full attention, windows, a latent with indexer, recurrent state beside attention, and alone."""

models = st.sampled_from(NAMES)
kinds = st.sampled_from(KINDS)
contexts = st.integers(1, 1_000_000)
on_whole_models = settings(deadline=None)


@cache
def model(name: str) -> Model:
    return load_model(name)


def stored(name: str, dtype: str) -> int:
    """Weight bytes of the served model in a format."""
    return weights_bytes(lowered(model(name).served(), dtype, states()))


def states(kv: str = "bf16", recurrent: str = "bf16", indexer: str = "bf16") -> StateFormats:
    return StateFormats(*map(state_format_named, (kv, recurrent, indexer)))


# -- state ---------------------------------------------------------------------------------------


@on_whole_models
@given(name=models, context=contexts)
def test_the_state_of_a_request_is_the_sum_over_its_operators(name, context):
    served = model(name).served()

    total = request_state(served).bytes_at(context)

    assert total == sum(s.bytes_at(context) * n for o, n in served.counted() for s in o.states)


@on_whole_models
@given(name=kinds, points=st.lists(contexts, min_size=1, max_size=20))
def test_the_state_over_a_sweep_equals_each_point(name, points):
    state = request_state(model(name))

    over = state.bytes_over(np.array(points))

    assert over.tolist() == [state.bytes_at(point) for point in points]


@on_whole_models
@given(
    name=models,
    budget=st.integers(-(10**9), 10**13),
    most=st.integers(1, 10_000_000),
)
def test_the_longest_context_is_the_last_that_fits(name, budget, most):
    state = request_state(model(name))

    longest = state.longest_context(budget, most)

    assert 0 <= longest <= most
    assert longest == 0 or state.bytes_at(longest) <= budget
    assert longest == most or state.bytes_at(longest + 1) > budget


def test_the_total_follows_the_published_formula():
    # DESIGN: batch x [context x (bytes_per_token + indexer) + recurrent + convolution
    #         + sum over window layers at min(context, window)]
    for name in KINDS:
        state = request_state(model(name).served())
        fixed = state.recurrent_bytes + state.convolution_bytes
        for context in (1, 500, 1024, 1025, 100_000):
            per_token = state.growing_bytes_per_token + state.indexer_bytes_per_token
            windows = sum(min(context, window) * width for window, width in state.windows)
            assert state.bytes_at(context) == context * per_token + fixed + windows
            reserved = context * (per_token + state.window_bytes_per_token) + fixed
            assert state.bytes_reserved_as_full(context) == reserved


# -- steps and sweeps ----------------------------------------------------------------------------


@on_whole_models
@given(
    name=kinds,
    batch=st.lists(st.integers(1, 4096), min_size=3, max_size=3),
    context=st.lists(st.integers(1, 2_000_000), min_size=2, max_size=2),
)
def test_a_sweep_equals_each_of_its_points(name, batch, context):
    batches, lengths = np.array(batch)[:, np.newaxis], np.array(context)

    sweep = decode_sweep(model(name), batches, lengths)

    assert sweep.memory_bytes.shape == (3, 2)
    assert sweep.memory_bytes.dtype == np.int64
    text = decoder_only(model(name))
    for row, requests in enumerate(batch):
        for column, held in enumerate(context):
            exact = weights_bytes(text) + requests * request_state(text).bytes_at(held)
            alone = step_cost(text, Step.decode(requests, held))
            assert int(sweep.memory_bytes[row, column]) == exact
            for field in COST_FIELDS:
                at_point = np.broadcast_to(getattr(sweep.cost, field), (3, 2))[row, column]
                # numpy sums a vector and a scalar of experts hit by different routines
                assert at_point == pytest.approx(getattr(alone, field), rel=1e-12), field


@pytest.mark.parametrize("name", KINDS)
def test_the_groups_of_a_step_add(name):
    parts = [(3, 1, 1000), (2, 512, 0), (1, 7, 4096)]  # decode, prefill, a chunk
    together = Step(*(np.array(field, dtype=float) for field in zip(*parts, strict=True)))

    cost = step_cost(model(name), together)

    alone = [step_cost(model(name), Step.of(*part)) for part in parts]
    for field in ("matmul_flops", "attention_flops", "convolution_flops", "state_read_bytes"):
        assert getattr(cost, field) == sum(getattr(part, field) for part in alone), field


# -- FLOPs ---------------------------------------------------------------------------------------


def parameters_of(name: str, *roles: Role) -> int:
    """Parameters of the decoder that one token uses, of these roles."""
    return sum(
        weight.active_elements * repeats
        for operator, repeats in model(name).decoder.counted
        for weight in operator.weights
        if weight.role in roles and not weight.name.endswith("bias")
    )


MATRICES = (*LINEAR_ROLES, Role.ROUTER, Role.HEAD)
"""What a token is multiplied with. Norms, biases and sinks are added or scaled, and an input table
is looked up; a tied table is the head as well."""


@pytest.mark.parametrize(
    ("name", "matmul_parameters"),
    [
        # total 8,030,261,248 (transformers, meta device) less the input table 128,256 x 4,096 and
        # 65 norms of 4,096
        ("llama-3.1-8b", 8_030_261_248 - 128_256 * 4096 - 65 * 4096),
        # total 46,702,792,704 (transformers, meta device) less 6 of 8 experts in 32 layers, the
        # input table 32,000 x 4,096 and 65 norms of 4,096
        ("mixtral-8x7b", 46_702_792_704 - 32 * 6 * 3 * 4096 * 14336 - 32_000 * 4096 - 65 * 4096),
    ],
)
def test_decode_multiplies_with_each_active_parameter_once(name, matmul_parameters):
    report = flops_report(model(name), 8192)

    assert report.decode.matmul == 2 * matmul_parameters
    assert parameters_of(name, *MATRICES) == matmul_parameters


@pytest.mark.parametrize("name", ["qwen3-235b-a22b", "gpt-oss-120b", "deepseek-v3", "glm-4.5"])
def test_decode_multiplies_with_the_matrices_of_other_kinds_too(name):
    assert flops_report(model(name), 100).decode.matmul == 2 * parameters_of(name, *MATRICES)


def test_a_tied_table_is_multiplied_with_as_head():
    expected = parameters_of("gemma-3-27b", *MATRICES, Role.EMBEDDING)

    assert flops_report(model("gemma-3-27b"), 100).decode.matmul == 2 * expected


@pytest.mark.parametrize("context", [1, 7, 4096, 100_000])
def test_attention_of_llama_by_hand(context):
    # 32 layers of 32 heads of 128: a score is a dot product of 128 and an axpy of 128, 2 FLOPs each
    pair = 32 * 32 * 2 * (128 + 128)
    head = 128_256 * 4096
    matrices = parameters_of("llama-3.1-8b", *MATRICES)

    report = flops_report(model("llama-3.1-8b"), context)

    assert report.decode.attention == pair * (context + 1)
    assert report.prefill.attention == pytest.approx(pair * (context + 1) / 2, rel=1e-14)
    prefill = 2 * (matrices - head) + 2 * head / context
    assert report.prefill.matmul == pytest.approx(prefill, rel=1e-14)


@pytest.mark.parametrize("context", [1, 7, 4096])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3"])
def test_the_full_square_counts_masked_pairs(name, context):
    causal = flops_report(model(name), context)

    square = flops_report(model(name).rewritten(as_full_square), context)

    # T^2 pairs instead of T (T + 1) / 2; decode has no masked pair
    ratio = 2 * context / (context + 1)
    assert square.prefill.attention == pytest.approx(ratio * causal.prefill.attention, rel=1e-14)
    assert square.prefill.matmul == causal.prefill.matmul
    assert square.decode == causal.decode


@on_whole_models
@given(name=models, context=st.integers(1, 200_000))
def test_prefill_costs_no_more_a_token_than_decode_at_its_end(name, context):
    report = flops_report(model(name), context)

    assert report.prefill.total <= report.decode.total * (1 + 1e-12)
    for phase in (report.decode, report.prefill, report.decode_absorbed):
        assert all(getattr(phase, field.name) >= 0 for field in fields(phase))


@pytest.mark.parametrize("name", NAMES)
def test_absorbing_changes_latent_attention_only(name):
    report = flops_report(model(name), 8192)

    is_latent = any(type(o).__name__.startswith("Expanded") for o, _ in model(name).counted())
    assert (report.decode_absorbed != report.decode) == is_latent
    assert report.decode_absorbed.matmul == report.decode.matmul


# -- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_weight_bytes_follow_the_bits_of_the_format(name):
    served = model(name).served()
    linear = sum(
        weight.elements * repeats
        for operator, repeats in served.counted()
        for weight in operator.weights
        if weight.role in LINEAR_ROLES
    )
    wide = stored(name, "bf16")
    rest = wide - 2 * linear

    eight, four = stored(name, "fp8"), stored(name, "int4")

    assert stored(name, "fp32") == rest + 4 * linear
    # fp8: one fp32 scale per 128 x 128, so 1/4096 more where blocks are whole, and never over 3 %
    assert rest + linear * (1 + 1 / 4096) <= eight <= rest + linear * 1.03
    assert eight >= wide / 2
    # int4: fp16 scale and 4-bit zero per 128 along a row, 20/1024 of a byte an element
    assert rest + linear * (1 / 2 + 20 / 1024) <= four <= rest + linear * (1 / 2 + 20 / 512)


@pytest.mark.parametrize("role", [Role.EXPERTS, Role.HEAD, Role.EMBEDDING, Role.ATTENTION])
def test_a_role_is_lowered_alone(role):
    whole = model("mixtral-8x7b")

    lower = lowered(whole, f"{role}=fp8_channel", states())

    for (before, _), (after, _) in zip(whole.counted(), lower.counted(), strict=True):
        for weight in before.weights:
            is_smaller = after.weight_bytes(weight) < before.weight_bytes(weight)
            assert is_smaller == (weight.role is role), before.name


def test_roles_add_and_later_items_win():
    native = stored("mixtral-8x7b", "native")

    def saved(dtype: str) -> int:
        return native - stored("mixtral-8x7b", dtype)

    assert saved("experts=mxfp4,head=fp8") == saved("experts=mxfp4") + saved("head=fp8")
    assert saved("fp8,experts=mxfp4") == saved("experts=mxfp4") + saved("attention=fp8")
    assert saved("experts=mxfp4,fp8") == saved("fp8")
    assert saved("native,experts=fp8") == saved("Experts = FP8") == saved("experts=fp8")


def test_routing_biases_stay_fp32_in_every_format():
    # DeepSeek-V3 has 58 layers of 256 routing biases, stored in fp32 (its checkpoint index)
    counts = parameter_counts(model("deepseek-v3"))

    assert counts.buffers == 58 * 256
    for dtype in ("native", "bf16", "int4"):
        lower = lowered(model("deepseek-v3").served(), dtype, states())
        biases = [
            operator.weight_bytes(weight) * repeats
            for operator, repeats in lower.counted()
            for weight in operator.weights
            if weight.is_buffer
        ]
        assert sum(biases) == 4 * counts.buffers


def test_mtp_adds_its_weights_and_state():
    published = model("deepseek-v3")
    without, with_it = published.served(), published.served(mtp=True)

    # 673,150,611,808 and 688,574,839,360 follow from config.json to the byte
    assert weights_bytes(without) == 673_150_611_808
    assert weights_bytes(with_it) == 688_574_839_360
    # one more layer of 576 latent elements beside 61
    per_token = request_state(without).growing_bytes_per_token
    assert request_state(with_it).growing_bytes_per_token == per_token * 62 // 61


@pytest.mark.parametrize("name", [n for n in NAMES if len(load_model(n).served().components) > 1])
def test_text_only_leaves_out_vision_and_nothing_else(name):
    published = model(name)

    whole, text = published.served(), published.served(vision=False)

    counts = parameter_counts(published)
    parts = published.parts(Part.VISION, Part.PROJECTOR)
    seen = sum(o.weights_bytes * n for component in parts for o, n in component.counted)
    assert sum(o.parameters * n for o, n in text.counted()) == counts.total - counts.vision
    assert weights_bytes(text) == weights_bytes(whole) - seen
    assert request_state(text) == request_state(whole)


# -- formats of state ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_keeps_its_format_whatever_the_weights(name):
    kept = {request_state(lowered(model(name), d, states())) for d in ("native", "fp8", "int4")}

    assert kept == {request_state(model(name))}


PARTS = {
    "kv": ("growing_bytes_per_token", "window_bytes_per_token"),
    "recurrent": ("recurrent_bytes", "convolution_bytes"),
    "indexer": ("indexer_bytes_per_token",),
}


def part_bytes(state: RequestState, part: str) -> int:
    return sum(getattr(state, field) for field in PARTS[part])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", KINDS)
def test_a_format_of_state_changes_its_own_part_only(name, part):
    before = request_state(model(name))

    wide = request_state(lowered(model(name), "native", states(**{part: "fp32"})))
    narrow = request_state(lowered(model(name), "native", states(**{part: "fp8"})))

    for other in PARTS:
        factor = 2 if other == part else 1
        assert part_bytes(wide, other) == factor * part_bytes(before, other)
        assert factor * part_bytes(narrow, other) == part_bytes(before, other)


@pytest.mark.parametrize("name", known_state_names())
def test_every_format_of_state_can_be_asked_for(name):
    answer = llmplan("memory", "deepseek-v3.2", "--kv-dtype", name, "--indexer-dtype", name,
                     "--state-dtype", name, "--format", "json")  # fmt: skip

    inputs = json.loads(answer.stdout)["inputs"]
    assert inputs["kv_dtype"] == inputs["state_dtype"] == inputs["indexer_dtype"]
    assert name.startswith(inputs["kv_dtype"])


# -- suggestions ---------------------------------------------------------------------------------

MISSES = [
    "llama-3.1-405b --gpus 8xH100",
    "llama-3.1-70b --gpus H100",
    "llama-3.1-70b --gpus 2xH100 --dtype fp8 --context 128k --batch 8",
    "llama-3.1-70b --gpus 4xH100 --tp 1 --pp 1",
    "llama-3.1-70b --gpus 8xH100 --tp 2 --pp 1 --batch 64",
    "llama-3.1-8b --gpus H100 --context 128k --batch 4 --reserve 20GiB",
    "llama-3.1-8b --gpus H100 --gpu-memory-utilization 0.2",
    "mixtral-8x7b --gpus A100-40GB",
    "qwen3-32b --gpus H100 --engine vllm@0.19 --max-model-len 32k",
    "llama-3.1-70b --gpus 2xH100 --engine sglang --context 64k --batch 4",
    "deepseek-v3 --gpus 8xH200 --engine vllm --context 128k --tp 8 --batch 8 --ep 1 --pp 1",
    "gpt-oss-120b --gpus H100 --engine vllm@0.10.1 --max-model-len 128k",
    "mixtral-8x7b --gpus 8xH100 --context 64k",
    "deepseek-v3 --gpus 8xH100",
    "deepseek-v3 --gpus 8xH200 --context 160k --batch 50",
    "kimi-k2 --gpus 8xH100 --dtype native",
    "gemma-3-27b --gpus A100-40GB --text-only",
    "qwen3-next-80b-a3b --gpus 2xH100 --context 256k --batch 9",
    "qwen3-235b-a22b --gpus 8xH100 --tp 8 --dtype fp8",
]


def deployments(command: str) -> list[dict[str, object]]:
    outcome = llmplan("fit", *shlex.split(command), "--format", "json")
    assert outcome.exit_code in (0, 1), outcome.stderr
    rows = json.loads(outcome.stdout)["result"]["deployments"]
    assert outcome.exit_code == int(not any(row["fits"] for row in rows))
    return rows


@pytest.mark.parametrize("command", MISSES)
def test_every_suggestion_fits_when_it_is_typed(command):
    best = deployments(command)[0]

    assert not best["fits"]
    assert best["try"]
    for suggestion in best["try"]:
        now = deployments(f"{command} {suggestion['option']}")[0]
        assert now["fits"], suggestion
        for key in ("layout", "max_context", "max_concurrency"):
            assert now[key] == suggestion[key], suggestion


@pytest.mark.parametrize("command", MISSES)
def test_a_deployment_that_does_not_fit_says_why_in_figures(command):
    for row in deployments(command):
        assert row["binding"] in ("weights", "kv_cache", "model_context", "layout")
        assert re.search(r"\d", row["reason"])


def test_the_best_layout_comes_first():
    rows = deployments("llama-3.1-8b --gpus 8xH100 --batch 10")

    # on one node, stages are looked at and come after the layouts without
    order = [(row["fits"], "pp" not in row["layout"], row["max_concurrency"]) for row in rows]
    assert order == sorted(order, reverse=True)
    assert [row["layout"] for row in rows if row["fits"]]


def test_memory_and_fit_agree_on_the_best_layout():
    arguments = ("kimi-k2", "--gpus", "2n8xH200", "--context", "32k", "--batch", "4")

    memory = json.loads(llmplan("memory", *arguments, "--format", "json").stdout)["result"]

    # memory looks at tensor parallelism alone where no layout is asked for; fit at every layout
    rows = deployments(" ".join(arguments))
    best = next(row for row in rows if not {"pp", "ep"} & set(re.findall("[a-z]+", row["layout"])))
    for key in ("layout", "fits", "kv_tokens", "max_concurrency"):
        assert memory[key] == best[key]
    assert memory["per_gpu"]["weights_bytes"] == best["weights_bytes_per_gpu"]
    assert memory["per_gpu"]["kv_available_bytes"] == best["kv_available_bytes_per_gpu"]


# -- explanations --------------------------------------------------------------------------------

RESULT = re.compile(r"([\d,]+) (parameters|buffer entries), ([\d,]+) bytes as [\w.]+")
SOURCE = re.compile(r"([\w.]+) \(specs/([\w.-]+\.yaml):(\d+)\)")
WORD = re.compile(r"\b(?!min\b|mod\b)[a-z_]{3,}")


def number(text: str) -> int:
    return int(text.replace(",", ""))


def value_of(expression: str) -> float:
    """What a line of figures comes to: ``2 x (8 x 64) x 8,193``."""
    plain = (
        re.sub(r"(?<=\d),(?=\d{3}\b)", "", expression).replace(" x ", " * ").replace(" mod ", " % ")
    )
    assert re.fullmatch(r"(?:[\d.\s*+/%(),-]|min)+", plain), expression
    return eval(plain, {"__builtins__": {}, "min": min})  # noqa: S307  figures only, see above


@pytest.mark.parametrize("name", NAMES)
def test_explained_parameters_add_up_to_the_totals(name):
    rows = explained_parameters(model(name))
    found = [(row.quantity, *RESULT.fullmatch(row.result).groups()) for row in rows]
    counts = parameter_counts(model(name))

    def total(kind: str, *, of_mtp: bool) -> int:
        return sum(
            number(n) for q, n, k, _ in found if k == kind and q.startswith("mtp.") == of_mtp
        )

    assert total("parameters", of_mtp=False) == counts.total
    assert total("buffer entries", of_mtp=False) == counts.buffers
    assert total("parameters", of_mtp=True) + total("buffer entries", of_mtp=True) == counts.mtp
    assert sum(number(size) for *_, size in found) == weights_bytes(model(name))


@pytest.mark.parametrize("name", NAMES)
def test_explained_parameters_can_be_worked_out_by_hand(name):
    for row in explained_parameters(model(name)):
        count = number(RESULT.fullmatch(row.result)[1])
        sides = [side for side in row.values.split(" = ") if not WORD.search(side)]
        assert sides, row
        assert [value_of(side) for side in sides] == [count] * len(sides), row


@pytest.mark.parametrize("name", NAMES)
def test_explained_state_adds_up(name):
    served = model(name).served()
    rows = explained_state(served)
    state = request_state(served)

    def total(kind: str) -> int:
        sizes = (row.result for row in rows if row.quantity.startswith(f"{kind} of "))
        return sum(number(size.partition(" bytes")[0]) for size in sizes)

    assert total("kv") == state.growing_bytes_per_token
    assert total("window") == state.window_bytes_per_token
    assert total("indexer") == state.indexer_bytes_per_token
    assert total("recurrent") == state.recurrent_bytes
    assert total("convolution") == state.convolution_bytes
    for row in rows:
        for side in row.values.split(" = "):
            if not WORD.search(side):
                assert value_of(side) == number(row.result.partition(" bytes")[0]), row


@pytest.mark.parametrize("name", NAMES)
def test_explained_flops_add_up(name):
    rows = explained_flops(model(name), 5000)
    report = flops_report(model(name), 5000)
    flops = [re.fullmatch(r"([\d,]+) x (\d+) = ([\d,]+) FLOPs", row.result) for row in rows]

    as_defined = [
        number(figures[3])
        for row, figures in zip(rows, flops, strict=True)
        if "absorbed" not in row.quantity
    ]

    assert sum(as_defined) == report.decode.total
    for row, figures in zip(rows, flops, strict=True):
        if not WORD.search(row.values):
            assert value_of(row.values) == number(figures[1]), row


def explanations(name: str) -> Iterator[Explained]:
    yield from explained_parameters(model(name))
    yield from explained_state(model(name))
    yield from explained_flops(model(name), 5000)


@pytest.mark.parametrize("name", NAMES)
def test_every_explanation_points_at_the_lines_of_its_keys(name):
    lines = (shipped_folder("specs") / f"{name}.yaml").read_text().splitlines()

    for row in explanations(name):
        sources = SOURCE.findall(row.source)
        assert sources, row
        for key, file, line in sources:
            stated = lines[int(line) - 1].strip().removeprefix("- ")
            assert file == f"{name}.yaml"
            assert stated.startswith(f"{key.rpartition('.')[2]}:"), (row.quantity, key, stated)


def test_an_explanation_of_a_file_names_that_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(Path(__file__).with_name("golden").joinpath("files", "small.yaml").read_text())

    rows = explained_parameters(load_model(path))

    assert all(f"({path}:" in row.source for row in rows)
