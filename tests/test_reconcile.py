"""A start-up log beside its prediction, and what is kept of it: whole, cut, foreign and hostile.

The logs are those of ``tests/logs``, with the name of a model and a GPU that the catalogue has.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from llmplan.engines.base import Held, Plan, Term
from llmplan.engines.corrections import Correction, corrected
from llmplan.engines.profile import Ranks
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import LlmplanError
from llmplan.results.kept_corrections import folder
from llmplan.results.log_source import LogSource
from llmplan.results.log_start import LIMITS, Typed
from llmplan.results.reconcile import ReconcileQuestion
from llmplan.units import GIB, Provenance
from tests.program import llmplan

LOGS = Path(__file__).parent / "logs"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
TERMS = (
    "capacity",
    "budget",
    "weights",
    "activations",
    "non_torch",
    "graphs",
    "kv_available",
    "kv_tokens",
    "max_concurrency",
    "verdict",
)
MEMORY = ("memory", "llama-3.1-8b", "--gpus", "1xh100", "--format", "json")


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Corrections of the person who runs the tests neither count nor change."""
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture
def log(tmp_path):
    """A whole log of vLLM 0.19 with Llama 3.1 8B on an H100."""
    text = (LOGS / "vllm_v1_0.19.log").read_text()
    path = tmp_path / "start.log"
    path.write_text(text.replace("acme/Chat-8B", LLAMA))
    return path


def changed(path, old, new, name="changed.log"):
    text = path.read_text()
    assert old in text
    other = path.parent / name
    other.write_text(text.replace(old, new))
    return other


def answered(*arguments):
    outcome = llmplan("reconcile", *map(str, arguments), "--format", "json")
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def refused(*arguments):
    outcome = llmplan("reconcile", *map(str, arguments))
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: ")
    return outcome.stderr


def rows(answer):
    return {row["term"]: row for row in answer["result"]["rows"]}


def per_gpu(*more):
    answer = json.loads(llmplan(*MEMORY, *more).stdout)
    return answer["result"]["per_gpu"], answer["warnings"]


# -- what is compared ------------------------------------------------------------------------------


def test_every_term_stands_beside_its_line(log):
    answer = answered(log, "--gpus", "h100")
    found = rows(answer)

    assert tuple(found) == TERMS
    assert set(answer["result"]) == {
        *("log", "lines", "engine", "version", "model", "layout", "outcome", "outcome_line"),
        *("rows", "settings", "missing", "correction", "saved"),
    }
    weights = found["weights"]
    assert (weights["log"], weights["line"]) == (round(14.99 * GIB), 4)
    assert weights["delta"] == weights["predicted"] - weights["log"]
    assert weights["error_frac"] == pytest.approx(weights["delta"] / weights["log"])
    assert (found["capacity"]["log"], found["capacity"]["note"]) == (None, "not in the log")
    assert (found["verdict"]["log"], found["verdict"]["predicted"]) == ("ok", "ok")
    assert found["verdict"]["error_frac"] == 0
    assert found["max_concurrency"]["log"] == 58.11
    assert answer["result"]["settings"]["block_size"] == 32
    assert answer["inputs"]["model"] == "llama-3.1-8b"
    assert answer["inputs"]["settings"]["block_size"] == 32


def test_the_prediction_is_that_of_memory(log):
    found = rows(answered(log, "--gpus", "h100"))
    gpu, _ = per_gpu("--engine", "vllm@0.19.0", "--max-model-len", "8192", "--block-size", "32")

    for term in ("weights", "activations", "non_torch", "graphs", "kv_available", "budget"):
        assert found[term]["predicted"] == gpu[f"{term}_bytes"]


def test_ranks_that_mix_are_told_apart():
    answer = answered(LOGS / "vllm_v1_0.11_tp2.log", "--model", "llama-3.1-70b")
    found = rows(answer)

    # the device is named in the log, the count is that of its ranks
    assert answer["inputs"]["gpus"] == "2xh100-sxm"
    assert (found["weights"]["rank"], found["weights"]["line"]) == ("TP1", 5)
    assert (found["kv_available"]["rank"], found["kv_available"]["line"]) == ("TP1", 8)
    assert found["budget"]["log"] == int(round(79.19 * GIB) * 0.92)
    assert "draft model" in found["weights"]["note"]
    # fp8 is what the log says of a model that is published in 16 bits
    assert answer["inputs"]["dtype"] == "fp8"
    assert answer["result"]["correction"] is None
    assert "secret-key-123" not in json.dumps(answer)


