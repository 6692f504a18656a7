"""The fingerprint of all curves: parameters fitted to other curves mean something else."""

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Final

import numpy as np

from llmplan.perf.kernels import Columns, Labels, Operator
from llmplan.perf.rates import Rates
from llmplan.perf.registry import OPERATORS

DEVICE: Final = Rates(
    slug="probe",
    bytes_per_s=2e12,
    flops_per_s={"fp32": 6e13, "bf16": 4e14, "fp16": 4e14, "fp8": 8e14, "int8": 8e14, "fp4": 16e14},
    l2_bytes=4e7,
    sms=120,
    link_bytes_per_s=4e11,
)
"""No device of the catalogue, whose figures may be corrected while curves stay."""
NUMBERS: Final = {
    "batch": (1, 4, 16, 64, 256), "bytes": (1e4, 1e6, 2e7, 2e8, 5e9),
    "distribution": (0, 0.5, 1, 1.01, 1.2), "ep": (1, 2, 4, 8, 8),
    "experts": (8, 32, 64, 128, 256), "flops": (0, 1e6, 1e9, 1e11, 1e13), "gated": (0, 1, 0, 1, 1),
    "gpus": (2, 4, 8, 16, 16), "gpus_per_node": (1, 2, 4, 8, 8),
    "head_dim": (64, 80, 128, 192, 256), "heads": (8, 16, 32, 64, 128),
    "hidden": (1024, 2880, 4096, 7168, 16384),
    "inter": (768, 2048, 8192, 14336, 53248), "k": (128, 512, 4096, 7168, 16384),
    "kv_heads": (1, 2, 4, 8, 8), "kv_len": (1, 100, 3000, 16384, 131072),
    "m": (1, 16, 200, 2048, 16384), "n": (64, 256, 6144, 28672, 128256), "nodes": (1, 1, 1, 2, 2),
    "other_flops": (0, 1e5, 1e8, 1e10, 1e11), "steps": (1, 2, 64, 2048, 16384),
    "tokens": (1, 8, 300, 4096, 32768), "topk": (1, 2, 4, 6, 8), "tp": (1, 2, 4, 8, 8),
    "window": (0, 128, 1024, 4096, 8192),
}  # fmt: skip
"""Five values of every number column of any operator."""
STEPS: Final = ((1, 0), (0, 1), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0), (0, 2))
"""How columns walk through their values over five by five rows: most pairs meet in all ways."""
RAISED: Final = 0.1
"""Way from start to highest: a parameter that starts at 0 shows nothing there."""
_ATTENTION: Final[tuple[Labels, ...]] = tuple(
    {"src": src, "kernel": kernel, "dtype": dtype, "kv_dtype": kv_dtype}
    for src in ("a/sglang/1", "a/vllm/1")
    for kernel in ("fa3", "flash_attention", "torch_flow", "triton", "vllm_flash_attn")
    for dtype, kv_dtype in (("bfloat16", "bfloat16"), ("bfloat16", "fp8"), ("fp8", "fp8"))
)
_PHASES: Final = ("context", "generation")
LABELS: Final[dict[str, tuple[Labels, ...]]] = {
    "by_work": ({"src": "a/llmplan/1", "kernel": "torch", "op": "norm"},),
    "collectives": tuple(
        {"src": "a/vllm/1", "kernel": kernel, "op": op, "dtype": "half"}
        for kernel in ("NCCL", "own_eager", "own_graph", "own_MNNVL")
        for op in ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
    ),
    "context_attention": _ATTENTION,
    "gemm": tuple(
        {"src": src, "kernel": kernel, "dtype": dtype}
        for src in ("a/sglang/1", "a/vllm/1")
        for kernel in ("torch_flow", "trt_flow", "vllm_default")
        for dtype in ("bfloat16", "fp8", "fp8_block", "int4_wo", "nvfp4", "sq")
    ),
    "generation_attention": _ATTENTION,
    "layer_ops": tuple(
        {"src": "a", "op": op}
        for op in (
            "add", "attn_post_proj", "attn_pre_proj", "attn_rope", "emb", "input_layernorm",
            "mlp_act", "mlp_down_proj", "mlp_up_proj", "post_attention_layernorm",
        )
    ),
    "mla": tuple(
        {"src": src, "kernel": kernel, "phase": phase, "dtype": "bfloat16", "kv_dtype": kv_dtype}
        for src, kernel in (("a/sglang/1", "triton"), ("a/trtllm/1", "default"), ("a/vllm/1", ""))
        for phase in _PHASES
        for kv_dtype in ("bfloat16", "fp8")
    ),
    "mla_module": tuple(
        {
            "src": src, "model": "deepseek-ai/DeepSeek-V3", "phase": phase, "dtype": "bfloat16",
            "kv_dtype": kv_dtype, "gemm_type": gemm_type,
        }
        for src in ("a/trtllm/1", "a/vllm/1")
        for phase in _PHASES
        for kv_dtype in ("bfloat16", "fp8")
        for gemm_type in ("bfloat16", "fp8_block")
    ),
    "moe": tuple(
        {"src": "a/vllm/1", "kernel": kernel, "dtype": dtype}
        for kernel in ("triton", "flow_nongated")
        for dtype in ("bfloat16", "fp8", "fp8_block", "int4_wo", "nvfp4", "w4a16_mxfp4")
    ),
    "moe_a2a": tuple(
        {"src": "a/vllm/1", "backend": backend, "phase": phase, "dtype": dtype}
        for backend in ("deepep_ll", "deepep_ht")
        for phase in ("dispatch", "combine")
        for dtype in ("", "bfloat16", "fp8")
    ),
    "network": tuple(
        {"src": "a", "topology": "dgx", "op": op} for op in ("all_reduce", "send_recv")
    ),
}  # fmt: skip
"""Kernels whose curves differ, of every operator."""


def probe(operator: Operator) -> Columns:
    """25 rows of an operator's table."""
    fast, slow = np.divmod(np.arange(25), 5)
    return {
        name: np.array(NUMBERS[name], dtype=np.float64)[(a * fast + b * slow) % 5]
        for name, (a, b) in zip(operator.numbers, STEPS, strict=False)
    }


@cache
def fingerprint() -> str:
    """SHA-256 of what all curves are, and of what they give on fixed work.

    Numbers count to six digits, so that it is the same on all machines. Any change of a curve that
    the probe sees changes it, and so does a parameter's name or range.
    """
    digest = hashlib.sha256()
    for name in sorted(OPERATORS):
        for line in _lines(OPERATORS[name]):
            digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def _lines(operator: Operator) -> Iterator[str]:
    yield f"{operator.name} {operator.labels} {operator.numbers}"
    columns = probe(operator)
    for labels in LABELS[operator.name]:
        parameters = operator.parameters(labels)
        yield " ".join(labels.values())
        yield " ".join(f"{p.name} {p.start:.6g} {p.low:.6g} {p.high:.6g}" for p in parameters)
        for share in (0.0, RAISED):
            named = {p.name: p.start + share * (p.high - p.start) for p in parameters}
            seconds = operator.seconds(named, columns, labels, DEVICE)
            yield " ".join(f"{value:.6g}" for value in seconds)
