"""What an estimate does with a calibration profile: figures, provenance, warnings, refusals."""

import json
from dataclasses import replace

import numpy as np
import pytest

from llmplan.dtypes import BF16
from llmplan.hardware.catalogue import load_device
from llmplan.ops.base import Step
from llmplan.ops.norm import Norm
from llmplan.ops.precision import Precision
from llmplan.perf.calibration import calibration_path, save, written
from llmplan.perf.calibration_spec import ClockRange, Conditions
from llmplan.perf.choice import KernelShelf
from llmplan.perf.merged import Launch
from llmplan.perf.parts import part_of
from llmplan.perf.refit import refitted
from llmplan.perf.table_formats import table_formats
from llmplan.perf.timed_products import gemm_curve, product
from llmplan.results.own_profile import own_kernels
from llmplan.units import Provenance
from tests.made_profile import GEMM, LAYER, RATES, SLUG, made_profile
from tests.program import llmplan

QUESTION = ("estimate", "llama-3.1-8b", "--gpus", f"1x{SLUG}", "--isl", "1024", "--osl", "128",
            "--concurrency", "8", "--scenario", "static", "--engine", "vllm")  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty personal catalogue."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LLMPLAN_CATALOG", raising=False)
    return tmp_path / "home"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mine.yaml"
    save(made_profile(), path)
    return path


def estimated(*options):
    outcome = llmplan(*QUESTION, "--format", "json", *options)
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def refused(*options):
    outcome = llmplan(*QUESTION, *options)
    assert outcome.exit_code == 2, outcome.stdout
    assert not outcome.stdout
    return " ".join(outcome.stderr.split())


def seconds_of(answer, kind):
    """Of each operator of a kind, by step and name."""
    return {
        (part["step"], part["name"]): part["seconds"]
        for part in answer["result"]["operators"]
        if part["kind"] == kind
    }


def refit_at(times, path):
    pytest.importorskip("scipy")
    save(refitted(made_profile(times), RATES), path)
    return str(path)


# --- figures


def test_products_are_those_that_were_measured(path):
    shelf = KernelShelf(load_device(SLUG), "vllm")
    own, _, _ = own_kernels(str(path), load_device(SLUG))
    plain = gemm_curve(("bfloat16",), shelf)
    ours = gemm_curve(("bfloat16",), replace(shelf, own=own))
    assert ours.labels == GEMM
    assert ours.provenance.value == "measured"
    assert ours.reason == "measured here on 2026-11-22"
    assert plain.labels["src"] != GEMM["src"]


def renamed(own, fields, **labels):
    """A kernel of products under other labels, its parameters changed."""
    (kernel,) = own.of("gemm")
    parameters = {**kernel.parameters, **fields}
    words = {**kernel.labels, **labels}
    return kernel.model_copy(update={"labels": words, "parameters": parameters})


def test_batched_products_stand_for_themselves_alone(path):
    """Several products in one call say nothing of a single one, however fast they look."""
    own, _, _ = own_kernels(str(path), load_device(SLUG))
    batched = renamed(own, {"floor_us": 0.5}, kernel="aten_bmm")
    shelf = KernelShelf(
        load_device(SLUG), "vllm", own=replace(own, kernels=(batched, *own.kernels))
    )
    assert gemm_curve(("bfloat16",), shelf).labels == GEMM
    assert gemm_curve(("bfloat16",), shelf, is_batched=True).labels == batched.labels
    alone = replace(shelf, own=own)
    assert gemm_curve(("bfloat16",), alone, is_batched=True).labels == GEMM


