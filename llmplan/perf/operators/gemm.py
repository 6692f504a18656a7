"""Matrix products: y[m, n] = x[m, k] W[k, n].

A product is cut into tiles of the output; a wave of tiles fills the multiprocessors, and within a
tile the sum over k is serial unless it is split. Libraries choose tile and split by shape, so the
curve takes the fastest choice. Weights are read meanwhile. Activations of quantised kernels are
quantised before, and some engines time the host that launches all this as well.

Tables cycle over a few copies of a weight, so that small ones stay in the cache. A model does not:
a device given with ``l2_bytes`` of 0 reads everything from memory.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmplan.perf.kernels import (
    US,
    Column,
    Columns,
    Labels,
    Operator,
    Parameter,
    Parameters,
    Trap,
    smooth_max,
)
from llmplan.perf.rates import BITS, Rates, is_16_bit

TILES: Final = ((16, 64), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256))
"""Rows and columns of output tiles that kernels are built for."""
FULL_TILE: Final = 128.0
"""Side of a square tile that keeps the arithmetic units fed."""
SPLITS: Final = (1, 2, 4, 8, 16)
UNKNOWN_SMS: Final = 148
"""For devices that state no multiprocessors; rates do not depend on it, only how tiles fill."""
BOOST_S: Final = 4e-4
"""Arithmetic longer than about this runs at the clock that the power limit sustains."""
CACHED_SHARE: Final = 0.15
"""Part of the cache that one product finds again, as several copies of its weight take turns."""
SHARPNESS: Final = 2.0
HOST_SHARPNESS: Final = 8.0


def _work(columns: Columns, labels: Labels) -> tuple[Column, Column]:
    """FLOPs, and bytes of weight, input and output."""
    m, n, k = columns["m"], columns["n"], columns["k"]
    weight = BITS[labels["dtype"]] / 8
    activation = 2.0 if labels["dtype"].endswith("_wo") else weight
    return 2 * m * n * k, n * k * weight + m * k * activation + m * n * 2.0


def bound_seconds(columns: Columns, labels: Labels, device: Rates) -> Column:
    """The slower of arithmetic and memory at their peaks; what fits the cache is not read."""
    flops, moved = _work(columns, labels)
    compute = flops / device.flops(labels["dtype"])
    memory = np.maximum(moved - device.l2_bytes, 0) / device.bytes_per_s
    result: Column = np.maximum(compute, memory)
    return result


def _splits(labels: Labels) -> bool:
    """Whether a kernel may cut the sum over k: those of cuBLAS and of TensorRT plugins do."""
    kernel, dtype = labels["kernel"], labels["dtype"]
    per_tensor = kernel == "torch_flow" and dtype == "fp8"
    return is_16_bit(dtype) or per_tensor or kernel.startswith("trt_flow")


def _eager(labels: Labels) -> bool:
    """Whether the host's launches may be timed with a kernel."""
    in_vllm = "/vllm/" in labels["src"]
    return in_vllm and (labels["dtype"] == "fp8_block" or labels["kernel"] == "vllm_default")


def parameters(labels: Labels) -> tuple[Parameter, ...]:
    """Launch, peak shares of both rates, serial time along k, sustained clock and cache.

    ``split_us`` is one halving of k, ``row_ns`` and ``element_ps`` quantise an activation row and
    element, ``host_us`` is what the host takes to launch.
    """
    found = [
        Parameter("floor_us", 3.0, 0.5, 30.0),
        Parameter("compute_frac", 0.75, 0.05, 1.0),
        Parameter("memory_frac", 0.85, 0.1, 1.0),
        Parameter("k_ns", 0.5, 0.0, 20.0),
        Parameter("sustained_frac", 0.9, 0.2, 1.0),
        Parameter("cache_gain", 1.5, 1.0, 10.0),
    ]
    if _splits(labels):
        found.append(Parameter("split_us", 1.0, 0.0, 50.0))
    if is_16_bit(labels["dtype"]):
        found.append(Parameter("sharpness", 2.0, 1.0, 8.0))
    else:
        found.append(Parameter("row_ns", 0.5, 0.0, 30.0))
        found.append(Parameter("element_ps", 0.5, 0.0, 20.0))
    if _eager(labels):
        found.append(Parameter("host_us", 20.0, 0.0, 500.0))
    return tuple(found)


def _compute_s(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Waves of tiles over the multiprocessors, with the best tile and split, at the clock held."""
    m, n, k = columns["m"], columns["n"], columns["k"]
    peak, sms = device.flops(labels["dtype"]), device.sms or UNKNOWN_SMS
    best = np.full_like(m, np.inf)
    for rows, width in TILES:
        fed = min(1.0, (2 * rows * width / (rows + width) / FULL_TILE) ** 0.5)
        step = 2 * rows * width * sms / (peak * p["compute_frac"] * fed)
        step = max(step, p["k_ns"] * 1e-9)
        tiles = np.ceil(m / rows) * np.ceil(n / width)
        for split in SPLITS if "split_us" in p else (1,):
            joining = p["split_us"] * US * np.log2(split) if split > 1 else 0.0
            best = np.minimum(best, np.ceil(tiles * split / sms) * (k / split) * step + joining)
    busy = 2 * m * n * k / peak
    hot = busy**2 / (busy**2 + BOOST_S**2)
    result: Column = best * (1 + (1 / p["sustained_frac"] - 1) * hot)
    return result


def _memory_s(p: Parameters, moved: Column, device: Rates) -> Column:
    """Bytes moved, some of them found in the cache where they are few."""
    missed = np.ones_like(moved)
    if device.l2_bytes:
        size = (moved / (CACHED_SHARE * device.l2_bytes)) ** 4
        missed = size / (1 + size)
    gain = p["cache_gain"]
    result: Column = (
        moved / (device.bytes_per_s * p["memory_frac"]) * (1 / gain + (1 - 1 / gain) * missed)
    )
    return result


def seconds(p: Parameters, columns: Columns, labels: Labels, device: Rates) -> Column:
    """Launch, then quantisation, then the slower of arithmetic and memory; or the host."""
    _, moved = _work(columns, labels)
    product = smooth_max(
        p.get("sharpness", SHARPNESS),
        _compute_s(p, columns, labels, device),
        _memory_s(p, moved, device),
    )
    quantising = columns["m"] * (
        p.get("row_ns", 0.0) * 1e-9 + columns["k"] * p.get("element_ps", 0.0) * 1e-12
    )
    kernel = p["floor_us"] * US + quantising + product
    host = np.full_like(kernel, p.get("host_us", 0.0) * US)
    return smooth_max(HOST_SHARPNESS, host, kernel)


def _eager_blocks(labels: Labels, columns: Columns, _device: Rates) -> NDArray[np.bool_]:
    """Few tokens in vLLM's block-scaled kernels."""
    eager = "/vllm/" in labels["src"] and labels["dtype"] == "fp8_block"
    found: NDArray[np.bool_] = (columns["m"] <= 16) & eager
    return found


GEMM = Operator(
    "gemm",
    ("src", "kernel", "dtype"),
    ("m", "n", "k"),
    parameters,
    seconds,
    bound_seconds,
    traps=(
        Trap(
            "launched eagerly by the host: the same time whatever the size, and not what a graph"
            " of a decode step takes",
            _eager_blocks,
        ),
    ),
)
