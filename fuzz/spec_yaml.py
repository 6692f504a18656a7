"""Specs of models and pipelines as YAML: the document, the spec language, checks and compiling."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import yaml

from fuzz.common import ROOT, Blind, Target
from fuzz.trees import changed
from llmplan.model.compiled import Model
from llmplan.model.reading import load_spec
from llmplan.model.stored.sides import spec_sides

_LARGEST_SEED = 6_000
_TAGS = (
    b"!!bool ",
    b"!!int ",
    b"!!float ",
    b"!!timestamp ",
    b"!!null ",
    b"!!binary ",
    b"!!set ",
    b"!!str ",
    b"!!map ",
    b"!x ",
    b"0x1",
    b"0b1",
    b"1:30:30",
    b"1:30.5",
    b"&a ",
    b"*a ",
    b"1_",
)


def read(path: Path) -> object:
    """The sums of the model, which every command asks for."""
    model = load_spec(path)
    return spec_sides(model) if isinstance(model, Model) else model


def seeds() -> Iterator[bytes]:
    """Specs of the catalogue."""
    yield from documents("specs")


def documents(folder: str) -> Iterator[bytes]:
    """The YAML files of a folder that are not large."""
    for path in sorted((ROOT / folder).glob("*.yaml")):
        if path.stat().st_size <= _LARGEST_SEED:
            yield path.read_bytes()


@cache
def words() -> tuple[str, ...]:
    """Keys and plain values of all shipped documents."""
    paths = [*(ROOT / "specs").glob("*.yaml"), *(ROOT / "hardware").rglob("*.yaml")]
    text = "\n".join(path.read_text("utf-8") for path in paths)
    return tuple(sorted(set(re.findall(r"\b[a-z][a-z0-9_]{1,40}\b(?=:|,|\]|\n)", text))))


def mutate_yaml(raw: bytes, random: Random, blind: Blind) -> bytes:
    """One value or key changed; now and then, bytes."""
    if random.random() < 0.2:
        return blind(raw)
    if random.random() < 0.1:
        parts = raw.split(b": ")
        at = random.randrange(len(parts))
        return b": ".join((*parts[:at], random.choice(_TAGS) + parts[at], *parts[at + 1 :]))
    tree = changed(yaml.load(raw, Loader=yaml.CSafeLoader), random, words())
    return yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False).encode()


TARGET = Target("spec_yaml", "spec.yaml", read, seeds, mutate_yaml)
