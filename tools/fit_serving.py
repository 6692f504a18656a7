"""Fit what serving adds to kernels, and how far the result is off.

``python tools/fit_serving.py TABLE``: TABLE has the columns of ``hardware/measured/serving.csv``.
Step times of every measured deployment are computed from its kernels; then constants are fitted for
each engine, what they leave over for each class, and the spread of what even that leaves on rows
that were kept back. Prints errors in the fit, on kept-back rows, and with each whole model left
out of every fit; ``--write`` writes
``hardware/profiles/serving.yaml`` and the tables of factors and ranges beside it.
"""

import argparse
import csv
import datetime as dt
from dataclasses import fields
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console
from rich.progress import track
from serving_fit import (
    NAMES,
    Array,
    Effect,
    Fold,
    Predicted,
    Table,
    decode_ratio,
    effects,
    first_ratio,
    fitted_constants,
    kept_back,
    predicted,
    with_leftovers,
)

import llmplan
from llmplan.analyze import estimate as estimating
from llmplan.analyze.ingredients import Ingredients, ingredients
from llmplan.analyze.measured import Skipped
from llmplan.analyze.served_rows import Memories, Served, served
from llmplan.analyze.serving_rows import asked_by, serving_rows
from llmplan.analyze.steady import Demand, Pools
from llmplan.perf.overheads import CONSTANTS, FACTORS, OTHER, RANGES, Leftover, Residual, Strict
from llmplan.perf.step import StepModel

SKEW = 0.7
"""Spread of the popularity of experts: the best of a scan over these measurements."""
FOLDS = 5
LEAST_EFFECT = 0.004
"""Logarithm of a factor below which a class is not told apart."""
LEAST_ROWS = 8
"""Rows that a class needs to have a range of its own."""
LEAST_RUNS = 3
"""Rows that a model on one engine and GPU needs."""
BELIEF = 10.0
"""Rows at which half of a class's range is its own, and half that of all rows."""
LOW, HIGH = 10.0, 90.0
METRICS = ("tpot", "ttft", "throughput")
RUNS = ("static_batch", "offline")
"""Scenarios that are measured by throughput."""
POOLED = ("vllm", "sglang", "trtllm")
"""Engines whose constants stand for others."""
FOLDER = Path(__file__).parent.parent / "hardware" / "profiles"
SOURCE = (
    "public serving measurements: github:ai-dynamo/aiconfigurator@095f58a silicon_sample.csv,"
    " argonne-lcf/LLM-Inference-Bench@4211f5d, NVIDIA/TensorRT-LLM performance overviews,"
    " dstackai/benchmarks, FreedomIntelligence/AccelMark and others; hardware/measured/README.md"
)


def measured(path: Path) -> list[Served]:
    """Rows of quality A and B that are modelled."""
    found, memories = [], Memories()
    for row in serving_rows(path):
        try:
            asked = asked_by(row)
            if asked.quality in "AB" and asked.scenario not in ("prefill_only", "decode_only"):
                found.append(served(asked, memories))
        except Skipped:
            continue
    return found


def stacked(kind: type, several: list) -> object:
    """Records of one row each as one record."""
    names = [each.name for each in fields(kind)]
    return kind(*(np.concatenate([getattr(one, name) for one in several]) for name in names))


