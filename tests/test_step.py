"""Step times: never below their bounds, monotone in the device, and without collectives at tp 1."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmplan.analyze.traffic import worker_group
from llmplan.dtypes import BF16, format_named
from llmplan.hardware.catalogue import load_device
from llmplan.hardware.device import Device, UnitRate
from llmplan.model.catalogue import load_model
from llmplan.ops.base import Step
from llmplan.ops.collective import CollectiveKind
from llmplan.ops.latent import LatentAttention
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.exchanged import ring_curve
from llmplan.perf.parts import bounds
from llmplan.perf.routing import experts_hit
from llmplan.perf.step import StepModel
from llmplan.perf.timed import timed
from llmplan.perf.timed_experts import expert_curve
from llmplan.perf.timed_products import product
from llmplan.units import Provenance

MODELS = ("llama-3.1-8b", "deepseek-r1", "gpt-oss-120b", "qwen3-next-80b-a3b", "mamba2-2.7b")
DEVICES = ("h100-sxm", "b200", "l40s", "mi300x", "rtx-4090")
ENGINES = ("vllm", "sglang", "trtllm", "other")


def model(name: str, layout: Layout, device: Device, engine: str = "vllm") -> StepModel:
    served = load_model(name).served(mtp=False, vision=False)
    return StepModel(served, layout, worker_group(device, layout), engine)


STEPS = (
    Step.decode(np.array([1.0, 16, 256]), np.array([100.0, 4000, 30000])),
    Step.prefill(np.array([1.0, 4, 1]), np.array([37.0, 2048, 30000])),
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", MODELS)
def test_no_kernel_is_faster_than_its_bound(name: str, device: str, engine: str) -> None:
    priced = model(name, Layout(tp=1), load_device(device), engine)
    for step in STEPS:
        for part in priced.parts(step):
            assert np.all(part.seconds >= part.bound_s * (1 - 1e-9)), part.name
            assert np.all(np.isfinite(part.seconds)), part.name


@pytest.mark.parametrize("name", MODELS)
def test_a_single_gpu_sends_nothing(name: str) -> None:
    priced = model(name, Layout(tp=1), load_device("h100-sxm"))
    assert all(part.kind != "collective" for step in STEPS for part in priced.parts(step))


def test_ranks_of_a_layer_exchange_its_sums() -> None:
    priced = model("llama-3.1-8b", Layout(tp=4), load_device("h100-sxm"))
    parts = [p for p in priced.parts(STEPS[0]) if p.kind == "collective"]
    sums = sum(p.count for p in parts if p.name.startswith("all_reduce"))
    assert sums == 2 * 32 + 1  # attention and feed-forward of 32 layers, and the input table


@pytest.mark.parametrize("name", MODELS)
def test_the_sum_of_parts_is_the_time_of_the_step(name: str) -> None:
    priced = model(name, Layout(tp=1), load_device("b200"))
    for step in STEPS:
        whole = sum(part.count * part.seconds for part in priced.parts(step))
        np.testing.assert_allclose(priced.seconds(step), whole, rtol=1e-9)


@given(st.sampled_from(MODELS), st.sampled_from(DEVICES), st.floats(1.0, 8.0))
@settings(deadline=None, max_examples=30)
@example("gpt-oss-120b", "mi300x", 1.5)  # once borrowed the kernels of another device
def test_a_better_device_is_never_slower(name: str, slug: str, times: float) -> None:
    device = load_device(slug)
    peaks = tuple(UnitRate(each.unit, each.flops_per_s * times) for each in device.peaks)
    assert device.bandwidth_bytes_per_s
    better = replace(
        device, peaks=peaks, bandwidth_bytes_per_s=device.bandwidth_bytes_per_s * times
    )
    for step in STEPS:
        slow = model(name, Layout(tp=1), device).seconds(step)
        fast = model(name, Layout(tp=1), better).seconds(step)
        assert np.all(fast <= slow * (1 + 1e-9))


@given(
    st.sampled_from(MODELS),
    st.integers(1, 300),
    st.integers(1, 20_000),
    st.integers(0, 4_000),
)
@settings(deadline=None, max_examples=30)
def test_a_point_is_the_same_alone_and_in_a_sweep(
    name: str, batch: int, context: int, chunk: int
) -> None:
    priced = model(name, Layout(tp=1), load_device("h200-sxm"))

    def step(repeats: int) -> Step:
        requests = np.array([[float(batch), float(chunk > 0)]] * repeats)
        new = np.array([[1.0, max(chunk, 1)]] * repeats)
        return Step(requests, new, np.array([[float(context), 0.0]] * repeats))

    many = priced.seconds(step(3))
    np.testing.assert_allclose(many, priced.seconds(step(1))[0], rtol=1e-9)


def test_decode_of_a_dense_model_is_mostly_its_weights() -> None:
    """16.06 GB of Llama 3.1 8B less its input table at 3.35 TB/s are 4.48 ms of an H100."""
    priced = model("llama-3.1-8b", Layout(tp=1), load_device("h100-sxm"))
    step = Step.decode(np.array([1.0]), np.array([128.0]))
    bound = sum(float(part.count * part.bound_s[0]) for part in priced.parts(step))
    assert bound == pytest.approx(15.01e9 / 3.35e12, rel=0.01)  # cache and norms are under 1 %
    assert bound < float(priced.seconds(step)[0]) < 1.6 * bound


def experts_curve(name: str, device: str, engine: str) -> Curve:
    """The kernel of a model's experts."""
    priced = model(name, Layout(tp=1), load_device(device), engine)
    operators = (launch.operators[0] for launch, _ in priced.kernels[0])
    operator = next(each for each in operators if isinstance(each, Experts))
    curve = expert_curve(operator, priced.shelf)
    assert curve
    return curve


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("device", ["h100-sxm", "h200-sxm", "l40s", "a100-80gb-sxm"])
def test_four_bit_weights_compute_in_16_bits_without_a_unit_for_four(
    device: str, engine: str
) -> None:
    for name in ("gpt-oss-120b", "nemotron-3-super-120b-a12b"):
        curve = experts_curve(name, device, engine)
        if curve.labels["dtype"] != "bfloat16":
            assert curve.labels["dtype"] in ("w4a16_mxfp4", "int4_wo"), curve.labels


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("device", ["h100-sxm", "rtx-pro-6000-blackwell-server", "b200"])
def test_experts_run_as_the_engines_own_kernel_on_the_device(device: str, engine: str) -> None:
    curve = experts_curve("gpt-oss-120b", device, engine)
    assert curve.provenance is Provenance.FITTED
    assert f"/{engine}/" in curve.labels["src"]


