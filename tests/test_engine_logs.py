"""Start-up logs: what the readers make of the line formats of each engine, whole, cut and hostile.

The logs in ``tests/logs`` were written for these tests after the formats that the engines print.
"""

import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmplan.engines.logs import Figure, Outcome, read_log
from llmplan.engines.logs import lines as log_lines
from llmplan.engines.logs.printed import printed_values
from llmplan.engines.settings import EngineName
from llmplan.errors import DocumentError, InputError, LlmplanError
from llmplan.units import GIB, MIB

LOGS = Path(__file__).parent / "logs"
NAMES = sorted(path.name for path in LOGS.glob("*.log"))


def gib(number):
    return round(number * GIB)


def read(name):
    return read_log(LOGS / name)


def value(facts, figure, rank=None):
    found = [row.figure(figure) for row in facts.ranks if rank is None or row.rank == rank]
    present = [reading for reading in found if reading]
    assert len(present) == 1, (figure, present)
    return present[0].value, present[0].line


def test_vllm_v0_prints_a_sentence_and_blocks():
    facts = read("vllm_v0.log")
    assert (facts.engine, facts.version, facts.model) == (
        EngineName.VLLM,
        "0.8.1",
        "acme/Small-7B-AWQ",
    )
    assert value(facts, Figure.DEVICE_TOTAL) == (gib(39.56), 6)
    # the line of loading has four decimals, the sentence after it two
    assert value(facts, Figure.WEIGHTS) == (gib(6.2472), 4)
    assert value(facts, Figure.ACTIVATIONS) == (gib(1.49), 7)
    assert value(facts, Figure.NON_TORCH) == (gib(0.09), 7)
    assert value(facts, Figure.KV_AVAILABLE) == (gib(23.46), 7)
    assert value(facts, Figure.GRAPHS) == (gib(0.38), 10)
    # 107.22 requests of 2048 tokens in 13,724 blocks: blocks of 16, by no other size
    assert value(facts, Figure.KV_BLOCK_SIZE) == (16, 8)
    assert value(facts, Figure.KV_TOKENS) == (13_724 * 16, 8)
    assert facts.least_concurrency().times == 107.22
    assert facts.least_concurrency().length_tokens == 2048
    assert (facts.outcome, facts.outcome_line) == (Outcome.OK, 11)
    stated = facts.settings
    assert stated.memory_frac == 0.79
    assert (stated.max_model_len, stated.dtype, stated.quantization) == (
        2048,
        "float16",
        "awq_marlin",
    )
    assert (stated.kv_dtype, stated.enable_prefix_caching) == (None, False)
    assert stated.max_capture_batch == 256
    assert facts.missing == ("memory free at the start",)


def test_vllm_v1_ranks_are_told_apart_when_their_lines_mix():
    facts = read("vllm_v1_0.11_tp2.log")
    assert value(facts, Figure.WEIGHTS, "TP0") == (gib(33.8812), 6)
    assert value(facts, Figure.WEIGHTS, "TP1") == (gib(34.0104), 5)
    # the last line about the cache is exact to the byte
    assert value(facts, Figure.KV_AVAILABLE, "TP0") == (40_029_425_664, 16)
    rank, least = facts.least(Figure.KV_AVAILABLE)
    assert (rank, least.value, least.line) == ("TP1", gib(36.95), 8)
    # the core prints one line a rank; the scheduler has the smallest
    assert value(facts, Figure.KV_TOKENS, "DP0") == (242_144, 12)
    assert facts.least_concurrency().times == 29.56
    assert value(facts, Figure.FREE_AT_START, "TP0") == (gib(77.51), 16)
    assert value(facts, Figure.DEVICE_TOTAL, "TP0") == (gib(79.19), 16)
    assert facts.gpus == ("NVIDIA H100 80GB HBM3",)
    stated = facts.settings
    assert (stated.tensor_parallel, stated.memory_frac, stated.max_num_seqs) == (2, 0.92, 256)
    assert (stated.kv_dtype, stated.max_num_batched_tokens) == ("fp8", 8192)
    assert (stated.speculative_method, stated.speculative_tokens) == ("eagle3", 3)
    assert stated.draft_model == "acme/Chat-70B-Eagle"
    assert facts.model == "acme/Chat-70B-FP8"
    assert "secret-key-123" not in repr(facts)


