"""Calibration profiles that golden files and pages show: their times are made up, as they say.

``python -m tests.example_profiles`` writes them anew into ``golden/files``, which is needed where
curves have changed: profiles are fitted to curves, and refused by others.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from llmplan.hardware.catalogue import load_device
from llmplan.perf.calibration import peaks_of, save, written
from llmplan.perf.calibration_spec import (
    CalibrationProfile,
    ClockRange,
    Conditions,
    MeasuredDevice,
    MeasuredLayer,
    MeasuredMemory,
    Skipped,
)
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.fitting import fitted_kernel
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.points import Points, points_of, table_text
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows

FILES = Path(__file__).parent / "golden" / "files"
SLUG = "h200-sxm"
RATES = rates_of(load_device(SLUG))
SCATTER = 0.04
"""Standard deviation of the logarithm of made-up times around a curve."""
SHAPES = ((4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (128256, 4096))
NUMBERS = {
    "gemm": [(m, n, k) for m, (n, k) in product((1, 64, 1024, 8192), SHAPES)],
    "generation_attention": [
        (batch, length, 32, 8, 128, 0)
        for batch, length in product((1, 16, 128), (512, 4096, 16384))
    ],
    "by_work": [(0, size, size, 1) for size in (2**15, 2**18, 2**21, 2**24, 2**27, 2**30)],
    "collectives": [(gpus, size) for gpus, size in product((2, 8), (2**14, 2**18, 2**22, 2**26))],
}  # fmt: skip
"""Rows by table, in the order of its number columns."""


@dataclass(frozen=True)
class Example:
    """One profile: its software, date, and made-up times over those of a curve by table."""

    torch: str
    date: dt.date
    times: dict[str, float]

    def labels(self, table: str) -> dict[str, str]:
        words = {
            "gemm": {"kernel": "aten_mm", "dtype": "bfloat16"},
            "generation_attention": {
                "kernel": "sdpa_folded", "dtype": "bfloat16", "kv_dtype": "bfloat16"
            },
            "by_work": {"kernel": "aten_rms_norm", "op": "Norm"},
            "collectives": {"kernel": "NCCL", "op": "all_reduce", "dtype": "half"},
        }  # fmt: skip
        return {"src": f"llmplan/torch/{self.torch}", **words[table]}

    def points(self) -> Iterator[Points]:
        dice = np.random.default_rng(0)
        for table, times in self.times.items():
            operator, labels = OPERATORS[table], self.labels(table)
            values = np.array(NUMBERS[table], dtype=np.float64)
            columns = {name: values[:, i] for i, name in enumerate(operator.numbers)}
            start = {p.name: p.start for p in operator.parameters(labels)}
            seconds = times * operator.seconds(start, columns, labels, rates_at(labels, RATES))
            seconds *= np.exp(dice.normal(0, SCATTER, len(values)))
            made_up = np.array([float(f"{second:.3g}") for second in seconds])
            rows = KernelRows(labels, columns, made_up, tuple(range(1, len(values) + 1)))
            yield points_of(operator, rows, np.full(len(values), 0.01))

    def profile(self) -> CalibrationProfile:
        points = tuple(self.points())
        kernels = [fitted_kernel(OPERATORS[p.operator], p.kernel_rows(), RATES) for p in points]
        return CalibrationProfile(
            llmplan="0.1.0",
            curves=fingerprint(),
            date=self.date,
            device=MeasuredDevice(
                slug=SLUG,
                name="NVIDIA H200",
                memory_bytes=150_000_000_000,
                cache_bytes=50 * 2**20,
                cores=132,
                capability="9.0",
                driver="570.0",
                runtime="CUDA 12.8",
                torch_version=f"{self.torch}+cu128",
            ),
            rates=peaks_of(RATES),
            grid_sha256="0" * 64,
            budget_s=300.0,
            conditions=Conditions(
                sm_clock_hz=ClockRange(least_hz=1.755e9, median_hz=1.98e9, most_hz=1.98e9),
                throttled=(),
                samples=5000,
            ),
            notes=("an example: its times are made up, and no device was measured.",),
            kernels=tuple(kernels),
            layers=(
                _layer("decode", (16, 1, 2999), 1.52e-4, 1.61e-4),
                _layer("decode", (128, 1, 1499), 2.45e-4, 2.38e-4),
                _layer("prefill", (1, 4096, 0), 3.9e-3, 4.2e-3),
            ),
            memory=MeasuredMemory(
                context_bytes=520_000_000,
                allocator_slack_bytes=40_000_000,
                graph_pool_bytes=90_000_000,
                activation_bytes=210_000_000,
            ),
            skipped=(Skipped(name="flash_attn", reason="is not installed"),),
            points=points,
        )


def _layer(
    phase: str, step: tuple[int, int, int], predicted_s: float, measured_s: float
) -> MeasuredLayer:
    requests, new_tokens, context = step
    return MeasuredLayer(
        model="llama-3.1-8b",
        layer="attention+mlp",
        phase=phase,
        requests=requests,
        new_tokens=new_tokens,
        context=context,
        layout="tp1",
        predicted_s=predicted_s,
        measured_s=measured_s,
    )


EXAMPLE = Example("2.13.0", dt.date(2026, 11, 22), dict.fromkeys(NUMBERS, 1.0))
EARLIER = Example(
    "2.12.0",
    dt.date(2026, 8, 1),
    {"gemm": 1.08, "generation_attention": 1.0, "collectives": 1.2},
)


def main() -> None:
    """Write all of them, two that are refused, and a table of somebody else."""
    example = EXAMPLE.profile()
    save(example, FILES / "example.calibrated.yaml")
    save(EARLIER.profile(), FILES / "earlier.calibrated.yaml")
    other = written(example.model_copy(update={"curves": "0" * 64}))
    (FILES / "expired.calibrated.yaml").write_text(other, encoding="utf-8")
    edited = written(example).replace("rows: 20", "rows: 21", 1)
    (FILES / "edited.calibrated.yaml").write_text(edited, encoding="utf-8")
    gemm = [_of_a_lab(points) for points in example.points if points.operator == "gemm"]
    table = table_text(tuple(gemm), OPERATORS["gemm"])
    (FILES / "h200_sxm_gemm.csv").write_text(table, encoding="utf-8")


def _of_a_lab(points: Points) -> Points:
    """The same, timed by somebody else."""
    return points.model_copy(update={"labels": {**points.labels, "src": "our lab/2026"}})


if __name__ == "__main__":
    main()