def test_plain_arithmetic_is_not_what_an_engine_runs(path):
    own, _, _ = own_kernels(str(path), load_device(SLUG))
    (norm,) = own.of("by_work")
    plain = norm.model_copy(update={"labels": {**norm.labels, "kernel": "reference_rms_norm"}})
    launch, step = Launch((Norm("norm", Precision(), 4096),)), Step.prefill(1, np.array([512.0]))
    found = [
        part_of(
            launch, step, KernelShelf(load_device(SLUG), "vllm", own=replace(own, kernels=(k,)))
        )
        for k in (plain, norm)
    ]
    unmeasured = part_of(launch, step, KernelShelf(load_device(SLUG), "vllm"))
    assert [part.provenance for part in found] == [Provenance.ASSUMED, Provenance.MEASURED]
    assert found[0].seconds == unmeasured.seconds
    assert found[1].seconds != unmeasured.seconds


def test_products_in_half_precision_are_those_that_were_measured(path):
    own, _, _ = own_kernels(str(path), load_device(SLUG))
    half = renamed(own, {"floor_us": 4.0}, dtype="half")
    shelf = KernelShelf(load_device(SLUG), "vllm", own=replace(own, kernels=(half, *own.kernels)))
    formats = table_formats("fp16", shelf)
    assert gemm_curve(formats, shelf, is_half=True).labels == half.labels
    assert gemm_curve(formats, replace(shelf, own=own), is_half=True).labels == GEMM
    assert gemm_curve(table_formats("bf16", shelf), shelf).labels == GEMM


def test_products_that_an_engine_runs_otherwise_are_not_called_measured(path):
    """llama.cpp multiplies a few tokens as vectors; the product of matrices was measured."""
    own, _, _ = own_kernels(str(path), load_device(SLUG))
    shelf = KernelShelf(load_device(SLUG), "llama.cpp", own=own)
    few, many = (
        product(np.array([tokens]), 4096, 4096, BF16, shelf).provenance for tokens in (1.0, 512.0)
    )
    assert (few, many) == (Provenance.FITTED, Provenance.MEASURED)


def test_products_three_times_as_slow(tmp_path):
    two, six = (estimated("--profile", refit_at(t, tmp_path / f"{t}.yaml")) for t in (2, 6))
    before, after = seconds_of(two, "gemm"), seconds_of(six, "gemm")
    assert len(before) > 8
    for name, seconds in after.items():
        assert seconds / before[name] == pytest.approx(3, rel=0.02), name
    vectors = seconds_of(two, "vector")
    times = seconds_of(six, "vector")["decode", "final_norm"] / vectors["decode", "final_norm"]
    assert times == pytest.approx(3, rel=0.02)
    assert seconds_of(six, "attention") == seconds_of(two, "attention")  # was not measured
    for figure in ("ttft_s", "tpot_s"):
        assert six["result"][figure]["value"] > 2 * two["result"][figure]["value"]
        plain = two["result"]["calibration"]["uncalibrated"]
        assert six["result"]["calibration"]["uncalibrated"] == plain


def test_products_three_times_as_fast_end_at_the_peaks(tmp_path):
    two, fast = (estimated("--profile", refit_at(t, tmp_path / f"{t}.yaml")) for t in (2, 2 / 3))
    before = seconds_of(two, "gemm")
    parts = [part for part in fast["result"]["operators"] if part["kind"] == "gemm"]
    assert len(parts) == len(before)
    for part in parts:
        assert part["seconds"] < 0.7 * before[part["step"], part["name"]]
        bound_s = max(part["compute_s"], part["memory_s"])
        assert part["seconds"] >= bound_s * (1 - 1e-9), part["name"]
    for figure in ("ttft_s", "tpot_s"):
        assert fast["result"][figure]["value"] < two["result"][figure]["value"]


