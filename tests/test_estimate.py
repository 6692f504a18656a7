"""``llmplan estimate``: the contract's keys, shares that add up, ranges, exit codes, refusals."""

import csv
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from llmplan.report.views import page_of
from llmplan.results.engine_options import EngineOptions, LayoutOptions
from llmplan.results.estimate import EstimateQuestion
from llmplan.results.memory import MemoryQuestion
from llmplan.results.traffic_options import TrafficOptions
from tests.program import llmplan

ROOT = Path(__file__).parent.parent
DENSE = ("llama-3.1-8b", "--gpus", "H100", "--engine", "vllm")
FIGURES = ("ttft_s", "tpot_s", "output_tokens_per_s", "output_tokens_per_s_per_gpu")
DEPLOYMENTS = [
    ("llama-3.1-8b", "H100", "vllm", LayoutOptions()),
    ("llama-3.1-70b", "8xH100", "generic", LayoutOptions(tp=4, pp=2)),
    ("deepseek-v3", "8xH200", "sglang", LayoutOptions(tp=1, dp=8, ep=8)),
    ("gpt-oss-120b", "2xB200", "trtllm", LayoutOptions()),
    ("qwen3-next-80b-a3b", "4xA100", "vllm", LayoutOptions()),
]


def asked(model, gpus, engine, layout=None, **traffic):
    """The answer to a question."""
    served = MemoryQuestion(
        model=model,
        gpus=gpus,
        engine=EngineOptions(engine=engine),
        layout=layout or LayoutOptions(),
    )
    return EstimateQuestion(served=served, traffic=TrafficOptions(**traffic)).ask()


@pytest.fixture(scope="module", params=DEPLOYMENTS, ids=lambda d: f"{d[0]} on {d[1]}")
def result(request):
    return asked(*request.param, concurrency="32").result


def test_the_contract_has_its_keys():
    ran = llmplan("estimate", *DENSE, "--format", "json")

    answer = json.loads(ran.stdout)
    assert ran.exit_code == 0
    for key in FIGURES:
        assert {"low", "value", "high", "provenance", "note"} <= answer["result"][key].keys()
        assert answer["result"][key]["provenance"] in ("fitted", "assumed")
    assert answer["result"]["operators"]
    assert {"isl": 1024, "osl": 1024, "concurrency": 64}.items() <= answer["inputs"].items()


def test_ranges_hold_their_values(result):
    for key in (*FIGURES, "e2e_s"):
        figure = getattr(result, key)
        assert 0 < figure.low <= figure.value <= figure.high


@pytest.mark.parametrize("step", ["decode", "prefill"])
def test_shares_of_operators_add_up_to_one(result, step):
    rows = [row for row in result.operators if row.step == step]

    assert sum(row.share_frac for row in rows) == pytest.approx(1)
    assert sum(row.seconds for row in rows) == pytest.approx(getattr(result.steps, step).seconds)
    assert sum(getattr(result.steps, step).bound_share.model_dump().values()) == pytest.approx(1)


def test_no_operator_is_faster_than_its_bounds(result):
    for row in (row for row in result.operators if row.kind != "host"):
        assert max(row.compute_s, row.memory_s, row.network_s) <= row.seconds * (1 + 1e-9)


def test_steps_use_no_more_than_the_peaks(result):
    for step in (result.steps.decode, result.steps.prefill):
        assert 0 < step.mfu_frac < 1
        assert 0 < step.mbu_frac < 1
        assert step.roofline_s <= step.seconds


def test_points_of_the_roofline_are_below_its_roofs(result):
    """Bytes of activations count here, so that points lie a little lower than by the bounds."""
    fastest = max(roof.flops_per_s for roof in result.roofline.roofs)

    for point in result.roofline.points:
        assert point.flops_per_s <= fastest * (1 + 1e-9)


def test_a_copy_on_one_gpu_exchanges_nothing():
    found = asked("llama-3.1-8b", "8xH100", "vllm", LayoutOptions(tp=1)).result

    assert found.workers == 8
    assert [row.name for row in found.operators if row.kind == "collective"] == []


def test_a_split_copy_does():
    found = asked("llama-3.1-8b", "8xH100", "vllm", LayoutOptions(tp=8)).result

    assert {row.name for row in found.operators if row.kind == "collective"} >= {
        "all_reduce o_proj",
        "all_reduce down_proj",
    }


def test_more_requests_in_flight_make_more_tokens_and_wait_longer():
    rows = asked("llama-3.1-8b", "H100", "vllm", concurrency="1,8,64").result.sweep

    for one, more in pairwise(rows):
        assert one.output_tokens_per_s.value < more.output_tokens_per_s.value
        assert one.tpot_s.value < more.tpot_s.value


