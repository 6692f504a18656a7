"""Fits of kernels to few rows, and calibration profiles: written, read, found, fitted again."""

import datetime as dt
import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from llmplan.documents import parse_document
from llmplan.errors import DocumentError, InputError, MissingPartError
from llmplan.hardware.catalogue import load_device
from llmplan.perf import fitting
from llmplan.perf.calibration import (
    calibration_files,
    calibration_of,
    calibration_path,
    load,
    peaks_of,
    save,
    written,
)
from llmplan.perf.calibration_spec import (
    CalibrationProfile,
    ClockRange,
    Conditions,
    MeasuredDevice,
    MeasuredLayer,
    Skipped,
)
from llmplan.perf.fingerprint import DEVICE, LABELS, NUMBERS, fingerprint, probe
from llmplan.perf.fitting import described, fitted_kernel, fitted_parameters, held_out_errors
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.points import Points, points_of, table_text
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import rates_of
from llmplan.perf.refit import FEW, changes, operator_rows, refitted
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows, kernel_rows

scipy = pytest.importorskip("scipy")

GEMM, BY_WORK, MOE = OPERATORS["gemm"], OPERATORS["by_work"], OPERATORS["moe"]
GENERATION_ATTENTION = OPERATORS["generation_attention"]
RATES = rates_of(load_device("h100-sxm"))
SRC = "llmplan/torch/2.13.0"
CONDITIONS = Conditions(
    sm_clock_hz=ClockRange(least_hz=1.2e9, median_hz=1.755e9, most_hz=1.98e9),
    temperature_c=61,
    throttled=("power cap",),
)
NORM = {"src": SRC, "kernel": "torch", "op": "rms_norm"}
TRUE = {
    "floor_us": 6.0,
    "compute_frac": 0.5,
    "vector_frac": 0.3,
    "memory_frac": 0.7,
    "cache_gain": 1.5,
    "step_ns": 0.0,
}


def norm_rows(count, lowest=1e5, highest=1e10):
    """Rows of a kernel bound by memory, whose times are the curve itself."""
    moved = np.geomspace(lowest, highest, count)
    columns = {
        "flops": np.zeros(count),
        "other_flops": moved,
        "bytes": moved,
        "steps": np.ones(count),
    }
    seconds = BY_WORK.seconds(TRUE, columns, NORM, rates_at(NORM, RATES))
    return KernelRows(NORM, columns, seconds, tuple(range(1, count + 1)))


def profile_of(rows, *, kernel=None, **more):
    points = points_of(BY_WORK, rows, np.full(len(rows.measured_s), 0.0123))
    fitted = kernel or fitted_kernel(BY_WORK, points.kernel_rows(), RATES)
    return CalibrationProfile(
        llmplan="0.1.0",
        curves=fingerprint(),
        date=dt.date(2026, 11, 22),
        device=MeasuredDevice(slug="h100-sxm", name="NVIDIA H100 80GB HBM3", cores=132),
        rates=peaks_of(RATES),
        grid_sha256="0" * 64,
        budget_s=60,
        kernels=(fitted,),
        points=(points,),
        **more,
    )


@pytest.fixture(scope="module")
def profile():
    layer = {
        "model": "llama-3.1-8b",
        "layer": "1",
        "phase": "decode",
        "requests": 8,
        "new_tokens": 1,
        "context": 1000,
        "layout": "tp1",
    }
    layers = (
        MeasuredLayer(**layer, predicted_s=1.1e-4, measured_s=1e-4),
        MeasuredLayer(**layer, predicted_s=0.7e-4, measured_s=1e-4),
    )
    skipped = (Skipped(name="Recurrence", reason="no runner"),)
    return profile_of(
        norm_rows(12),
        layers=layers,
        skipped=skipped,
        notes=("a remark: ~ 5 %",),
        conditions=CONDITIONS,
    )


@pytest.fixture
def path(tmp_path, profile):
    path = tmp_path / "h100-sxm.calibrated.yaml"
    save(profile, path)
    return path


# --- fits


