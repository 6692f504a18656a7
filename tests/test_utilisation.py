"""MFU and MBU of a measured decode step, by hand and by what must hold."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.analyze.flops import flops_report
from llmplan.analyze.utilisation import decode_work, peak_unit, utilisation
from llmplan.errors import InputError
from llmplan.hardware.catalogue import load_device, parse_gpus
from llmplan.model.catalogue import load_model, model_names
from llmplan.results.flops import FlopsQuestion
from llmplan.results.utilisation import MeasuredStep
from llmplan.units import parse_seconds
from tests.program import llmplan

LANGUAGE_MODELS = [name for name in model_names() if not load_model(name).diffusion]

# Llama 3.1 8B by its config: 32 layers, hidden 4096, network 14336, 32 heads and 8 key/value heads
# of 128, vocabulary 128,256, head and table apart
MATRICES = 32 * (4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14336) + 128_256 * 4096
NORMS = (2 * 32 + 1) * 4096
# one decoded token at 8,192: it attends to 8,193 keys
FLOPS = 2 * MATRICES + 32 * 32 * 8193 * 2 * (128 + 128)
STATE_BYTES = 32 * 8193 * 8 * (128 + 128) * 2
WEIGHT_BYTES = 2 * (MATRICES + NORMS)
ROW_BYTES = 4096 * 2
"""One row of the input table, read for each token."""

# NVIDIA H100 SXM data sheet: dense bf16 rate and memory bandwidth
H100_BF16 = 989e12
H100_BANDWIDTH = 3.35e12


def answered(**step):
    """The published figures for Llama 3.1 8B at 8,192 tokens."""
    question = FlopsQuestion(model="llama-3.1-8b", context="8k", measured=MeasuredStep(**step))
    return question.ask().result.utilisation


def test_one_request_on_one_h100():
    found = answered(gpus="1xH100", step_time="12ms")

    assert found.flops_per_step == FLOPS == 19_304_808_448
    assert found.bytes_per_step == WEIGHT_BYTES + STATE_BYTES + ROW_BYTES == 16_083_730_432
    assert found.mfu_frac == pytest.approx(FLOPS / (0.012 * H100_BF16), rel=1e-12)
    assert found.mbu_frac == pytest.approx(16_083_730_432 / (0.012 * H100_BANDWIDTH), rel=1e-12)
    assert round(found.mbu_frac, 4) == 0.4001
    assert found.bound == "memory"


def test_a_batch_reads_the_weights_once():
    found = answered(gpus="1xH100", step_time="20ms", batch=16)

    assert found.flops_per_step == 16 * FLOPS
    assert found.bytes_per_step == WEIGHT_BYTES + 16 * (STATE_BYTES + ROW_BYTES)


def test_a_rate_is_a_batch_over_a_time():
    by_rate = answered(gpus="H100", tokens_per_s=1000.0, batch=20)

    assert by_rate == answered(gpus="H100", step_time="20ms", batch=20)
    assert by_rate.step_s == 0.02


def test_several_gpus_share_the_step():
    one, eight = (answered(gpus=f"{n}xH100", step_time="12ms") for n in (1, 8))

    assert eight.mfu_frac == pytest.approx(one.mfu_frac / 8)
    assert eight.mbu_frac == pytest.approx(one.mbu_frac / 8)
    assert eight.bytes_per_step == one.bytes_per_step


def test_formats_have_their_own_peaks():
    # fp8: linear matrices at 1,979 TFLOP/s, the head (bf16) and attention at 989
    head, attention = 128_256 * 4096, 32 * 32 * 8193 * 2 * (128 + 128)
    least = 2 * (MATRICES - head) / 1979e12 + (2 * head + attention) / H100_BF16

    from llmplan.results.common import Formats

    found = answered(gpus="H100", step_time="10ms", formats=Formats(dtype="fp8"))

    assert found.mfu_frac == pytest.approx(least / 0.010, rel=1e-12)
    assert found.flops_per_step == FLOPS


def test_a_device_without_the_unit_widens_to_16_bits_and_says_so():
    done = llmplan("flops", "llama-3.1-8b", "--gpus", "a100", "--step-time", "12ms",
                   "--dtype", "fp8", "--format", "json")  # fmt: skip

    answer = json.loads(done.stdout)
    found = answer["result"]["utilisation"]
    assert found["mfu_frac"] == pytest.approx(FLOPS / (0.012 * 312e12), rel=1e-12)
    assert found["provenance"]["mfu_frac"] == "assumed"
    assert any("no known fp8 rate" in text for text in answer["warnings"])


def test_an_unknown_rate_leaves_the_figure_out():
    device = load_device("h100")
    bare = replace(device, peaks=(), bandwidth_bytes_per_s=None)
    work = decode_work(load_model("llama-3.1-8b"), 1, 8192)

    found = utilisation(work, replace(parse_gpus("h100"), device=bare), 0.01)

    assert (found.mfu_frac, found.mbu_frac, found.bound) == (None, None, None)
    assert found.unknown == ("bf16",)


def test_a_wide_format_never_borrows_a_narrow_peak():
    device = replace(load_device("h100"), peaks=load_device("h100").peaks[:0])

    assert peak_unit(device, "fp32") == "fp32"
    assert peak_unit(load_device("h100"), "fp4") == "bf16"


def test_routed_experts_are_read_as_evenly_routed_tokens_hit_them():
    model = load_model("mixtral-8x7b")
    one, two = (decode_work(model, batch, 0).read_bytes for batch in (1, 2))

    # 2 of 8 experts for one token, 8 x (1 - (6/8)^2) = 3.5 for two; bf16, 32 layers
    expert = 3 * 4096 * 14336 * 2
    row_and_key = 4096 * 2 + 32 * 8 * 2 * 128 * 2
    assert two - one == pytest.approx(32 * (3.5 - 2) * expert + row_and_key)
    found = FlopsQuestion(
        model="mixtral-8x7b", measured=MeasuredStep(gpus="2xH100", step_time="20ms")
    ).ask()
    assert found.result.utilisation.provenance["bytes_per_step"] == "assumed"


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_step_of_one_request_has_the_flops_of_a_decoded_token(name):
    model = load_model(name)

    assert decode_work(model, 1, 4096).flops == pytest.approx(
        flops_report(model, 4096).decode.total, rel=1e-12
    )


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(("llama-3.1-8b", "deepseek-v3", "mamba2-2.7b")), st.integers(1, 512))
def test_work_grows_with_the_batch_and_less_than_it(name, batch):
    model = load_model(name)
    one, many = decode_work(model, 1, 2048), decode_work(model, batch, 2048)

    assert many.flops == pytest.approx(batch * one.flops)
    assert one.read_bytes <= many.read_bytes * (1 + 1e-12)
    assert many.read_bytes <= batch * one.read_bytes * (1 + 1e-12)


def test_more_than_the_peak_draws_a_remark():
    done = llmplan("flops", "llama-3.1-8b", "--gpus", "h100", "--step-time", "1ms")

    assert "note: MBU is more than the peak" in done.stderr
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("12ms", 0.012), ("2 s", 2.0), ("850us", 0.00085), ("1.5min", 90.0)]
)
def test_times_are_read_with_their_unit(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["12", "", "ms", "-3ms", "0ms", "3 parsecs", "1e3s", "nan s"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InputError, match="is no time"):
        parse_seconds(text)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan"), 5e-324, 1e308])
def test_a_rate_is_positive_and_such_as_there_are(rate):
    with pytest.raises(InputError, match=r"from 0\.001 to 1,000,000,000"):
        answered(gpus="h100", tokens_per_s=rate)
