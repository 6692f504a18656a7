"""The index of a safetensors repository, with its good shards and config beside it."""

import json
from collections.abc import Iterator
from random import Random

from fuzz.common import Blind, Target
from fuzz.config_json import read
from fuzz.small import CONFIG, small_tensors
from fuzz.trees import changed
from tests.stored_files import safetensors_bytes

_SHARDS = tuple(f"model-{number}-of-00002.safetensors" for number in ("00001", "00002"))
_NAMES = tuple(small_tensors("BF16"))
_OWN = {shard: _NAMES[at::2] for at, shard in enumerate(_SHARDS)}
_FILES = {
    shard: safetensors_bytes({name: small_tensors("BF16")[name] for name in names})
    for shard, names in _OWN.items()
}
_WORDS = (*_SHARDS, *_NAMES, "weight_map", "metadata", "total_size", "config.json", ".", "..")


def seeds() -> Iterator[bytes]:
    """The true index, with and without its total."""
    where = {name: shard for shard, names in _OWN.items() for name in names}
    yield json.dumps({"metadata": {"total_size": 3_000}, "weight_map": where}).encode()
    yield json.dumps({"weight_map": where}).encode()


def mutate(raw: bytes, random: Random, blind: Blind) -> bytes:
    """One value or key changed; now and then, bytes."""
    if random.random() < 0.2:
        return blind(raw)
    return json.dumps(changed(json.loads(raw), random, _WORDS)).encode()


TARGET = Target(
    "safetensors_index",
    "model.safetensors.index.json",
    read,
    seeds,
    mutate,
    {"config.json": CONFIG, **_FILES},
)
