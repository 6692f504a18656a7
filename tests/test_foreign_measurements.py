"""Measurements of others as rows of operator tables: what is taken, and what is refused."""

import importlib.util
import sys

import numpy as np
import pytest

from llmplan.errors import DocumentError, InputError, MissingPartError
from llmplan.hardware.catalogue import load_device
from llmplan.perf.aic_tables import aic_measurements, installed_data
from llmplan.perf.foreign import (
    IMPOSSIBLE,
    NO_CURVE,
    TOO_FAST,
    UNREADABLE,
    sampled,
    table_measurements,
    within_peaks,
)
from llmplan.perf.nccl_tests import nccl_measurements
from llmplan.perf.rates import rates_of

H100 = rates_of(load_device("h100-sxm"))

# --- operator tables

GEMM = """src,kernel,dtype,m,n,k,latency_ms
me/1,mine,bfloat16,16,4096,4096,0.02
me/1,mine,bfloat16,8192,4096,4096,0.5
me/1,mine,fp9,16,4096,4096,0.02
me/1,mine,bfloat16,16,4096,4096,slow
me/1,mine,bfloat16,8192,8192,8192,0.5
"""


def test_a_table_of_one_s_own(tmp_path):
    path = tmp_path / "anything.csv"
    path.write_text(GEMM)
    found = table_measurements(path)
    assert found.operator == "gemm"
    (rows,) = found.kernels
    assert rows.labels == {"src": "me/1", "kernel": "mine", "dtype": "bfloat16"}
    assert rows.columns["m"].tolist() == [16, 8192, 8192]
    assert rows.measured_s.tolist() == pytest.approx([2e-5, 5e-4, 5e-4])
    refused = [(r.name, r.reason, r.rows) for r in found.refused]
    assert refused == [("gemm", UNREADABLE, 1), ("me/1 mine fp9", NO_CURVE, 1)]


def test_rows_faster_than_the_device_are_refused(tmp_path):
    # 2·8192³ FLOPs at 989 TFLOP/s take 1.11 ms: half a millisecond is a mistake
    path = tmp_path / "h100_sxm_gemm.csv"
    path.write_text(GEMM)
    found = within_peaks(table_measurements(path), H100)
    assert found.kernels[0].columns["k"].tolist() == [4096, 4096]
    assert found.rows == 2
    assert found.refused[-1].reason == TOO_FAST


def test_sizes_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "moe.csv"
    path.write_text(
        "src,kernel,dtype,tokens,hidden,inter,topk,experts,tp,ep,distribution,latency_ms\n"
        "me,triton,bfloat16,8,1024,768,2,8,1,1,balanced,0.1\n"
        "me,triton,bfloat16,8,1024,768,16,8,1,1,balanced,0.1\n"
        "me,triton,bfloat16,8,1024,768,2,8,1,1,odd,0.1\n"
    )
    found = table_measurements(path)
    assert [rows.measured_s.tolist() for rows in found.kernels] == [[1e-4]]
    assert [(r.reason, r.rows) for r in found.refused] == [(UNREADABLE, 1), (IMPOSSIBLE, 1)]


def test_other_columns_are_of_no_table(tmp_path):
    path = tmp_path / "anything.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DocumentError, match="has the columns of no operator table"):
        table_measurements(path)


def test_a_sample_keeps_the_fastest_and_the_slowest(tmp_path):
    path = tmp_path / "gemm.csv"
    lines = [f"me,mine,bfloat16,{m},256,256,{m / 10}" for m in range(1, 101)]
    path.write_text("\n".join(["src,kernel,dtype,m,n,k,latency_ms", *lines]))
    (rows,) = table_measurements(path).kernels
    few = sampled(rows, 4)
    assert few.columns["m"].tolist() == [1, 34, 67, 100]
    assert sampled(rows, 100) is rows


# --- nccl-tests

HEAD = "# nThread 1 nGpus 4 minBytes 1024 maxBytes 67108864 step: 2(factor) warmup iters: 5\n"
RANKS = "".join(
    f"#  Rank  {rank} Group  0 Pid   77 on    node1 device  {rank} [0x0f] NVIDIA H100 80GB HBM3\n"
    for rank in range(4)
)
TITLES = """#
#                                                              out-of-place
#       size         count      type   redop    root     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)
"""
# 67,108,864 B in 320 µs are 209.7 GB/s; 1,024 B in 8 µs 0.128
BOTH = """#       size         count      type   redop    root     time   algbw   busbw #wrong \
    time   algbw   busbw #wrong
"""
LINES = """        1024           256     float     sum      -1     8.00    0.13    0.19      0
    67108864      16777216     float     sum      -1    320.0  209.71  314.57    N/A
"""


