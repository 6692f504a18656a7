"""Predictions beside measured kernel times: which kernel answers, what is skipped, how far off."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from llmplan.analyze.operator_files import Asked, shipped_tables
from llmplan.analyze.validate_ops import Timed, time_errors, validated_ops
from llmplan.hardware.catalogue import load_device
from llmplan.perf.nearest import chosen
from llmplan.perf.operators.expert_load import rank_load
from llmplan.perf.operators.moe import exponent
from llmplan.perf.profile import kernels_of, profile_path
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import kernel_rows
from tests.program import llmplan

H100_MOE = shipped_tables() / "h100_sxm_moe.csv"
MEDIAN_FRAC = {"moe": 0.2, "layer_ops": 0.12}
"""Bounds of medians over the shipped rows, which curves were fitted to among others."""


@pytest.fixture(scope="module")
def shipped() -> tuple[Timed, ...]:
    return validated_ops(Asked((shipped_tables(),)))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def load(**sizes: float) -> tuple[float, float]:
    found = rank_load({name: np.array([float(value)]) for name, value in sizes.items()})
    return float(found.rows[0]), float(found.hit[0])


@pytest.mark.parametrize("operator", sorted(MEDIAN_FRAC))
def test_times_are_close_to_what_was_measured(shipped, operator):
    """The median is, and the device's peak rates alone are three times further off."""
    errors = time_errors(row for row in shipped if row.operator == operator)

    assert errors.predicted > 150
    assert errors.median_abs_frac < MEDIAN_FRAC[operator]
    assert errors.bound_median_abs_frac > 3 * errors.median_abs_frac


def test_every_shipped_row_is_answered_or_says_why(shipped):
    assert all(row.reason for row in shipped if row.status != "predicted")
    assert all(
        row.predicted_s and row.low_s <= row.high_s for row in shipped if row.status != "skipped"
    )
    assert len({row.id for row in shipped}) == len(shipped)


def test_most_measured_times_lie_in_the_range_stated(shipped):
    """Low and high are tenths of each kernel's rows, so about four in five lie between them."""
    told = [row for row in shipped if row.status == "predicted"]
    inside = [row for row in told if row.low_s <= row.measured_s <= row.high_s]

    assert len(inside) > 0.6 * len(told)


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_curves_stay_above_the_bound_of_the_device(operator):
    """What the last-level cache holds is in the bound; efficiency is at most 1.05 of it."""
    for path in sorted(shipped_tables().glob(f"*_{operator}.csv")):
        for row in validated_ops(Asked((path,))):
            if row.status == "predicted":
                assert row.predicted_s >= row.bound_s / 1.06, row.id


@pytest.mark.parametrize("operator", ["moe", "layer_ops"])
def test_more_tokens_take_no_less_time(operator):
    curve = OPERATORS[operator]
    rates = rates_of(load_device("h100-sxm"))
    path = shipped_tables() / f"h100_{'sxm' if operator == 'moe' else 'vidur'}_{operator}.csv"
    for rows in kernel_rows(path, curve):
        found = chosen(kernels_of("h100-sxm"), operator, rows.labels)
        tokens = 2.0 ** np.arange(16)
        first = {name: np.full(16, values[0]) for name, values in rows.columns.items()}
        columns = first | {"tokens": tokens}
        if operator == "moe":
            columns["distribution"] = np.zeros(16)
        times = curve.seconds(found.fitted.parameters, columns, found.fitted.labels, rates)

        assert np.all(np.diff(times) >= -1e-12), rows.labels


def test_balanced_routing_spreads_rows_evenly():
    assert load(tokens=1024, topk=8, experts=256, ep=8, distribution=0) == (1024.0, 32.0)
    assert load(tokens=1, topk=8, experts=256, ep=1, distribution=0) == (8.0, 8.0)
    # the rank measured has the first expert, so a row even of few
    assert load(tokens=1, topk=4, experts=128, ep=64, distribution=0) == (1.0, 1.0)