def test_fp8_on_a_device_without_fp8_reads_8_bits_and_computes_in_16() -> None:
    shelf = KernelShelf(load_device("a100-80gb-sxm"), "vllm")
    m = np.array([1.0, 8192.0])
    narrow, wide = (product(m, 8192, 8192, format_named(word), shelf) for word in ("fp8", "bf16"))
    assert narrow
    assert wide
    assert narrow.seconds[0] < 0.75 * wide.seconds[0]
    assert narrow.seconds[1] > 0.9 * wide.seconds[1]


@pytest.mark.parametrize("device", ["h100-sxm", "h200-sxm", "l40s", "rtx-4090", "mi300x", "b200"])
def test_every_engine_expands_latents_in_prefill(device: str) -> None:
    """Absorbed heads take 2176 / 640 times the FLOPs of expanded ones, which nobody pays."""
    step = Step.prefill(np.array([1.0]), np.array([65536.0]))
    took = [
        float(model("deepseek-r1", Layout(tp=1), load_device(device), engine).seconds(step)[0])
        for engine in ("vllm", "sglang", "trtllm")
    ]
    assert max(took) < 1.5 * min(took)


def test_latents_are_expanded_in_the_format_of_their_projection() -> None:
    """``kv_b_proj`` takes half as long in fp8; absorbed in decode it stays in 16 bits."""
    priced = model("deepseek-r1", Layout(tp=1), load_device("h100-sxm"))
    operators = (launch.operators[0] for launch, _ in priced.kernels[0])
    fp8 = next(each for each in operators if isinstance(each, LatentAttention))
    plain = replace(fp8, precision=replace(fp8.precision, attention=BF16))
    decode, prefill = STEPS
    slower = [timed(plain, step, priced.shelf).seconds for step in (decode, prefill)]
    mine = [timed(fp8, step, priced.shelf).seconds for step in (decode, prefill)]
    np.testing.assert_allclose(mine[0], slower[0])
    assert mine[1][1] < slower[1][1]


def test_the_floor_of_experts_is_no_more_than_uneven_routing_reads() -> None:
    priced = model("deepseek-r1", Layout(tp=1), load_device("h200-sxm"))
    operators = (launch.operators[0] for launch, _ in priced.kernels[0])
    experts = next(each for each in operators if isinstance(each, Experts))
    step = Step.decode(np.array([1.0, 16, 64]), np.array([2048.0] * 3))
    cost = experts.cost(step)
    even, uneven = (KernelShelf(load_device("h200-sxm"), "vllm", skew) for skew in (0.0, 1.5))
    whole = bounds(experts, cost, step, even)[1]
    hit = experts_hit(experts, step.tokens, 1.5) / experts.experts_hit(step.tokens)
    np.testing.assert_allclose(bounds(experts, cost, step, uneven)[1], whole * hit)
    assert hit[-1] < 0.95


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_ranks_of_a_rack_sum_at_a_rate_timed_over_as_many(engine: str) -> None:
    """GB200's tables end at the four GPUs of a tray; those of GB300 reach four trays."""
    shelf = KernelShelf(load_device("gb200"), engine)
    sizes = np.array([16e3, 1e6])
    took = []
    for ranks in (4, 8, 16):
        curve = ring_curve(CollectiveKind.ALL_REDUCE, ranks, shelf)
        fewest, most = curve.fitted.ranges["gpus"]
        assert fewest <= ranks <= most
        took.append(curve.seconds({"gpus": np.full(2, float(ranks)), "bytes": sizes}))
    assert np.all(took[2] < 60e-6)


