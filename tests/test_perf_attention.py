"""Curves of attention kernels: not below the bounds, more work never faster, windows cap work."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from llmplan.errors import InputError
from llmplan.hardware.catalogue import load_device
from llmplan.perf.kernels import Column, Columns, Labels, Operator
from llmplan.perf.operators.attention_curves import TILE, causal_scores
from llmplan.perf.operators.context_attention import CONTEXT_ATTENTION
from llmplan.perf.operators.generation_attention import GENERATION_ATTENTION
from llmplan.perf.operators.mla import MLA, latent_attention
from llmplan.perf.operators.mla_module import MLA_MODULE, projections
from llmplan.perf.rates import rates_of

H100 = rates_of(load_device("h100-sxm"))
DEVICES = (H100, rates_of(load_device("l40s")), rates_of(load_device("b300")))
PLAIN = {"src": "aic/attention/vllm/0.24.0", "dtype": "bfloat16", "kv_dtype": "bfloat16"}
LATENT = {**PLAIN, "src": "aic/mla/vllm/0.24.0"}
BLOCK = {**LATENT, "model": "deepseek-ai/DeepSeek-V3", "gemm_type": "fp8_block"}
CASES: list[tuple[Operator, Labels]] = [
    (CONTEXT_ATTENTION, {**PLAIN, "kernel": "fa3"}),
    (CONTEXT_ATTENTION, {**PLAIN, "kernel": "fa3", "dtype": "fp8", "kv_dtype": "fp8"}),
    (CONTEXT_ATTENTION, {**PLAIN, "kernel": "triton"}),
    (GENERATION_ATTENTION, {**PLAIN, "kernel": "fa3"}),
    (GENERATION_ATTENTION, {**PLAIN, "kernel": "vllm_flash_attn_fa2"}),
    (GENERATION_ATTENTION, {**PLAIN, "kernel": "torch_flow", "kv_dtype": "fp8"}),
    (MLA, {**LATENT, "kernel": "default", "phase": "context"}),
    (MLA, {**LATENT, "kernel": "triton", "phase": "generation", "kv_dtype": "fp8"}),
    (MLA_MODULE, {**BLOCK, "phase": "context"}),
    (MLA_MODULE, {**BLOCK, "phase": "generation"}),
]
IDS = [f"{operator.name}-{number}" for number, (operator, _) in enumerate(CASES)]
SHAPES = {
    "batch": (1, 8, 64, 256, 4, 32),
    "kv_len": (64, 1000, 4096, 333, 65536, 8192),
    "heads": (32, 8, 128, 64, 16, 96),
    "kv_heads": (8, 8, 1, 4, 2, 2),
    "head_dim": (128, 64, 256, 128, 192, 64),
    "window": (0, 128, 0, 1024, 128, 0),
}


def columns(operator: Operator, **changed: Column) -> dict[str, Column]:
    """Some shapes, with columns replaced."""
    shapes = {name: np.array(SHAPES[name], float) for name in operator.numbers}
    return {**shapes, **changed}


def drawn(operator: Operator, labels: Labels, seed: int) -> Mapping[str, float]:
    """Parameters somewhere in their ranges; the least and the most among them."""
    dice = np.random.default_rng(seed)
    ends = dice.choice([0.0, 0.5, 1.0], len(operator.parameters(labels)))
    return {
        p.name: p.low + end * (p.high - p.low)
        for p, end in zip(operator.parameters(labels), ends, strict=True)
    }


def start(operator: Operator, labels: Labels) -> dict[str, float]:
    """Parameters where a fit starts."""
    return {p.name: p.start for p in operator.parameters(labels)}


@pytest.mark.parametrize(("operator", "labels"), CASES, ids=IDS)
def test_no_parameters_let_a_curve_fall_below_the_bound(operator: Operator, labels: Labels) -> None:
    shapes = columns(operator)
    for device in DEVICES:
        bound = operator.bound_seconds(shapes, labels, device)
        for seed in range(40):
            seconds = operator.seconds(drawn(operator, labels, seed), shapes, labels, device)
            assert np.all(np.isfinite(seconds))
            assert np.all(seconds >= bound)


@pytest.mark.parametrize(("operator", "labels"), CASES, ids=IDS)
@pytest.mark.parametrize("grown", ["batch", "kv_len", "heads"])
def test_more_work_is_never_faster(operator: Operator, labels: Labels, grown: str) -> None:
    shapes = columns(operator)
    for device in DEVICES:
        for seed in range(20):
            parameters = drawn(operator, labels, seed) | {"wide_power": 0.0}
            before = operator.seconds(parameters, shapes, labels, device)
            for factor in (1.1, 2.0, 7.0):
                more = columns(operator, **{grown: np.ceil(shapes[grown] * factor)})
                if grown == "heads" and "kv_heads" in more:
                    more |= {"heads": shapes["heads"] * 2, "kv_heads": shapes["kv_heads"] * 2}
                after = operator.seconds(parameters, more, labels, device)
                assert np.all(after >= before * (1 - 1e-9))


@pytest.mark.parametrize(("operator", "labels"), CASES, ids=IDS)
def test_has_at_most_eight_parameters(operator: Operator, labels: Labels) -> None:
    parameters = operator.parameters(labels)
    assert len(parameters) <= 8
    assert all(p.low <= p.start <= p.high for p in parameters)


def pairs(length: int, window: int) -> int:
    """Query-key pairs, counted one by one."""
    return sum(min(query, window or query) for query in range(1, length + 1))


def test_scores_are_the_pairs_that_the_mask_leaves() -> None:
    length, window = np.array([5.0, 9.0, 300.0]), np.array([0.0, 4.0, 1024.0])
    counted = [3 * pairs(5, 0), 3 * pairs(9, 4), 3 * pairs(300, 1024)]
    assert causal_scores(np.full(3, 3.0), length, window).tolist() == counted


def timed(operator: Operator, labels: Labels, shape: Columns) -> Column:
    return operator.seconds(start(operator, labels), shape, labels, H100)


@pytest.mark.parametrize("operator", [CONTEXT_ATTENTION, GENERATION_ATTENTION])
def test_a_window_caps_work_and_one_beyond_the_context_is_none(operator: Operator) -> None:
    labels = {**PLAIN, "kernel": "fa3"}
    full = timed(operator, labels, columns(operator, window=np.zeros(6)))
    capped = timed(operator, labels, columns(operator, window=np.full(6, 128.0)))
    beyond = timed(operator, labels, columns(operator, window=np.full(6, 1e6)))
    assert np.all(capped <= full)
    assert capped[4] < full[4] / 4
    assert beyond == pytest.approx(full)


def test_decode_with_a_window_does_not_grow_with_the_context() -> None:
    labels = {**PLAIN, "kernel": "fa3"}
    window = np.full(6, 128.0)
    whole_tiles = np.full(6, 128 + TILE)
    short = columns(GENERATION_ATTENTION, window=window, kv_len=whole_tiles)
    long = columns(GENERATION_ATTENTION, window=window, kv_len=np.full(6, 1e5))
    a, b = (timed(GENERATION_ATTENTION, labels, shape) for shape in (short, long))
    assert a == pytest.approx(b)


def test_large_groups_leave_the_matrix_units_of_one_engine() -> None:
    shape = columns(GENERATION_ATTENTION, window=np.zeros(6), kv_heads=np.ones(6))
    shape["heads"], shape["batch"] = np.full(6, 96.0), np.full(6, 256.0)
    slow = timed(GENERATION_ATTENTION, {**PLAIN, "kernel": "torch_flow"}, shape)
    fast = timed(GENERATION_ATTENTION, {**PLAIN, "kernel": "fa3"}, shape)
    assert np.all(slow > fast)


def test_one_long_request_is_not_split_where_flash_attention_2_has_no_group() -> None:
    one = {name: np.array([1.0]) for name in GENERATION_ATTENTION.numbers}
    shape = {
        **one,
        "kv_len": np.array([131072.0]),
        "head_dim": np.array([128.0]),
        "window": np.zeros(1),
    }
    alone = timed(GENERATION_ATTENTION, {**PLAIN, "kernel": "vllm_flash_attn_fa2"}, shape)
    split = timed(GENERATION_ATTENTION, {**PLAIN, "kernel": "fa3"}, shape)
    assert alone > 10 * split


def test_without_a_cache_everything_is_read_from_memory() -> None:
    l40s = DEVICES[1]
    labels, shape = {**PLAIN, "kernel": "fa3"}, columns(GENERATION_ATTENTION)
    parameters = start(GENERATION_ATTENTION, labels)
    warm = GENERATION_ATTENTION.seconds(parameters, shape, labels, l40s)
    cold = GENERATION_ATTENTION.seconds(parameters, shape, labels, replace(l40s, l2_bytes=0.0))
    assert np.all(cold >= warm)
    assert np.any(cold > 1.2 * warm)


def test_projections_are_those_of_the_published_model() -> None:
    found = projections("deepseek-ai/DeepSeek-V3")
    assert sorted(found.shared) == [(7168, 576), (7168, 1536)]
    assert sorted(found.split) == [(1536, 128 * (128 + 64)), (128 * 128, 7168)]
    assert found.latent == (512, 128 * (128 + 128))
    assert latent_attention("deepseek-ai/DeepSeek-V3").latent_width == 512 + 64


def test_models_without_plain_latent_attention_are_refused() -> None:
    with pytest.raises(InputError, match="no latent attention"):
        latent_attention("llama-3.1-8b")
    with pytest.raises(InputError, match="chosen keys"):
        latent_attention("deepseek-v3.2")
