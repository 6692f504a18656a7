"""Headers of GGUF files: metadata and tensor types, without the tokenizer and the weights.

Written here rather than taken from a package, because a planner must bound what it reads: strings,
arrays and counts are limited, vocabularies are skipped, and nothing is mapped into memory.
Source: the GGUF specification, versions 2 and 3 (ggml project).
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

from llmplan.dtypes import FORMATS, bytes_for
from llmplan.errors import DocumentError, printable
from llmplan.model.stored.tensors import StoredTensor

MAX_STRING_BYTES: Final = 1_000_000
MAX_ITEMS: Final = 1_000_000
MAX_PAIRS: Final = 100_000
MAX_TENSORS: Final = 250_000
MAX_KEPT_ITEMS: Final = 1_000
"""Longer arrays (tokens, scores, merges) are skipped."""
_VERSIONS: Final = (2, 3)
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
TYPES: Final = {
    0: "fp32", 1: "fp16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 10: "q2_k",
    11: "q3_k", 12: "q4_k", 13: "q5_k", 14: "q6_k", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs",
    18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl", 21: "iq3_s", 22: "iq2_s", 23: "iq4_xs", 29: "iq1_m",
    30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4",
}  # fmt: skip
"""Tensor types by number: formats of the one table in ``dtypes``."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the head of a GGUF file says.

    Attributes:
        metadata: Keys and values; long arrays as None.
        tensors: Every tensor with its type.
    """

    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]


def read_gguf(path: Path) -> GgufHeader:
    """The head of one GGUF file.

    Raises:
        DocumentError: Truncated, of an unknown version or type, or beyond the limits.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file, str(path), path.stat().st_size).header()
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None


class _Reader:
    """Reads little-endian values and never past the end of the file."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self._file, self._name, self._size = file, name, size

    def header(self) -> GgufHeader:
        if self._take(4) != b"GGUF":
            raise self._error("is no GGUF file.")
        version = self._number("<I")
        if version not in _VERSIONS:
            raise self._error(f"is GGUF of version {version}; 2 and 3 can be read.")
        tensors, pairs = self._number("<Q"), self._number("<Q")
        if tensors > MAX_TENSORS or pairs > MAX_PAIRS:
            raise self._error(f"states {tensors:,} tensors and {pairs:,} keys; refused.")
        metadata: dict[str, Any] = {}
        for _ in range(pairs):
            key = self._string()
            metadata[key] = self._value(self._number("<I"))
        return GgufHeader(metadata, tuple(self._tensor() for _ in range(tensors)))

    def _tensor(self) -> StoredTensor:
        name, axes = self._string(), self._number("<I")
        if axes > 8:
            raise self._error(f"gives '{printable(name)}' {axes} axes.")
        shape = tuple(reversed([self._number("<Q") for _ in range(axes)]))
        number, offset = self._number("<I"), self._number("<Q")
        if number not in TYPES:
            raise self._error(f"gives '{printable(name)}' the unknown type {number}.")
        fmt = TYPES[number]
        if prod(shape) > 2**53 or offset > self._size:
            raise self._error(f"gives '{printable(name)}' a size or place beyond the file.")
        return StoredTensor(name, shape, fmt, bytes_for(shape, FORMATS[fmt]))

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or depth > 2:
            raise self._error(f"has a value of the unknown kind {kind}.")
        item, count = self._number("<I"), self._number("<Q")
        if count > MAX_ITEMS:
            raise self._error(f"has a list of {count:,} items; refused.")
        if count <= MAX_KEPT_ITEMS:
            return [self._value(item, depth + 1) for _ in range(count)]
        return self._skip(item, count)

    def _skip(self, kind: int, count: int) -> None:
        if kind in _SCALARS:
            self._pass(count * struct.calcsize(_SCALARS[kind]))
        elif kind == _STRING:
            for _ in range(count):
                self._pass(self._number("<Q"))
        else:
            raise self._error("has a long list of lists; refused.")

    def _string(self) -> str:
        length = self._number("<Q")
        if length > MAX_STRING_BYTES:
            raise self._error(f"has a string of {length:,} bytes; refused.")
        return self._take(length).decode("utf-8", errors="replace")

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _pass(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise self._error("is cut off.")
        self._file.seek(count, 1)

    def _take(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise self._error("is cut off.")
        return self._file.read(count)

    def _error(self, message: str) -> DocumentError:
        return DocumentError(message, self._name)
