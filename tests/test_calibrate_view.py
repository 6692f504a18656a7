"""Pages of calibrations: narrow enough for a terminal, with points beside their curves."""

import datetime as dt
from dataclasses import replace
from math import log

import numpy as np
import pytest

from llmplan.calibrate.pace import Pace
from llmplan.hardware.catalogue import load_device
from llmplan.perf.calibration import peaks_of
from llmplan.perf.calibration_spec import CalibrationProfile, MeasuredDevice
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.fitting import Calibrated
from llmplan.perf.points import points_of
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows
from llmplan.report.calibrate_view import calibrate_page, changes_page, files_page
from llmplan.report.charts import chart_svg
from llmplan.report.narrow import WIDTH, narrowed, wrapped
from llmplan.report.page import Table, columns
from llmplan.report.text import render_text
from llmplan.results import schema
from llmplan.results.calibration_points import (
    MOST_POINTS,
    sampled,
    share,
    shown_peaks,
    shown_points,
)
from llmplan.units import Provenance, format_percent

RATES = rates_of(load_device("h100-sxm"))
GEMM = OPERATORS["gemm"]
LABELS = {"src": "llmplan/torch/2.13.0", "kernel": "aten_mm", "dtype": "bfloat16"}
MEASURED = Provenance.MEASURED


def product_rows(count, labels=None):
    """Products of one weight whose times are twice those at the peaks, later rows taking longer."""
    columns = {
        "m": np.arange(1.0, count + 1) * 64,
        "n": np.full(count, 4096.0),
        "k": np.full(count, 16384.0),
    }
    labels = labels or LABELS
    bound = GEMM.bound_seconds(columns, labels, replace(RATES, l2_bytes=0))
    return KernelRows(labels, columns, 2 * bound, tuple(range(1, count + 1)))


def kernel_of(rows):
    start = {p.name: p.start for p in GEMM.parameters(rows.labels)}
    return Calibrated(
        operator="gemm",
        labels=rows.labels,
        parameters=start,
        rows=len(rows.measured_s),
        median_error=0.1,
        p90_error=0.2,
        low_error=-0.1,
        high_error=0.2,
        ranges={name: (float(v.min()), float(v.max())) for name, v in rows.columns.items()},
    )


def profile_of(*measured, **more):
    return CalibrationProfile(
        llmplan="0.1.0",
        curves=more.pop("curves", fingerprint()),
        date=dt.date(2026, 11, 22),
        device=MeasuredDevice(slug="h100-sxm", name="NVIDIA H100 80GB HBM3"),
        rates=peaks_of(RATES),
        grid_sha256="0" * 64,
        budget_s=60,
        kernels=tuple(kernel_of(rows) for rows in measured),
        points=tuple(points_of(GEMM, rows, np.zeros(len(rows.measured_s))) for rows in measured),
        **more,
    )


def operator_row(kind, kernel, fmt="w4a8_mxfp4_mxfp8/bfloat16", **more):
    row = {
        "efficiency": 0.0042,
        "residual_median": 0.29,
        "residual_p90": 128.0,
        "held_out_error_frac": 0.88,
    } | more
    return schema.CalibratedOperator(
        kind=kind, format=fmt, kernel=kernel, points=1234, provenance=MEASURED, **row
    )


def layer_row(measured_s=1e-4, predicted_s=1.1e-4):
    return schema.CalibratedLayer(
        model="qwen3-next-80b-a3b",
        layer="gated_delta_net+moe with a shared expert",
        phase="prefill",
        requests=1,
        new_tokens=4096,
        context=131072,
        layout="tp8+ep",
        predicted_s=predicted_s,
        measured_s=measured_s,
        error_frac=predicted_s / measured_s - 1,
        provenance=MEASURED,
    )


