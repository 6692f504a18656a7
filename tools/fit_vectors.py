"""Fit matrix-by-vector kernels to single streams: ``python tools/fit_vectors.py TABLE [--write]``.

TABLE has the columns of ``hardware/measured/serving.csv``. The time of a token is that of reading
all weights, at a share of the bandwidth or at a rate of each multiprocessor, and of host work per
layer, step and stage. Fitted to the logarithm of predicted over measured with a soft loss; prints
errors of seen rows and, device by device, of rows of devices that were left out. ``--write`` writes
``hardware/profiles/vector_products.yaml``.
"""

import argparse
import datetime as dt
from pathlib import Path

import numpy as np
import yaml
from fit_serving import measured
from scipy.optimize import least_squares

from llmplan.analyze.served_rows import Served
from llmplan.ops.base import Array
from llmplan.ops.embedding import Embedding
from llmplan.perf.kernels import smooth_max

ENGINES = ("llama.cpp",)
MOST_TOKENS = 8
"""Widest batch of mul_mat_vec kernels: MMVQ_MAX_BATCH_SIZE of ggml-cuda (ggml-org/llama.cpp)."""
SHARPNESS = 12.0
"""The upper end of a free fit: one of the two limits, hardly rounded."""
START = (0.85, 9.0, 20.0, 300.0, 100.0)
"""Share of the bandwidth, GB/s of a multiprocessor, us of a layer, of a step, of a stage."""
LOW, HIGH = (0.4, 2.0, 0.0, 0.0, 0.0), (1.0, 50.0, 200.0, 3000.0, 1000.0)
TARGET = Path(__file__).parent.parent / "hardware" / "profiles" / "vector_products.yaml"
SOURCE = "single streams of hardware/measured/serving.csv and the table it is taken from"


def columns(rows: list[Served]) -> dict[str, Array]:
    """What each row's time is made of, each of shape [rows]."""
    found: dict[str, list[float]] = {
        n: [] for n in ("bytes", "layers", "rate", "sms", "stages", "s")
    }
    for each in rows:
        deployed = each.deployed
        decoder = deployed.model.decoder
        read = sum(o.weights_bytes * n for o, n in decoder.counted if not isinstance(o, Embedding))
        found["bytes"].append(read)
        found["layers"].append(sum(n for _, n in decoder.distinct_layers))
        found["rate"].append(deployed.device.bandwidth_bytes_per_s or 0.0)
        found["sms"].append(deployed.device.sm_count or 0)
        found["stages"].append(deployed.layout.pp - 1)
        found["s"].append(each.row.measured["tpot"])
    return {name: np.array(values, float) for name, values in found.items()}


def seconds(p: Array, c: dict[str, Array]) -> Array:
    """Time of a token."""
    memory = c["bytes"] / (c["rate"] * p[0])
    taken = c["bytes"] / (c["sms"] * p[1] * 1e9)
    host = c["layers"] * p[2] + p[3] + c["stages"] * p[4]
    return smooth_max(SHARPNESS, memory, taken) + host * 1e-6


def fit(c: dict[str, Array], chosen: Array) -> Array:
    """Parameters from the chosen rows."""
    some = {name: values[chosen] for name, values in c.items()}
    off = lambda p: np.log(seconds(p, some) / some["s"])  # noqa: E731
    return least_squares(off, START, bounds=(LOW, HIGH), loss="soft_l1", f_scale=0.1).x


def main() -> None:
    """Fit, report, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    every, found = measured(options.table), []
    for engine in ENGINES:
        rows = [
            each
            for each in every
            if each.deployed.engine == engine
            and each.row.scenario == "single_stream"
            and "tpot" in each.row.measured
            and each.deployed.device.sm_count
        ]
        c, slugs = columns(rows), np.array([each.deployed.device.slug for each in rows])
        fitted = fit(c, np.ones(len(rows), bool))
        off = np.abs(seconds(fitted, c) / c["s"] - 1)
        apart = np.concatenate(
            [
                np.abs(seconds(fit(c, slugs != slug), c) / c["s"] - 1)[slugs == slug]
                for slug in np.unique(slugs)
            ]
        )
        print(engine, len(rows), "rows:", np.array2string(fitted, precision=4))
        print(f"  median {np.median(off):.1%}, mean {off.mean():.1%}; device left out "
              f"{np.median(apart):.1%}, {apart.mean():.1%}")  # fmt: skip
        found.append(
            {
                "engine": engine,
                "most_tokens": MOST_TOKENS,
                "memory_frac": round(float(fitted[0]), 3),
                "bytes_per_s": float(f"{fitted[1] * 1e9:.3g}"),
                "sharpness": SHARPNESS,
                "rows": len(rows),
                "median_error": round(float(np.median(off)), 4),
            }
        )
    if options.write:
        head = {"source": SOURCE, "date": dt.date.today(), "tool": "tools/fit_vectors.py"}  # noqa: DTZ011 (the day of the fit)
        text = yaml.safe_dump(head | {"engines": found}, sort_keys=False, width=100)
        TARGET.write_text("# written by tools/fit_vectors.py: do not edit\n" + text)


if __name__ == "__main__":
    main()