def test_a_cached_prefix_shortens_the_first_token():
    whole, cached = (
        asked("llama-3.1-8b", "H100", "vllm", isl="8k", prefix_cache=frac).result
        for frac in (0.0, 0.9)
    )

    assert cached.ttft_s.value < whole.ttft_s.value


def test_accepted_drafts_shorten_the_time_between_tokens():
    engine = EngineOptions(engine="vllm", speculative_tokens=1)
    served = MemoryQuestion(model="deepseek-v3", gpus="8xH200", engine=engine, mtp=True)
    rates = [
        EstimateQuestion(
            served=served, traffic=TrafficOptions(acceptance=chance, concurrency="8")
        ).ask()
        for chance in (0.0, 0.9)
    ]

    assert rates[1].result.tpot_s.value < rates[0].result.tpot_s.value


def test_pools_for_prompts_and_decoding_share_the_gpus():
    found = asked("llama-3.1-8b", "8xH100", "sglang", LayoutOptions(tp=2), disaggregate="4:4")

    assert (found.result.gpus, found.result.workers) == (8, 2)
    assert found.result.layout == "prompts tp2 dp2 : decode tp2 dp2"


def test_requests_beyond_the_places_wait_and_the_answer_says_so():
    answer = asked("llama-3.1-70b", "2xH100", "vllm", concurrency="500")

    assert answer.result.waiting == pytest.approx(500 - answer.result.slots)
    assert any("run at once; the others wait" in text for text in answer.warnings)


def test_what_does_not_fit_gets_no_times():
    ran = llmplan("estimate", "llama-3.1-70b", "--gpus", "H100", "--format", "json")

    answer = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert answer["result"]["fits"] is False
    assert {answer["result"][key] for key in FIGURES} == {None}
    assert "GiB" in answer["result"]["fits_reason"]
    assert any("llmplan fit" in text for text in answer["warnings"])


def test_a_rate_beyond_what_is_served_is_a_no_with_the_most():
    ran = llmplan("estimate", *DENSE, "--rate", "500", "--format", "json")

    answer = json.loads(ran.stdout)
    assert ran.exit_code == 1
    assert answer["result"]["ttft_s"] is None
    assert 0 < answer["result"]["requests_per_s"] < 500
    assert any("at most" in text for text in answer["warnings"])


@pytest.mark.parametrize(
    ("bounds", "code", "words"),
    [
        (("--ttft", "60s", "--tpot", "1s"), 0, ""),
        (("--tpot", "1us"), 1, "even the low end of the range"),
    ],
)
def test_a_bound_decides_the_exit_code(bounds, code, words):
    ran = llmplan("estimate", *DENSE, *bounds)

    assert ran.exit_code == code
    assert words in ran.stderr


def test_a_bound_between_value_and_low_end_is_missed_and_says_so():
    figure = asked("llama-3.1-8b", "H100", "vllm").result.tpot_s
    limit = (figure.low + figure.value) / 2

    ran = llmplan("estimate", *DENSE, "--tpot", f"{limit * 1e6:.0f}us")

    assert ran.exit_code == 1
    assert "though not the low end" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("llama-3.1-8b",), "add --gpus, as in --gpus 8xH100"),
        (("flux.1-dev", "--gpus", "H100"), "diffusion pipeline"),
        ((*DENSE, "--isl", "128k", "--osl", "1k"), "131,072"),
        ((*DENSE, "--speculative-tokens", "2"), "--acceptance"),
        ((*DENSE, "--speculative-tokens", "2", "--acceptance", "0.7"), "--draft MODEL"),
        ((*DENSE, "--speculative-tokens", "2", "--acceptance", "1"), "less than 1"),
        ((*DENSE, "--acceptance", "0.5"), "--speculative-tokens"),
        ((*DENSE, "--mtp"), "no MTP modules"),
        ((*DENSE, "--rate", "2", "--concurrency", "8"), "--concurrency does not go with --rate"),
        ((*DENSE, "--scenario", "open"), "--rate 2.5"),
        ((*DENSE, "--scenario", "clsed"), "Did you mean closed"),
        ((*DENSE, "--concurrency", "0"), "no count of requests"),
        ((*DENSE, "--prefix-cache", "1"), "--prefix-cache"),
        ((*DENSE, "--prefill-tp", "2"), "--disaggregate"),
        ((*DENSE, "--disaggregate", "4"), "no two pools"),
        ((*DENSE, "--disaggregate", "4:4"), "--gpus says 1"),
        ((*DENSE, "--ttft", "2"), "no time"),
        (("llama-3.1-8b", "--gpus", "rubin-cpx"), "no known memory bandwidth"),
        (("llama-3.1-70b", "--gpus", "2n4xH100", "--tp", "8"), "whole nodes of 8"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(arguments, words):
    ran = llmplan("estimate", *arguments)

    assert ran.exit_code == 2
    assert words in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate", "1e-300"), "from 0.000001 to 1,000,000"),
        (("--rate", "1e300"), "from 0.000001 to 1,000,000"),
        (("--rate", "nan"), "from 0.000001 to 1,000,000"),
        (("--scenario", ""), "unknown scenario ''"),
        (("--isl", "١٢"), "no token count"),
        (("--pp-layers", "9" * 5000), "--pp-layers lists the layers"),
        (("--engine", "vllm@" + "9" * 5000 + ".1"), "no version of vllm"),
    ],
)
def test_values_that_no_one_means_are_refused_without_noise(arguments, words):
    ran = llmplan("estimate", *DENSE, *arguments)

    assert ran.exit_code == 2
    assert words in ran.stderr
    assert ran.stderr.startswith("error: ")
    assert "Warning" not in ran.stderr