def test_vllm_v1_at_debug_level_prints_every_term():
    facts = read("vllm_v1_0.19.log")
    assert facts.version == "0.19.0"
    assert value(facts, Figure.WEIGHTS) == (gib(14.99), 4)
    assert value(facts, Figure.FREE_AT_START) == (gib(78.66), 5)
    assert value(facts, Figure.ACTIVATIONS) == (gib(1.89), 6)
    assert value(facts, Figure.NON_TORCH) == (gib(0.25), 6)
    assert value(facts, Figure.KV_AVAILABLE) == (gib(58.11), 7)
    assert value(facts, Figure.KV_TOKENS) == (476_016, 8)
    assert facts.settings.expert_parallel is True
    assert facts.settings.block_size == 32
    assert facts.remarks == ()


def test_vllm_of_2026_merges_lines_and_terms():
    facts = read("vllm_v1_merged.log")
    assert value(facts, Figure.KV_TOKENS) == (651_081, 5)
    assert facts.least_concurrency().times == 2.48
    # consumed memory is weights and what lies outside torch
    assert value(facts, Figure.NON_TORCH) == (gib(21.4) - gib(19.07), 6)
    assert value(facts, Figure.KV_BLOCK_SIZE) == (1600, 3)
    assert facts.outcome is Outcome.UNKNOWN
    assert facts.missing == ("how the start ended",)


def test_vllm_that_has_too_little_room_for_one_request():
    facts = read("vllm_kv_too_small.log")
    assert (facts.outcome, facts.outcome_line) == (Outcome.KV_TOO_SMALL, 5)
    assert value(facts, Figure.KV_AVAILABLE) == (gib(4.0), 5)


def test_sglang_adds_up_model_and_draft():
    facts = read("sglang_tp2_draft.log")
    assert (facts.engine, facts.model) == (EngineName.SGLANG, "acme/MoE-30B")
    assert value(facts, Figure.FREE_AT_START, "TP0") == (gib(93.61), 3)
    assert value(facts, Figure.WEIGHTS, "TP1") == (gib(15.06) + gib(1), 8)
    assert value(facts, Figure.KV_AVAILABLE, "TP0") == (gib(62.5), 12)
    assert value(facts, Figure.GRAPHS, "TP0") == (gib(1.04) + gib(0.25), 16)
    assert facts.least(Figure.KV_TOKENS)[1].value == 371_648
    assert "weights: printed 2 times by TP1; the figure is their sum" in facts.remarks
    stated = facts.settings
    assert (stated.memory_frac, stated.tensor_parallel, stated.expert_parallel) == (0.88, 2, True)
    assert (stated.max_num_seqs, stated.max_model_len) == (2048, 196_608)
    assert (stated.quantization, stated.kv_dtype, stated.dtype) == ("fp8", "fp8_e4m3", None)
    assert (stated.speculative_method, stated.speculative_tokens) == ("eagle", 4)
    assert stated.max_loras is None
    assert facts.outcome is Outcome.OK


def test_sglang_without_room_for_the_cache():
    facts = read("sglang_kv_too_small.log")
    assert (facts.outcome, facts.outcome_line) == (Outcome.KV_TOO_SMALL, 4)
    assert facts.least(Figure.KV_TOKENS) is None
    assert "tokens of the cache" in facts.missing


def test_sglang_that_prints_only_free_memory():
    facts = read_log(
        [
            "[2024-12-02 12:01:17] Load weight begin. avail mem=92.50 GB",
            "[2024-12-02 12:01:19] Load weight end. type=A, avail mem=77.39 GB",
        ]
    )
    assert value(facts, Figure.WEIGHTS) == (gib(92.5) - gib(77.39), 2)


def test_sglang_draft_that_frees_memory_and_a_format_that_was_auto():
    facts = read_log(
        [
            "server_args=ServerArgs(model_path='a/b', kv_cache_dtype='auto', tp_size=1)",
            "Load weight end. elapsed=787.55 s, type=A, avail mem=29.01 GB, mem usage=82.97 GB.",
            "Load weight end. elapsed=94.49 s, type=AMTP, avail mem=30.67 GB, mem usage=-1.86 GB.",
            "KV Cache is allocated. dtype: torch.bfloat16, #tokens: 159552, KV size: 3.66 GB",
            "Mamba Cache is allocated. max_mamba_cache_size: 43, conv_state size: 0.12GB",
        ]
    )
    assert value(facts, Figure.WEIGHTS) == (gib(82.97) - gib(1.86), 3)
    assert facts.settings.kv_dtype == "bfloat16"
    assert facts.settings.max_mamba_cache_size == 43
    assert "recurrent state is printed apart and is in no figure" in facts.remarks