def output(path, *parts):
    path.write_text("".join(parts))
    return path


def test_lines_of_an_all_reduce(tmp_path):
    path = output(tmp_path / "all_reduce_perf.txt", HEAD, RANKS, TITLES, LINES)
    found = nccl_measurements(path)
    (rows,) = found.kernels
    assert found.operator == "collectives"
    assert rows.labels == {
        "src": "nccl-tests", "kernel": "NCCL", "op": "all_reduce", "dtype": "half",
    }  # fmt: skip
    assert rows.columns["gpus"].tolist() == [4, 4]
    assert rows.columns["bytes"].tolist() == [1024, 67108864]
    assert rows.measured_s.tolist() == pytest.approx([8e-6, 3.2e-4])
    assert found.refused == ()
    assert "of 'half'" in found.notes[0]


def test_times_out_of_place_are_taken_and_sizes_are_of_the_whole_buffer(tmp_path):
    # of an all-gather over 4 ranks count is what one sends: 65,536 floats, a quarter of 1 MiB
    line = "1048576  65536  float  none  -1  20.0  52.43  39.32  0  25.0  41.94  31.46  0\n"
    log = "# Collective test starting: all_gather_perf\n"
    path = output(tmp_path / "log.txt", log, HEAD, RANKS, BOTH, line)
    (rows,) = nccl_measurements(path).kernels
    assert rows.labels["op"] == "all_gather"
    assert rows.columns["bytes"].tolist() == [1048576]
    assert rows.measured_s.tolist() == pytest.approx([20e-6])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1024 256 float sum -1 8.00 0.13 0.19 3\n", "3 elements were wrong"),
        ("1024 256 float sum -1 8.00 x 0.19 0\n", "its numbers cannot be read"),
        ("1024 256 float sum -1\n", "its numbers cannot be read"),
        ("0 0 float sum -1 8.00 0.00 0.00 0\n", "holds no size or no time"),
        (
            "67108864 16777216 float sum -1 0.32 209.71 314.57 0\n",
            "its rate is 209.71 GB/s where size over time is 2.097e+05",
        ),
    ],
)
def test_lines_that_are_no_measurement_are_refused(tmp_path, line, reason):
    found = nccl_measurements(
        output(tmp_path / "all_reduce_perf.txt", HEAD, RANKS, TITLES, LINES, line)
    )
    assert found.rows == 2
    (refused,) = found.refused
    assert (refused.name, refused.reason) == ("line 12", reason)


def test_several_hosts_are_no_single_node(tmp_path):
    far = "#  Rank  4 Group  0 Pid   78 on    node2 device  0 [0x0f] NVIDIA H100 80GB HBM3\n"
    found = nccl_measurements(
        output(tmp_path / "all_reduce_perf.txt", HEAD, RANKS, far, TITLES, LINES)
    )
    assert found.kernels == ()
    assert {r.reason for r in found.refused} == {"ran on 2 hosts: the table is of one node"}


def test_runs_that_were_mixed_up_are_refused(tmp_path):
    path = output(tmp_path / "all_reduce_perf.txt", HEAD, RANKS, RANKS, TITLES, LINES)
    found = nccl_measurements(path)
    assert found.kernels == ()
    assert {r.reason for r in found.refused} == {
        "ranks are listed twice or not in order: several runs in one"
    }


def test_launches_by_the_host_are_said(tmp_path):
    eager = HEAD.replace("\n", " graph: 0\n")
    path = output(tmp_path / "all_reduce_perf.txt", eager, RANKS, TITLES, LINES)
    assert "-G 1" in nccl_measurements(path).notes[1]


def test_messages_of_the_library_between_lines_are_no_lines(tmp_path):
    message = "10-0-0-1:77:77 [0] NCCL INFO Connected all trees\n"
    path = output(tmp_path / "all_reduce_perf.txt", HEAD, RANKS, TITLES, message, LINES, message)
    found = nccl_measurements(path)
    assert (found.rows, found.refused) == (2, ())