def test_sglang_states_what_was_gone_before_loading():
    log = LOGS / "sglang_tp2_draft.log"
    found = rows(answered(log, "--model", "qwen3-30b-a3b", "--gpus", "h20"))

    capacity = found["capacity"]["predicted"]
    assert found["non_torch"]["log"] == capacity - round(93.56 * GIB)
    assert found["budget"]["log"] == int(round(93.56 * GIB) * 0.88)


def test_gpus_give_the_ranks_that_tensorrt_llm_does_not_print():
    log = LOGS / "trtllm_engine.log"
    answer = answered(log, "--model", "llama-2-7b", "--gpus", "2xh100")

    assert answer["result"]["layout"] == "tp2"
    assert any("no tensor parallelism" in text for text in answer["warnings"])


def test_llamacpp_with_experts_on_the_host_is_not_compared():
    log = LOGS / "llamacpp_two_gpus.log"
    answer = answered(log, "--model", "qwen3-30b-a3b", "--gpus", "rtx-3090", "--dtype", "int4")
    found = rows(answer)

    assert answer["inputs"]["gpus"] == "2xrtx-3090"
    assert found["weights"]["log"] == round((5434.38 + 13989.53) * 2**20)
    assert found["weights"]["predicted"] is None
    assert found["verdict"]["error_frac"] is None


def test_llamacpp_on_gpus_alone_is_compared_over_all_of_them(tmp_path):
    text = (LOGS / "llamacpp_two_gpus.log").read_text().replace("41/41", "49/49")
    left_out = ("overriden", "Host", "  CPU_Mapped")
    log = tmp_path / "whole.log"
    log.write_text("\n".join(x for x in text.splitlines() if not any(w in x for w in left_out)))
    found = rows(
        answered(log, "--model", "qwen3-30b-a3b", "--gpus", "rtx-3090", "--dtype", "int4")
    )  # fmt: skip

    assert found["weights"]["predicted"] > 14 * GIB
    assert "sum over the devices" in found["weights"]["note"]
    assert found["kv_tokens"]["predicted"] == 4 * 8192
    assert found["verdict"]["predicted"] == "ok"


def test_stages_are_predicted_each(log):
    """Stages differ: the first has the input table, the last the head."""
    text = log.read_text().replace("pipeline_parallel_size=1", "pipeline_parallel_size=2")
    sizes = ("Model loading", "Memory profiling")
    kept = [line for line in text.splitlines() if not any(size in line for size in sizes)]
    for stage, size in enumerate(("7.49", "7.52")):
        kept.insert(
            3, f"(Worker_PP{stage} pid=3{stage}) INFO Model loading took {size} GiB and 1 s"
        )
    staged = log.parent / "staged.log"
    staged.write_text("\n".join(kept))
    answer = answered(staged, "--gpus", "h100")
    first = changed(staged, "took 7.52", "took 7.02", "first.log")

    assert answer["result"]["layout"] == "tp1 pp2"
    assert answer["result"]["correction"]["ranks"] == "stages"
    assert rows(answer)["weights"]["rank"] == "PP1"
    assert rows(answered(first, "--gpus", "h100"))["weights"]["rank"] == "PP0"


def test_a_start_that_failed():
    log = LOGS / "vllm_kv_too_small.log"
    found = rows(
        answered(log, "--model", "llama-3.1-8b", "--gpus", "1xrtx-4090",
                 "--gpu-memory-utilization", "0.92")
    )  # fmt: skip

    assert (found["verdict"]["log"], found["verdict"]["line"]) == ("kv_too_small", 5)
    assert found["verdict"]["predicted"] == "kv_too_small"
    assert found["verdict"]["error_frac"] == 0


@pytest.mark.parametrize("form", ["table", "md", "csv", "html"])
def test_every_format(log, form):
    outcome = llmplan("reconcile", str(log), "--gpus", "h100", "--format", form)

    assert outcome.exit_code == 0
    assert "kv_available" in outcome.stdout.replace("\\", "")