def test_figures_are_marked_as_measured_and_as_what_they_were(path):
    answer, plain = estimated("--profile", str(path)), estimated("--profile", "none")
    known = {
        (p["step"], p["name"], p["kind"]): p["provenance"] for p in answer["result"]["operators"]
    }
    assert {word for (_, _, kind), word in known.items() if kind == "gemm"} == {"measured"}
    assert known["decode", "final_norm", "vector"] == "measured"
    assert known["decode", "attention", "attention"] == "fitted"  # of the shipped table
    assert "measured" not in {p["provenance"] for p in plain["result"]["operators"]}
    used = answer["result"]["calibration"]
    assert (used["profile"], used["device"], used["kernels"]) == (str(path), SLUG, 2)
    assert used["layer_median_error_frac"] == pytest.approx(0.1)
    assert used["layer_p90_error_frac"] == pytest.approx(0.1)
    assert used["uncalibrated"] == {
        "ttft_s": plain["result"]["ttft_s"]["value"],
        "tpot_s": plain["result"]["tpot_s"]["value"],
        "output_tokens_per_s": plain["result"]["output_tokens_per_s"]["value"],
    }
    assert plain["result"]["calibration"] is None


# --- which profile is used


def test_a_profile_of_the_device_is_found_and_none_leaves_it_out(home):
    before = estimated()
    save(made_profile(), calibration_path(SLUG))
    assert str(calibration_path(SLUG)).startswith(str(home))
    found = estimated()
    assert found["result"]["calibration"]["profile"] == str(calibration_path(SLUG))
    assert found["result"]["tpot_s"] != before["result"]["tpot_s"]
    assert estimated("--profile", "none")["result"] == before["result"]


def test_a_profile_of_another_device_is_refused(path):
    outcome = llmplan("estimate", "llama-3.1-8b", "--gpus", "1xh200-sxm", "--profile", str(path))
    assert outcome.exit_code == 2
    said = " ".join(outcome.stderr.split())
    assert f"was measured on {SLUG}, and the GPUs are h200-sxm" in said
    assert "--profile none" in said


def test_a_profile_of_one_device_says_nothing_of_another(home):
    save(made_profile(), calibration_path(SLUG))
    outcome = llmplan(
        "estimate", "llama-3.1-8b", "--gpus", "1xh200-sxm", "--format", "json", "--isl", "1024",
        "--osl", "128",
    )  # fmt: skip
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["result"]["calibration"] is None
    assert home.exists()


def test_an_edited_profile_is_refused_with_the_way_on(path):
    text = path.read_text()
    assert text.count("memory_frac: 0.6") == 1
    path.write_text(text.replace("memory_frac: 0.6", "memory_frac: 0.7"))
    said = refused("--profile", str(path))
    assert "was edited or damaged: its content has another hash" in said
    assert f"llmplan calibrate import {path}" in said


def test_an_edited_point_is_an_edited_profile(path):
    text = path.read_text()
    path.write_text(text.replace("    16,4096,4096,", "    16,4096,4096,1"))
    assert "was edited or damaged" in refused("--profile", str(path))


def test_other_curves_are_refused_where_the_profile_is_named(path):
    path.write_text(written(made_profile(curves="f" * 64, llmplan="0.0.9")))
    said = refused("--profile", str(path))
    assert "was fitted to other curves (of llmplan 0.0.9)" in said
    assert f"llmplan calibrate refit {path}" in said


def test_other_curves_are_left_out_loudly_where_the_profile_is_found(home):
    before = estimated()
    path = calibration_path(SLUG)
    path.parent.mkdir(parents=True)
    path.write_text(written(made_profile(curves="f" * 64, llmplan="0.0.9")))
    found = estimated()
    (loud,) = [w for w in found["warnings"] if "NOT used" in w]
    assert f"the calibration {path} is NOT used" in loud
    assert f"llmplan calibrate refit {path}" in loud
    assert found["result"] == before["result"]
    assert "is NOT used" in " ".join(llmplan(*QUESTION).stderr.split())
    assert home.exists()


def test_other_peaks_are_refused(path):
    rates = made_profile().rates.model_copy(update={"bytes_per_s": 3e12})
    save(made_profile(rates=rates), path)
    said = refused("--profile", str(path))
    assert f"other peaks of {SLUG} than the catalogue has" in said
    assert f"llmplan calibrate refit {path}" in said