def test_a_fit_finds_the_curve_that_made_the_rows():
    kernel = fitted_kernel(BY_WORK, norm_rows(24), RATES)
    assert kernel.rows == 24
    assert kernel.median_error < 0.01
    assert kernel.held_out_error < 0.02
    assert kernel.parameters["floor_us"] == pytest.approx(6.0, rel=0.02)
    assert kernel.parameters["memory_frac"] == pytest.approx(0.7, rel=0.05)


def test_own_rows_are_fitted_as_they_are_asked_for():
    """Cold inputs: a cache that a curve reckons with would make the memory look slower."""
    l40s = rates_of(load_device("l40s"))
    labels = {
        "src": NORM["src"], "kernel": "sdpa_folded", "dtype": "bfloat16", "kv_dtype": "bfloat16"
    }  # fmt: skip
    batch, length = (grid.ravel() for grid in np.meshgrid([1.0, 8, 64], [1024.0, 4096, 16384]))
    heads = {"heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "window": 0.0}
    columns = {"batch": batch, "kv_len": length} | {
        name: np.full_like(batch, value) for name, value in heads.items()
    }
    true = {p.name: p.start for p in GENERATION_ATTENTION.parameters(labels)}
    uncached = replace(l40s, l2_bytes=0.0)
    seconds = GENERATION_ATTENTION.seconds(true, columns, labels, uncached)
    rows = KernelRows(labels, columns, seconds, tuple(range(1, len(seconds) + 1)))
    kernel = fitted_kernel(GENERATION_ATTENTION, rows, l40s)
    asked = GENERATION_ATTENTION.seconds(kernel.parameters, columns, labels, uncached)
    assert asked == pytest.approx(seconds, rel=0.01)
    others = replace(rows, labels={**labels, "src": "aiconfigurator/vllm/1"})  # one call repeated
    kernel = fitted_kernel(GENERATION_ATTENTION, others, l40s)
    asked = GENERATION_ATTENTION.seconds(kernel.parameters, columns, labels, uncached)
    assert np.max(asked / seconds) > 1.05


def test_a_parameter_that_no_row_speaks_of_stays_at_its_start():
    kernel = fitted_kernel(BY_WORK, norm_rows(24), RATES)
    assert kernel.parameters["step_ns"] == pytest.approx(0.0, abs=1.0)
    assert kernel.parameters["compute_frac"] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("count", [3, 5, 7])
def test_few_rows_do_not_explode_beyond_their_range(count):
    rows = norm_rows(count, 1e6, 1e8)
    noisy = KernelRows(
        NORM, rows.columns, rows.measured_s * (1 + 0.1 * (-1.0) ** np.arange(count)), rows.numbers
    )
    kernel = fitted_kernel(BY_WORK, noisy, RATES)
    far = norm_rows(4, 1e9, 1e12)
    predicted = BY_WORK.seconds(kernel.parameters, far.columns, NORM, rates_at(NORM, RATES))
    assert np.all(predicted / far.measured_s < 2)
    assert np.all(predicted / far.measured_s > 0.5)
    assert kernel.rows == count
    assert kernel.held_out_error > kernel.median_error  # a fit to few rows meets them
    assert kernel.low_error < -0.02
    assert kernel.high_error > 0.02


def test_two_rows_are_no_fit():
    with pytest.raises(InputError, match=r"by_work .*rms_norm: 2 rows are too few to fit; 3"):
        fitted_kernel(BY_WORK, norm_rows(2), RATES)


def test_rows_that_cannot_be_are_named():
    columns = {name: np.full(4, NUMBERS[name][1], float) for name in MOE.numbers}
    columns["topk"][2] = 100_000.0
    labels = {"src": SRC, "kernel": "triton", "dtype": "bfloat16"}
    rows = KernelRows(labels, columns, np.full(4, 1e-4), (1, 2, 3, 4))
    with pytest.raises(InputError, match="row 3 has numbers that cannot be"):
        fitted_kernel(MOE, rows, RATES)


def test_errors_by_hand():
    # predictions are half, equal and twice the times: errors of -50 %, 0 and 100 %
    rows = norm_rows(3)
    shifted = KernelRows(NORM, rows.columns, rows.measured_s * [2, 1, 0.5], rows.numbers)
    kernel = described(BY_WORK, TRUE, shifted, rates_at(NORM, RATES))
    assert kernel.median_error == 0.5
    assert kernel.p90_error == 0.9  # between 0.5 and 1.0, 80 % of the way
    assert kernel.low_error == -0.4  # measured over predicted: 0.5, 1, 2; a fifth from 0.5 to 1
    assert kernel.high_error == 0.8
    assert kernel.ranges["bytes"] == (1e5, pytest.approx(1e10))


def test_rows_kept_back_show_a_curve_that_does_not_hold():
    rows = norm_rows(20)
    jumping = KernelRows(NORM, rows.columns, rows.measured_s * np.tile([1, 4], 10), rows.numbers)
    assert np.median(np.abs(held_out_errors(BY_WORK, jumping, RATES))) > 0.3


def test_rows_not_chosen_say_nothing():
    rows = norm_rows(16)
    odd = np.arange(16) % 2 == 1
    wrong = KernelRows(NORM, rows.columns, rows.measured_s * np.where(odd, 50, 1), rows.numbers)
    named = fitted_parameters(BY_WORK, wrong, RATES, ~odd)
    assert named["floor_us"] == pytest.approx(6.0, rel=0.02)


def test_without_scipy_a_fit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(MissingPartError, match=r"pip install 'llmplan\[calibrate\]'") as caught:
        fitted_kernel(BY_WORK, norm_rows(4), RATES)
    assert caught.value.exit_code == 3


# --- the fingerprint of curves


def test_every_operator_has_probes_with_finite_times():
    assert set(LABELS) == set(OPERATORS)
    for name, operator in OPERATORS.items():
        for labels in LABELS[name]:
            assert tuple(labels) == operator.labels
            start = {p.name: p.start for p in operator.parameters(labels)}
            seconds = operator.seconds(start, probe(operator), labels, DEVICE)
            assert np.all(np.isfinite(seconds) & (seconds > 0)), (name, labels)


def test_another_curve_has_another_fingerprint(monkeypatch):
    before = fingerprint()
    assert len(before) == 64
    fingerprint.cache_clear()
    by_work = importlib.import_module("llmplan.perf.operators.by_work")
    monkeypatch.setattr(by_work, "RESIDENCY", 3.01)
    assert fingerprint() != before
    monkeypatch.undo()
    fingerprint.cache_clear()
    assert fingerprint() == before


# --- the file


def test_what_is_written_is_read_again(path, profile):
    again = load(path)
    assert again.model_copy(update={"sha256": ""}) == profile
    assert written(again) == path.read_text()


def test_points_stand_in_the_file_as_a_table(path):
    text = path.read_text()
    assert (
        "    flops,other_flops,bytes,steps,latency_s,spread_frac\n    0,100000,100000,1,6." in text
    )
    assert "# 2 layers: median error 20.0%, p90 28.0%\n" in text


def test_errors_of_layers(profile):
    assert [layer.error for layer in profile.layers] == [pytest.approx(0.1), pytest.approx(-0.3)]
    assert profile.layer_error == (pytest.approx(0.2), pytest.approx(0.28))


def test_layout_may_change_and_values_may_not(path):
    text = path.read_text()
    path.write_text(f"# mine\n{text}\n")
    load(path)
    path.write_text(text.replace("floor_us: ", "floor_us: 1"))
    with pytest.raises(DocumentError, match=r"was edited or damaged.*calibrate import") as caught:
        load(path)
    assert caught.value.line == 4
    assert load(path, edited=True).kernels[0].parameters["floor_us"] > 10


def test_kernels_of_other_curves_are_refused_until_fitted_again(path, profile):
    other = profile.model_copy(update={"curves": "f" * 64, "llmplan": "0.0.9"})
    path.write_text(written(other))
    with pytest.raises(
        DocumentError, match=r"other curves \(of llmplan 0.0.9\).*calibrate refit"
    ) as caught:
        load(path)
    assert caught.value.key == "curves"
    again = refitted(load(path, other_curves=True), RATES)
    assert again.curves == fingerprint()
    save(again, path)
    assert load(path).kernels == profile.kernels


def test_another_format_is_refused(path):
    path.write_text(path.read_text().replace("calibration-1", "calibration-2"))
    with pytest.raises(DocumentError, match="is 'llmplan-calibration-2', and this llmplan reads"):
        load(path)


def test_an_unknown_key_is_named_with_its_line(path):
    path.write_text(path.read_text().replace("budget_s: 60.0", "budget_s: 60.0\nbudgets: 1"))
    with pytest.raises(DocumentError, match=r"key budgets: unknown key 'budgets'\. Did you mean"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": "gem"}, "'gem' is no operator table"),
        ({"labels": {"src": SRC}}, "by_work is told apart by src, kernel, op"),
        ({"parameters": {"floor_us": 6.0}}, "its parameters are floor_us, compute_frac"),
        ({"parameters": {**TRUE, "memory_frac": 1.2}}, "memory_frac must be between 0.005 and 1"),
        ({"ranges": {}}, "its ranges are of flops, other_flops, bytes, steps"),
    ],
)
def test_a_kernel_that_is_no_curve_is_not_written(tmp_path, profile, change, message):
    kernel = profile.kernels[0].model_copy(update=change)
    path = tmp_path / "x.yaml"
    with pytest.raises(DocumentError, match=message):
        save(profile.model_copy(update={"kernels": (kernel,)}), path)
    assert not path.exists()


