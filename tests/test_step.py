"""Step times: never below their bounds, monotone in the device, and without collectives at tp 1."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.analyze.traffic import worker_group
from llmplan.hardware.catalogue import load_device
from llmplan.hardware.device import Device, UnitRate
from llmplan.model.catalogue import load_model
from llmplan.ops.base import Step
from llmplan.parallel.layout import Layout
from llmplan.perf.step import StepModel

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