def result_of(**more):
    empty = {
        "profile": "h100-sxm.calibrated.yaml",
        "device": "h100-sxm",
        "device_name": "NVIDIA H100 80GB HBM3",
        "date": dt.date(2026, 11, 22),
        "torch": "2.13.0",
        "driver": None,
        "is_dry_run": False,
        "budget_s": 60.0,
        "expected_s": None,
        "grid": [],
        "left_out": None,
        "operators": [],
        "points": [],
        "peaks": [],
        "layers": [],
        "layer_median_error_frac": None,
        "layer_p90_error_frac": None,
        "memory": None,
        "throttled": [],
        "skipped": [],
        "provenance": {},
    }
    return schema.CalibrateResult(**(empty | more))


LONG = result_of(
    operators=[
        operator_row("gemm", "torch_scaled_mm_rowwise_with_a_long_name"),
        operator_row("generation_attention", "flash_attention_3_with_paged_cache_and_splits"),
        operator_row("collectives reduce_scatter", "a_custom_kernel_of_some_engine", "half"),
        operator_row("GatedDeltaNetRecurrence", "reference_softmax_topk_with_groups", ""),
    ],
    layers=[layer_row()],
    skipped=[
        schema.SkippedKernel(
            name="by_work llmplan/torch/2.13.0 reference_rotary Elementwise",
            reason="a reason that is told in many words, " * 8,
        )
    ],
)


def text_of(page):
    return render_text(page, None, colour=False).splitlines()


def table_lines(page):
    return [line for line in text_of(page) if not line.startswith("  ")]


def test_tables_of_long_names_fit_a_terminal_of_80_columns():
    lines = table_lines(calibrate_page(LONG, {}))

    assert max(map(len, lines)) <= WIDTH


def test_tables_of_changes_and_files_fit_as_well():
    change = schema.KernelChange(
        kind="collectives reduce_scatter",
        format="w4a8_mxfp4_mxfp8/bfloat16",
        kernel="a_custom_kernel_of_some_engine_with_a_long_name",
        times=None,
        points=0,
        only="earlier",
        provenance=MEASURED,
    )
    compared = schema.CalibrateDiffResult(earlier="a", later="b", changes=[change])
    files = schema.CalibrateFilesResult(
        files=[], device="h100-sxm", kernels=1, points=1, skipped=LONG.skipped
    )

    for page in (changes_page(compared, {}), files_page(files, {})):
        assert max(map(len, table_lines(page))) <= WIDTH
    assert "only earlier" in "\n".join(text_of(changes_page(compared, {})))


def test_operators_stand_in_groups():
    titles = [table.title for table in calibrate_page(LONG, {}).tables]

    assert titles == [
        "Matrix products",
        "Attention",
        "Exchanges between GPUs",
        "Other operators",
        "Layers of qwen3-next-80b-a3b, tp8+ep",
        "Left out",
    ]


def test_small_shares_and_errors_keep_a_digit():
    text = "\n".join(text_of(calibrate_page(LONG, {})))

    assert "0.4%" in text
    assert "12,800%" in text
    assert "+10%" in text


@pytest.mark.parametrize(
    ("share_frac", "said"),
    [(0, "0%"), (0.0042, "0.4%"), (0.00004, "0.004%"), (1e-7, "<0.001%"), (0.0096, "1%"),
     (0.994, "99%"), (128, "12,800%"), (-0.06, "-6%")],
)  # fmt: skip
def test_percent(share_frac, said):
    assert format_percent(share_frac) == said


def test_empty_columns_are_dropped_and_numbers_never_cut():
    table = Table(
        "", columns("operator", "format", "points", numbers=("points",)),
        (("a" * 200, "-", "1,234"), ("b", "-", "5")),
    )  # fmt: skip

    found = narrowed(table)

    assert [column.name for column in found.columns] == ["operator", "points"]
    assert found.rows[0][0].endswith("a…")
    assert found.rows[0][1] == "1,234"


def test_reasons_are_wrapped_under_their_name():
    found = wrapped((("name", "word " * 60),), 36, 3)

    assert [name for name, _ in found] == ["name", "", ""]
    assert found[-1][1].endswith("…")
    assert max(len(line) for _, line in found) <= WIDTH - len("name") - 2


