"""Extract measured serving rows: ``python tools/extract_serving.py FILE``.

FILE is a CSV with the columns of ``hardware/measured/serving.csv``, which is written. Of every kind
of run (model, GPU, engine, scenario, weight format, disaggregated or not) keeps as many rows as the
root of their number, evenly spaced from its fewest to its most requests in flight, then from its
shortest to its longest requests. Rows of quality C, and of sources that no licence lets anybody
pass on, are left out.
"""

import csv
import sys
from math import ceil, sqrt
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parent.parent / "hardware" / "measured" / "serving.csv"
LICENSED = (
    "NVIDIA/TensorRT-LLM",
    "github:FreedomIntelligence/AccelMark",
    "github:NVIDIA/TensorRT-LLM",
    "github:ROCm/vllm",
    "github:SemiAnalysisAI/InferenceX",
    "github:ai-dynamo/aiconfigurator",
    "github:argonne-lcf/LLM-Inference-Bench",
    "github:deepseek-ai/open-infra-index",
    "github:dstackai/benchmarks",
    "github:meta-pytorch/gpt-fast",
    "github:vllm-project/recipes",
)
"""Sources under Apache-2.0, BSD-3-Clause or CC0-1.0; hardware/measured/README.md says which."""
KIND = ("model", "gpu", "engine", "scenario", "weight_dtype", "disaggregated")
SPREAD = ("concurrency", "isl", "osl")
COLUMNS = (
    "id", "source", "source_path", "date", "engine", "engine_version", "model", "gpu", "num_gpus",
    "nodes", "tp", "pp", "ep", "dp", "disaggregated", "prefill_gpus", "decode_gpus",
    "weight_dtype", "kv_dtype", "isl", "osl", "concurrency", "request_rate", "scenario", "ttft_ms",
    "tpot_ms", "input_tok_s_total", "output_tok_s_total", "output_tok_s_per_gpu", "spec_decode",
    "quality", "notes",
)  # fmt: skip

Row = dict[str, str]


def is_kept(row: Row) -> bool:
    """Whether a row may be passed on and is good for more than a bound."""
    source = row["source"].split("@")[0].split(" ")[0]
    return row["quality"] in ("A", "B") and source in LICENSED


def chosen_rows(rows: list[Row]) -> set[str]:
    """Ids of the rows to keep of one kind."""
    ordered = sorted(rows, key=lambda row: (*(float(row[c] or 0) for c in SPREAD), row["id"]))
    places = np.linspace(0, len(ordered) - 1, ceil(sqrt(len(ordered)))).round().astype(int)
    return {ordered[place]["id"] for place in places}


def main(argv: list[str]) -> int:
    """Write the extract of a table."""
    with Path(argv[0]).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if is_kept(row)]
    kinds: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        kinds.setdefault(tuple(row[column] for column in KIND), []).append(row)
    keep = {chosen for kind in kinds.values() for chosen in chosen_rows(kind)}
    with TARGET.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if row["id"] in keep)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