def test_a_kernel_given_twice_is_refused(tmp_path, profile):
    with pytest.raises(DocumentError, match=r"key kernels\.1: is given twice"):
        save(profile.model_copy(update={"kernels": profile.kernels * 2}), tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m,n,latency_s,spread_frac\n1,2,3,4\n", "the columns of gemm are m,n,k,latency_s"),
        ("m,n,k,latency_s,spread_frac\n1,2,3,4\n", "row 1 does not hold 5 numbers"),
        ("m,n,k,latency_s,spread_frac\n1,2,3,nan,0\n", "row 1 does not hold 5 numbers"),
        ("m,n,k,latency_s,spread_frac\n1,2,3,1,0\n1,2,3,0,0\n", "row 2 holds a time or number"),
    ],
)
def test_points_that_cannot_be_are_refused(text, message):
    labels = {"src": SRC, "kernel": "torch", "dtype": "bfloat16"}
    with pytest.raises(InputError, match=message):
        Points(operator="gemm", labels=labels, rows=text).kernel_rows()


def test_points_keep_their_numbers(profile):
    points = profile.points[0]
    rows, again = norm_rows(12), points.kernel_rows()
    assert again.columns["bytes"].tolist() == rows.columns["bytes"].tolist()
    assert again.measured_s == pytest.approx(rows.measured_s, rel=1e-8)
    assert points.spread_frac().tolist() == [0.0123] * 12


