"""Fit the draw of GPUs while serving to measured rows: ``python tools/fit_power.py [--write]``.

Reads ``hardware/measured/energy.csv``. Each row is a steady state of decoding: its steps per second
are output tokens per second over the requests in flight, and what a step asks of a GPU is summed
over the operators of a rank. Curves are fitted to the logarithm of predicted over measured, with a
soft loss. Prints errors of seen rows, of rows of an architecture that was left out, and of one
constant share of the TDP for comparison; with ``--write`` updates ``hardware/profiles/power.yaml``.
"""

import argparse
import csv
import datetime as dt
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from scipy.optimize import least_squares

from llmplan.analyze.flops import absorbed, decoder_only
from llmplan.errors import UnknownNameError
from llmplan.hardware.catalogue import load_device
from llmplan.hardware.device import Device
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import stage_ranks
from llmplan.perf.power import Busy, Curve, busy

MEAN_POSITION = 0.5
"""Of a request's output, the part that is there on average. Prompts are short and not published;
taking the whole output instead moves no median error by more than 0.01, and has H100s read memory
faster than they can."""
SOFT = 0.1
"""Relative error from which a row counts less than its square."""
START = (0.2, 3.0, 1.0)
MOST_GAIN = 100.0
DIGITS = 1e4
DEVICE_TAILS = (0.1, 0.9)
POOLED_TAILS = (0.05, 0.95)
"""Percentiles of the errors that become the range: of a device with rows, and of one without."""
ROOT = Path(__file__).parent.parent / "hardware"
SOURCE = "The ML.ENERGY Leaderboard v3 (github:ml-energy/leaderboard), 2026-02-27"
LICENCE = "Apache-2.0 (dataset card of ml-energy/benchmark-v3)"