def test_points_are_beside_what_the_curve_says():
    rows = product_rows(5)

    points, cold = shown_points(profile_of(rows), RATES), replace(RATES, l2_bytes=0)

    expected = GEMM.seconds(kernel_of(rows).parameters, rows.columns, LABELS, cold)
    assert [p.predicted_s for p in points] == pytest.approx(expected, rel=1e-5)  # six digits
    assert points[0].sizes == "m 64, n 4096, k 16384"
    assert points[0].tokens == 64
    # one multiply-accumulate is two FLOPs
    assert points[4].flops_per_s == pytest.approx(
        2 * 320 * 4096 * 16384 / rows.measured_s[4], rel=1e-5
    )


def test_a_profile_of_other_curves_predicts_nothing():
    points = shown_points(profile_of(product_rows(4), curves="0" * 64), RATES)

    assert [p.predicted_s for p in points] == [None] * 4
    assert points[0].measured_s > 0


def test_many_points_are_sampled_evenly():
    wo = LABELS | {"kernel": "other"}
    few, many = product_rows(30, wo), product_rows(1000)

    points = shown_points(profile_of(many, few), RATES)

    by_kernel = {name: [p for p in points if p.kernel == name] for name in ("aten_mm", "other")}
    assert len(points) == MOST_POINTS
    assert len(by_kernel["other"]) == 30
    assert by_kernel["aten_mm"][0].tokens == 64
    assert by_kernel["aten_mm"][-1].tokens == 64_000


def test_no_kernel_goes_without_a_point():
    assert share([5] * 1000, 400) == 1
    assert share([], 400) == 0
    assert len(sampled(product_rows(9), 1).measured_s) == 1


def test_peaks_are_those_of_the_catalogue():
    (peak,) = shown_peaks(profile_of(product_rows(4)), RATES)

    assert peak.flops_per_s == RATES.flops_per_s["bf16"]
    assert peak.provenance is Provenance.PUBLISHED


def drawn_result():
    profile = profile_of(product_rows(6))
    return result_of(
        operators=[operator_row("gemm", "aten_mm", "bfloat16")],
        points=shown_points(profile, RATES),
        peaks=shown_peaks(profile, RATES),
        layers=[layer_row(), layer_row(2e-4, 1e-4)],
    )


def test_charts_compare_points_layers_and_rates():
    curves, layers, rates = calibrate_page(drawn_result(), {}).charts

    diagonal, products = curves.lines
    assert diagonal.x == diagonal.y
    assert products.is_points
    assert log(products.x[0]) == pytest.approx(log(drawn_result().points[0].measured_s * 1e6))
    assert layers.lines[1].y == pytest.approx((0.11, 0.1))
    assert rates.lines[0].y[0] == pytest.approx(RATES.flops_per_s["bf16"] / 1e12)
    assert max(rates.lines[1].y) < rates.lines[0].y[0]


def test_only_points_far_off_are_named():
    curves = calibrate_page(drawn_result(), {}).charts[0]

    assert len([label for label in curves.lines[1].labels if label]) == 3


def test_many_series_share_their_last_colour():
    point = drawn_result().points[0]
    points = [point.model_copy(update={"kernel": f"kernel_{i}"}) for i in range(30)]

    chart = calibrate_page(result_of(points=points), {}).charts[0]

    assert [line.name for line in chart.lines][-1] == "22 others"
    assert sum(len(line.x) for line in chart.lines[1:]) == 30


def test_charts_are_drawn():
    pytest.importorskip("matplotlib")

    for chart in calibrate_page(drawn_result(), {}).charts:
        assert chart_svg(chart).startswith("<svg")


def test_a_page_without_points_has_no_charts():
    page = calibrate_page(result_of(), {})

    assert page.charts == ()
    assert page.tables == ()


def test_pace_is_that_of_the_work_or_of_the_time_and_never_falls(monkeypatch):
    clock = iter([1.0, 5.0, 5.0, 99.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    told = []
    pace = Pace(lambda done, total: told.append((done, total)), 10.0, 0.0)

    for done_frac in (0.5, 0.1, 0.2, 0.3):
        pace.at(done_frac)
    pace.end()

    assert told == [(500, 1000), (500, 1000), (500, 1000), (999, 1000), (1000, 1000)]
