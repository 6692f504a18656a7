"""``config.json`` of a publisher: JSON, the readers of all architectures, and compiling."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

from fuzz.common import ROOT, Blind, Target
from fuzz.trees import changed
from llmplan.model.reading import load_config
from llmplan.model.stored.sides import spec_sides

_LARGEST_SEED = 4_000


def read(path: Path) -> object:
    """The sums of the model, which every command asks for."""
    return spec_sides(load_config(path))


def seeds() -> Iterator[bytes]:
    """Official configs of the catalogue."""
    for path in sorted((ROOT / "tests" / "oracles" / "configs").glob("*.json")):
        if path.stat().st_size <= _LARGEST_SEED:
            yield path.read_bytes()


@cache
def words() -> tuple[str, ...]:
    """Keys and values that the readers name."""
    folder = ROOT / "llmplan" / "model" / "importing"
    text = "\n".join(path.read_text("utf-8") for path in sorted(folder.rglob("*.py")))
    return tuple(sorted(set(re.findall(r'"([A-Za-z_][\w.-]{1,60})"', text))))


def mutate_json(raw: bytes, random: Random, blind: Blind) -> bytes:
    """One value or key changed; now and then, bytes."""
    if random.random() < 0.1:
        return blind(raw)
    return json.dumps(changed(json.loads(raw), random, words())).encode()


TARGET = Target("config_json", "config.json", read, seeds, mutate_json)
