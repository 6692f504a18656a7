"""Predictions beside measured serving runs: how rows are read, what is skipped, how far off."""

import csv
import importlib
import json
from pathlib import Path

import pytest

from llmplan.analyze.perf_files import perf_files, shipped_files
from llmplan.analyze.validate_serving import Answered, serving_errors, validated_serving
from llmplan.errors import DocumentError
from llmplan.results import schema
from llmplan.results.validation_perf import ValidatePerfQuestion
from llmplan.results.validation_serving import answered_row, serving_groups
from tests.program import llmplan

ROOT = Path(__file__).parent.parent
SERVING = shipped_files().serving[0]
H100_MOE = shipped_files().operators[0] / "h100_sxm_moe.csv"
ROW = {
    "id": "r", "source": "here", "date": "2026-01-01", "engine": "vllm",
    "engine_version": "0.12.0", "model": "meta-llama/Llama-3.1-8B", "gpu": "H100-SXM-80GB",
    "num_gpus": "1", "nodes": "1", "tp": "1", "pp": "1", "ep": "1", "dp": "1",
    "disaggregated": "0", "prefill_gpus": "", "decode_gpus": "", "weight_dtype": "bf16",
    "kv_dtype": "bf16", "isl": "1000", "osl": "1000", "concurrency": "32", "request_rate": "",
    "scenario": "closed_loop", "ttft_ms": "100", "tpot_ms": "10", "input_tok_s_total": "",
    "output_tok_s_total": "3000", "output_tok_s_per_gpu": "", "spec_decode": "none",
    "quality": "A", "notes": "",
}  # fmt: skip


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        writer.writeheader()
        writer.writerows({**ROW, **row} for row in rows)
    return path


@pytest.fixture
def ask(tmp_path):
    """The metrics of one row, by name."""

    def asked(**cells: str) -> dict[str, Answered]:
        path = write(tmp_path / "serving.csv", cells)
        return {row.metric: row for row in validated_serving([path])}

    return asked


@pytest.fixture(scope="module")
def shipped() -> tuple[Answered, ...]:
    return validated_serving([SERVING])


def errors_of(rows: tuple[Answered, ...], metric: str, *scenarios: str):
    return serving_errors(row for row in rows if row.metric == metric and row.scenario in scenarios)


def test_every_metric_that_a_row_states_is_answered(ask):
    found = ask()

    assert set(found) == {"ttft", "tpot", "throughput"}
    assert {row.status for row in found.values()} == {"predicted"}
    assert {row.measured for row in found.values()} == {0.1, 0.01, 3000.0}
    for row in found.values():
        assert 0 < row.low < row.predicted < row.high
        assert row.error_frac == row.predicted / row.measured - 1
        assert (row.gpu, row.kind, row.engine) == ("h100-sxm", "dense", "vllm 0.12.0")
        assert row.scenario == "closed_loop"


def test_throughput_follows_from_the_times(ask):
    """Little's law: requests in flight over the life of one."""
    found = ask()
    life_s = found["ttft"].predicted + 1000 * found["tpot"].predicted

    assert found["throughput"].predicted == pytest.approx(32 * 1000 / life_s, rel=0.01)


def test_the_pure_roofline_reads_all_weights_and_the_cache(ask):
    """Weights without the input table, and 32 x 1500 tokens of cache, at 3.35 TB/s."""
    weights = (8_030_261_248 - 128_256 * 4096) * 2
    step_s = (weights + 32 * 1500 * 131_072) / 3.35e12
    prompt_s = 2 * 8.03e9 * 1000 / 989e12
    found = ask()

    assert found["tpot"].baseline == pytest.approx(step_s, rel=0.01)
    assert found["ttft"].baseline == pytest.approx(prompt_s, rel=0.15)
    both = 32 * 1000 / (1000 * step_s + 32 * prompt_s)
    assert found["throughput"].baseline == pytest.approx(both, rel=0.02)


def test_replicas_share_the_requests(ask):
    one = ask()
    two = ask(num_gpus="2", dp="2", concurrency="64")

    assert two["tpot"].predicted == one["tpot"].predicted
    assert two["throughput"].predicted == 2 * one["throughput"].predicted