def table_of(rows: list[Served], skew: float) -> Table:
    """Step times of all rows, by scenario."""
    models: dict[tuple, StepModel] = {}

    def model(each: Served, *, prefill: bool = False) -> StepModel:
        found = estimating.step_model(each.deployed, skew, prefill=prefill)
        key = (id(found.model), found.layout, found.group, found.engine)
        return models.setdefault(key, found)

    found, prompts = [], {}
    for index, each in enumerate(track(rows, "step times", console=Console(stderr=True))):
        work = estimating.work_of(each.deployed, each.traffic)
        found.append(ingredients(model(each), work))
        if each.deployed.prefill:
            prompts[index] = ingredients(model(each, prefill=True), work)
    by_fold: dict[tuple, list[int]] = {}
    for index, each in enumerate(rows):
        by_fold.setdefault((each.traffic.scenario, index in prompts), []).append(index)
    folds = []
    for (scenario, has_pools), numbers in by_fold.items():
        demand = [estimating.demand_of(rows[i].deployed, rows[i].traffic) for i in numbers]
        pools = None
        if has_pools:
            several = [estimating.pools_of(rows[i].deployed, rows[i].traffic) for i in numbers]
            pools = (stacked(Ingredients, [prompts[i] for i in numbers]), stacked(Pools, several))
        rates = [rows[i].traffic.rate for i in numbers]
        workers = [rows[i].deployed.workers for i in numbers]
        has_rate = scenario.value == "open_loop" and all(rates)
        rate = np.array(rates, float) / np.array(workers, float) if has_rate else None
        folds.append(
            Fold(
                scenario,
                np.array(numbers),
                stacked(Ingredients, [found[i] for i in numbers]),
                stacked(Demand, demand),
                pools,
                rate,
            )
        )
    column = {m: np.array([each.row.measured.get(m, np.nan) for each in rows]) for m in METRICS}
    return Table(
        tuple(estimating.class_of(each.deployed, each.traffic.scenario.value) for each in rows),
        np.array([each.row.published.identity.name for each in rows]),
        column["tpot"],
        column["ttft"],
        column["throughput"],
        np.array([each.deployed.workers * each.traffic.osl for each in rows]),
        tuple(folds),
    )


def report(table: Table, found: Predicted, title: str) -> None:
    """Median and mean error by scenario and metric."""
    scenarios = np.array([c.scenario for c in table.classes])
    for scenario in sorted(set(scenarios)):
        for metric in METRICS:
            error = getattr(found, metric) / getattr(table, metric) - 1
            error = error[(scenarios == scenario) & np.isfinite(error)]
            if len(error):
                middle, mean = np.median(np.abs(error)), np.mean(np.abs(error))
                print(f"{title:12} {scenario:14} {metric:10} n {len(error):5}  median {middle:6.1%}"
                      f"  mean {mean:6.1%}")  # fmt: skip


SCOPES = (
    ("model", ("scenario", "engine", "generation", "device", "model"), LEAST_RUNS),
    ("model", ("engine", "generation", "device", "model"), LEAST_RUNS),
    ("class", ("scenario", "engine", "device", "kind"), LEAST_ROWS),
    ("class", ("engine", "device", "kind"), LEAST_ROWS),
    ("device", ("scenario", "device"), LEAST_ROWS),
    ("device", ("device",), LEAST_ROWS),
    ("engine", ("scenario", "engine"), LEAST_ROWS),
    ("engine", ("engine",), LEAST_ROWS),
)
"""Scope of a range, the words of its class, and the rows that it needs."""


def residuals(table: Table, apart: Predicted, unknown: Predicted) -> list[dict]:
    """Ranges by class: of a measured model from kept-back rows, of others from left-out models."""
    found = []
    of_runs = np.array([c.scenario in RUNS for c in table.classes])
    for metric in METRICS:
        seconds = getattr(table, metric)
        wanted = (of_runs == (metric == "throughput")) & np.isfinite(seconds)
        ratios = {True: seconds / getattr(apart, metric), False: seconds / getattr(unknown, metric)}
        wanted &= np.isfinite(ratios[True]) & (ratios[True] > 0) & (ratios[False] > 0)
        for scope, words, least in SCOPES:
            ratio = ratios[scope == "model"]
            everywhere = np.percentile(ratio[wanted], (LOW, HIGH)) - 1
            keys = [tuple(getattr(c, word) for word in words) for c in table.classes]
            for key in sorted(set(keys)):
                chosen = wanted & np.array([each == key for each in keys])
                if chosen.sum() >= least:
                    own = dict(zip(words, key, strict=True))
                    found.append(_range(metric, scope, own, ratio[chosen], everywhere))
        found.append(_range(metric, "none", {}, ratios[False][wanted], None))
    return found