def test_a_log_from_a_pipe(log):
    program = Path(sys.executable).parent / "llmplan"
    ran = subprocess.run(
        [program, "reconcile", "-", "--gpus", "h100", "--format", "json"],
        input=log.read_bytes(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    piped, read = json.loads(ran.stdout), answered(log, "--gpus", "h100")

    assert piped["result"]["rows"] == read["result"]["rows"]
    assert piped["inputs"]["sha256"] == read["inputs"]["sha256"]
    assert piped["inputs"]["log"] == "stdin"


# -- what is not stated ----------------------------------------------------------------------------


def test_a_model_that_is_not_known_names_the_option():
    assert "--model" in refused(LOGS / "vllm_v1_0.19.log", "--gpus", "h100")
    assert "--model" in refused(LOGS / "trtllm_engine.log", "--gpus", "h100")


def test_gpus_that_are_not_named_name_the_option(log):
    assert "--gpus" in refused(log)
    both = LOGS / "llamacpp_two_gpus.log"
    assert "--gpus" in refused(both, "--model", "qwen3-30b-a3b", "--dtype", "int4")


def test_a_format_that_does_not_say_all_names_the_option():
    log = LOGS / "vllm_v1_merged.log"

    assert "--dtype" in refused(log, "--model", "llama-3.1-8b", "--gpus", "rtx-5090")


def test_an_engine_that_is_another(log):
    assert "the log is of vllm" in refused(log, "--gpus", "h100", "--engine", "sglang")


def test_a_typed_version_goes_before_the_printed_one(log):
    answer = answered(log, "--gpus", "h100", "--engine", "vllm@0.18")

    assert answer["inputs"]["engine_version"] == "0.18"


def test_a_log_that_is_cut_off_says_what_it_does_not(log):
    lines = log.read_text().splitlines(keepends=True)
    cut = log.parent / "cut.log"
    cut.write_text("".join(lines[:4])[:-30])
    answer = answered(cut, "--gpus", "h100")
    found = rows(answer)

    assert answer["result"]["outcome"] == "unknown"
    assert "how the start ended" in answer["result"]["missing"]
    assert found["verdict"]["log"] is None
    assert found["verdict"]["predicted"] == "ok"
    assert found["kv_available"]["log"] is None
    assert found["kv_available"]["predicted"] > 0


@pytest.mark.parametrize("length", range(0, 4000, 400))
def test_a_log_cut_anywhere_is_read_or_refused(log, length):
    cut = log.parent / "cut.log"
    cut.write_bytes(log.read_bytes()[:length])
    outcome = llmplan("reconcile", str(cut), "--gpus", "1xh100", "--model", "llama-3.1-8b")

    assert outcome.exit_code in (0, 2)


def test_a_log_of_another_program(tmp_path):
    other = tmp_path / "other.log"
    other.write_text("nginx: started\n" * 10)

    assert "no engine recognised" in refused(other)
    assert "cannot be read" in refused(tmp_path / "none.log")


def test_no_log_and_lists():
    assert "name a log" in refused()
    assert "take no log" in refused("start.log", "--list")


# -- hostile logs ----------------------------------------------------------------------------------


def test_no_file_that_a_log_names_is_opened(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = tmp_path / "a" / "b.yaml"
    spec.parent.mkdir()
    spec.write_text("not: a spec")
    for name in (str(spec), "a/b.yaml", "models--a--b.yaml", "../a/b.json", "b.gguf"):
        assert "--model" in refused(changed(log, LLAMA, name), "--gpus", "h100")


def test_text_of_a_log_is_never_printed_raw(log):
    bad = changed(log, "dtype=torch.bfloat16", "quantization='\x1b[31mred\u202e', dtype=x\x07y")
    outcome = llmplan("reconcile", str(bad), "--gpus", "h100", "--model", "llama-3.1-8b")
    everything = outcome.stdout + outcome.stderr

    assert not any(mark in everything for mark in ("\x1b", "\u202e", "\x07"))


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_settings_that_no_engine_takes_are_left_out(log, name):
    keys = {
        "max_capture_batch": "compilation_config={'max_capture_size': 999999999999}",
        "speculative_tokens": "speculative_config={'num_speculative_tokens': 999999999999}",
        "redundant_experts": "eplb_config={'num_redundant_experts': 999999999999}",
        "tensor_parallel": "tensor_parallel_size=999999999999",
        "pipeline_parallel": "pipeline_parallel_size=999999999999",
        "data_parallel": "data_parallel_size=999999999999",
        "decode_context_parallel": "decode_context_parallel_size=999999999999",
        "prefill_context_parallel": "prefill_context_parallel_size=999999999999",
    }
    key = keys.get(name, f"{name}=999999999999")
    text = log.read_text().replace("config: model=", f"config: {key}, model=")
    bad = log.parent / "bad.log"
    bad.write_text("\n".join(line for line in text.splitlines() if "non-default" not in line))
    outcome = llmplan("reconcile", str(bad), "--gpus", "1xh100", "--format", "json")

    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["result"]["settings"].get(name, 0) <= LIMITS[name]


LINES = [line for path in sorted(LOGS.glob("*.log")) for line in path.read_text().splitlines()]


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=30), st.sampled_from(["1xh100", "8xh100", None]))
def test_lines_of_any_logs_in_any_order_end_in_an_answer_or_an_error(tmp_path_factory, lines, gpus):
    path = tmp_path_factory.mktemp("logs") / "any.log"
    path.write_text("\n".join(lines))
    typed = Typed(model="qwen3-30b-a3b", gpus=gpus)
    try:
        answer = ReconcileQuestion(log=LogSource(str(path)), typed=typed).ask()
    except LlmplanError:
        return
    assert answer.result.rows


# -- corrections -----------------------------------------------------------------------------------


def saved(log, *more):
    return answered(log, "--gpus", "h100", "--save", *more)


def test_what_is_kept_changes_memory_in_the_measured_direction(log):
    more = changed(log, "increase memory: 0.25GiB", "increase memory: 2.25GiB")
    before, _ = per_gpu("--engine", "vllm@0.19")
    answer = saved(more)
    after, warnings = per_gpu("--engine", "vllm@0.19.3")
    without, silent = per_gpu("--engine", "vllm@0.19", "--no-corrections")

    kept = answer["result"]["correction"]
    assert answer["result"]["saved"] == str(folder() / f"{kept['name']}.yaml")
    assert after["non_torch_bytes"] == round(2.25 * GIB)
    assert after["weights_bytes"] == round(14.99 * GIB)
    # the ratio is kept to six digits
    assert after["activations_bytes"] == pytest.approx(round(1.89 * GIB), rel=1e-6)
    terms = ("weights", "activations", "non_torch")
    grown = sum(after[f"{term}_bytes"] - before[f"{term}_bytes"] for term in terms)
    assert grown > 0
    assert after["kv_available_bytes"] == before["kv_available_bytes"] - grown
    assert after["provenance"]["non_torch_bytes"] == "measured"
    assert "corrected by local log changed.log of 20" in after["notes"]["non_torch_bytes"]
    assert any("corrected by local log changed.log of 20" in text for text in warnings)
    assert without == before
    assert not any("corrected" in text for text in silent)


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "vllm@0.18"),
        ("--engine", "sglang"),
        (),
    ],
)
def test_a_correction_of_another_version_or_engine_is_not_used(log, options):
    before = per_gpu(*options)
    saved(changed(log, "memory: 0.25GiB", "memory: 2.25GiB"))

    assert per_gpu(*options) == before


