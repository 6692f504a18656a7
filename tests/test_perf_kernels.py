"""Curves of kernels: never faster than the device, never less time for more work."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmplan.hardware.catalogue import load_device
from llmplan.perf.kernels import Columns, Labels, Operator, Parameters, smooth_max, smooth_min
from llmplan.perf.operators.collectives import COLLECTIVES
from llmplan.perf.operators.gemm import GEMM
from llmplan.perf.operators.moe_a2a import MOE_A2A
from llmplan.perf.operators.network import NETWORK
from llmplan.perf.rates import Rates, rates_of

BEST = 1.05
"""Efficiency that no curve may pass."""
ALIKE = 1e-9
"""Of rounding, when times are compared."""
KERNELS: list[tuple[Operator, Labels]] = [
    (
        GEMM,
        {"src": "aic/gemm/vllm/0.24.0", "kernel": "torch.nn.functional.linear", "dtype": "bf16"},
    ),
    (GEMM, {"src": "aic/gemm/vllm/0.24.0", "kernel": "DeepGemm", "dtype": "fp8_block"}),
    (GEMM, {"src": "aic/gemm/trtllm/1.3.0rc20", "kernel": "torch_flow", "dtype": "fp8"}),
    (COLLECTIVES, {"src": "", "kernel": "NCCL", "op": "all_gather", "dtype": "half"}),
    (COLLECTIVES, {"src": "", "kernel": "NCCL", "op": "all_reduce", "dtype": "half"}),
    (COLLECTIVES, {"src": "", "kernel": "vLLM_custom_graph", "op": "all_reduce", "dtype": "bf16"}),
    (COLLECTIVES, {"src": "", "kernel": "vLLM_custom_eager", "op": "all_reduce", "dtype": "bf16"}),
    (MOE_A2A, {"src": "", "backend": "deepep_ll", "phase": "dispatch", "dtype": "fp8"}),
    (MOE_A2A, {"src": "", "backend": "deepep_ht", "phase": "combine", "dtype": "default"}),
    (NETWORK, {"src": "", "topology": "h100_dgx", "op": "all_reduce"}),
    (NETWORK, {"src": "", "topology": "h100_dgx", "op": "send_recv"}),
]
DEVICES = ("a100-80gb-sxm", "h100-sxm", "gb200", "gb300", "l40s")
LEAST = {
    "gpus": 2, "gpus_per_node": 2, "ep": 2, "nodes": 1, "hidden": 512, "topk": 1, "experts": 8,
    "tokens": 1, "bytes": 256, "m": 1, "n": 16, "k": 16,
}  # fmt: skip
MOST = {
    "gpus": 16, "gpus_per_node": 8, "ep": 64, "nodes": 1, "hidden": 16384, "topk": 16,
    "experts": 512, "tokens": 65536, "bytes": 2**31, "m": 65536, "n": 131072, "k": 65536,
}  # fmt: skip
WORK = {"gemm": ("m", "n", "k"), "collectives": ("bytes",), "moe_a2a": ("tokens", "hidden"),
        "network": ("bytes",)}  # fmt: skip


def cases(draw: st.DrawFn) -> tuple[Operator, Labels, Parameters, dict[str, int], Rates]:
    """A kernel with any parameters in range, a size, and a device that can run it."""
    operator, labels = draw(st.sampled_from(KERNELS))
    linked = operator is MOE_A2A
    device = rates_of(load_device(draw(st.sampled_from(DEVICES[: -1 if linked else None]))))
    parameters = {p.name: draw(st.floats(p.low, p.high)) for p in operator.parameters(labels)}
    sizes = {name: draw(st.integers(LEAST[name], MOST[name])) for name in operator.numbers}
    return operator, labels, parameters, sizes, device


any_case = st.composite(cases)


def column(sizes: dict[str, int]) -> Columns:
    return {name: np.array([float(size)]) for name, size in sizes.items()}


@given(any_case())
def test_no_kernel_is_faster_than_the_device(case) -> None:
    operator, labels, parameters, sizes, device = case
    columns = column(sizes)
    took = operator.seconds(parameters, columns, labels, device)
    bound = operator.bound_seconds(columns, labels, device)
    assert np.all(np.isfinite(took))
    assert took[0] > 0
    assert took[0] * BEST >= bound[0] * (1 - ALIKE)


@given(any_case(), st.floats(1.0, 8.0))
def test_more_work_takes_no_less_time(case, factor: float) -> None:
    operator, labels, parameters, sizes, device = case
    before = operator.seconds(parameters, column(sizes), labels, device)[0]
    for name in WORK[operator.name]:
        more = {**sizes, name: int(np.ceil(sizes[name] * factor))}
        after = operator.seconds(parameters, column(more), labels, device)[0]
        assert after >= before * (1 - ALIKE), name


@given(any_case())
def test_a_row_does_not_depend_on_others(case) -> None:
    operator, labels, parameters, sizes, device = case
    rows = [sizes, {name: LEAST[name] for name in sizes}, sizes]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in sizes}
    together = operator.seconds(parameters, columns, labels, device)
    alone = operator.seconds(parameters, column(sizes), labels, device)
    assert together[0] == pytest.approx(alone[0], rel=ALIKE)
    assert together[2] == pytest.approx(alone[0], rel=ALIKE)


@pytest.mark.parametrize(("operator", "labels"), KERNELS)
def test_starts_lie_in_their_ranges(operator: Operator, labels: Labels) -> None:
    for parameter in operator.parameters(labels):
        assert parameter.low <= parameter.start <= parameter.high


GEMM_IDEAL = {
    "floor_us": 2.0, "compute_frac": 1.0, "memory_frac": 1.0, "k_ns": 0.0, "sustained_frac": 1.0,
    "cache_gain": 1.0, "split_us": 0.0, "sharpness": 8.0,
}  # fmt: skip


def gemm_us(m: int, n: int, k: int, device: str = "h100-sxm", **changed: float) -> float:
    """Microseconds of a product with ideal parameters but for those changed."""
    columns = column({"m": m, "n": n, "k": k})
    rates = rates_of(load_device(device))
    return float(GEMM.seconds({**GEMM_IDEAL, **changed}, columns, KERNELS[0][1], rates)[0] * 1e6)


def test_one_token_reads_the_weight() -> None:
    """8192 × 8192 bf16 weights are 134.2 MB: 40.1 µs at 3.35 TB/s, and the launch."""
    assert gemm_us(1, 8192, 8192) == pytest.approx(2.0 + 40.1, rel=0.01)


def test_many_tokens_are_arithmetic() -> None:
    """2·8192³ FLOPs are 1,112 µs at 989 TFLOP/s; 2,048 tiles of 256 × 128 are 15.5 waves: 16."""
    assert gemm_us(8192, 8192, 8192, split_us=50.0) == pytest.approx(1112 * 16 / 15.515, rel=0.01)


def test_long_sums_of_few_tiles_are_serial_unless_split() -> None:
    """65,536 steps of 1 ns in one tile are 65.5 µs; 16 parts are 4.1 µs, then joined."""
    serial = gemm_us(16, 64, 65536, k_ns=1.0, split_us=50.0)
    split = gemm_us(16, 64, 65536, k_ns=1.0, split_us=0.1)
    assert serial == pytest.approx(2.0 + 65.5, rel=0.01)
    assert split == pytest.approx(2.0 + 4.1 + 0.4, rel=0.05)


def test_cached_weights_are_read_faster_only_where_there_is_a_cache() -> None:
    """2048 × 2048 bf16 weights, 8.4 MB, are 9.7 µs at 864 GB/s; a model finds none in the cache."""
    rates = rates_of(load_device("l40s"))
    columns = column({"m": 1, "n": 2048, "k": 2048})
    gain = {**GEMM_IDEAL, "cache_gain": 4.0}
    cached = GEMM.seconds(gain, columns, KERNELS[0][1], rates)[0]
    cold = GEMM.seconds(gain, columns, KERNELS[0][1], replace(rates, l2_bytes=0.0))[0]
    assert cold == pytest.approx(2e-6 + 9.7e-6, rel=0.01)
    assert cached < 0.7 * cold


def test_eager_block_scaled_products_of_few_tokens_are_traps() -> None:
    columns = {name: np.array([8.0, 64.0]) for name in ("m", "n", "k")}
    rates = rates_of(load_device("h100-sxm"))
    vllm, trtllm = KERNELS[1][1], {**KERNELS[1][1], "src": "aic/gemm/trtllm/1.3.0rc20"}
    assert GEMM.is_trap(vllm, columns, rates).tolist() == [True, False]
    assert not GEMM.is_trap(trtllm, columns, rates).any()
    assert all(trap.reason for trap in GEMM.traps)


COLLECTIVE = {
    "library_us": 10.0, "library_rank_us": 2.0, "small_frac": 1.0, "ramp_us": 0.0,
    "large_frac": 1.0, "ranks_power": 0.0, "crowded": 0.0, "latency_us": 3.0, "rank_us": 0.1,
    "sync_us": 1.0, "switch_mb": 16.0,
}  # fmt: skip


def all_reduce_us(kernel: str, ranks: int, size: int, device: str = "h100-sxm") -> float:
    """Microseconds of an all-reduce."""
    labels = {"src": "", "kernel": kernel, "op": "all_reduce", "dtype": "bf16"}
    columns = column({"gpus": ranks, "bytes": size})
    rates = rates_of(load_device(device))
    return float(COLLECTIVES.seconds(COLLECTIVE, columns, labels, rates)[0] * 1e6)


def test_large_all_reduce_is_the_ring() -> None:
    """1 GiB over 8 ranks sends 2·7/8 of it: 4,176 µs at 450 GB/s."""
    assert all_reduce_us("vLLM_custom_graph", 8, 2**30) == pytest.approx(4176 + 22, rel=0.01)


def test_small_all_reduce_is_latency() -> None:
    assert all_reduce_us("NCCL", 8, 256) == pytest.approx(10 + 6 * 2, rel=0.01)
    assert all_reduce_us("vLLM_custom_graph", 8, 256) == pytest.approx(3.6, rel=0.01)


def test_own_all_reduce_reaches_pairs_without_links_and_trays_of_racks() -> None:
    """Beyond, the library's 10 µs and 2 µs a further rank."""
    assert all_reduce_us("vLLM_custom_graph", 2, 256, "l40s") == pytest.approx(3.0, rel=0.02)
    assert all_reduce_us("vLLM_custom_graph", 4, 256, "l40s") == pytest.approx(14.0, rel=0.02)
    assert all_reduce_us("vLLM_custom_graph", 4, 256, "gb200") == pytest.approx(3.2, rel=0.02)
    assert all_reduce_us("vLLM_custom_graph", 8, 256, "gb200") == pytest.approx(22.0, rel=0.02)


def test_experts_on_devices_without_links_are_refused() -> None:
    labels = KERNELS[7][1]
    parameters = {p.name: p.start for p in MOE_A2A.parameters(labels)}
    sizes = {name: LEAST[name] for name in MOE_A2A.numbers}
    with pytest.raises(ValueError, match="no link"):
        MOE_A2A.seconds(parameters, column(sizes), labels, rates_of(load_device("l40s")))


def test_smooth_extremes_are_extremes_where_terms_differ() -> None:
    small, large = np.array([1e-6]), np.array([1e-3])
    assert smooth_max(4.0, small, large)[0] == pytest.approx(1e-3)
    assert smooth_min(4.0, small, large)[0] == pytest.approx(1e-6)
    assert smooth_max(1.0, small, large)[0] == pytest.approx(1.001e-3)