@dataclass(frozen=True)
class Rows:
    """Rows as arrays.

    Attributes:
        device: Catalogue name of each row's GPU.
        architecture: Parameters of its model: checkpoints of one architecture have the same.
        flops_frac: Share of peak FLOPs.
        bytes_frac: Share of bandwidth.
        drawn_frac: Measured share of the TDP.
    """

    device: np.ndarray
    architecture: np.ndarray
    flops_frac: np.ndarray
    bytes_frac: np.ndarray
    drawn_frac: np.ndarray

    def of(self, chosen: np.ndarray) -> "Rows":
        """Some of them."""
        return Rows(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    @property
    def shares(self) -> Busy:
        """How busy each row is."""
        return Busy(self.flops_frac, self.bytes_frac)


@cache
def rank_of(name: str, gpus: int, *, whole_experts: bool) -> Model:
    """What one GPU holds, as it decodes.

    Servers split attention over all GPUs; the ``tp`` of 1 that the source states beside whole
    experts is the default of its parser.
    """
    model = decoder_only(load_model(name)).rewritten(absorbed)
    return stage_ranks(model, Layout(tp=gpus, ep=whole_experts))[0].model


def row_busy(row: dict[str, str], device: Device) -> Busy:
    """Shares of the peaks that a row reached."""
    requests = float(row["avg_batch"])
    rank = rank_of(row["model"], int(row["gpu_count"]), whole_experts=int(row["ep"]) > 1)
    step = Step.decode(requests, MEAN_POSITION * float(row["avg_output_tokens"]))
    return busy(rank, step, requests / float(row["output_tok_s"]), device)


def read(path: Path) -> Rows:
    """The rows whose model is in the catalogue."""
    found, unknown = [], set()
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            device = load_device(row["gpu"])
            try:
                reached = row_busy(row, device)
            except UnknownNameError:
                unknown.add(row["model"])
                continue
            parameters = sum(o.parameters * n for o, n in load_model(row["model"]).counted())
            drawn = float(row["gpu_power_each_w"]) / device.tdp_w
            shares = (reached.flops_frac, reached.bytes_frac)
            found.append((device.slug, parameters, *shares, drawn))
    print(f"{len(found)} rows; no spec of {', '.join(sorted(unknown)) or 'none'}")
    return Rows(*(np.array(column) for column in zip(*found, strict=True)))


def fitted(rows: Rows) -> tuple[float, float, float]:
    """Base share and gains of a curve; the base is no more than the least draw of all."""

    def residuals(values: np.ndarray) -> np.ndarray:
        return np.log(share(tuple(values), rows.shares) / rows.drawn_frac)

    high = (float(rows.drawn_frac.min()), MOST_GAIN, MOST_GAIN)
    found = least_squares(residuals, START, bounds=((0, 0, 0), high), loss="soft_l1", f_scale=SOFT)
    base, flops_gain, bytes_gain = (float(f"{value:.4g}") for value in found.x)
    return base, flops_gain, bytes_gain


def share(parameters: tuple[float, ...], reached: Busy) -> np.ndarray:
    """Predicted share of the TDP."""
    names = ("base_frac", "flops_gain", "bytes_gain")
    curve = Curve.model_construct(**dict(zip(names, parameters, strict=True)))
    return curve.tdp_frac(reached)


def constant(rows: Rows) -> tuple[float, float, float]:
    """The curve that ignores the work: one share for all."""
    return float(np.median(rows.drawn_frac)), 0.0, 0.0


def left_out(
    rows: Rows, groups: np.ndarray, fit: Callable[[Rows], tuple[float, float, float]]
) -> np.ndarray:
    """Predicted over measured, less one, of each group by a fit to all others."""
    off = np.empty(len(groups))
    for group in np.unique(groups):
        own = groups == group
        off[own] = share(fit(rows.of(~own)), rows.of(own).shares) / rows.drawn_frac[own] - 1
    return off


def entry(rows: Rows, groups: np.ndarray, tails: tuple[float, float]) -> dict[str, object]:
    """One curve, as the profile states it."""
    parameters = fitted(rows)
    seen = np.abs(share(parameters, rows.shares) / rows.drawn_frac - 1)
    unseen = left_out(rows, groups, fitted)
    low, high = np.quantile(1 / (1 + unseen) - 1, tails)
    flat = np.abs(left_out(rows, groups, constant))
    print(
        f"  one share for all, left out: median {np.median(flat):.1%}, "
        f"p90 {np.quantile(flat, 0.9):.1%}"
    )
    figures = {
        "median_error": np.median(seen),
        "p90_error": np.quantile(seen, 0.9),
        "left_out_median_error": np.median(np.abs(unseen)),
        "left_out_p90_error": np.quantile(np.abs(unseen), 0.9),
        "low_error": min(low, 0.0),
        "high_error": max(high, 0.0),
    }
    return {
        "rows": len(groups),
        "models": len(np.unique(rows.architecture)),
        **dict(zip(("base_frac", "flops_gain", "bytes_gain"), parameters, strict=True)),
        "flops_frac": ends(rows.flops_frac),
        "bytes_frac": ends(rows.bytes_frac),
        **{name: float(f"{value:.3g}") for name, value in figures.items()},
    }


def ends(values: np.ndarray) -> list[float]:
    """Least and most, rounded outwards, so that every row is within them."""
    return [
        float(np.floor(values.min() * DIGITS) / DIGITS),
        float(np.ceil(values.max() * DIGITS) / DIGITS),
    ]


def main(argv: list[str]) -> int:
    """Fit, print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    rows = read(ROOT / "measured" / "energy.csv")
    devices = {}
    for name in np.unique(rows.device):
        own = rows.of(rows.device == name)
        devices[str(name)] = entry(own, own.architecture, DEVICE_TAILS)
        print(name, devices[str(name)])
    pooled = entry(rows, rows.device, POOLED_TAILS)
    print("pooled", pooled)
    if options.write:
        document = {
            "source": SOURCE,
            "licence": LICENCE,
            "date": dt.datetime.now(tz=dt.UTC).date(),
            "tool": "tools/fit_power.py",
            "devices": devices,
            "pooled": pooled,
        }
        text = yaml.safe_dump(document, sort_keys=False, width=100, default_flow_style=None)
        head = "# written by tools/fit_power.py: do not edit\n"
        (ROOT / "profiles" / "power.yaml").write_text(head + text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