def test_output_of_a_gpu_is_read_for_all(ask):
    found = ask(output_tok_s_total="", output_tok_s_per_gpu="1500", num_gpus="2", dp="2")

    assert found["throughput"].measured == 3000.0


def test_prompts_only_are_input_tokens_a_second(ask):
    cells = {"scenario": "prefill_only", "osl": "0", "concurrency": "1", "ttft_ms": "100",
             "tpot_ms": "", "input_tok_s_total": "10000", "output_tok_s_total": ""}  # fmt: skip
    alone = ask(**cells)
    many = ask(**cells | {"concurrency": "64"})
    unsaid = ask(**cells | {"concurrency": ""})

    assert set(alone) == {"ttft", "throughput"}
    assert alone["throughput"].measured == 10_000
    rate = 1000 / alone["ttft"].predicted
    assert alone["throughput"].predicted == pytest.approx(rate)
    assert many["throughput"].predicted >= rate
    assert unsaid["throughput"].predicted == many["throughput"].predicted
    assert many["ttft"].status == "skipped"
    assert many["throughput"].baseline > many["throughput"].predicted


def test_outputs_only_count_no_prompts(ask):
    cells = {"ttft_ms": "", "isl": "4000"}
    whole = ask(**cells)
    outputs = ask(**cells, scenario="decode_only")

    assert outputs["throughput"].predicted == pytest.approx(32 / outputs["tpot"].predicted)
    assert outputs["throughput"].predicted > whole["throughput"].predicted


def test_single_streams_are_timed_over_the_output_alone(ask):
    cells = {"scenario": "single_stream", "concurrency": "1"}
    output, whole = ask(**cells, ttft_ms=""), ask(**cells)

    assert output["throughput"].predicted == pytest.approx(1 / output["tpot"].predicted)
    assert whole["throughput"].predicted < output["throughput"].predicted


def test_prompts_on_workers_of_their_own_make_a_scenario_of_their_own(ask):
    found = ask(num_gpus="2", disaggregated="1", prefill_gpus="1", decode_gpus="1")

    assert {row.scenario for row in found.values()} == {"disaggregated"}
    assert found["tpot"].predicted < ask()["tpot"].predicted


def test_a_rate_beyond_what_is_served_has_no_first_token(ask):
    cells = {"scenario": "open_loop_poisson", "concurrency": ""}
    slow, fast = ask(**cells, request_rate="1"), ask(**cells, request_rate="1000")

    assert slow["throughput"].predicted == pytest.approx(1000)
    assert fast["ttft"].status == "skipped"
    assert "queue has no end" in fast["ttft"].reason
    assert slow["throughput"].predicted < fast["throughput"].predicted < 1000 * 1000


def test_what_decides_and_is_not_stated_is_assumed(ask):
    found = ask(notes="osl not stated (200 by default)")

    assert {row.status for row in found.values()} == {"assumed"}
    assert all(row.reason.startswith("default: osl") for row in found.values())
    errors = serving_errors(found.values())
    assert (errors.rows, errors.predicted, errors.assumed) == (3, 0, 3)
    assert errors.mape is None


def test_how_words_were_read_is_said(ask):
    found = ask(engine="trtllm", weight_dtype="fp8", kv_dtype="")

    assert "KV format is not stated: fp8" in found["tpot"].reason
    assert found["tpot"].status == "predicted"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"quality": "C"}, "quality C: not used"),
        ({"spec_decode": "mtp1"}, "drafts tokens"),
        ({"engine": ""}, "names no engine"),
        ({"model": "acme/none"}, "no spec"),
        ({"gpu": "8 GPUs of a class"}, "names several GPUs or a class of them"),
        ({"isl": ""}, "does not state the tokens of a request"),
        ({"concurrency": ""}, "does not state how many requests are in flight"),
        ({"scenario": "mlperf_server"}, "scenario mlperf_server tunes more than is stated"),
        ({"scenario": "by_hand"}, "scenario by_hand tunes more than is stated"),
        ({"num_gpus": ""}, "does not state the number of GPUs"),
        ({"isl": "1e300"}, "its sizes cannot be"),
        ({"concurrency": "1e300"}, "its sizes cannot be"),
        ({"isl": "many"}, "isl is no number: many"),
        ({"tp": "3", "num_gpus": "3"}, "layout: "),
    ],
)
def test_what_cannot_be_answered_says_why(ask, cells, reason):
    found = ask(**cells)

    assert len(found) == 3
    for row in found.values():
        assert row.status == "skipped"
        assert row.predicted is None
        assert reason in row.reason


