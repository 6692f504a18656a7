"""The serving model: limits that any queue keeps, and closed cases by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.analyze.ingredients import Ingredients
from llmplan.analyze.loaded import expands_latents
from llmplan.analyze.steady import (
    Constants,
    Demand,
    Pools,
    closed_loop,
    disaggregated,
    offline,
    open_loop,
    static_batch,
)
from llmplan.engines.profile import profile_of

ONE = np.array([1.0])
FREE = Constants(*(0 * ONE for _ in range(6)), ONE, 0 * ONE, 0 * ONE, 0 * ONE, 0 * ONE, ONE, ONE)
"""No overhead at all: kernels alone."""
USUAL = Constants(
    layer_us=5 * ONE,
    experts_us=5 * ONE,
    latent_us=2 * ONE,
    recurrent_us=5 * ONE,
    step_us=300 * ONE,
    sequence_us=5 * ONE,
    prompt_times=1.1 * ONE,
    first_token_us=30e3 * ONE,
    waited_steps=ONE,
    burst_frac=0.3 * ONE,
    spread_burst_frac=0.2 * ONE,
    tpot_times=ONE,
    ttft_times=ONE,
)
BATCH = np.geomspace(1, 256, 9)


def found(prompt_s: float = 0.1) -> Ingredients:
    """A decode step of 10 ms that grows by 0.1 ms a request."""
    decode = (10e-3 + 0.1e-3 * BATCH)[None, :]
    return Ingredients(
        batch=BATCH[None, :],
        decode_s=decode,
        decode_bound_s=decode / 2,
        mixed_s=np.array([prompt_s]),
        prompt_s=np.array([prompt_s]),
        prompt_bound_s=np.array([prompt_s / 2]),
        burst_s=np.array([prompt_s]),
        groups=ONE,
        layers=32 * ONE,
        expert_layers=0 * ONE,
        latent_layers=0 * ONE,
        recurrent_layers=0 * ONE,
        stages=ONE,
    )


def demand(requests: float, slots: float = 1e9, osl: float = 101.0) -> Demand:
    return Demand(requests * ONE, slots * ONE, osl * ONE, ONE, ONE, 0 * ONE)


def test_a_single_request_meets_nobody() -> None:
    """10.1 ms a token, and its own prompt of 100 ms before the first."""
    alone = closed_loop(found(), FREE, demand(1))
    assert alone.tpot_s[0] == pytest.approx(10.1e-3, rel=1e-6)
    assert alone.ttft_s[0] == pytest.approx(0.1, rel=1e-6)
    assert alone.requests_per_s[0] == pytest.approx(1 / (0.1 + 101 * 10.1e-3), rel=1e-3)


@given(st.floats(1, 200), st.floats(0.001, 0.5), st.floats(2, 2000))
@settings(deadline=None)
def test_throughput_is_below_what_the_gpu_could_do(
    requests: float, prompt_s: float, osl: float
) -> None:
    """A request takes at least its own prompt and its part of full decode steps."""
    loop = closed_loop(found(prompt_s), USUAL, demand(requests, osl=osl))
    least = prompt_s / 2 + osl * (10e-3 + 0.1e-3 * 256) / 2 / 256
    assert loop.requests_per_s[0] * least <= 1 + 1e-6
    assert loop.decoding[0] <= requests + 1e-9


@given(st.floats(1, 100), st.floats(1.0, 2.0))
@settings(deadline=None)
def test_more_requests_never_make_a_token_faster(requests: float, times: float) -> None:
    few = closed_loop(found(), USUAL, demand(requests))
    many = closed_loop(found(), USUAL, demand(requests * times))
    assert many.tpot_s[0] >= few.tpot_s[0] * (1 - 1e-3)


def test_requests_beyond_the_slots_wait_for_a_place() -> None:
    """With twice as many as there is room for, one waits as long as another is served."""
    full = closed_loop(found(), FREE, demand(32))
    crowd = closed_loop(found(), FREE, demand(64, slots=32))
    assert crowd.tpot_s[0] == pytest.approx(full.tpot_s[0])
    assert crowd.requests_per_s[0] == pytest.approx(full.requests_per_s[0])
    life = full.ttft_s[0] + 101 * full.tpot_s[0]
    assert crowd.ttft_s[0] == pytest.approx(full.ttft_s[0] + life, rel=1e-6)


def test_a_static_batch_is_prompts_and_then_steps() -> None:
    """8 prompts of 100 ms, then 100 steps of 10.8 ms."""
    run = static_batch(found(), FREE, demand(8))
    assert run.requests_per_s[0] == pytest.approx(8 / (0.8 + 100 * 10.8e-3), rel=1e-6)


def test_an_open_loop_serves_its_rate_until_it_cannot() -> None:
    most = float(offline(found(0.01), FREE, demand(256, slots=256)).requests_per_s[0])
    calm = open_loop(found(0.01), FREE, demand(256, slots=256), np.array([most / 4]))
    assert calm.requests_per_s[0] == pytest.approx(most / 4)
    assert np.isfinite(calm.ttft_s[0])
    crowded = open_loop(found(0.01), FREE, demand(256, slots=256), np.array([most * 1.5]))
    assert np.isinf(crowded.ttft_s[0])
    assert crowded.requests_per_s[0] == pytest.approx(most)


@given(st.floats(0.05, 0.9), st.floats(1.01, 2.0))
@settings(deadline=None)
def test_waiting_grows_with_the_rate(share: float, times: float) -> None:
    most = float(offline(found(0.01), FREE, demand(256, slots=256)).requests_per_s[0])
    low, high = share * most, min(share * times, 0.95) * most
    slow = open_loop(found(0.01), FREE, demand(256, slots=256), np.array([low]))
    busy = open_loop(found(0.01), FREE, demand(256, slots=256), np.array([high]))
    assert busy.ttft_s[0] >= slow.ttft_s[0] * (1 - 1e-6)


def test_pools_keep_prompts_out_of_decode() -> None:
    """Decode steps see no prompt, whatever its length."""
    pools = Pools(4 * ONE, ONE, 5e-3 * ONE)
    apart = disaggregated(found(0.1), found(), FREE, demand(16), pools)
    mixed = closed_loop(found(), FREE, demand(16))
    assert apart.tpot_s[0] < mixed.tpot_s[0]
    assert apart.ttft_s[0] >= 0.105 * (1 - 1e-6)  # its prompt, and sending the cache


def test_drafts_that_are_right_save_steps() -> None:
    """Two tokens a step of 10.1 ms and 1 ms of drafting."""
    drafting = replace(demand(1), accepted=2 * ONE, draft_s=1e-3 * ONE)
    assert closed_loop(found(), FREE, drafting).tpot_s[0] == pytest.approx(11.1e-3 / 2, rel=1e-6)


def test_rows_do_not_touch_each_other() -> None:
    both = Ingredients.stacked([found(0.1), found(0.3)])
    two = Demand(*(np.concatenate([each, each]) for each in _fields(demand(8))))
    twice = Constants(*(np.concatenate([each, each]) for each in _fields(USUAL)))
    together = closed_loop(both, twice, two)
    for row, prompt_s in enumerate((0.1, 0.3)):
        alone = closed_loop(found(prompt_s), USUAL, demand(8))
        assert together.tpot_s[row] == pytest.approx(float(alone.tpot_s[0]))


def _fields(record: Demand | Constants) -> list[np.ndarray]:
    return [getattr(record, name) for name in record.__slots__]


@pytest.mark.parametrize(
    ("asked", "expands"),
    [
        ("vllm@2025-01", True),
        ("vllm@0.7.0", True),
        ("vllm@2025-02", False),
        ("vllm@2025-03", False),
    ],
)
def test_runs_since_february_2025_cache_latents(asked: str, *, expands: bool) -> None:
    """vLLM 0.7.1 of 1 February 2025 is the first release that does."""
    assert expands_latents(profile_of(asked)) is expands