def test_a_correction_of_another_device_or_ranks_is_not_used(log):
    def others():
        for gpus in ("1xh200", "2xh100"):
            arguments = ("llama-3.1-8b", "--gpus", gpus, "--engine", "vllm@0.19", "--tp")
            tp = "2" if gpus.startswith("2") else "1"
            yield llmplan("memory", *arguments, tp, "--format", "json").stdout

    before = list(others())
    saved(changed(log, "memory: 0.25GiB", "memory: 2.25GiB"))

    assert list(others()) == before


def test_fit_uses_and_names_it(log):
    fit = ("fit", "llama-3.1-8b", "--gpus", "1xh100", "--engine", "vllm@0.19", "--format", "json")
    before = json.loads(llmplan(*fit).stdout)
    saved(changed(log, "memory: 0.25GiB", "memory: 2.25GiB"))
    after = json.loads(llmplan(*fit).stdout)
    without = json.loads(llmplan(*fit, "--no-corrections").stdout)

    def pool(answer):
        return answer["result"]["deployments"][0]["kv_available_bytes_per_gpu"]

    assert pool(after) < pool(before) == pool(without)
    assert any("corrected by local log changed.log" in text for text in after["warnings"])


def test_saving_twice_does_not_add_up(log):
    more = changed(log, "memory: 0.25GiB", "memory: 2.25GiB")
    first, second = saved(more), saved(more)

    assert first["result"]["correction"] == second["result"]["correction"]
    assert rows(first) == rows(second)


