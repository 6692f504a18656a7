"""Headers of safetensors files and their index.

Source: the safetensors format, eight bytes of length, then a JSON header of that length.
"""

import re
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, Final

from llmplan.errors import DocumentError, printable
from llmplan.model.importing.json_file import load_json, parse_json, regular_size
from llmplan.model.stored.tensors import StoredTensor

MAX_HEADER_BYTES: Final = 16_000_000
MAX_INDEX_BYTES: Final = 32_000_000
MAX_TENSORS: Final = 250_000
"""Of an index; Kimi-K2 has 140,000."""
MAX_TENSORS_OF_A_FILE: Final = 100_000
MAX_SHARDS: Final = 2_000
INDEX_SUFFIX: Final = ".safetensors.index.json"
_SHARD: Final = re.compile(r"\w[\w.-]{0,200}\.safetensors", re.ASCII)
"""A plain file name: no separators, no hidden files, nothing that leads to another folder."""
SHARD_NUMBER: Final = re.compile(r"-\d{5}-of-\d{5}\.safetensors$")
_LENGTH_BYTES: Final = 8
_ELEMENT_BITS: Final = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


def read_header(path: Path) -> tuple[StoredTensor, ...]:
    """The tensors of one safetensors file, from its header alone.

    Raises:
        DocumentError: Truncated, lying about lengths, too large, or not of the format.
    """
    name = str(path)
    try:
        size = regular_size(path)
        with path.open("rb") as file:
            prefix = file.read(_LENGTH_BYTES)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
                raise DocumentError("is cut off, or no safetensors file.", name)
            if length > MAX_HEADER_BYTES:
                raise DocumentError(f"has a header of {length:,} bytes; refused.", name)
            raw = file.read(length)
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", name) from None
    header = parse_json(raw, name)
    header.pop("__metadata__", None)
    _limit(len(header), name, MAX_TENSORS_OF_A_FILE)
    data_bytes = size - _LENGTH_BYTES - length
    tensors = tuple(tensor_of_entry(key, entry, data_bytes, name) for key, entry in header.items())
    _refuse_overlap(header, name)
    return tensors


def _limit(count: int, name: str, most: int = MAX_TENSORS) -> None:
    if count > most:
        raise DocumentError(f"lists {count:,} tensors; at most {most:,} are read.", name)


def tensor_of_entry(key: str, entry: Any, data_bytes: int, name: str) -> StoredTensor:
    """One entry of a header, checked; ``name`` is the file in messages.

    Raises:
        DocumentError: It is no tensor of a file with so many bytes of data.
    """
    shown = printable(key)
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise DocumentError("is no tensor entry.", name, key=shown)
    shape, offsets, bits = entry["shape"], entry["data_offsets"], _bits(entry["dtype"])
    if bits is None:
        raise DocumentError(
            f"has the unknown type {printable(str(entry['dtype']))}.", name, key=shown
        )
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise DocumentError("has a shape or offsets that are no sizes.", name, key=shown)
    begin, end = offsets
    if not begin <= end <= data_bytes or (end - begin) * 8 != prod(shape) * bits:
        raise DocumentError("has offsets that do not match its shape or the file.", name, key=shown)
    return StoredTensor(key, tuple(shape), entry["dtype"], end - begin)


def _bits(dtype: Any) -> int | None:
    return _ELEMENT_BITS.get(dtype) if isinstance(dtype, str) else None


def _are_sizes(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= 16
        and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**53 for v in values)
    )


def _refuse_overlap(header: dict[str, Any], name: str) -> None:
    """Refuse two entries that claim the same bytes."""
    places = sorted(entry["data_offsets"] for entry in header.values())
    if any(one[1] > other[0] for one, other in pairwise(places)):
        raise DocumentError("lists tensors that overlap.", name)


def read_index(path: Path) -> tuple[tuple[StoredTensor, ...], int | None]:
    """The tensors of all shards that an index names, and the total size that it states.

    Shards lie beside the index; names that lead elsewhere are refused.

    Raises:
        DocumentError: As ``read_header``, for a missing shard, or for a tensor that is not where
            the index says.
    """
    name = str(path)
    index = load_json(path, MAX_INDEX_BYTES)
    where = index.get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        raise DocumentError("has no weight_map of tensor names to files.", name)
    _limit(len(where), name)
    shards = sorted(set(where.values()))
    if len(shards) > MAX_SHARDS:
        raise DocumentError(f"names {len(shards):,} shards; at most {MAX_SHARDS:,} are read.", name)
    found: dict[str, StoredTensor] = {}
    for shard in shards:
        found |= _of_shard(shard, path, where)
        _limit(len(found), name)
    missing = next((key for key in where if key not in found), None)
    if missing is not None:
        raise DocumentError(f"names '{printable(missing)}', which no shard holds.", name)
    stated = index.get("metadata", {})
    total = stated.get("total_size") if isinstance(stated, dict) else None
    tensors = tuple(found.values())
    return tensors, total if isinstance(total, int) else None


def _of_shard(shard: str, index: Path, where: dict[str, str]) -> dict[str, StoredTensor]:
    """The tensors of one shard; the index must name each, and name it there."""
    if _SHARD.fullmatch(shard) is None:
        why = f"names the shard '{printable(shard)}' outside its folder."
        raise DocumentError(why, str(index))
    path = index.parent / shard
    tensors = {tensor.name: tensor for tensor in read_header(path)}
    stray = next((key for key in tensors if where.get(key) != shard), None)
    if stray is not None:
        why = f"holds '{printable(stray)}', which the index does not place there."
        raise DocumentError(why, str(path))
    return tensors
