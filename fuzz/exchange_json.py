"""Rows of exchanges that torchrun measured, as JSON."""

import json
from collections.abc import Iterator
from random import Random

from fuzz.common import Blind, Target
from fuzz.trees import changed
from llmplan.perf.exchange_rows import exchange_measurements

_WORDS = ("table", "labels", "columns", "seconds", "collectives", "network", "gpus", "bytes", "op")
_ROW = {
    "table": "network",
    "labels": {"topology": "NCCL-8-per-node", "op": "all_reduce"},
    "columns": {"gpus": 16.0, "gpus_per_node": 8.0, "bytes": 65536.0},
    "seconds": 1e-4,
    "spread_frac": 0.02,
    "note": "",
}


def seeds() -> Iterator[bytes]:
    """One that could be."""
    rows = [_ROW, _ROW | {"seconds": 2e-4}]
    refused = [{"name": "send of 2 ranks", "reason": "allow more time"}]
    yield json.dumps({"rows": rows, "refused": refused, "source": "llmplan/torch/2.13.0"}).encode()


def mutate(raw: bytes, random: Random, blind: Blind) -> bytes:
    """One value or key changed; now and then, bytes."""
    if random.random() < 0.2:
        return blind(raw)
    return json.dumps(changed(json.loads(raw), random, _WORDS)).encode("utf-8", "surrogatepass")


TARGET = Target("exchange_json", "rows.json", exchange_measurements, seeds, mutate)