def test_a_figure_that_cannot_be_read_is_skipped_with_its_row(ask):
    found = ask(ttft_ms="soon")

    assert found["ttft"].measured is None
    assert found["tpot"].measured == 0.01
    assert {row.reason for row in found.values()} == {"ttft_ms is no number: soon"}


def test_a_row_that_states_no_metric_asks_nothing(ask):
    assert ask(ttft_ms="", tpot_ms="", output_tok_s_total="") == {}


def test_errors_are_of_what_was_predicted():
    def row(predicted: float, *, status: str = "predicted", high: float = 2.0) -> Answered:
        return Answered("r", "tpot", 1.0, "vllm", "h100-sxm", "closed_loop", "dense", predicted,
                        0.5, high, 0.5, status)  # fmt: skip

    rows = [row(1.1), row(0.8), row(1.4, high=0.9), row(9.0, status="assumed")]
    found = serving_errors(rows)

    assert (found.rows, found.predicted, found.assumed) == (4, 3, 1)
    assert found.median_abs_frac == pytest.approx(0.2)
    assert found.mape == pytest.approx(0.7 / 3)
    assert found.p90_abs_frac == pytest.approx(0.36)
    assert found.coverage_frac == pytest.approx(2 / 3)
    assert found.baseline_median_abs_frac == found.baseline_mape == 0.5


def test_progress_is_told_row_by_row(tmp_path):
    told: list[tuple[int, int]] = []
    path = write(tmp_path / "serving.csv", {}, {"quality": "C"}, {"isl": ""})

    validated_serving([path], tick=lambda done, total: told.append((done, total)))

    assert told == [(1, 3), (2, 3), (3, 3)]


def test_files_are_known_by_their_columns_or_their_name(tmp_path):
    runs = write(tmp_path / "runs.csv", {})
    kernels = tmp_path / "h100_sxm_moe.csv"
    kernels.write_bytes(H100_MOE.read_bytes())
    named = tmp_path / "serving-old.csv"
    named.write_text("id,engine\na,vllm\n")

    found = perf_files((tmp_path,))

    assert found.operators == (kernels,)
    assert found.serving == (runs, named)
    with pytest.raises(DocumentError, match="has no column 'model'"):
        validated_serving([named])


def test_a_folder_may_hold_runs_and_kernels(tmp_path):
    write(tmp_path / "runs.csv", {})
    (tmp_path / "h100_sxm_moe.csv").write_bytes(H100_MOE.read_bytes())

    result = ValidatePerfQuestion(data=(tmp_path,)).ask().result

    assert isinstance(result, schema.ValidationResult)
    assert {row.metric for row in result.rows} == {"op:moe", "ttft", "tpot", "throughput"}
    assert result.summary.rows == len(result.rows)
    assert {group.by for group in result.groups} == {
        "metric", "gpu", "kernel", "engine", "kind", "scenario"}  # fmt: skip


def test_runs_name_their_gpu_themselves(tmp_path):
    path = write(tmp_path / "runs.csv", {})

    outcome = llmplan("validate", "perf", "--data", str(path), "--gpu", "h100")

    assert outcome.exit_code == 2
    assert "operator tables" in outcome.stderr


def test_the_answer_has_the_keys_of_the_contract(tmp_path):
    path = write(tmp_path / "runs.csv", {}, {"id": "c", "quality": "C"})
    outcome = llmplan("validate", "perf", "--data", str(path), "--format", "json")
    result = json.loads(outcome.stdout)["result"]

    assert outcome.exit_code == 0
    keys = {"id", "metric", "measured", "predicted", "low", "high", "error_frac", "status",
            "reason", "baseline"}  # fmt: skip
    assert all(keys <= set(row) for row in result["rows"])
    assert result["summary"]["rows"] == 6
    assert result["summary"]["predicted"] == 3
    assert result["summary"]["skipped"] == {"quality C: not used": 3}
    (group,) = (g for g in result["groups"] if g["by"] == "scenario" and g["metric"] == "tpot")
    assert group["rows"] == 2
    assert group["predicted"] == 1
    assert group["coverage_frac"] in (0.0, 1.0)
    assert group["baseline_median_abs_error_frac"] == group["baseline_mape"] > 0