def test_sglang_window_and_full_pools_are_summed_and_the_full_one_counts_tokens():
    facts = read_log(
        [
            "[TP0] KV Cache is allocated. #tokens: 5036, K size: 0.96 GB, V size: 0.96 GB",
            "[TP0] KV Cache is allocated. #tokens: 167877, K size: 3.2 GB, V size: 3.2 GB",
        ]
    )
    assert value(facts, Figure.KV_TOKENS)[0] == 167_877
    assert value(facts, Figure.KV_AVAILABLE)[0] == 2 * gib(0.96) + 2 * gib(3.2)


def test_trtllm_engine_units_are_powers_of_1024():
    facts = read("trtllm_engine.log")
    assert facts.version == "0.12.0"
    assert value(facts, Figure.WEIGHTS) == (6697 * MIB, 8)
    buffers = (round(1134.01 * MIB), round(43.29 * MIB), round(180.30 * MIB))
    assert value(facts, Figure.ACTIVATIONS) == (sum(buffers), 13)
    assert value(facts, Figure.KV_AVAILABLE) == (gib(63.44), 17)
    assert value(facts, Figure.KV_TOKENS) == (259_840, 17)
    assert value(facts, Figure.KV_BLOCK_SIZE) == (64, 16)
    assert facts.settings.max_num_seqs == 256
    assert facts.remarks == ("weights: printed 2 times; the largest is kept",)
    assert facts.outcome is Outcome.OK


def test_trtllm_forgets_the_cache_of_its_dry_run():
    facts = read("trtllm_pytorch.log")
    assert value(facts, Figure.KV_AVAILABLE) == (gib(41.90), 11)
    assert value(facts, Figure.KV_TOKENS) == (610_208, 11)
    assert value(facts, Figure.WEIGHTS, "rank 0") == (gib(62.10), 2)
    assert value(facts, Figure.NON_TORCH, "rank 0") == (gib(2.28), 8)
    assert facts.settings.memory_frac == 0.9
    assert facts.settings.max_model_len == 8224
    assert (facts.outcome, facts.outcome_line) == (Outcome.OK, 13)


def test_llamacpp_devices_and_host_are_apart():
    facts = read("llamacpp_two_gpus.log")
    assert (facts.version, facts.model) == ("6500", "/models/moe-q4_k_m.gguf")
    assert [row.rank for row in facts.host] == ["CPU_Mapped", "CUDA_Host"]
    assert value(facts, Figure.WEIGHTS, "CUDA1") == (round(13989.53 * MIB), 13)
    assert value(facts, Figure.KV_AVAILABLE, "CUDA0") == ((256 + 16) * MIB, 25)
    # printed twice for one context: the second reservation replaces the first
    assert value(facts, Figure.ACTIVATIONS, "CUDA0") == (round(672.01 * MIB), 29)
    assert value(facts, Figure.FREE_AT_START, "CUDA0") == (11_245 * MIB, 5)
    assert value(facts, Figure.DEVICE_TOTAL, "CUDA1") == (24_145 * MIB, 36)
    assert facts.least(Figure.KV_TOKENS)[1].value == 32_768
    stated = facts.settings
    assert (stated.max_model_len, stated.max_num_seqs, stated.n_gpu_layers) == (8192, 4, 41)
    assert (stated.kv_dtype, stated.experts_on_cpu, stated.mla) == ("q8_0", True, None)
    assert stated.quantization == "Q4_K - Medium"
    assert facts.gpus == ("NVIDIA GeForce RTX 4070 Ti", "NVIDIA GeForce RTX 3090 Ti")
    assert facts.outcome is Outcome.OK


def test_llamacpp_fork_with_a_latent_cache_that_runs_out_of_memory():
    facts = read("llamacpp_fork_latent.log")
    assert (facts.outcome, facts.outcome_line) == (Outcome.OOM, 13)
    assert value(facts, Figure.KV_AVAILABLE) == (round(1166.65 * MIB), 10)
    assert (facts.settings.mla, facts.settings.kv_dtype) == (True, "q8_0")


