"""Exchanges between nodes that were measured: from rows of torchrun to the time of a step."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmplan.analyze.traffic import worker_group
from llmplan.errors import DocumentError
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model
from llmplan.ops.base import Step
from llmplan.ops.collective import CollectiveKind
from llmplan.parallel.layout import Layout
from llmplan.perf.choice import KernelShelf
from llmplan.perf.exchange_rows import exchange_measurements
from llmplan.perf.exchanged import ring_curve
from llmplan.perf.fitting import fitted_kernel
from llmplan.perf.kernels import US
from llmplan.perf.own_kernels import OwnKernels
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.step import StepModel
from llmplan.units import Provenance

DEVICE = load_device("h100-sxm")
LATENCY_US, GB_S = 90.0, 20.0
SIZES = [2.0**power for power in range(14, 27)]


def row(size: float, ranks: int, per_node: int) -> dict[str, object]:
    seconds = LATENCY_US * US + 2 * (ranks - 1) / ranks * size / (GB_S * 1e9)
    return {
        "table": "network",
        "labels": {"topology": "NCCL-8-per-node", "op": "all_reduce"},
        "columns": {"gpus": ranks, "gpus_per_node": per_node, "bytes": size},
        "seconds": seconds,
        "spread_frac": 0.01,
        "note": "",
    }


def written(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "rows.json"
    said = {"rows": rows, "refused": [], "source": "llmplan/torch/2.13.0"}
    path.write_text(json.dumps(said), encoding="utf-8")
    return path


def sums(own: OwnKernels | None) -> tuple[float, Provenance, str]:
    """Time of one all-reduce of 64 tokens over two nodes, and how it is known."""
    model = load_model("llama-3.1-70b").served(mtp=False, vision=False)
    layout = Layout(tp=16)
    timed = StepModel(model, layout, worker_group(DEVICE, layout), "vllm", own=own)
    step = Step.decode(np.array([64.0]), np.array([1000.0]))
    part = next(part for part in timed.parts(step) if part.name.startswith("all_reduce"))
    return float(part.seconds[0]), part.provenance, part.reason


def test_a_sum_over_nodes_takes_what_was_measured_between_them(tmp_path: Path) -> None:
    path = written(tmp_path, [row(size, 16, 8) for size in SIZES])
    (found,) = exchange_measurements(path)
    assert (found.operator, found.rows, found.refused) == ("network", len(SIZES), ())
    fitted = fitted_kernel(OPERATORS["network"], found.kernels[0], rates_of(DEVICE))
    own = OwnKernels((fitted,), DEVICE.slug, "measured here", path)

    seconds, provenance, _ = sums(own)

    size = 64 * 8192 * 2
    assert seconds == pytest.approx(LATENCY_US * US + 2 * 15 / 16 * size / (GB_S * 1e9), rel=0.15)
    assert provenance is Provenance.MEASURED
    assert sums(None)[1] is Provenance.ASSUMED
    assert sums(None)[0] != pytest.approx(seconds, rel=0.1)


def test_what_was_measured_within_a_node_says_nothing_of_the_network(tmp_path: Path) -> None:
    path = written(tmp_path, [row(size, 2, 2) for size in SIZES])
    (found,) = exchange_measurements(path)
    fitted = fitted_kernel(OPERATORS["network"], found.kernels[0], rates_of(DEVICE))

    assert sums(OwnKernels((fitted,), DEVICE.slug, "", path)) == sums(None)


@pytest.mark.parametrize(
    "broken",
    [
        {"table": "nothing"},
        {"columns": {"gpus": 16.0}},
        {"seconds": "soon"},
    ],
)
def test_rows_that_are_none_are_refused(tmp_path: Path, broken: dict[str, object]) -> None:
    path = written(tmp_path, [row(1024.0, 16, 8) | broken])
    with pytest.raises(DocumentError, match=r"rows\.json"):
        exchange_measurements(path)


def test_a_measured_library_goes_before_a_borrowed_kernel_of_the_engine(tmp_path: Path) -> None:
    """No table is of an RTX 4090; that of another device is all that an engine's sum could take."""
    device = load_device("rtx-4090")
    rows = [
        row(size, 2, 2)
        | {
            "table": "collectives",
            "labels": {"kernel": "NCCL", "op": "all_reduce", "dtype": "half"},
            "columns": {"gpus": 2, "bytes": size},
        }
        for size in SIZES
    ]
    (found,) = exchange_measurements(written(tmp_path, rows))
    fitted = fitted_kernel(OPERATORS["collectives"], found.kernels[0], rates_of(device))
    own = OwnKernels((fitted,), device.slug, "", tmp_path)

    for engine in ("vllm", "sglang"):
        plain = ring_curve(CollectiveKind.ALL_REDUCE, 2, KernelShelf(device, engine))
        assert plain.provenance is Provenance.ASSUMED
        measured = ring_curve(CollectiveKind.ALL_REDUCE, 2, KernelShelf(device, engine, own=own))
        assert measured.provenance is Provenance.MEASURED
