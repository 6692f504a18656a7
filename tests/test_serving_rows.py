"""Measured serving rows as questions: literal rows, and the shipped extract."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmplan.analyze import measured
from llmplan.analyze.measured import Skipped
from llmplan.analyze.served_rows import Memories, served
from llmplan.analyze.serving_rows import ServingRow, asked_by, serving_rows
from llmplan.analyze.serving_workers import worker_of
from llmplan.analyze.traffic import Generation
from llmplan.errors import DocumentError
from llmplan.hardware.catalogue import load_device
from llmplan.model.compiled import Part
from llmplan.parallel.layout import Layout

MEASURED = Path(__file__).parents[1] / "hardware" / "measured"
SERVING = MEASURED / "serving.csv"
BLANK = dict.fromkeys(SERVING.read_text(encoding="utf-8").partition("\n")[0].split(","), "")
DENSE = {
    "id": "S1", "engine": "vllm", "model": "meta-llama/Llama-3.1-8B-Instruct",
    "gpu": "H100-SXM-80GB", "num_gpus": "1", "nodes": "1", "tp": "1", "pp": "1", "ep": "1",
    "dp": "1", "disaggregated": "0", "weight_dtype": "bf16", "isl": "1024", "osl": "512",
    "concurrency": "16", "scenario": "closed_loop", "ttft_ms": "100", "tpot_ms": "8",
    "spec_decode": "none", "quality": "A",
}  # fmt: skip
EXPERTS = {
    "engine": "sglang", "model": "deepseek-ai/DeepSeek-R1-0528", "gpu": "H200-SXM-141GB",
    "num_gpus": "8", "tp": "8", "weight_dtype": "fp8",
}  # fmt: skip
APART = {"disaggregated": "1", "gpu": "GB200", "nodes": "11", "weight_dtype": "nvfp4"}


def read(*layers: dict[str, str], **cells: str) -> ServingRow:
    row = BLANK | DENSE
    for layer in layers:
        row |= layer
    return asked_by(row | cells)


def stored(asked: ServingRow) -> dict[str, str]:
    """Formats of weights by role."""
    return {
        weight.role.value: operator.precision.of(weight.role).name
        for operator, _ in asked.model.decoder.counted
        for weight in operator.weights
    }


def kv(asked: ServingRow) -> set[str]:
    return {operator.precision.kv.name for operator, _ in asked.model.decoder.counted}


@pytest.mark.parametrize(
    ("engine", "version", "date", "expected"),
    [
        ("vllm", "0.7.3", "2026-04-17", Generation.EARLY),
        ("vllm", "0.19.1rc1.dev339+gedc364896", "2026-04-16", Generation.CURRENT),
        ("vllm", "", "2024-07", Generation.EARLY),
        ("vllm", "2024-05", "2024-05", Generation.EARLY),
        ("trtllm", "0.4.1", "2025-09", Generation.CURRENT),
        ("vllm", "a1b2c3d", "2025-09", Generation.CURRENT),
    ],
)
def test_an_engine_is_as_old_as_its_release_and_not_as_the_day_it_ran(
    engine, version, date, expected
):
    """Versions of TensorRT-LLM rows are those of the servers around it."""
    row = read(engine=engine, engine_version=version, date=date)
    assert served(row, Memories()).deployed.generation is expected


def test_a_plain_row():
    asked = read(engine_version="0.12.0")
    assert (asked.id, asked.engine, asked.version) == ("S1", "vllm", "0.12.0")
    assert asked.published.identity.name == "llama-3.1-8b"
    assert (asked.layout, asked.replicas, asked.num_gpus, asked.nodes) == (Layout(), 1, 1, 1)
    assert (asked.isl, asked.osl, asked.spread) == (1024, 512, 0)
    assert (asked.concurrency, asked.rate, asked.scenario) == (16, None, "closed_loop")
    assert asked.measured == {"ttft": pytest.approx(0.1), "tpot": pytest.approx(0.008)}
    assert not asked.disaggregated
    assert (asked.prefill_layout, asked.prefill_gpus, asked.decode_gpus) == (None, 0, 0)
    assert asked.assumed == ()
    assert asked.remarks == ("KV format is not stated: bf16",)


@pytest.mark.parametrize(
    "notes",
    [
        "InferenceX run; lengths drawn uniformly in [0.8L, L]",
        "random range ratio 0.8 (lengths in [0.8L, L])",
    ],
)
def test_uniform_lengths_are_run_at_their_mean(notes: str):
    asked = read(notes=notes)
    assert asked.isl == pytest.approx(0.9 * 1024)
    assert asked.osl == pytest.approx(0.9 * 512)
    assert asked.spread == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("cells", "layout", "replicas"),
    [
        ({}, Layout(tp=8), 1),
        ({"ep": "8"}, Layout(tp=8, ep=True), 1),
        ({"tp": "1", "dp": "8", "ep": "8"}, Layout(dp=8, ep=True), 1),
        ({"num_gpus": "16", "ep": "8"}, Layout(tp=8, ep=True), 2),
        ({"tp": "4", "dp": "2", "ep": "8"}, Layout(tp=4, dp=2, ep=True), 1),
        ({"tp": "4", "pp": "2", "ep": "4"}, Layout(tp=4, pp=2, ep=True), 1),
    ],
)
def test_workers(cells: dict[str, str], layout: Layout, replicas: int):
    asked = read(EXPERTS, cells)
    assert (asked.layout, asked.replicas) == (layout, replicas)
    assert asked.remarks == ("KV format is not stated: bf16",)


def test_groups_without_shared_experts_are_the_nearest_layout():
    asked = read(EXPERTS, tp="2", dp="4", ep="1")
    assert asked.layout == Layout(tp=2, dp=4, ep=True)
    assert "experts split over all ranks are counted as whole experts on each" in asked.remarks


@pytest.mark.parametrize(("ep", "is_spread"), [("2", False), ("4", True)])
def test_experts_shared_by_some_ranks(ep: str, is_spread: bool):  # noqa: FBT001 (a case)
    asked = read(EXPERTS, ep=ep)
    assert asked.layout == Layout(tp=8, ep=is_spread)
    assert f"experts shared by {ep} of 8 ranks are counted as the nearest layout" in asked.remarks


def test_blocks_that_a_split_would_cut_mean_whole_experts():
    cells = {"model": "MiniMaxAI/MiniMax-M2.5", "weight_dtype": "fp8", "engine": "vllm"}
    asked = read(cells, tp="8", num_gpus="8")
    assert asked.layout == Layout(tp=8, ep=True)
    assert any(remark.startswith("whole experts on each rank, since") for remark in asked.remarks)
    assert read(cells, tp="4", num_gpus="4").layout == Layout(tp=4)


def test_groups_of_a_dense_model_are_copies():
    asked = read(num_gpus="8", tp="2", dp="4")
    assert (asked.layout, asked.replicas) == (Layout(tp=2), 4)


def test_gpus_of_no_worker_are_said():
    asked = read(num_gpus="7", tp="2")
    assert asked.replicas == 3
    assert "1 of 7 GPUs are part of no worker" in asked.remarks


def test_a_layout_that_nobody_states_is_assumed():
    blank = dict.fromkeys(("tp", "pp", "ep", "dp"), "")
    asked = read(blank, num_gpus="4")
    assert (asked.layout, asked.assumed) == (Layout(tp=4), ("layout",))
    assert read(blank).assumed == ()
    for cells in ({"scenario": "mlperf_server"}, {"num_gpus": "16"}):
        with pytest.raises(Skipped, match=r"^no layout stated$"):
            read(blank, cells)


def test_prefill_elsewhere():
    asked = read(
        EXPERTS,
        APART,
        num_gpus="44",
        prefill_gpus="4",
        decode_gpus="40",
        ep="8",
        notes="prefill 1x(tp1,dp4,ep4), decode 5x(tp8,dp1,ep8); InferenceX run",
    )
    assert asked.disaggregated
    assert (asked.layout, asked.replicas) == (Layout(tp=8, ep=True), 5)
    assert asked.prefill_layout == Layout(dp=4, ep=True)
    assert (asked.num_gpus, asked.prefill_gpus, asked.decode_gpus) == (44, 4, 40)


def test_prefill_elsewhere_in_other_words():
    asked = read(
        APART,
        model="openai/gpt-oss-120b",
        weight_dtype="mxfp4",
        num_gpus="8",
        tp="2",
        prefill_gpus="6",
        decode_gpus="2",
        notes="3 prefill x TP2 + 1 decode x TP2; mean lengths measured",
    )
    assert (asked.layout, asked.replicas, asked.prefill_layout) == (Layout(tp=2), 1, Layout(tp=2))


def test_rows_of_one_pool_count_its_gpus():
    cells = EXPERTS | APART | {"tp": "1", "dp": "8", "ep": "8", "num_gpus": "16"}
    asked = read(cells, scenario="decode_only", decode_gpus="16", output_tok_s_per_gpu="100")
    assert asked.replicas == 2
    assert asked.measured["throughput"] == 1600
    assert "throughput is that of a GPU times the GPUs" in asked.remarks


@pytest.mark.parametrize(
    ("model", "engine", "word", "attention", "ffn"),
    [
        ("meta-llama/Llama-3.1-70B", "vllm", "fp16", "bf16", "bf16"),
        ("meta-llama/Llama-3.1-70B", "vllm", "fp8", "fp8_tensor", "fp8_tensor"),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "vllm", "fp8", "fp8_tensor", "fp8_tensor"),
        ("amd/Llama-3.1-70B-Instruct-FP8-KV", "vllm", "fp8", "fp8_tensor", "fp8_tensor"),
        ("Qwen/Qwen3-32B", "trtllm", "fp8", "fp8_tensor", "fp8_tensor"),
        ("Qwen/Qwen3-32B", "vllm", "fp8", "fp8", "fp8"),
        ("Qwen/Qwen3-235B-A22B-FP8", "trtllm", "fp8", "fp8", "fp8"),
        ("Qwen/Qwen3-235B-A22B", "trtllm", "fp8", "fp8_tensor", "fp8_tensor"),
        ("Qwen/Qwen3-32B", "trtllm", "nvfp4", "nvfp4", "nvfp4"),
        ("deepseek-ai/DeepSeek-R1-0528", "trtllm", "fp8", "fp8", "fp8"),
        ("deepseek-ai/DeepSeek-R1-0528", "sglang", "nvfp4", "bf16", "nvfp4"),
        ("nvidia/DeepSeek-R1-NVFP4", "trtllm", "nvfp4", "bf16", "nvfp4"),
        ("zai-org/GLM-5", "sglang", "fp8", "fp8", "fp8"),
        ("openai/gpt-oss-120b", "vllm", "mxfp4", "bf16", "mxfp4"),
        ("moonshotai/Kimi-K2.5", "vllm", "int4", "bf16", "int4_sym_g32"),
        ("moonshotai/Kimi-K2.5", "vllm", "nvfp4", "bf16", "nvfp4"),
        ("deepseek-ai/DeepSeek-V4-Pro", "vllm", "fp4", "fp8", "mxfp4"),
        ("deepseek-ai/DeepSeek-V4-Pro", "sglang", "fp8", "fp8", "mxfp4"),
        ("MiniMaxAI/MiniMax-M3", "vllm", "mxfp8", "mxfp8", "mxfp8"),
        ("meta-llama/Llama-2-7b-hf", "gpt-fast", "int4", "int4_sym_g128", "int4_sym_g128"),
        ("meta-llama/Meta-Llama-3-8B", "llama.cpp", "q4_k_m", "4.85_bits", "4.85_bits"),
        ("meta-llama/Meta-Llama-3-8B", "llama.cpp", "q8_0", "q8_0", "q8_0"),
        ("meta-llama/Meta-Llama-3-8B", "llama.cpp", "f16", "bf16", "bf16"),
    ],
)
def test_weight_formats(model: str, engine: str, word: str, attention: str, ffn: str):
    formats = stored(read(model=model, engine=engine, weight_dtype=word))
    assert formats["attention"] == attention
    assert formats.get("experts", formats.get("ffn")) == ffn
    is_gguf = engine == "llama.cpp"
    assert formats["embedding"] == (attention if is_gguf else "bf16")


@pytest.mark.parametrize(
    ("engine", "weights", "said", "expected"),
    [
        ("vllm", "fp8", "", "bf16"),
        ("sglang", "nvfp4", "", "bf16"),
        ("trtllm", "fp8", "", "fp8"),
        ("trtllm", "nvfp4", "", "fp8"),
        ("trtllm", "bf16", "", "bf16"),
        ("trtllm", "int4", "", "bf16"),
        ("trtllm", "fp8", "fp16", "bf16"),
        ("vllm", "fp16", "fp8", "fp8"),
        ("llama.cpp", "q4_k_m", "f16", "bf16"),
        ("llama.cpp", "q4_k_m", "", "bf16"),
    ],
)
def test_kv_formats(engine: str, weights: str, said: str, expected: str):
    asked = read(engine=engine, weight_dtype=weights, kv_dtype=said)
    assert kv(asked) == {expected}
    assert (f"KV format is not stated: {expected}" in asked.remarks) == (not said)


def test_indexer_keys_are_the_engines_own():
    asked = read(EXPERTS, model="zai-org/GLM-5")
    keys = {operator.precision.indexer_keys.name for operator, _ in asked.model.decoder.counted}
    assert keys == {"fp8_indexer"}


def test_vision_and_mtp_stay_out():
    asked = read(EXPERTS, model="moonshotai/Kimi-K2.5", weight_dtype="int4")
    assert not asked.model.parts(Part.VISION, Part.PROJECTOR, Part.MTP)
    assert not read(EXPERTS).model.parts(Part.MTP)


def test_throughput():
    total = {"input_tok_s_total": "900", "output_tok_s_total": "300", "ttft_ms": "", "tpot_ms": ""}
    assert read(total).measured == {"throughput": 300}
    assert read(total, scenario="prefill_only", osl="").measured == {"throughput": 900}
    each = read(total, output_tok_s_total="", output_tok_s_per_gpu="40", num_gpus="8", tp="8")
    assert each.measured == {"throughput": 320}
    with pytest.raises(Skipped, match="states no metric"):
        read(total, output_tok_s_total="")


def test_rates():
    assert read(request_rate="5", concurrency="").rate == 5
    asked = read(request_rate="inf", concurrency="")
    assert (asked.rate, asked.concurrency) == (None, None)


def test_what_notes_call_guessed_is_assumed():
    note = "A100 power-limited to 330 W; osl not stated (200 is the script default)"
    assert read(notes=note).assumed == ("osl",)
    assert read(notes="A100 memory size not stated, 80GB assumed").assumed == ("device memory",)


def test_context_parallelism_of_notes():
    cells = {"gpu": "H200-SXM-141GB", "num_gpus": "16", "tp": "16", "weight_dtype": "fp8"}
    note = "16xH200, TP16 with decode context parallel 16"
    asked = read(cells, model="moonshotai/Kimi-K2-Instruct", notes=note)
    assert asked.layout == Layout(tp=16, decode_cp=16)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"engine": ""}, "names no engine"),
        ({"engine": "deepseek-internal"}, "engine 'deepseek-internal' is not known"),
        ({"model": "nobody/nothing-7b"}, "no spec"),
        ({"model": ""}, "names no model"),
        ({"gpu": "H100-class"}, "names several GPUs"),
        ({"gpu": "Abacus"}, "names a GPU that is not in the catalogue"),
        ({"weight_dtype": ""}, "states no weight format"),
        ({"weight_dtype": "fp7"}, "weight format 'fp7' is not known"),
        ({"weight_dtype": "q8_0"}, "weight format 'q8_0' is not known"),
        ({"weight_dtype": "q9_x", "engine": "llama.cpp"}, "weight format 'q9_x' is not known"),
        ({"kv_dtype": "fp7"}, "KV format 'fp7' is not known"),
        ({"kv_dtype": "q9_9"}, "q9_9"),
        ({"model": "flux.1-dev"}, "is no language model"),
        ({"spec_decode": "mtp"}, "drafts tokens"),
        ({"isl": ""}, "does not state the tokens of a request"),
        ({"osl": ""}, "does not state the tokens of a request"),
        ({"num_gpus": ""}, "does not state the number of GPUs"),
        ({"num_gpus": "4", "tp": "8"}, "layout: a worker of 8 GPUs, and 4 to run it on"),
        ({"num_gpus": "8", "tp": "8", "ep": "8"}, r"layout: .*no routed experts"),
        ({"num_gpus": "3", "tp": "3"}, "layout: "),
        ({"disaggregated": "1"}, "does not state the GPUs of the decode pool"),
        (EXPERTS | {"ep": "16"}, "layout: 16 GPUs share the experts of a worker of 8"),
        ({"tp": "1.5"}, "tp is no count: 1.5"),
        ({"tp": "²"}, "tp is no number"),
        ({"num_gpus": "1e9"}, "num_gpus is no count"),
        ({"isl": "nan"}, "isl is no number: nan"),
        ({"osl": "-1"}, "osl is no number: -1"),
        ({"ttft_ms": "1e999"}, "ttft_ms is no number"),
    ],
)
def test_rows_that_cannot_be_answered_say_why(cells: dict[str, str], reason: str):
    with pytest.raises(Skipped, match=reason):
        read(cells)


degrees = st.integers(min_value=0, max_value=16)


@given(tp=degrees, pp=degrees, dp=degrees, ep=degrees, has_experts=st.booleans())
def test_a_worker_has_the_gpus_of_its_row(tp: int, pp: int, dp: int, ep: int, *, has_experts: bool):
    split = {"tp": tp, "pp": pp, "dp": dp, "ep": ep}
    try:
        layout = worker_of(split, has_experts=has_experts).layout
    except Skipped:
        assert has_experts
        assert ep > max(tp, 1) * max(dp, 1)
        return
    assert layout.gpus == max(tp, 1) * max(pp, 1) * (max(dp, 1) if has_experts else 1)
    assert layout.ep or layout.dp == 1


@pytest.mark.parametrize(
    ("label", "slug"),
    [
        ("V100S-PCIE-32GB", "v100s-32gb-pcie"),
        ("MI250-128GB", "mi250"),
        ("RTX-4080-16GB", "rtx-4080"),
        ("MI250X-1GCD-64GB", "mi250x-gcd"),
        ("RTX-PRO-6000-SE-96GB", "rtx-pro-6000-blackwell-server"),
    ],
)
def test_labels_of_gpus(label: str, slug: str):
    assert load_device(label).slug == slug


def test_tables_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "rows.csv"
    with pytest.raises(DocumentError, match="cannot be read"):
        list(serving_rows(path))
    path.write_text("id,engine,model,gpu,num_gpus,isl,osl\n", encoding="utf-8")
    with pytest.raises(DocumentError, match="has no column 'scenario'"):
        list(serving_rows(path))
    path.write_bytes(b"id,\xff\n")
    with pytest.raises(DocumentError, match="is no CSV text"):
        list(serving_rows(path))
    monkeypatch.setattr(measured, "MAX_ROWS", 1)
    with pytest.raises(DocumentError, match="has more than 1 rows"):
        list(serving_rows(SERVING))
    monkeypatch.setattr(measured, "MAX_BYTES", 1)
    with pytest.raises(DocumentError, match="is larger than 1 bytes"):
        list(serving_rows(SERVING))


def test_shipped_rows_are_answered():
    answered, skipped = [], []
    for row in serving_rows(SERVING):
        try:
            answered.append(asked_by(row))
        except Skipped:
            skipped.append(row)
    assert len(answered) > 0.95 * (len(answered) + len(skipped))
    for asked in answered:
        assert asked.replicas >= 1
        assert asked.measured
        if asked.prefill_layout:
            assert asked.prefill_gpus % asked.prefill_layout.gpus == 0


def test_shipped_rows_name_a_licensed_source():
    table = (MEASURED / "README.md").read_text(encoding="utf-8")
    lines = [line for line in table.splitlines() if "/" in line and line[:3] == "| `"]
    assert all(re.search(r"\| (Apache-2.0|BSD-3-Clause|CC0-1.0) \|$", line) for line in lines)
    named = tuple(name for line in lines for name in re.findall(r"`([^`]+/[^`]+)`", line))
    rows = list(serving_rows(SERVING))
    assert all(row["source"].startswith(named) for row in rows)
    assert {row["quality"] for row in rows} == {"A", "B"}
    assert len({row["id"] for row in rows}) == len(rows)