def test_llamacpp_whole_cache_where_no_device_is_printed():
    facts = read_log(["llama_init: KV self size  = 5120.00 MiB, K (f16): 2560.00 MiB"])
    assert value(facts, Figure.KV_AVAILABLE) == (5120 * MIB, 1)


@pytest.mark.parametrize(
    ("prefix", "rank"),
    [
        ("(Worker_TP3 pid=9) ", "TP3"),
        ("(Worker_DP0_TP6_DCP6_EP6 pid=9) ", "DP0 TP6 DCP6 EP6"),
        ("(VllmWorker rank=2 pid=9) ", "rank 2"),
        ("(VllmWorker TP1 pid=9) ", "TP1"),
        ("(VllmWorkerProcess pid=77) ", "pid 77"),
        ("(RayWorkerWrapper pid=78, ip=10.0.0.1) ", "pid 78"),
        ("(EngineCore_DP1 pid=9) ", "DP1"),
        ("(EngineCore_1 pid=9) ", "DP1"),
        ("(EngineCore pid=9) ", ""),
        ("\x1b[1;36m(Worker_TP0 pid=4)\x1b[0;0m ", "TP0"),
        ("vllm-1  | 2026-01-01T00:00:00Z (Worker_PP1_TP0 pid=4) ", "PP1 TP0"),
        ("[TP3] ", "TP3"),
        ("[2025-08-01 21:05:24 DP0 TP1 EP1] ", "DP0 TP1 EP1"),
        ("[0] ", "rank 0"),
        ("[rank5]: ", "rank 5"),
        ("[1,3]<stdout>:", "rank 3"),
        ("[gpu=1] ", "gpu 1"),
        ("INFO 01-01 [worker.py:1] ", ""),
    ],
)
def test_ranks_by_prefix(prefix, rank):
    facts = read_log([prefix + "Available KV cache memory: 5.5 GiB"])
    assert [row.rank for row in facts.ranks] == [rank]


@pytest.mark.parametrize("name", NAMES)
def test_a_log_cut_anywhere_is_read_as_far_as_it_goes(name):
    whole = (LOGS / name).read_text().splitlines()
    full = read_log(whole)
    for end in range(len(whole)):
        try:
            part = read_log(whole[:end])
        except InputError:
            continue
        assert part.engine is full.engine
        assert part.lines == end
        assert part.outcome in {Outcome.UNKNOWN, full.outcome}
        if part.outcome is Outcome.UNKNOWN:
            assert "how the start ended" in part.missing


@pytest.mark.parametrize("name", NAMES)
def test_windows_line_ends_and_colours_change_nothing(name, tmp_path):
    text = (LOGS / name).read_text()
    path = tmp_path / "log.txt"
    path.write_bytes("".join(f"\x1b[32m{line}\x1b[0m\r\n" for line in text.splitlines()).encode())
    assert read_log(path) == read(name)


def test_of_several_starts_the_last_is_read():
    first = (LOGS / "vllm_v1_0.11_tp2.log").read_text().splitlines()
    facts = read_log([line.replace("36.95", "1.00") for line in first] + first)
    assert facts.least(Figure.KV_AVAILABLE)[1].value == gib(36.95)
    assert "the log holds 2 starts; the last is read" in facts.remarks


def test_llamacpp_that_loads_the_same_model_again_begins_anew():
    lines = (LOGS / "llamacpp_two_gpus.log").read_text().splitlines()
    again = [line for line in lines if not line.startswith("build:")]
    facts = read_log(lines + again)
    assert value(facts, Figure.WEIGHTS, "CUDA1")[0] == round(13989.53 * MIB)
    assert facts.version == "6500"
    assert "the log holds 2 starts; the last is read" in facts.remarks


def test_llamacpp_adds_a_draft_model_to_the_model():
    facts = read_log(
        [
            "llama_model_loader: loaded meta data with 9 key-value pairs from a.gguf (version 3)",
            "load_tensors:        CUDA0 model buffer size =  1000.00 MiB",
            "llama_context: n_ctx         = 4096",
            "llama_context:      CUDA0 compute buffer size =   100.00 MiB",
            "llama_model_loader: loaded meta data with 9 key-value pairs from b.gguf (version 3)",
            "load_tensors:        CUDA0 model buffer size =   200.00 MiB",
            "llama_context: n_ctx         = 1024",
            "llama_context:      CUDA0 compute buffer size =    10.00 MiB",
        ]
    )
    assert value(facts, Figure.WEIGHTS) == (1200 * MIB, 6)
    assert value(facts, Figure.ACTIVATIONS) == (110 * MIB, 8)
    assert value(facts, Figure.KV_TOKENS) == (4096, 3)
    assert facts.model == "a.gguf"