@pytest.mark.parametrize("form", ["table", "md", "csv", "html"])
def test_every_format_shows_the_scenario(tmp_path, form):
    path = write(tmp_path / "runs.csv", {})
    outcome = llmplan("validate", "perf", "--data", str(path), "--format", form)

    assert outcome.exit_code == 0
    assert "closed" in outcome.stdout
    assert "tpot" in outcome.stdout


def test_the_first_table_fits_eighty_columns(shipped):
    from llmplan.report.page import Page
    from llmplan.report.serving_estimates import serving_tables
    from llmplan.report.text import render_text

    result = schema.ValidationResult(
        rows=[answered_row(row) for row in shipped],
        summary=schema.ValidationSummary(
            rows=0, predicted=0, skipped={}, median_abs_error_frac=None, mape=None,
            p90_abs_error_frac=None),
        groups=[*serving_groups(shipped)],
    )  # fmt: skip
    first, *_ = serving_tables(result)
    text = render_text(Page("validate perf", tables=(first,)), 80, colour=False)

    assert max(map(len, text.splitlines())) <= 80
    assert "offline_max_throughput  throughput" in text, "no cell is folded"


def test_most_shipped_rows_are_predicted(shipped):
    ids = {row.id for row in shipped}
    predicted = {row.id for row in shipped if row.status == "predicted"}

    assert len(predicted) > 0.9 * len(ids)
    assert len({(row.id, row.metric) for row in shipped}) == len(shipped)
    assert all(row.reason for row in shipped if row.status != "predicted")
    assert all(row.low < row.predicted < row.high for row in shipped if row.predicted)


@pytest.mark.parametrize(
    ("metric", "scenarios", "median", "mean"),
    [
        ("tpot", ("closed_loop",), 0.08, 0.13),
        ("ttft", ("closed_loop",), 0.20, None),
        ("throughput", ("static_batch", "offline_max_throughput"), None, 0.20),
        ("tpot", ("single_stream",), None, 0.15),
        ("tpot", ("disaggregated",), 0.20, None),
    ],
)
def test_figures_are_as_close_as_they_should_be(shipped, metric, scenarios, median, mean):
    """Over the shipped rows, which the constants were fitted to among others."""
    errors = errors_of(shipped, metric, *scenarios)

    assert median is None or errors.median_abs_frac <= median
    assert mean is None or errors.mape <= mean
    assert errors.baseline_median_abs_frac > 2 * errors.median_abs_frac


@pytest.mark.parametrize("metric", ["ttft", "tpot", "throughput"])
def test_ranges_hold_about_eight_in_ten(shipped, metric):
    errors = serving_errors(row for row in shipped if row.metric == metric)

    assert 0.75 <= errors.coverage_frac <= 0.90


def test_the_page_shows_what_the_command_gives(shipped, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("validation_page")
    page = tool.PAGE.read_text(encoding="utf-8")
    result = schema.ValidationResult(
        rows=[],
        summary=schema.ValidationSummary(
            rows=0, predicted=0, skipped={}, median_abs_error_frac=None, mape=None,
            p90_abs_error_frac=None),
        groups=[*serving_groups(shipped)],
    )  # fmt: skip

    text = tool.tables(result)

    assert tool.parts(page)[1] == text.strip("\n"), "run python tools/validation_page.py"
    assert tool.with_tables(page, text) == page
    with pytest.raises(ValueError, match="no lines"):
        tool.parts("no markers")


@pytest.mark.parametrize(("measured_ms", "shown"), [("9000", "9,000 ms"), ("23030", "23.03 s")])
def test_long_times_are_told_in_seconds(tmp_path, measured_ms, shown):
    path = write(tmp_path / "runs.csv", {"ttft_ms": measured_ms})

    outcome = llmplan("validate", "perf", "--data", str(path))

    assert shown in outcome.stdout
    assert "e+" not in outcome.stdout