def test_a_layout_that_nobody_asked_for_is_not_blamed_on_the_reader():
    ran = llmplan("estimate", "gemma-7b", "--gpus", "72xMI300X", "--engine", "llama.cpp")

    assert ran.exit_code == 2
    assert "no layout of gemma-7b on 9n8xmi300x works: pipeline" in ran.stderr
    assert "Ask for fewer GPUs" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("llama-3.1-8b", "--gpus", "H100", "--draft", "llama-3.2-1b"), "draft model is held"),
        (("deepseek-v3", "--gpus", "8xH200", "--mtp"), "MTP modules are held"),
        (("llama-3.1-8b", "--gpus", "3xH100", "--tp", "2"), "figures for each GPU are of the 2"),
        (("llama-3.1-8b", "--gpus", "H100", "--osl", "1"), "outputs of one token"),
        (
            ("llama-3.1-8b", "--gpus", "8xH100", "--tp", "1", "--concurrency", "2"),
            "2 in flight are fewer than the 8 copies",
        ),
    ],
)
def test_figures_that_say_less_than_they_seem_to_are_named(arguments, words):
    ran = llmplan("estimate", *arguments)

    assert ran.exit_code == 0
    assert words in ran.stderr


def test_one_of_a_kind_is_said_in_the_singular():
    served = ("llama-3.1-8b", "--gpus", "H100", "--engine", "vllm", "--max-num-seqs", "1")
    rate = llmplan("estimate", *DENSE, "--rate", "1", "--osl", "1").stdout
    static = llmplan("estimate", *served, "--scenario", "static", "--concurrency", "1").stdout

    assert "1 output token, 1 request a second" in rate
    assert "1 request together" in static
    assert "; 1 place in all" in static


def test_large_figures_are_plain_numbers():
    many = ("smollm2-135m", "--gpus", "H100", "--engine", "vllm", "--concurrency", "4096")
    ran = llmplan("estimate", *many, "--ttft", "20s", "--osl", "16")

    assert "e+0" not in ran.stdout + ran.stderr


def test_a_bound_of_many_seconds_is_told_in_seconds():
    crowd = ("--concurrency", "4096", "--ttft", "20s")
    ran = llmplan("estimate", *DENSE, *crowd)

    assert ran.exit_code == 1
    assert "TTFT misses 20 s: " in ran.stderr


def test_a_count_that_is_typed_twice_is_one_row():
    traffic = TrafficOptions(concurrency="8,64,8")

    assert traffic.requests() == (8, 64)
    assert len(asked("llama-3.1-8b", "H100", "vllm", concurrency="8,64,8").result.sweep) == 2


def test_the_table_says_which_bounds_are_held():
    text = llmplan("estimate", *DENSE, "--ttft", "20s", "--tpot", "1ms").stdout
    crowded = llmplan("estimate", *DENSE, "--rate", "500", "--ttft", "20s").stdout

    assert "TTFT at the most       20 s: met" in text
    assert "TPOT at the most       1 ms: missed" in text
    assert "TTFT at the most       20 s: missed" in crowded


def test_scenarios_are_read_in_any_case():
    assert (
        "8 requests together"
        in llmplan("estimate", *DENSE, "--scenario", "Static", "--concurrency", "8").stdout
    )


