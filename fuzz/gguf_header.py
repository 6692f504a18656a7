"""The head of a GGUF file: counts, metadata of any kind, tensors with types and places."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from fuzz.common import Blind, Target
from fuzz.config_json import read, words
from fuzz.small import small_gguf
from fuzz.trees import EDGES
from llmplan.dtypes import FORMATS, bytes_for
from llmplan.model.importing.gguf import ARCHITECTURES
from llmplan.model.stored.gguf_file import TYPES
from tests.stored_files import gguf_bytes, gguf_value, text

_MOST_DATA = 32_768
_FURTHER_KEYS = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 4,
    "attention.key_length": 2,
    "attention.value_length": 2,
    "attention.sliding_window": 16,
}
_KEYS = 2**16
_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_MOST = 2**64 - 1
_SIZES = (0, 1, 2, 31, 32, 64, 10_000, 2**31, 2**32 - 1, 2**53, 2**60, 2**63, _MOST)


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: bytes
    axes: tuple[int, ...]
    kind: int
    at: int

    def raw(self) -> bytes:
        axes = struct.pack(f"<I{len(self.axes)}Q", len(self.axes), *self.axes)
        name = struct.pack("<Q", len(self.name)) + self.name
        return name + axes + struct.pack("<IQ", self.kind, self.at)


class _Walk:
    """A lenient reader of good files; anything else raises whatever it does."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def number(self, code: str) -> int:
        value: int = struct.unpack_from(code, self.raw, self.at)[0]
        self.at += struct.calcsize(code)
        return value

    def text(self) -> bytes:
        length = self.number("<Q")
        self.at += length
        return self.raw[self.at - length : self.at]

    def value(self) -> bytes:
        """The bytes of a value, its kind before it."""
        begin = self.at
        self._skip(self.number("<I"))
        return self.raw[begin : self.at]

    def _skip(self, kind: int) -> None:
        if kind == 8:
            self.text()
        elif kind == 9:
            item, count = self.number("<I"), self.number("<Q")
            for _ in range(min(count, _KEYS)):
                self._skip(item)
        else:
            self.at += _WIDTHS[kind]

    def tensor(self) -> _Tensor:
        name, count = self.text(), self.number("<I")
        axes = tuple(self.number("<Q") for _ in range(min(count, 8)))
        return _Tensor(name, axes, self.number("<I"), self.number("<Q"))


def seeds() -> Iterator[bytes]:
    """A small model in four formats, and its keys under the name of each architecture."""
    yield gguf_bytes(*small_gguf("bf16", 32))
    yield gguf_bytes(*small_gguf("fp32", 32))
    yield gguf_bytes(*small_gguf("q8_0", 8))
    yield gguf_bytes(*small_gguf("q4_0", 8), version=2)
    metadata, tensors = small_gguf("bf16", 32)
    for arch in ARCHITECTURES:
        own = {key.replace("llama.", f"{arch}.", 1): value for key, value in metadata.items()}
        yield gguf_bytes({**own, "general.architecture": arch}, tensors)
        more = {f"{arch}.{key}": value for key, value in _FURTHER_KEYS.items()}
        yield gguf_bytes({**own, **more, "general.architecture": arch}, tensors)


def mutate(raw: bytes, random: Random, blind: Blind) -> bytes:
    """One key or tensor changed, with counts and places that mostly agree."""
    if random.random() < 0.1:
        return blind(raw)
    walk = _Walk(raw)
    walk.at = 4
    version, tensors, pairs = walk.number("<I"), walk.number("<Q"), walk.number("<Q")
    keys = [(walk.text(), walk.value()) for _ in range(min(pairs, _KEYS))]
    found = [walk.tensor() for _ in range(min(tensors, _KEYS))]
    data = raw[walk.at :]
    for _ in range(random.choice((1, 1, 2, 4))):
        if random.random() < 0.6:
            _change_key(keys, random, blind)
        else:
            _change_tensor(found, random, blind)
    if random.random() < 0.7:
        found, end = _laid_out(found)
        data = bytes(min(end, _MOST_DATA) + 64)
    counts = [len(found), len(keys)]
    if random.random() < 0.03:
        counts[random.randrange(2)] = random.choice(_SIZES)
    head = b"GGUF" + struct.pack("<IQQ", version, *counts)
    head += b"".join(struct.pack("<Q", len(key)) + key + value for key, value in keys)
    return head + b"".join(tensor.raw() for tensor in found) + data


def _change_key(keys: list[tuple[bytes, bytes]], random: Random, blind: Blind) -> None:
    at = random.randrange(len(keys) + 1)
    if at == len(keys):
        prefix = next((v[12:].decode(errors="replace") for k, v in keys if k.endswith(b"ture")), "")
        word = random.choice(words())
        keys.append((f"{prefix}.{word}".encode(), _value(random)))
        return
    key, value = keys[at]
    match random.randrange(6):
        case 0:
            del keys[at]
        case 1:
            keys[at] = key, value[:4] + blind(value[4:])
        case 2:
            keys[at] = key.rpartition(b".")[0] + b"." + random.choice(words()).encode(), value
        case 3:
            keys[at] = key, random.choice(keys)[1]
        case _:
            keys[at] = key, _value(random)


def _value(random: Random) -> bytes:
    """A value of any kind; what GGUF cannot hold becomes a wide number or a list."""
    match random.randrange(5):
        case 0:
            return struct.pack("<IQ", 10, random.choice(_SIZES))
        case 1:
            item, count = (
                struct.pack("<I", random.choice((0, 1, 2, 9))),
                random.choice((0, 2, 1001)),
            )
            return struct.pack("<IIQ", 9, 4, count) + item * count
        case 2:
            return b"\x08\0\0\0" + text(random.choice(words()))
    try:
        return gguf_value(random.choice(EDGES))
    except (TypeError, struct.error, OverflowError, IndexError):
        return struct.pack("<Ii", 5, -1)


def _change_tensor(found: list[_Tensor], random: Random, blind: Blind) -> None:
    at = random.randrange(len(found) or 1)
    tensor = found[at] if found else _Tensor(b"output.weight", (), 0, 0)
    found[at:] = [tensor, *found[at + 1 :]]
    match random.randrange(7):
        case 0:
            del found[at]
        case 1:
            found[at] = replace(tensor, name=blind(tensor.name))
        case 2:
            axes = list(tensor.axes or (1,))
            axes[random.randrange(len(axes))] = random.choice((*_SIZES, 4, 8, 16, 256))
            found[at] = replace(tensor, axes=tuple(axes))
        case 3:
            axes = random.choice((tensor.axes * 2, tensor.axes[1:], (*tensor.axes, 1)))
            found[at] = replace(tensor, axes=axes[:8])
        case 4:
            found[at] = replace(tensor, kind=random.choice((*TYPES, 4, 5, 9, 99)))
        case 5:
            found[at] = replace(tensor, at=min(random.choice((*_SIZES, tensor.at + 1)), _MOST))
        case _:
            found.insert(at, replace(random.choice(found), name=blind(tensor.name)))


def _laid_out(found: list[_Tensor]) -> tuple[list[_Tensor], int]:
    """The tensors one behind the other, and where the last one ends."""
    placed, at = [], 0
    for tensor in found:
        placed.append(replace(tensor, at=min(at, _MOST)))
        if tensor.kind in TYPES:
            shape = tuple(reversed(tensor.axes))
            at += -(-bytes_for(shape, FORMATS[TYPES[tensor.kind]]) // 32) * 32
    return placed, at


TARGET = Target("gguf_header", "model.gguf", read, seeds, mutate)