def test_several_runs_in_one_log(tmp_path):
    two = "".join(RANKS.splitlines(keepends=True)[:2])
    path = output(
        tmp_path / "log",
        "$ ./build/all_reduce_perf -g 4\n", HEAD, RANKS, TITLES, LINES,
        "$ ./build/reduce_scatter_perf -g 2\n", HEAD, two, TITLES, LINES,
    )  # fmt: skip
    first, second = nccl_measurements(path).kernels
    assert (first.labels["op"], first.columns["gpus"].tolist()) == ("all_reduce", [4, 4])
    assert (second.labels["op"], second.columns["gpus"].tolist()) == ("reduce_scatter", [2, 2])


def test_output_of_an_unknown_program_asks_for_its_name(tmp_path):
    path = output(tmp_path / "log", HEAD, RANKS, TITLES, LINES)
    with pytest.raises(DocumentError, match="does not say which program ran"):
        nccl_measurements(path)
    (rows,) = nccl_measurements(path, "alltoall").kernels
    assert rows.labels["op"] == "alltoall"
    with pytest.raises(InputError, match="'all_to_all' is no collective of the table"):
        nccl_measurements(path, "all_to_all")


def test_programs_that_no_step_runs_are_refused(tmp_path):
    path = output(tmp_path / "broadcast_perf.txt", HEAD, RANKS, TITLES, LINES)
    with pytest.raises(DocumentError, match="broadcast_perf is none of all_reduce_perf"):
        nccl_measurements(path)


def test_columns_of_early_versions_are_not_read(tmp_path):
    old = "#       size         count    type     time   algbw   busbw  error\n"
    path = output(
        tmp_path / "all_gather_perf.txt", HEAD, RANKS, old, "1024 256 float 8 0.1 0.1 0\n"
    )
    with pytest.raises(DocumentError, match="holds no output of nccl-tests"):
        nccl_measurements(path)


# --- kernel times of aiconfigurator

TABLES = {
    "gemm/vllm/0.14.0/gemm_perf.txt": (
        "framework,kernel_source,gemm_dtype,m,n,k,latency\nvLLM,old,bfloat16,1,256,256,9\n"
    ),
    "gemm/vllm/0.24.0/gemm_perf.txt": (
        "framework,kernel_source,gemm_dtype,m,n,k,latency\n"
        "VLLM,FlashInferFp8BlockScaledMMKernel,fp8_block,16,6144,4096,0.0125\n"
        "VLLM,FlashInferFp8BlockScaledMMKernel,fp8_block,,6144,4096,0.0125\n"
        "VLLM,FlashInferFp8BlockScaledMMKernel,w3,16,6144,4096,0.0125\n"
    ),
    "attention/trtllm/1.3.0rc10/generation_attention_perf.txt": (
        "kernel_source,batch_size,isl,num_heads,num_key_value_heads,head_dim,attn_dtype,"
        "kv_cache_dtype,step,latency\ntorch_flow,4,1,32,8,128,bfloat16,fp8,1023,0.02\n"
    ),
    "attention/trtllm/1.3.0rc9/generation_attention_perf.txt": "broken",
    "mla/vllm/0.24.0/mla_generation_module_perf.txt": (
        "kernel_source,model,mla_dtype,kv_cache_dtype,gemm_type,num_heads,batch_size,isl,step,"
        "latency\nFLASHMLA,deepseek-ai/DeepSeek-V3,bfloat16,fp8,fp8_block,16,8,1,512,0.2\n"
    ),
    "moe/vllm/0.24.0/moe_perf.txt": (
        "kernel_source,moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,"
        "moe_ep_size,distribution,latency\n"
        "vllm_fp8moe_triton_tritonexperts,fp8_block,64,7168,2048,8,256,1,8,power_law_1.2,0.3\n"
    ),
    "comm/nccl/2.29.2/nccl_perf.txt": (
        "op_name,kernel_source,nccl_dtype,num_gpus,message_size,latency\n"
        "all_gather,NCCL,half,8,512,0.006\nall_gather,NCCL,int8,8,512,0.006\n"
    ),
    "comm/sglang/0.5.12/wideep_deepep_ll_perf.txt": (
        "kernel_source,node_num,hidden_size,num_token,num_topk,num_experts,combine_avg_t_us,"
        "dispatch_avg_t_us\ndeepep,1,2048,4,8,128,11.5,10.25\n"
    ),
}


@pytest.fixture
def root(tmp_path):
    for name, text in TABLES.items():
        path = tmp_path / "h100_sxm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def found(root):
    return {each.kernels[0].labels["src"]: each for each in aic_measurements(root, "h100_sxm")}


