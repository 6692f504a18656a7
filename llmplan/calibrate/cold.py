"""Sets of random inputs that take turns, more of them than the last cache holds.

Every call then reads memory as a served step does, with other weights and other keys.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from llmplan.calibrate.kernel import Kernel, Place
from llmplan.dtypes import divide_up

CACHE_MULTIPLE: Final = 3
"""Bytes of all sets over those of the last cache, whose replacement is not strictly LRU."""
MOST_COPIES: Final = 256
"""A replay runs every set once, at the least."""
INFINITY_CACHE_BYTES: Final = 256 * 2**20
"""Behind the L2 of AMD's MI300 and MI350 series, and in no property of torch.

Source: rocm.docs.amd.com, AMD GPU specifications, column L3 Cache.
"""
_HOST_CACHE_BYTES: Final = 32 * 2**20
"""Of a processor that does not say."""
_HOST_CACHES: Final = Path("/sys/devices/system/cpu/cpu0/cache")
_MEMINFO: Final = Path("/proc/meminfo")
_HOST_ROOM_BYTES: Final = 512 * 2**20
"""Making random inputs on a processor takes longer than the kernels do."""

Inputs = tuple[tuple[torch.Tensor, ...], ...]
"""One set: the tensors of every kernel of a sequence."""


def copies_for(set_bytes: int, cache_bytes: int, room_bytes: int) -> int:
    """Sets of inputs that exceed the cache ``CACHE_MULTIPLE`` times, as far as there is room."""
    if set_bytes == 0:
        return 1
    wanted = divide_up(CACHE_MULTIPLE * cache_bytes, set_bytes)
    return max(1, min(wanted, room_bytes // set_bytes, MOST_COPIES))


def affordable_copies(copies: int, pass_s: float, seconds: float) -> int:
    """As many sets as a quarter of the time lets run once."""
    return max(1, min(copies, int(seconds / 4 / pass_s) if pass_s > 0 else copies))


def generator_of(place: Place) -> torch.Generator:
    """Of the random inputs of one point."""
    return torch.Generator(device=place.device).manual_seed(place.seed)


def one_set(kernels: Sequence[Kernel], generator: torch.Generator) -> Inputs:
    """Inputs of every kernel."""
    return tuple(kernel.inputs(generator) for kernel in kernels)


def distinct_bytes(inputs: Inputs) -> int:
    """Bytes of distinct tensors: views of one storage count once."""
    storages = {
        storage.data_ptr(): storage.nbytes()
        for tensors in inputs
        for storage in (tensor.untyped_storage() for tensor in tensors)
    }
    return sum(storages.values())


def last_cache_bytes(place: Place) -> int:
    """The last cache before memory: L2 of a GPU, L3 of a processor."""
    if place.is_cuda:
        l2_bytes = torch.cuda.get_device_properties(place.device).L2_cache_size
        return max(l2_bytes, INFINITY_CACHE_BYTES) if torch.version.hip else l2_bytes
    sizes = [path.read_text().strip() for path in sorted(_HOST_CACHES.glob("index*/size"))]
    return max((_host_size_bytes(size) for size in sizes), default=_HOST_CACHE_BYTES)


def available_bytes(place: Place) -> int:
    """Memory that can still be taken, blocks that torch holds for reuse among it."""
    if place.is_cuda:
        reserved = torch.cuda.memory_reserved(place.device)
        reusable = reserved - torch.cuda.memory_allocated(place.device)
        return torch.cuda.mem_get_info(place.device)[0] + reusable
    return host_memory_bytes("MemAvailable") or _HOST_ROOM_BYTES


def host_memory_bytes(key: str) -> int | None:
    """``MemTotal`` or ``MemAvailable`` of the host, where it is Linux."""
    text = _MEMINFO.read_text() if _MEMINFO.is_file() else ""
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{key}:")]
    return int(found[0]) * 1024 if found else None


def room_for_inputs(place: Place) -> int:
    """What sets of inputs may take; the rest is for results, and on a host for everybody else."""
    available = available_bytes(place)
    return available // 2 if place.is_cuda else min(available // 4, _HOST_ROOM_BYTES)


def warm_note(sets: Sequence[Inputs], place: Place) -> str:
    """What to say where the sets of inputs fit the cache."""
    total_bytes, last_bytes = len(sets) * distinct_bytes(sets[0]), last_cache_bytes(place)
    if total_bytes > last_bytes:
        return ""
    return f"inputs stay in the cache: {total_bytes:,} of {last_bytes:,} bytes"


def _host_size_bytes(text: str) -> int:
    """As in ``32768K``."""
    return int(text.removesuffix("K")) * 1024