def test_an_allocation_that_fails_after_the_start_is_no_failed_start():
    lines = (LOGS / "vllm_v1_0.19.log").read_text().splitlines()
    facts = read_log([*lines, "torch.OutOfMemoryError: CUDA out of memory."])
    assert facts.outcome is Outcome.OK
    assert "line 13: out of memory after the start" in facts.remarks


def test_two_engines_of_a_group_have_to_be_up_both():
    start = "(EngineCore_DP{0} pid=2) Initializing a V1 LLM engine (v0.19.0) with config: model='m'"
    up = (
        "(EngineCore_DP0 pid=2) init engine (profile, create kv cache, warmup model) took 9 seconds"
    )
    oom = "(EngineCore_DP1 pid=3) torch.OutOfMemoryError: CUDA out of memory."
    facts = read_log([start.format(0), start.format(1), up, oom])
    assert facts.outcome is Outcome.OOM


def test_too_little_free_memory_at_the_start():
    line = (
        "ValueError: Free memory on device cuda:0 (4.95/6.0 GiB) on startup is less than "
        "desired GPU memory utilization (0.87, 5.22 GiB)."
    )
    facts = read_log([line])
    assert facts.outcome is Outcome.OOM
    assert value(facts, Figure.FREE_AT_START) == (gib(4.95), 1)


def test_a_negative_cache_is_kept_and_says_why():
    facts = read_log(["(EngineCore pid=1) INFO Available KV cache memory: -2.14 GiB"])
    assert value(facts, Figure.KV_AVAILABLE)[0] == -gib(2.14)
    assert facts.outcome is Outcome.KV_TOO_SMALL


@pytest.mark.parametrize(
    "line",
    [
        "Model loading took 99999999999 GiB memory and 1 seconds",
        "(EngineCore pid=1) GPU KV cache size: 999999999999999 tokens",
        "Maximum concurrency for 999999999999999 tokens per request: 1.00x",
    ],
)
def test_figures_out_of_range_are_left_out_with_a_remark(line):
    facts = read_log(["Available KV cache memory: 1.5 GiB", line])
    assert len(facts.remarks) == 1
    assert "line 2: a " in facts.remarks[0]
    assert "out of range" in facts.remarks[0]


def test_a_run_of_digits_is_no_shorter_number():
    facts = read_log(
        [
            "Available KV cache memory: 1.5 GiB",
            "Actual usage is 100000000000000000000005 GiB for weight, and so on",
            "GPU KV cache size: 1234567890123456789 tokens",
        ]
    )
    assert facts.least(Figure.WEIGHTS) is None
    assert facts.least(Figure.KV_TOKENS) is None


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Starting nginx", "GET /v1/models 200"],
        ["INFO:     Application startup complete."],
        ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"],
        ["build: 1234 passed", "version: 12"],
    ],
)
def test_logs_of_other_programs_are_refused(lines):
    with pytest.raises(InputError, match=r"no engine recognised.*TensorRT-LLM and llama\.cpp"):
        read_log(lines)


def test_lines_of_a_second_engine_are_said_to_be_there():
    lines = (LOGS / "llamacpp_two_gpus.log").read_text().splitlines()
    facts = read_log(lines + (LOGS / "trtllm_pytorch.log").read_text().splitlines())
    assert facts.engine is EngineName.LLAMACPP
    assert "lines of trtllm stand in the log too; they are left out" in facts.remarks


def test_files_that_are_no_log(tmp_path):
    binary = tmp_path / "core"
    binary.write_bytes(b"\x7fELF\0\0")
    with pytest.raises(DocumentError, match="NUL bytes"):
        read_log(binary)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_log(tmp_path / "none.log")
    with pytest.raises(DocumentError, match="cannot be read"):
        read_log(str(tmp_path))