def test_what_takes_the_pool_is_kept_as_libraries_where_the_log_does_not_say(log):
    text = "\n".join(line for line in log.read_text().splitlines() if "DEBUG" not in line)
    quiet = log.parent / "quiet.log"
    quiet.write_text(text.replace("58.11 GiB", "50.00 GiB"))
    without_share = answered(quiet, "--gpus", "h100")
    answer = saved(quiet, "--gpu-memory-utilization", "0.9")
    gpu, _ = per_gpu("--engine", "vllm@0.19")

    assert without_share["result"]["correction"]["non_torch_bytes"] is None
    assert answer["result"]["correction"]["non_torch_bytes"] > 0
    assert gpu["kv_available_bytes"] == 50 * GIB


def test_sglang_s_share_is_of_what_is_free_before_loading(tmp_path):
    text = (LOGS / "sglang_tp2_draft.log").read_text()
    text = text.replace(", speculative_draft_model_path='acme/MoE-30B-draft'", "")
    text = text.replace("speculative_algorithm='EAGLE'", "speculative_algorithm=None")
    text = text.replace("speculative_num_draft_tokens=4", "speculative_num_draft_tokens=None")
    drafts = ("Eagle", "draft decode", "KV size: 0.50", "14:20:42")
    log = tmp_path / "sglang.log"
    log.write_text("\n".join(x for x in text.splitlines() if not any(d in x for d in drafts)))
    start = ("--model", "qwen3-30b-a3b", "--gpus", "2xh20", "--engine", "sglang@0.5")
    found = rows(answered(log, *start, "--save"))
    arguments = ("--gpus", "2xh20", "--engine", "sglang@0.5", "--tp", "2", "--ep", "2")
    more = ("--mem-fraction-static", "0.88", "--dtype", "fp8", "--format", "json")
    answer = json.loads(llmplan("memory", "qwen3-30b-a3b", *arguments, *more).stdout)
    gpu = answer["result"]["per_gpu"]

    assert gpu["non_torch_bytes"] == found["non_torch"]["log"]
    assert gpu["weights_bytes"] == found["weights"]["log"]
    # a byte either way: the share is rounded once more
    assert gpu["budget_bytes"] == pytest.approx(found["budget"]["log"], abs=1)
    assert gpu["kv_available_bytes"] == gpu["budget_bytes"] - gpu["weights_bytes"]


def test_adapters_and_drafts_are_not_kept(log):
    adapters = changed(log, "'block_size': 32", "'block_size': 32, 'max_loras': 4")
    drafted = LOGS / "vllm_v1_0.11_tp2.log"

    assert "adapters" in refused(adapters, "--gpus", "h100", "--save")
    assert "draft model" in refused(drafted, "--model", "llama-3.1-70b", "--save")


def test_another_model_than_the_log_s_is_not_kept(log):
    assert "weights differ" in refused(log, "--gpus", "h100", "--model", "llama-3.1-70b", "--save")
    assert not folder().exists()


def test_another_gpu_than_the_log_s_is_not_kept(log):
    line = "Free memory on device (39.00/39.50 GiB) on startup. Desired GPU memory utilization"
    small = changed(log, "Initial free memory: 78.66 GiB", f"{line}; Initial free memory: 1 GiB")

    assert "another GPU" in refused(small, "--gpus", "h100", "--save")