def test_a_range_of_both_is_not_spelled_out_twice():
    text = llmplan("estimate", *DENSE).stdout

    assert text.count("Range of TTFT") == 1
    assert "Range of whole request and tokens/s: from those of TTFT and TPOT." in text


def test_an_unknown_network_is_named_as_assumed():
    answer = asked("llama-3.1-70b", "2n8xRTX-4090", "vllm", LayoutOptions(tp=8, pp=2), osl="64")

    assert answer.result.fits
    assert any("400 Gbit/s a GPU are assumed" in text for text in answer.warnings)


def test_html_draws_both_waterfalls_and_the_roofline(tmp_path):
    page = tmp_path / "page.html"

    ran = llmplan("estimate", *DENSE, "--concurrency", "1,8", "--format", "html", "-o", str(page))

    assert ran.exit_code == 0
    assert page.read_text(encoding="utf-8").count("<svg") == 4


def test_html_has_every_operator_without_explain(tmp_path):
    page = tmp_path / "page.html"

    ran = llmplan("estimate", *DENSE, "--format", "html", "-o", str(page))

    text = page.read_text(encoding="utf-8")
    assert ran.exit_code == 0
    assert text.count("operator by operator (* assumed)") == 2
    assert "<td>lm_head</td>" in text
    assert "operator by operator" not in llmplan("estimate", *DENSE).stdout


def test_html_of_a_refusal_has_neither_charts_nor_operators(tmp_path):
    page = tmp_path / "page.html"

    ran = llmplan("estimate", *DENSE, "--rate", "500", "--format", "html", "-o", str(page))

    assert ran.exit_code == 1
    assert "<svg" not in page.read_text(encoding="utf-8")


def test_a_waterfall_tells_the_host_from_launches():
    answer = asked("llama-3.1-8b", "H100", "vllm")

    for waterfall in page_of(answer.result, answer.inputs).waterfalls:
        assert "host" in {word for _, _, word in waterfall.bars}


def test_the_table_is_for_80_columns():
    served = MemoryQuestion(model="deepseek-v3", gpus="8xH200")
    answer = EstimateQuestion(served=served, explain=True).ask()
    page = page_of(answer.result, answer.inputs)

    for table in page.tables:
        longest = [max(map(len, cells)) for cells in zip(*table.rows, strict=True)]
        assert sum(longest) + 2 * len(longest) <= 80


# Examples that a reader can run; how many of all rows are in range is checked with validate perf.
MEASURED = [
    ("S02623", "Qwen/Qwen3-32B", "4xH100 --engine vllm@0.12.0 --tp 4", (1024, 128, 8), 0.0117584),
    (
        "S00487",
        "MiniMaxAI/MiniMax-M2.5",
        "8xH200 --engine vllm@0.18.0 --tp 8 --ep 8 --spread",
        (922, 922, 32),  # 0.9 of 1,024: lengths are drawn from [0.8 L, L]
        0.0136884,
    ),
    (
        "S02143",
        "Qwen/Qwen3-235B-A22B-FP8",
        "4xH100 --engine trtllm --tp 4 --ep 4",
        (512, 128, 4),
        0.0133407,
    ),
]
"""Rows of hardware/measured/serving.csv, which names their source: prompt and output tokens,
requests in flight, and the measured time between tokens in seconds."""


@pytest.mark.parametrize(("row", "model", "served", "traffic", "measured_s"), MEASURED)
def test_public_measurements_are_in_the_stated_range(row, model, served, traffic, measured_s):
    isl, osl, requests = map(str, traffic)
    options = ("--isl", isl, "--osl", osl, "--concurrency", requests, "--format", "json")

    ran = llmplan("estimate", model, "--gpus", *served.split(), *options)

    figure = json.loads(ran.stdout)["result"]["tpot_s"]
    with (ROOT / "hardware" / "measured" / "serving.csv").open(encoding="utf-8") as file:
        stated = next(each for each in csv.DictReader(file) if each["id"] == row)
    assert float(stated["tpot_ms"]) == pytest.approx(measured_s * 1e3)
    assert figure["low"] <= measured_s <= figure["high"]


@pytest.mark.parametrize("arguments", [["--help"], ["memory", "kimi-k2"]])
def test_other_commands_load_nothing_of_it(arguments):
    code = (
        "import sys\n"
        f"sys.argv = ['llmplan', *{arguments!r}]\n"
        "from llmplan.cli.main import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not [
        name
        for name in ran.stderr.split()
        if name.startswith(("llmplan.perf", "llmplan.results.estimate", "llmplan.analyze.estimate"))
    ]
