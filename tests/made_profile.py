"""A small calibration profile of an H100 that no device was needed for."""

import datetime as dt
from itertools import product

import numpy as np

from llmplan.hardware.catalogue import load_device
from llmplan.perf.calibration import peaks_of
from llmplan.perf.calibration_spec import CalibrationProfile, MeasuredDevice, MeasuredLayer
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.fitting import Calibrated, described
from llmplan.perf.kernels import Column
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.points import points_of
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows

SLUG = "h100-sxm"
SRC = "llmplan/torch/2.13.0"
RATES = rates_of(load_device(SLUG))
GEMM = {"src": SRC, "kernel": "aten_mm", "dtype": "bfloat16"}
NORM = {"src": SRC, "kernel": "aten_rms_norm", "op": "Norm"}
TOKENS = (1, 16, 256, 2048, 8192)
WIDTHS = ((4096, 4096), (4096, 14336), (14336, 4096), (4096, 128256), (4096, 6144))
LAYER = MeasuredLayer(
    model="llama-3.1-8b", layer="gqa+ffn", phase="decode", requests=8, new_tokens=1, context=1000,
    layout="tp1", predicted_s=1.1e-4, measured_s=1e-4,
)  # fmt: skip


def start_of(table: str, labels: dict[str, str]) -> dict[str, float]:
    """The parameters that a fit starts from."""
    return {p.name: p.start for p in OPERATORS[table].parameters(labels)}


def rows_of(table: str, labels: dict[str, str], columns: dict[str, Column], times: float):
    """Rows that take so many times what the curve says where a fit starts."""
    cold = rates_at(labels, RATES)
    seconds = OPERATORS[table].seconds(start_of(table, labels), columns, labels, cold) * times
    return KernelRows(labels, columns, seconds, tuple(range(1, len(seconds) + 1)))


def measured_rows(times: float) -> dict[str, KernelRows]:
    """Products and norms."""
    m, shapes = zip(*product(TOKENS, WIDTHS), strict=True)
    k, n = np.array(shapes, float).T
    products = {"m": np.array(m, float), "n": n, "k": k}
    moved = np.geomspace(1e4, 1e9, 12)
    work = {"flops": moved * 0, "other_flops": moved, "bytes": moved, "steps": np.ones(12)}
    return {
        "gemm": rows_of("gemm", GEMM, products, times),
        "by_work": rows_of("by_work", NORM, work, times),
    }


def made_profile(times: float = 1.0, **more: object) -> CalibrationProfile:
    """Kernels as where fits start, and points that took ``times`` as long: exact at 1."""
    rows = measured_rows(times)
    points = tuple(
        points_of(OPERATORS[table], each, np.full(len(each.measured_s), 0.01))
        for table, each in rows.items()
    )
    kernels = tuple(
        Calibrated(
            **described(
                OPERATORS[each.operator], start_of(each.operator, each.labels),
                each.kernel_rows(), rates_at(each.labels, RATES),
            ).model_dump()
        )
        for each in points
    )  # fmt: skip
    return CalibrationProfile(
        llmplan="0.1.0",
        curves=fingerprint(),
        date=dt.date(2026, 11, 22),
        device=MeasuredDevice(slug=SLUG, name="NVIDIA H100 80GB HBM3", torch_version="2.13.0"),
        rates=peaks_of(RATES),
        grid_sha256="0" * 64,
        budget_s=60,
        kernels=kernels,
        points=points,
        layers=(LAYER,),
    ).model_copy(update=more)
