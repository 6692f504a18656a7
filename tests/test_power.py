"""Draw of a GPU: within its power cap, never less for more work, and near what was measured."""

import csv
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmplan.analyze.flops import absorbed, decoder_only
from llmplan.errors import InputError, UnknownNameError
from llmplan.hardware.catalogue import device_names, load_device
from llmplan.hardware.device import Device
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import stage_ranks
from llmplan.perf.power import Busy, busy, gpu_draw, power_profile
from llmplan.units import Provenance

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "hardware" / "measured" / "energy.csv"
PAGE = ROOT / "docs" / "math" / "power.md"
DEVICES = ("b200", "h100-sxm", "a100-80gb-sxm", "l4", "mi300x")
UNSEEN = 0.3
"""Of a model that a fit has not seen, nine rows in ten are nearer: left_out_p90_error."""
ROUNDING = 1e-9
shares = st.floats(0.0, 1.0)


@cache
def rank(name: str, gpus: int, *, whole_experts: bool) -> Model:
    model = decoder_only(load_model(name)).rewritten(absorbed)
    return stage_ranks(model, Layout(tp=gpus, ep=whole_experts))[0].model


def reached(row: dict[str, str], device: Device) -> Busy:
    """Shares of the peaks of a steady state of decoding, half of the output there on average."""
    requests = float(row["avg_batch"])
    model = rank(row["model"], int(row["gpu_count"]), whole_experts=int(row["ep"]) > 1)
    step = Step.decode(requests, float(row["avg_output_tokens"]) / 2)
    return busy(model, step, requests / float(row["output_tok_s"]), device)


def known_rows() -> list[tuple[dict[str, str], Device, Busy]]:
    found = []
    with MEASURED.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            device = load_device(row["gpu"])
            try:
                found.append((row, device, reached(row, device)))
            except UnknownNameError:
                continue
    return found


@given(st.sampled_from(DEVICES), shares, shares)
def test_the_range_is_in_order_and_within_the_power_cap(name: str, f: float, b: float) -> None:
    device = load_device(name)

    draw = gpu_draw(device, f, b)

    assert 0 <= draw.low_w <= draw.value_w <= draw.high_w <= device.tdp_w


@given(st.sampled_from(DEVICES), shares, shares, shares, shares)
def test_more_work_draws_no_less(name: str, f: float, b: float, more_f: float, more_b: float):
    device = load_device(name)

    less, more = gpu_draw(device, f, b), gpu_draw(device, f + more_f, b + more_b)

    assert more.value_w >= less.value_w * (1 - ROUNDING)


@given(st.sampled_from(DEVICES), st.lists(st.tuples(shares, shares), min_size=1, max_size=8))
def test_a_point_equals_its_element_of_a_sweep(name: str, points: list[tuple[float, float]]):
    device = load_device(name)
    f, b = np.array(points).T

    sweep = gpu_draw(device, f, b)

    each = [gpu_draw(device, *point) for point in points]
    assert np.allclose(sweep.low_w, [draw.low_w for draw in each])
    assert np.allclose(sweep.value_w, [draw.value_w for draw in each])
    assert np.allclose(sweep.high_w, [draw.high_w for draw in each])


def test_busy_follows_from_shapes():
    # Llama-3.1-8B, one H100, 8 requests that hold 200 tokens, 100 steps a second
    shown = busy(rank("llama-3.1-8b", 1, whole_experts=False), Step.decode(8, 200), 0.01,
                 load_device("h100-sxm"))  # fmt: skip

    matrices = 8_030_261_248 - 128_256 * 4096  # all parameters less the input table
    weights_and_cache = 2 * matrices + 8 * 200 * 131_072
    scores = 4 * 201 * 4096 * 32
    # activations, norms and eight rows of the table are no more than 2 % of a small batch
    assert shown.bytes_frac == pytest.approx(weights_and_cache * 100 / 3.35e12, rel=0.02)
    assert shown.flops_frac == pytest.approx(8 * (2 * matrices + scores) * 100 / 989e12, rel=1e-3)


def test_low_bits_reach_the_peak_of_their_unit():
    h100, step = load_device("h100-sxm"), Step.decode(64, 1000)

    bf16 = busy(rank("llama-3.1-405b", 8, whole_experts=False), step, 0.1, h100)
    fp8 = busy(
        rank("meta-llama/Llama-3.1-405B-Instruct-FP8", 8, whole_experts=False), step, 0.1, h100
    )

    # head and attention stay in 16 bits
    assert fp8.flops_frac == pytest.approx(bf16.flops_frac / 2, rel=0.05)