def test_a_log_without_version_or_weights_is_not_kept(log):
    text = log.read_text().replace("version 0.19.0", "").replace("(v0.19.0)", "(v)")
    unversioned = log.parent / "unversioned.log"
    unversioned.write_text(text)
    cut = log.parent / "cut.log"
    cut.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))

    assert "--engine" in refused(unversioned, "--gpus", "h100", "--save")
    assert "no size of weights" in refused(cut, "--gpus", "h100", "--save")
    assert saved(unversioned, "--engine", "vllm@0.19")["result"]["saved"]


def test_kept_corrections_are_listed_and_forgotten(log):
    name = saved(log)["result"]["correction"]["name"]
    before, _ = per_gpu("--engine", "vllm@0.19", "--no-corrections")

    assert name == "vllm-0.19-h100-sxm-one"
    assert [row["name"] for row in answered("--list")["result"]["corrections"]] == [name]
    assert name in llmplan("reconcile", "--list").stdout
    assert answered("--forget", name)["result"]["corrections"] == []
    assert per_gpu("--engine", "vllm@0.19")[0] == before
    assert "unknown correction" in refused("--forget", name)
    assert "unknown correction" in refused("--forget", "../../secret")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("non_torch_bytes", 10**15),
        ("non_torch_bytes", "many"),
        ("activations_scale", -1.0),
        ("activations_scale", 1e9),
        ("device", "../x"),
        ("version", "0.20"),
        ("engine", "generic"),
        ("ranks", "any"),
        ("more", 1),
        ("log", "text"),
    ],
)
def test_a_file_that_was_edited_to_nonsense_is_named(log, key, value):
    path = Path(saved(log)["result"]["saved"])
    said = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**said, key: value}))
    outcome = llmplan(*MEMORY, "--engine", "vllm@0.19")

    assert outcome.exit_code == 2
    assert str(path) in outcome.stderr
    assert llmplan(*MEMORY, "--engine", "vllm@0.19", "--no-corrections").exit_code == 0
    assert llmplan(*MEMORY).exit_code == 0


def test_a_folder_that_cannot_be_written_leaves_nothing(log, tmp_path):
    (tmp_path / "home").write_text("a file")

    assert "cannot be written" in refused(log, "--gpus", "h100", "--save")


# -- a correction as engines apply it --------------------------------------------------------------

PLAIN = Term(10 * GIB, Provenance.FITTED, "")


def plan(pool_bytes, in_budget, **settings):
    held = Held(70 * GIB, PLAIN, PLAIN, PLAIN, PLAIN, in_budget, pool_bytes, "")
    return Plan(Settings(memory_frac=0.5, **settings), (), held, None)


def correction(engine):
    return Correction(
        engine=engine,
        version=(1, 0),
        device="x",
        ranks=Ranks.ONE,
        source="a.log",
        weights_bytes=GIB,
        activations_scale=1.1,
        non_torch_bytes=2 * GIB,
        graphs_bytes=4 * GIB,
    )


@pytest.mark.parametrize(
    ("engine", "in_budget", "taken"),
    [
        (EngineName.VLLM, False, 1 + 1 + 2),
        (EngineName.VLLM, True, 1 + 1 + 2 + 4),
        (EngineName.SGLANG, False, 1 + 0.5 * 2),
        (EngineName.TRTLLM, True, 0.5 * (1 + 1 + 2)),
        (EngineName.LLAMACPP, True, 0),
    ],
)
def test_a_pool_shrinks_by_what_comes_out_of_it(engine, in_budget, taken):
    old = plan(30 * GIB, in_budget)

    new = corrected(old, correction(engine))

    assert old.held.pool_bytes - new.held.pool_bytes == taken * GIB
    assert new.held.weights.provenance is Provenance.MEASURED
    assert new.held.activations.provenance is Provenance.FITTED


def test_a_pool_that_is_fixed_by_hand_stays():
    old = plan(30 * GIB, in_budget=True, kv_cache_memory_bytes=30 * GIB)

    new = corrected(old, correction(EngineName.VLLM))

    assert new.held.pool_bytes == 30 * GIB


def test_graphs_that_are_off_stay_off():
    old = plan(30 * GIB, in_budget=True, enforce_eager=True)

    assert corrected(old, correction(EngineName.VLLM)).held.graphs == PLAIN
