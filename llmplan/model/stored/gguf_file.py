"""Headers of GGUF files: metadata and tensor types, without the tokenizer and the weights.

Written here rather than taken from a package, because a planner must bound what it reads: strings,
arrays and counts are limited, vocabularies are skipped, and nothing is mapped into memory.
Source: the GGUF specification, versions 2 and 3 (ggml project).
"""

import re
import struct
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, prod
from pathlib import Path
from typing import Any, Final

from llmplan.dtypes import FORMATS, bytes_for, divide_up
from llmplan.errors import DocumentError, printable
from llmplan.model.importing.json_file import regular_size
from llmplan.model.stored.tensors import StoredTensor

MAX_HEAD_BYTES: Final = 32_000_000
"""Most of it is the vocabulary; that of Gemma 3 takes 7 MB."""
MAX_STRING_BYTES: Final = 1_000_000
MAX_ITEMS: Final = 1_000_000
MAX_PAIRS: Final = 10_000
MAX_TENSORS: Final = 20_000
"""Experts are stacked, so that DeepSeek-V3 has 1,100."""
MAX_KEPT_ITEMS: Final = 1_000
"""Longer arrays (tokens, scores, merges) are skipped."""
MAX_KEPT_IN_ALL: Final = 50_000
MAX_KEPT_CHARACTERS: Final = 1_000
"""Longer strings (chat templates, licences) are skipped."""
MAX_SPLITS: Final = 500
_MAX_NAME_BYTES: Final = 500
_ALIGNMENT: Final = 32
_VERSIONS: Final = (2, 3)
_SCALARS: Final = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_SPLIT_NAME: Final = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)
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
        metadata: Keys and values; long arrays and long strings as None.
        tensors: Every tensor with its type.
    """

    metadata: dict[str, Any]
    tensors: tuple[StoredTensor, ...]


def read_gguf(path: Path) -> GgufHeader:
    """The head of a GGUF file; of a split one, the metadata of the first and all tensors.

    Raises:
        DocumentError: Truncated, of an unknown version or type, or beyond the limits.
    """
    first = _read(path)
    count = first.metadata.get("split.count", 1)
    if count in (0, 1):
        return first
    name = _SPLIT_NAME.fullmatch(path.name)
    if type(count) is not int or count > MAX_SPLITS or not name or int(name[2]) != count:
        why = "is one of several files; keep the name that ends in -00001-of-0000N.gguf."
        raise DocumentError(why, str(path))
    paths = [path.with_name(f"{name[1]}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    heads = [_read(part) for part in paths]
    tensors = {tensor.name: tensor for head in heads for tensor in head.tensors}
    if len(tensors) != sum(len(head.tensors) for head in heads) or len(tensors) > MAX_TENSORS:
        raise DocumentError("and its other parts hold a tensor twice, or too many.", str(path))
    return GgufHeader(heads[0].metadata, tuple(tensors.values()))


def _read(path: Path) -> GgufHeader:
    try:
        size = regular_size(path)
        with path.open("rb") as file:
            head = file.read(MAX_HEAD_BYTES)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None
    return _Reader(head, str(path), size).header()


class _Reader:
    """Reads little-endian values and never past the end of the head."""

    def __init__(self, head: bytes, name: str, size: int) -> None:
        self._head, self._name, self._size = head, name, size
        self._at = self._kept = 0

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
            key = self._string(_MAX_NAME_BYTES)
            if key in metadata:
                raise self._error(f"gives the key '{printable(key)}' twice.")
            metadata[key] = self._value(self._number("<I"))
        found = [self._tensor() for _ in range(tensors)]
        self._check(found, metadata.get("general.alignment", _ALIGNMENT))
        return GgufHeader(metadata, tuple(tensor for tensor, _ in found))

    def _tensor(self) -> tuple[StoredTensor, int]:
        """A tensor, and where its data begin."""
        name, axes = self._string(_MAX_NAME_BYTES), self._number("<I")
        if not 1 <= axes <= 4:
            raise self._error(f"gives '{printable(name)}' {axes} axes; 1 to 4 are known.")
        shape = tuple(reversed([self._number("<Q") for _ in range(axes)]))
        number, offset = self._number("<I"), self._number("<Q")
        if number not in TYPES:
            raise self._error(f"gives '{printable(name)}' the unknown type {number}.")
        fmt = FORMATS[TYPES[number]]
        if not 0 < prod(shape) <= 2**53:
            raise self._error(f"gives '{printable(name)}' a shape that no file holds.")
        if fmt.block and shape[-1] % fmt.block[1]:
            raise self._error(f"gives '{printable(name)}' rows that do not fill blocks.")
        return StoredTensor(name, shape, fmt.name, bytes_for(shape, fmt)), offset

    def _check(self, found: list[tuple[StoredTensor, int]], alignment: Any) -> None:
        """Refuse names given twice, and tensors that overlap or lie beyond the end."""
        if len({tensor.name for tensor, _ in found}) < len(found):
            raise self._error("gives a tensor twice.")
        if type(alignment) is not int or not 0 < alignment <= 2**20:
            raise self._error("has an alignment that no file has.")
        begin = divide_up(self._at, alignment) * alignment
        places = sorted((offset, offset + tensor.stored_bytes) for tensor, offset in found)
        if any(one[1] > other[0] for one, other in pairwise(places)):
            raise self._error("lists tensors that overlap.")
        if places and begin + places[-1][1] > self._size:
            raise self._error("is cut off: its tensors reach beyond its end.")

    def _value(self, kind: int) -> Any:
        if kind in _SCALARS:
            value = self._number(_SCALARS[kind])
            return value if not isinstance(value, float) or isfinite(value) else None
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise self._error(f"has a value of the unknown kind {kind}.")
        item, count = self._number("<I"), self._number("<Q")
        if count > MAX_ITEMS:
            raise self._error(f"has a list of {count:,} items; refused.")
        if item not in _SCALARS and item != _STRING:
            raise self._error("has a list of lists or of an unknown kind; refused.")
        self._kept += count if count <= MAX_KEPT_ITEMS else 0
        if count > MAX_KEPT_ITEMS or item == _STRING or self._kept > MAX_KEPT_IN_ALL:
            return self._skip(item, count)
        return [self._value(item) for _ in range(count)]

    def _skip(self, kind: int, count: int) -> None:
        if kind in _SCALARS:
            self._pass(count * struct.calcsize(_SCALARS[kind]))
            return
        head, at, end = self._head, self._at, len(self._head)
        for _ in range(count):
            if at + 8 > end:
                raise self._cut_off()
            at += 8 + int.from_bytes(head[at : at + 8], "little")
        self._at = at
        self._pass(0)

    def _text(self) -> str | None:
        """A string, or None for one that is too long to matter."""
        length = self._number("<Q")
        if length <= MAX_KEPT_CHARACTERS:
            return self._take(length).decode("utf-8", errors="replace")
        if length > MAX_STRING_BYTES:
            raise self._error(f"has a string of {length:,} bytes; refused.")
        self._pass(length)
        return None

    def _string(self, most: int) -> str:
        length = self._number("<Q")
        if length > most:
            raise self._error(f"has a name of {length:,} bytes; refused.")
        return self._take(length).decode("utf-8", errors="replace")

    def _number(self, code: str) -> Any:
        return struct.unpack(code, self._take(struct.calcsize(code)))[0]

    def _pass(self, count: int) -> None:
        if count > len(self._head) - self._at:
            raise self._cut_off()
        self._at += count

    def _take(self, count: int) -> bytes:
        begin = self._at
        self._pass(count)
        return self._head[begin : self._at]

    def _cut_off(self) -> DocumentError:
        if self._size > len(self._head):
            return self._error(f"has a head of more than {MAX_HEAD_BYTES:,} bytes; refused.")
        return self._error("is cut off.")

    def _error(self, message: str) -> DocumentError:
        return DocumentError(message, self._name)