@pytest.mark.parametrize("power", [1.0, 1.01, 1.2])
def test_power_law_routing_loads_one_rank_more(power):
    rows, hit = load(tokens=4096, topk=8, experts=128, ep=16, distribution=power)
    whole, all_hit = load(tokens=4096, topk=8, experts=128, ep=1, distribution=power)

    assert whole == 4096 * 8
    assert all_hit <= 128
    assert 1.5 * whole / 16 < rows <= 8 * 4096
    assert 0 < hit <= 8


@pytest.mark.parametrize(
    "sizes",
    [
        {"topk": 9, "experts": 8, "ep": 1, "tokens": 4},
        {"topk": 2, "experts": 8, "ep": 16, "tokens": 4},
        {"topk": 2, "experts": 1e9, "ep": 1, "tokens": 4},
        {"topk": 2, "experts": 8, "ep": 1, "tokens": 0},
        {"topk": 2, "experts": 8, "ep": 1, "tokens": 1e300},
    ],
)
def test_sizes_that_cannot_be_have_no_load(sizes):
    assert np.isnan(load(**sizes, distribution=1.2)).all()


def test_distributions_are_read_by_name():
    assert exponent("balanced") == 0
    assert exponent("power_law_1.2") == 1.2
    for other in ("balance", "uniform", "power_law_", "power_law_1e9"):
        with pytest.raises(ValueError, match=other):
            exponent(other)


def test_a_kernel_that_is_not_fitted_is_stood_for_by_the_nearest(tmp_path):
    rows = [row for row in rows_of(H100_MOE) if "vllm" in row["src"]]
    newer = [{**row, "src": "aic/moe/vllm/99.0"} for row in rows]

    found = validated_ops(Asked((write(tmp_path / "h100_sxm_moe.csv", newer),)))
    known = validated_ops(Asked((write(tmp_path / "h100_moe.csv", rows),)))

    assert {row.status for row in found} == {"assumed"}
    assert all("stands for it aic/moe/vllm/" in row.reason for row in found)
    assert [row.predicted_s for row in found] == [row.predicted_s for row in known]


@pytest.mark.parametrize(
    ("cells", "status", "reason"),
    [
        ({"dtype": "int3"}, "skipped", "in these formats is fitted"),
        ({"src": "acme/moe/engine/1", "kernel": "new"}, "assumed", "stands for it"),
        ({"latency_ms": "soon"}, "skipped", "cannot be read"),
        ({"latency_ms": "-1"}, "skipped", "cannot be read"),
        ({"tokens": "nan"}, "skipped", "cannot be read"),
        ({"distribution": "uniform"}, "skipped", "cannot be read"),
        ({"experts": "0"}, "skipped", "sizes cannot be"),
        ({"tokens": "1000000"}, "predicted", "beyond what was measured: tokens"),
    ],
)
def test_what_a_row_says_decides_how_it_is_answered(tmp_path, cells, status, reason):
    row = {**rows_of(H100_MOE)[0], **cells}

    (found,) = validated_ops(Asked((write(tmp_path / "h100_sxm_moe.csv", [row]),)))

    assert found.status == status
    assert reason in found.reason
    assert (found.predicted_s is None) == (status == "skipped")


def test_traps_are_skipped_by_name(tmp_path):
    """vLLM's block-scaled products of few tokens were timed with their eager launch."""
    row = {"src": "aic/gemm/vllm/0.24.0", "kernel": "vllm_default", "dtype": "fp8_block", "m": "8",
           "n": "4096", "k": "4096", "latency_ms": "0.058"}  # fmt: skip
    (found,) = validated_ops(Asked((write(tmp_path / "h100_sxm_gemm.csv", [row]),)))

    assert found.status == "skipped"
    assert found.reason in {trap.reason for trap in OPERATORS["gemm"].traps}