@pytest.mark.parametrize(
    ("gpu", "model", "figures"),
    [
        # GPUs, requests in flight, output tokens, tokens per second, W of a GPU, J per token;
        # ML.ENERGY Leaderboard, 2026-02-27, lm-arena-chat
        ("b200", "qwen3-14b", (1, 7.94, 615, 1086.7, 760, 0.6993)),
        ("b200", "llama-3.1-8b", (1, 2042.92, 396, 14799.3, 691, 0.0467)),
        ("b200", "llama-3.1-405b", (8, 510.45, 358, 4550.9, 957, 1.6820)),
        ("h100-sxm", "llama-3.1-8b", (1, 7.98, 389, 1069.6, 486, 0.4548)),
        ("h100-sxm", "llama-3.1-8b", (1, 510.87, 397, 9805.6, 688, 0.0702)),
        ("h100-sxm", "qwen3-32b", (2, 127.84, 624, 3905.3, 537, 0.2749)),
    ],
)
def test_measured_draws(gpu: str, model: str, figures: tuple[float, ...]) -> None:
    gpus, requests, output_tokens, tokens_per_s, drawn_w, each_j = figures
    device, step = load_device(gpu), Step.decode(requests, output_tokens / 2)
    shown = busy(rank(model, int(gpus), whole_experts=False), step, requests / tokens_per_s, device)

    draw = gpu_draw(device, shown.flops_frac, shown.bytes_frac)

    assert draw.provenance is Provenance.FITTED
    assert draw.value_w == pytest.approx(drawn_w, rel=UNSEEN)
    assert draw.value_w * gpus / tokens_per_s == pytest.approx(each_j, rel=UNSEEN)


def test_errors_of_the_profile_are_those_of_the_shipped_rows():
    rows = known_rows()

    for name, curve in power_profile().devices.items():
        own = [(row, device, shown) for row, device, shown in rows if device.slug == name]
        measured = np.array([float(row["gpu_power_each_w"]) for row, _, _ in own])
        f = np.array([shown.flops_frac for _, _, shown in own])
        b = np.array([shown.bytes_frac for _, _, shown in own])
        draw = gpu_draw(load_device(name), f, b)

        off = np.abs(draw.value_w / measured - 1)
        assert draw.provenance is Provenance.FITTED
        assert len(own) == curve.rows
        assert np.median(off) == pytest.approx(curve.median_error, rel=0.01)
        assert np.quantile(off, 0.9) == pytest.approx(curve.p90_error, rel=0.01)
        # it is that of unseen rows, of which it holds four in five: of seen ones about as many
        assert np.mean((draw.low_w <= measured) & (measured <= draw.high_w)) > 0.78


def test_energy_of_the_shipped_rows_is_draw_over_rate():
    with MEASURED.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            drawn_w = float(row["gpu_power_each_w"]) * int(row["gpu_count"])
            stated_w = float(row["energy_per_output_token_j"]) * float(row["output_tok_s"])
            # draws are rounded to a watt and energies to 0.1 mJ
            assert stated_w == pytest.approx(drawn_w, rel=0.01)


def test_a_device_without_rows_is_assumed_and_wide():
    own, other = (
        gpu_draw(load_device("h100-sxm"), 0.05, 0.4),
        gpu_draw(load_device("l4"), 0.05, 0.4),
    )

    assert own.provenance is Provenance.FITTED
    assert other.provenance is Provenance.ASSUMED
    assert "no draw of l4 was measured" in other.note
    assert other.low_w / other.value_w < own.low_w / own.value_w


def test_beyond_the_rows_is_assumed_and_wide():
    h100 = load_device("h100-sxm")

    inside, prefill = gpu_draw(h100, 0.2, 0.4), gpu_draw(h100, 0.7, 0.1)

    assert inside.provenance is Provenance.FITTED
    assert prefill.provenance is Provenance.ASSUMED
    assert "busier or idler" in prefill.note
    assert prefill.low_w / prefill.value_w < inside.low_w / inside.value_w


def test_an_idle_gpu_may_draw_anything_below():
    assert gpu_draw(load_device("h100-sxm"), 0.0, 0.0).low_w == 0.0


@pytest.mark.parametrize("share", [-0.1, float("nan"), float("inf")])
def test_impossible_shares_are_refused(share):
    with pytest.raises(InputError, match="finite and not negative"):
        gpu_draw(load_device("b200"), share, 0.1)


def test_a_device_without_known_power_is_refused():
    with pytest.raises(InputError, match="tdp_w"):
        gpu_draw(replace(load_device("b200"), tdp_w=None), 0.1, 0.1)


def test_every_device_with_a_power_has_a_draw():
    for name in device_names():
        device = load_device(name)
        if device.tdp_w:
            assert gpu_draw(device, 0.05, 0.3).value_w > 0


def test_the_page_shows_the_profile():
    shown = dict(re.findall(r"^\| (\S+) \| (.+) \|$", PAGE.read_text(), flags=re.MULTILINE))

    profile = power_profile()
    for name, curve in {**profile.devices, "pooled": profile.pooled}.items():
        figures = [float(text.rstrip(" %")) for text in shown[name].split(" | ")]
        stated = (curve.base_frac, curve.flops_gain, curve.bytes_gain)
        errors = (curve.median_error, curve.p90_error)
        unseen = (curve.left_out_median_error, curve.left_out_p90_error)
        percent = [100 * value for value in (*errors, *unseen, curve.low_error, curve.high_error)]
        assert figures == pytest.approx([curve.rows, *stated, *percent], abs=0.51, rel=0.01)