def test_a_group_wider_than_any_table_is_summed_by_the_library() -> None:
    shelf = KernelShelf(load_device("gb200"), "sglang")
    assert ring_curve(CollectiveKind.ALL_REDUCE, 72, shelf).labels["kernel"] == "NCCL"


@pytest.mark.parametrize("ranks_bytes", [10_240.0, 18_432.0, 43_008.0])
def test_small_sums_over_two_hosts_take_what_was_measured(ranks_bytes: float) -> None:
    """16 A100 in two hosts: 71 to 79 us for 10 to 43 kB (microsoft/vidur, profiles of a100_dgx)."""
    tokens = ranks_bytes / (8192 * 2)
    two = model("llama-3.1-70b", Layout(tp=16), load_device("a100-80gb-sxm"))
    sums = [
        part
        for part in two.parts(Step.of(np.array([tokens]), 1.0, 100.0))
        if part.name.startswith("all_reduce")
    ]
    assert sums
    for part in sums:
        assert part.seconds[0] == pytest.approx(71e-6, rel=0.2)


def test_ranks_on_two_nodes_have_no_kernel_of_the_engine_for_sums() -> None:
    shelf = KernelShelf(load_device("h100-sxm"), "sglang")
    assert "SGLang" in ring_curve(CollectiveKind.ALL_REDUCE, 8, shelf).labels["kernel"]
    across = ring_curve(CollectiveKind.ALL_REDUCE, 8, shelf, is_library=True)
    assert across.labels["kernel"] == "NCCL"


@pytest.mark.parametrize(
    ("device", "word", "stored_bytes", "measured_s"),
    [
        ("rtx-3090", "4.85_bits", 42.2e9, 59.21e-3),
        ("h100-pcie", "4.85_bits", 42.2e9, 39.98e-3),
        ("h100-pcie", "bf16", 15.0e9, 14.75e-3),
        ("rtx-4090", "bf16", 15.0e9, 18.77e-3),
    ],
)
def test_llamacpp_streams_weights_as_fast_as_bandwidth_and_multiprocessors_allow(
    device: str, word: str, stored_bytes: float, measured_s: float
) -> None:
    """Tokens of Llama 3 (XiongjieDai, GPU-Benchmarks-on-LLM-Inference), a tenth of them host work.

    The H100 reads at half its bandwidth, the RTX 3090 at four fifths.
    """
    shelf = KernelShelf(load_device(device), "llama.cpp")
    stored = format_named(word)
    out = stored_bytes * 8 / stored.bits_per_weight / 8192
    found = product(np.array([1.0]), out, 8192, stored, shelf)
    assert found
    assert 0.75 * measured_s < found.seconds[0] < 1.08 * measured_s


@pytest.mark.parametrize("device", ["rtx-4090", "h100-sxm", "mi300x"])
def test_a_row_takes_as_long_as_its_weights_have_bits(device: str) -> None:
    """Single rows wait for memory: q6_k has 6.56 bits, q4_k 4.5."""
    shelf = KernelShelf(load_device(device), "llama.cpp")
    words = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "bf16")
    took = []
    for word in words:
        found = product(np.array([1.0]), 14336, 4096, format_named(word), shelf)
        assert found
        took.append(float(found.seconds[0]))
    assert took == sorted(took)
    assert took[4] > 1.1 * took[2]


@pytest.mark.parametrize("word", ["fp8_e5m2", "fp8_tensor", "fp8_channel", "tf32", "mxfp8"])
def test_no_format_falls_to_four_bits(word: str) -> None:
    shelf = KernelShelf(load_device("h100-sxm"), "vllm")
    narrow = product(np.array([1.0]), 8192, 8192, format_named("q4_k"), shelf)
    found = product(np.array([1.0]), 8192, 8192, format_named(word), shelf)
    assert found
    assert narrow
    assert found.seconds[0] > 1.1 * narrow.seconds[0]


@pytest.mark.parametrize("device", ["h100-sxm", "h200-sxm", "b200"])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_one_scale_a_tensor_is_no_slower_than_one_a_block(device: str, engine: str) -> None:
    priced = model("deepseek-r1", Layout(tp=1), load_device(device), engine)
    operators = (launch.operators[0] for launch, _ in priced.kernels[0])
    blocks = next(each for each in operators if isinstance(each, Experts))
    tensor = replace(
        blocks, precision=replace(blocks.precision, experts=format_named("fp8_tensor"))
    )
    step = Step.decode(np.array([1.0, 32, 256]), np.array([2048.0] * 3))
    coarse, fine = (timed(each, step, priced.shelf).seconds for each in (tensor, blocks))
    assert np.all(coarse < 1.25 * fine)