def test_a_profile_of_thousands_of_points_can_be_read(tmp_path, profile):
    rows = norm_rows(6000)
    points = (points_of(BY_WORK, rows, np.full(6000, 0.01)),)
    path = tmp_path / "large.yaml"
    save(profile.model_copy(update={"points": points}), path)
    assert len(load(path).points[0].kernel_rows().measured_s) == 6000


def test_a_profile_that_could_not_be_read_is_not_written(tmp_path, profile):
    rows = norm_rows(20_000)
    points = (points_of(BY_WORK, rows, np.full(20_000, 0.01)),)
    path = tmp_path / "large.yaml"
    with pytest.raises(DocumentError, match="would be larger than 1,000,000 bytes"):
        save(profile.model_copy(update={"points": points}), path)
    assert not path.exists()


# --- where profiles are found


def test_own_profiles_are_found(tmp_path, monkeypatch, profile):
    monkeypatch.setenv("LLMPLAN_CATALOG", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_data_path", lambda _name: tmp_path / "none")
    assert calibration_of("h100-sxm") is None
    path = calibration_path("h100-sxm")
    assert path == tmp_path / "hardware" / "profiles" / "h100-sxm.calibrated.yaml"
    save(profile, path)
    assert calibration_files()["h100-sxm"] == path
    assert calibration_of("h100-sxm").kernels == profile.kernels
    path.write_text(path.read_text().replace("floor_us: ", "floor_us: 1"))
    with pytest.raises(DocumentError, match=r"h100-sxm.calibrated.yaml:4, key sha256"):
        calibration_of("h100-sxm")


def test_a_profile_named_after_another_device_is_refused(tmp_path, monkeypatch, profile):
    monkeypatch.setenv("LLMPLAN_CATALOG", str(tmp_path))
    save(profile, calibration_path("a40"))
    with pytest.raises(DocumentError, match="is of h100-sxm, and the file is named after a40"):
        calibration_of("a40")


def test_a_profile_fitted_with_other_peaks_is_refused(tmp_path, monkeypatch, profile):
    monkeypatch.setenv("LLMPLAN_CATALOG", str(tmp_path))
    rates = profile.rates.model_copy(update={"bytes_per_s": 3e12})
    save(profile.model_copy(update={"rates": rates}), calibration_path("h100-sxm"))
    with pytest.raises(DocumentError, match="other peaks of h100-sxm than the catalogue has"):
        calibration_of("h100-sxm")


# --- fitted again, compared, exported


def test_kernels_fitted_again_leave_predictions_of_layers_out(profile):
    again = refitted(profile, RATES)
    assert again.kernels == profile.kernels
    assert [layer.predicted_s for layer in again.layers] == [None, None]
    assert again.layer_error is None
    assert again.skipped == profile.skipped


def test_kernels_of_too_few_points_are_skipped_with_a_reason(profile):
    few = points_of(BY_WORK, norm_rows(2), np.zeros(2))
    again = refitted(profile.model_copy(update={"points": (few,)}), RATES)
    assert again.kernels == ()
    assert again.skipped[-1] == Skipped(name=f"by_work {SRC} torch rms_norm", reason=FEW)
    assert refitted(again, RATES).skipped == again.skipped


def test_changes_by_hand():
    # a curve of launch alone: 6 µs and 9 µs
    flat = {**TRUE, "vector_frac": 1.0, "memory_frac": 1.0}
    tiny = norm_rows(4, 1.0, 10.0)
    one = profile_of(tiny, kernel=fitting.Calibrated(**fitted(flat).model_dump()))
    newer = {**NORM, "src": "llmplan/torch/2.14.0"}
    slower = fitting.Calibrated(
        **{**fitted({**flat, "floor_us": 9.0}).model_dump(), "labels": newer}
    )
    two = profile_of(tiny, kernel=slower)
    (change,) = changes(one, two, RATES)
    assert change.ratio == pytest.approx(1.5, rel=1e-3)
    assert (change.rows, change.only, change.labels) == (8, "", newer)  # four points of each
    other = slower.model_copy(update={"labels": {**newer, "op": "rope"}})
    gone, new = changes(one, two.model_copy(update={"kernels": (other,)}), RATES)
    assert (gone.only, gone.ratio, new.only) == ("earlier", None, "later")


def fitted(parameters):
    return Fitted(
        operator="by_work", labels=NORM, parameters=parameters, rows=4, median_error=0.0,
        p90_error=0.0, low_error=0.0, high_error=0.0,
        ranges=dict.fromkeys(BY_WORK.numbers, (0.0, 1.0)),
    )  # fmt: skip


def test_exported_rows_are_an_operator_table(tmp_path, profile):
    ((name, text),) = operator_rows(profile).items()
    path = tmp_path / "h100_sxm_by_work.csv"
    path.write_text(text)
    (again,) = kernel_rows(path, OPERATORS[name])
    rows = profile.points[0].kernel_rows()
    assert again.labels == NORM
    assert all(again.columns[c].tolist() == rows.columns[c].tolist() for c in BY_WORK.numbers)
    assert again.measured_s == pytest.approx(rows.measured_s, rel=1e-11)


def test_routing_is_exported_in_the_words_of_its_table():
    columns = {name: np.array(NUMBERS[name][1:3], float) for name in MOE.numbers}
    columns["distribution"] = np.array([0.0, 1.2])
    labels = {"src": SRC, "kernel": "torch", "dtype": "bfloat16"}
    points = points_of(
        MOE, KernelRows(labels, columns, np.array([1e-4, 2e-4]), (1, 2)), np.zeros(2)
    )
    lines = table_text((points,), MOE).splitlines()
    assert [line.split(",")[-2:] for line in lines[1:]] == [
        ["balanced", "0.1"],
        ["power_law_1.2", "0.2"],
    ]


def test_text_is_what_the_strict_reader_takes(profile):
    document = parse_document(written(profile), "x")
    assert document.data["points"][0]["labels"] == NORM