def test_the_file_name_or_the_options_say_what_was_measured(tmp_path):
    path = write(tmp_path / "times.csv", rows_of(H100_MOE)[:3])

    named = validated_ops(Asked((H100_MOE,)))[:3]
    by_columns = validated_ops(Asked((path,), gpu="8xH100"))
    by_option = validated_ops(Asked((path,), gpu="h100-sxm", operator="moe"))

    assert [row.predicted_s for row in by_columns] == [row.predicted_s for row in named]
    assert [row.operator for row in by_option] == ["moe"] * 3
    assert {row.device for row in by_columns} == {"h100-sxm"}


def test_rows_keep_the_ids_that_a_table_gives(tmp_path):
    rows = [{"id": name, **row} for name, row in zip("ab", rows_of(H100_MOE)[:2], strict=True)]

    assert [row.id for row in validated_ops(Asked((H100_MOE,)))[:2]] == [
        "h100_sxm_moe:1",
        "h100_sxm_moe:2",
    ]
    found = validated_ops(Asked((write(tmp_path / "h100_moe.csv", rows),)))
    assert [row.id for row in found] == ["a", "b"]


def test_tables_without_a_curve_or_a_profile_are_skipped(tmp_path, monkeypatch):
    monkeypatch.delitem(OPERATORS, "network", raising=False)
    row = rows_of(H100_MOE)[0]
    tables = (write(tmp_path / "t4_moe.csv", [row]), write(tmp_path / "h100_network.csv", [row]))

    without_profile, without_curve = validated_ops(Asked(tables))

    assert without_profile.reason == "no kernel of t4 is fitted"
    assert without_curve.reason == "no curve for network tables"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "times.csv"), "--gpu"),
        (("--data", "times.csv", "--gpu", "nokia"), "nokia"),
        (("--data", "h100_words.csv"), "--op"),
        (("--data", "h100_gemm.csv"), "no column"),
        (("--data", "times.csv", "--gpu", "h100", "--op", "gem"), "gemm"),
        (("--data", "empty"), "holds no CSV"),
        (("--data", "nowhere.csv"), "cannot be read"),
        (("--gpu", "h100"), "add --data FILE"),
        (("--op", "gemm"), "add --data FILE"),
    ],
)
def test_mistakes_are_told(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    rows = rows_of(H100_MOE)[:2]
    write(Path("times.csv"), rows)
    write(Path("h100_gemm.csv"), rows)
    write(Path("h100_words.csv"), [{"a": "1"}])
    Path("empty").mkdir()

    outcome = llmplan("validate", "perf", *arguments)

    assert outcome.exit_code == 2
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_other_comparisons_take_one_file_and_no_gpu():
    for arguments in (("--gpu", "h100"), ("--op", "moe"), ("--data", "a", "--data", "b")):
        outcome = llmplan("validate", "memory", *arguments)

        assert outcome.exit_code == 2
        assert "one --data file" in outcome.stderr


def test_the_answer_has_the_keys_of_the_contract():
    outcome = llmplan("validate", "perf", "--data", str(H100_MOE), "--format", "json")
    result = json.loads(outcome.stdout)["result"]

    assert outcome.exit_code == 0
    keys = {"id", "metric", "measured", "predicted", "low", "high", "error_frac", "status"}
    assert all(keys <= set(row) for row in result["rows"])
    assert {row["metric"] for row in result["rows"]} == {"op:moe"}
    assert result["summary"]["rows"] == len(result["rows"]) == len(rows_of(H100_MOE))
    assert {group["by"] for group in result["groups"]} == {"metric", "gpu", "kernel"}


def test_the_page_shows_peaks_beside_errors():
    outcome = llmplan("validate", "perf", "--data", str(H100_MOE))

    assert "Kernels of the largest medians" in outcome.stdout
    assert "peaks" in outcome.stdout


def test_profiles_stay_readable():
    for slug in {row.device for row in validated_ops(Asked((shipped_tables(),)))}:
        path = profile_path(slug)
        if path.is_file():
            assert path.stat().st_size < 300_000
            assert kernels_of(slug)