def test_the_newest_version_of_every_table_is_read(found):
    assert set(found) == {
        "aic/gemm/vllm/0.24.0", "aic/attention/trtllm/1.3.0rc10", "aic/mla/vllm/0.24.0",
        "aic/moe/vllm/0.24.0", "aic/comm/nccl/2.29.2", "aic/comm/sglang/0.5.12",
    }  # fmt: skip


def test_products_with_what_was_refused(found):
    products = found["aic/gemm/vllm/0.24.0"]
    (rows,) = products.kernels
    assert rows.labels["kernel"] == "FlashInferFp8BlockScaledMMKe"
    assert rows.labels["dtype"] == "fp8_block"
    assert [rows.columns[name].tolist() for name in "mnk"] == [[16], [6144], [4096]]
    assert rows.measured_s.tolist() == pytest.approx([1.25e-5])
    assert [(r.reason, r.rows) for r in products.refused] == [(UNREADABLE, 1), (NO_CURVE, 1)]


def test_one_new_token_is_part_of_the_keys_of_a_kernel(found):
    columns = found["aic/attention/trtllm/1.3.0rc10"].kernels[0].columns
    assert {name: values.tolist() for name, values in columns.items()} == {
        "batch": [4], "kv_len": [1024], "heads": [32], "kv_heads": [8], "head_dim": [128],
        "window": [0],
    }  # fmt: skip


def test_a_module_states_its_keys_alone(found):
    rows = found["aic/mla/vllm/0.24.0"].kernels[0]
    assert rows.labels["phase"] == "generation"
    assert rows.columns["kv_len"].tolist() == [512]


def test_experts_are_called_without_their_engine(found):
    rows = found["aic/moe/vllm/0.24.0"].kernels[0]
    assert rows.labels["kernel"] == "fp8moe_triton_tritonexperts"
    assert rows.columns["distribution"].tolist() == [1.2]


def test_messages_are_elements(found):
    half, bytes_ = found["aic/comm/nccl/2.29.2"].kernels
    assert half.columns["bytes"].tolist() == [1024]
    assert bytes_.columns["bytes"].tolist() == [512]


def test_dispatch_and_combination_are_microseconds(root):
    both = [each.kernels[0] for each in aic_measurements(root, "h100_sxm")][-2:]
    assert [rows.labels["phase"] for rows in both] == ["dispatch", "combine"]
    assert [rows.labels["backend"] for rows in both] == ["deepep_ll"] * 2
    assert np.concatenate([rows.measured_s for rows in both]).tolist() == pytest.approx(
        [10.25e-6, 11.5e-6]
    )
    assert both[0].columns["ep"].tolist() == [8]


def test_a_system_that_is_not_there(root):
    with pytest.raises(InputError, match="has no system 'h300': h100_sxm"):
        list(aic_measurements(root, "h300"))


def test_a_missing_column_is_named(root):
    path = root / "h100_sxm/gemm/vllm/0.24.0/gemm_perf.txt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:99\n")
    with pytest.raises(DocumentError, match=r"gemm_perf.txt: has no column 'gemm_dtype'"):
        list(aic_measurements(root, "h100_sxm"))


def test_parquet_without_pyarrow_says_what_to_install(root, monkeypatch):
    (root / "h100_sxm/gemm/vllm/0.25.0").mkdir()
    (root / "h100_sxm/gemm/vllm/0.25.0/gemm_perf.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPartError, match="pip install pyarrow") as caught:
        list(aic_measurements(root, "h100_sxm"))
    assert caught.value.exit_code == 3


def test_parquet_is_read(root):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = root / "h100_sxm/gemm/vllm/0.25.0"
    folder.mkdir()
    columns = {"kernel_source": ["cublas"], "gemm_dtype": ["bfloat16"], "latency": [0.5]}
    table = pyarrow.table({**columns, "m": [1], "n": [256], "k": [512]})
    parquet.write_table(table, folder / "gemm_perf.parquet")
    rows = next(aic_measurements(root, "h100_sxm")).kernels[0]
    assert rows.labels["src"] == "aic/gemm/vllm/0.25.0"
    assert rows.measured_s.tolist() == pytest.approx([5e-4])


@pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is not None, reason="it is installed"
)
def test_without_the_package_its_data_must_be_named():
    with pytest.raises(MissingPartError, match="pip install aiconfigurator-core"):
        installed_data()