def test_a_line_without_end_costs_no_memory(tmp_path):
    path = tmp_path / "long.log"
    with path.open("wb") as file:
        for _ in range(32):
            file.write(b"A KV cache of " * (MIB // 14))
        file.write(b"\nAvailable KV cache memory: 1.5 GiB\n")
    tracemalloc.start()
    facts = read_log(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value(facts, Figure.KV_AVAILABLE) == (gib(1.5), 2)
    assert facts.remarks == ("lines longer than 64 KiB that were cut: 1",)
    assert peak < 4 * MIB


def test_reading_stops_at_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(log_lines, "MAX_LOG_BYTES", 1000)
    lines = ["Available KV cache memory: 1.5 GiB", *["x" * 99] * 50, "GPU KV cache size: 9 tokens"]
    path = tmp_path / "big.log"
    path.write_text("\n".join(lines))
    for facts in (read_log(path), read_log(lines)):
        assert facts.least(Figure.KV_TOKENS) is None
        assert any("were read" in remark for remark in facts.remarks)


@pytest.mark.parametrize(
    "line",
    [
        "non-default args: {" + "'\\" * 32_000,
        "server_args=ServerArgs(" + "(" * 60_000,
        "non-default args: {'a': " + "[" * 60_000,
        "load_tensors: " + "a" * 30_000 + " " * 30_000 + "model buffer size",
        "[MemUsageChange] " + "Allocated 1 " * 5_000,
        "KV cache \x1b]" + "\x1b[1;" * 12_000,
        "Capture " * 8_000 + "cuda graph end. mem usage=",
        "KV Cache is allocated. #tokens: " + "1" * 60_000,
        "█" + " " * 60_000 + "version ",
        "Load weight end." * 4_000,
    ],
)
def test_hostile_lines_are_read_in_bounded_time(line):
    began = time.monotonic()
    with pytest.raises(InputError):
        read_log([line] * 20)
    # the worst of these needs about 0.1 s a line
    assert time.monotonic() - began < 10


def test_text_of_the_log_is_shown_clean():
    facts = read_log(
        ["server_args=ServerArgs(model_path='a\x07\u202e" + "b" * 900 + "', tp_size=2)"]
    )
    assert facts.model.isprintable()
    assert len(facts.model) <= 300
    assert facts.settings.tensor_parallel == 2


def test_no_more_ranks_than_there_can_be():
    lines = [f"(Worker_TP{n} pid=1) Available KV cache memory: 1.5 GiB" for n in range(5000)]
    facts = read_log(lines)
    assert len(facts.ranks) == 4096
    assert facts.remarks == ("more than 4,096 ranks; the rest was left out",)


def test_printed_values_keep_their_place():
    text = (
        "{'model': 'a/b', 'n': 3, 'f': 0.9, 'on': True, 'no': None, 'list': ['x', 'model'], "
        "'spec': {'model': 'draft', 'k': 2}, 'cfg': Cfg(k=5, e=<E.A: 'a'>), 'late': -1} "
        "'model': 'z'"
    )
    wanted = {"model", "n", "f", "on", "no", "spec.model", "spec.k", "cfg.k", "late"}
    assert printed_values(text, wanted) == {
        "model": "a/b",
        "n": 3,
        "f": 0.9,
        "on": True,
        "no": None,
        "spec.model": "draft",
        "spec.k": 2,
        "cfg.k": 5,
        "late": -1,
    }
    assert printed_values("model='it\\'s, a=b', dtype=torch.float16", {"dtype", "a"}) == {
        "dtype": "torch.float16"
    }


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=4000))
def test_random_bytes_raise_only_our_errors(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "random.log"
    path.write_bytes(data)
    with pytest.raises(LlmplanError):
        read_log(path)


FRAGMENTS = sorted({line for name in NAMES for line in (LOGS / name).read_text().splitlines()})


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(FRAGMENTS), st.integers(0, 400), st.text(max_size=8)),
        max_size=12,
    )
)
def test_broken_lines_of_all_engines_raise_only_our_errors(broken):
    lines = [line[:at] + junk + line[at + len(junk) :] for line, at, junk in broken]
    try:
        facts = read_log(lines)
    except LlmplanError:
        return
    assert facts.lines == len(lines)
    for row in (*facts.ranks, *facts.host):
        for figure in Figure:
            reading = row.figure(figure)
            assert reading is None or 1 <= reading.line <= len(lines)
