"""The header of a safetensors file, with a good config beside it."""

import json
import struct
from collections.abc import Iterator
from math import prod
from random import Random
from typing import Any

from fuzz.common import Blind, Target
from fuzz.config_json import read, words
from fuzz.small import CONFIG, small_tensors
from fuzz.trees import changed
from tests.stored_files import BITS, safetensors_bytes

_LENGTH = 8
_MOST_DATA = 16_384


def seeds() -> Iterator[bytes]:
    """The same small model in two formats, and a file without tensors."""
    yield safetensors_bytes(small_tensors("BF16"))
    yield safetensors_bytes(small_tensors("F32"))
    yield safetensors_bytes({})


def mutate(raw: bytes, random: Random, blind: Blind) -> bytes:
    """Another header, mostly with its true length, and offsets that mostly fit the shapes."""
    length = int.from_bytes(raw[:_LENGTH], "little")
    header, data = raw[_LENGTH : _LENGTH + length], raw[_LENGTH + length :]
    if random.random() < 0.2:
        header = blind(header)
    else:
        entries = changed(json.loads(header), random, (*words(), *small_tensors("BF16")))
        if random.random() < 0.6:
            data = bytes(min(_laid_out(entries), _MOST_DATA))
        header = json.dumps(entries).encode()
    length = len(header) if random.random() < 0.95 else random.getrandbits(random.choice((8, 64)))
    return struct.pack("<Q", length) + header + data


def _laid_out(entries: dict[str, Any]) -> int:
    """Put the tensors one behind the other; gives where the last one ends."""
    at = 0
    for entry in entries.values():
        if not isinstance(entry, dict) or str(entry.get("dtype")) not in BITS:
            continue
        shape = entry.get("shape")
        if isinstance(shape, list) and all(type(axis) is int for axis in shape):
            end = at + prod(shape) * BITS[entry["dtype"]] // 8
            entry["data_offsets"] = [at, end]
            at = end
    return max(at, 0)


TARGET = Target(
    "safetensors_header", "model.safetensors", read, seeds, mutate, {"config.json": CONFIG}
)