# --- what is said of it


def remarks(path):
    return " ".join(" ".join(estimated("--profile", str(path))["warnings"]).split())


def test_a_good_profile_needs_no_word(path):
    said = remarks(path)
    assert "calibration" not in said
    assert "clocks" not in said


def test_layers_that_are_far_off_are_said(path):
    off = LAYER.model_copy(update={"predicted_s": 1.5e-4})
    save(made_profile(layers=(off,)), path)
    assert "predicted by this calibration with 50% error at the 90th percentile" in remarks(path)


def test_curves_that_miss_their_own_points_are_said(path):
    kernels = [
        kernel.model_copy(update={"median_error": 1.81}) if kernel.labels == GEMM else kernel
        for kernel in made_profile().kernels
    ]
    save(made_profile(kernels=tuple(kernels)), path)
    assert "in the median aten_mm by 181%: measure again" in remarks(path)


def test_an_empty_name_is_no_profile():
    assert "--profile: write the name of a file, or none" in refused("--profile", "")


def test_a_page_says_that_no_layer_tells_how_far_it_is_off(path):
    save(made_profile(layers=()), path)
    assert "; errors of layers unknown" in llmplan(*QUESTION, "--profile", str(path)).stdout


def test_more_requests_than_it_serves_keep_the_word_on_the_calibration(path):
    options = ("--scenario", "open", "--rate", "1000", "--profile", str(path))
    asked = ("estimate", "llama-3.1-8b", "--gpus", f"1x{SLUG}", "--engine", "vllm", *options)
    outcome = llmplan(*asked)
    assert outcome.exit_code == 1, outcome.stderr
    assert "  calibrated " in outcome.stdout


def test_lowered_clocks_are_said(path):
    clocks = ClockRange(least_hz=1e9, median_hz=1.5e9, most_hz=2e9)
    conditions = Conditions(sm_clock_hz=clocks, throttled=("power cap",))
    save(made_profile(conditions=conditions), path)
    assert "lowered its clocks while it was calibrated (power cap)" in remarks(path)


def test_far_beyond_the_points_is_said_with_how_far(path):
    profile = made_profile()
    narrow = [
        k.model_copy(update={"ranges": {**k.ranges, "m": (1.0, 16.0)}}) if k.labels == GEMM else k
        for k in profile.kernels
    ]
    save(made_profile(kernels=tuple(narrow)), path)
    said = remarks(path)
    assert "the calibration is extrapolated: gemm at m " in said
    assert "(measured up to 16)" in said


# --- files that are no profile


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x00\x01\xff\xfe" * 300, b"x: " + b"1" * 1_000_001, b"[]", b"format: other\n",
        b"format: llmplan-calibration-1\n", b"a: &a [*a]\n",
        b"PK\x03\x04" + b"\x00" * 100, b"\x80\x04\x95pickle.",
    ],
    ids=[
        "empty", "binary", "huge", "list", "other format", "no keys", "anchors", "zip", "pickle",
    ],
)  # fmt: skip
def test_a_file_that_is_no_profile_is_refused(path, content):
    path.write_bytes(content)
    said = refused("--profile", str(path))
    assert said.startswith("error: ")
    assert str(path) in said


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert str(tmp_path / "none.yaml") in refused("--profile", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir", "!!python/name:os.mkdir",
        "!!python/object:pathlib.Path",
    ],
)  # fmt: skip
def test_nothing_in_a_profile_is_executed(path, tmp_path, tag):
    made = tmp_path / "made"
    text = path.read_text()
    key = "grid_sha256: "
    assert text.count(f"\n{key}") == 1
    path.write_text(text.replace(f"\n{key}", f"\n{key}{tag} [{made}] #"))
    said = refused("--profile", str(path))
    assert str(path) in said
    assert not made.exists()