def _range(metric: str, scope: str, own: dict, ratio: Array, everywhere: Array | None) -> dict:
    low, high = np.percentile(ratio, (LOW, HIGH)) - 1
    if everywhere is not None:
        belief = len(ratio) / (len(ratio) + BELIEF)
        low = belief * low + (1 - belief) * everywhere[0]
        high = belief * high + (1 - belief) * everywhere[1]
    return {
        "metric": metric,
        "scope": scope,
        **own,
        "low": round(float(min(low, -0.01)), 4),
        "high": round(float(max(high, 0.01)), 4),
        "median_error": round(float(np.median(np.abs(1 / ratio - 1))), 4),
        "rows": len(ratio),
    }


def _engine(engine: tuple[str, str], rows: int, values: Array) -> dict:
    named = {n: float(f"{v:.4g}") for n, v in zip(NAMES, values, strict=True)}
    return {"engine": engine[0], "generation": engine[1], "rows": rows} | named


def engines(table: Table, constants: Array) -> list[dict]:
    """Constants of every engine, and of any other: the middle of those measured most."""
    keys = [(c.engine, c.generation) for c in table.classes]
    found = [
        _engine(engine, keys.count(engine), values)
        for engine, values in zip(table.engines, constants, strict=True)
    ]
    pooled = [v for e, v in zip(table.engines, constants, strict=True)
              if e[0] in POOLED and e[1] == "current"]  # fmt: skip
    return [*found, _engine((OTHER, "current"), 0, np.median(pooled, axis=0))]


def leftovers(metric: str, found: list[Effect]) -> list[dict]:
    """Factors that are worth telling."""
    return [
        {"metric": metric}
        | dict(zip(effect.level, effect.values, strict=True))
        | {"times": round(float(np.exp(effect.log)), 4), "rows": effect.rows}
        for effect in found
        if abs(effect.log) >= LEAST_EFFECT
    ]


class _Lines(yaml.SafeDumper):
    """Lists of records with one line each."""


def _record(dumper: yaml.SafeDumper, data: dict) -> yaml.Node:
    nested = any(isinstance(value, list) for value in data.values())
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=not nested)


_Lines.add_representer(dict, _record)


def main() -> None:
    """Fit, report, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--skew", type=float, default=SKEW)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    table = table_of(measured(options.table), options.skew)
    everything = np.ones(len(table.classes), bool)
    constants = fitted_constants(table, everything)
    plain = predicted(table, constants, everything)
    report(table, plain, "constants")
    report(table, with_leftovers(table, constants, everything), "all")
    folds = np.random.default_rng(0).integers(0, FOLDS, len(table.classes))
    apart = kept_back(table, folds, constants, refit=False)
    report(table, apart, "kept back")
    if not options.write:
        return
    _, numbers = np.unique(table.models, return_inverse=True)
    unknown = kept_back(table, numbers, constants, refit=True)
    report(table, unknown, "model out")
    _, decode = effects(table, decode_ratio(table, plain), everything)
    _, first = effects(table, first_ratio(table, plain), everything)
    written = {
        "source": SOURCE,
        "date": dt.date.today(),  # noqa: DTZ011 (the day of the fit, wherever it runs)
        "tool": f"tools/fit_serving.py, llmplan {llmplan.__version__}",
        "skew": options.skew,
        "engines": engines(table, constants),
    }
    text = yaml.dump(written, Dumper=_Lines, sort_keys=False, width=1000)
    (FOLDER / CONSTANTS).write_text(text, encoding="utf-8")
    write_table(FOLDER / FACTORS, Leftover, [*leftovers("tpot", decode), *leftovers("ttft", first)])
    write_table(FOLDER / RANGES, Residual, residuals(table, apart, unknown))


def write_table(path: Path, kind: type[Strict], rows: list[dict]) -> None:
    """Records as CSV; a word that a record leaves out stands for any and is blank."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(kind.model_fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
