"""Look-up of devices and nodes by name, and the GPU argument (``8xH100``, ``2n8xH200``).

A catalogue name is the stem of a file and is opened directly. An alias needs the ``aliases`` of the
other files; only those few lines of each are read, so that it stays a matter of milliseconds.
The pydantic models of the files are loaded with the first file: most commands read none.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from llmplan.catalogs import catalogue_file, catalogue_files, shown_path
from llmplan.documents import load_document
from llmplan.dtypes import divide_up
from llmplan.errors import DocumentError, InputError, UnknownNameError, nearest_names, printable
from llmplan.hardware.device import Device, GpuGroup, Node

MAX_COUNT: Final = 100_000
NEXT_STEP: Final = "`llmplan hardware` lists them; docs/add-a-gpu.md says how to add one."
_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,79}")
_SEPARATORS: Final = re.compile(r"[\s_-]+")
_VENDOR_WORDS: Final = frozenset(
    ("nvidia", "tesla", "geforce", "amd", "instinct", "radeon", "intel", "google", "aws", "huawei")
)
_NUMBER: Final = r"([+-]?[0-9.]+)"
_GPUS: Final = re.compile(
    rf"(?:{_NUMBER}\s*n\s*(?={_NUMBER}\s*[x×]))?(?:{_NUMBER}\s*[x×]\s*)?(.*)",
    re.IGNORECASE | re.DOTALL,
)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_device(name: str) -> Device:
    """The device called ``name``: a catalogue name or any alias.

    Raises:
        UnknownNameError: No such device, with the nearest names.
    """
    return _shipped_device(_slug("devices", "GPU", name))


def device_of_stem(stem: str) -> Device:
    """The device that a file's stem begins with: ``a100_sxm_gemm`` means ``a100-80gb-sxm``.

    Raises:
        UnknownNameError: It begins with the name of no device.
    """
    words = stem.split("_")
    for length in range(len(words), 0, -1):
        try:
            return load_device("_".join(words[:length]))
        except UnknownNameError:
            continue
    raise UnknownNameError("GPU", stem, device_names(), NEXT_STEP)


def load_node(name: str) -> Node:
    """The type of node called ``name``: a catalogue name or any alias.

    Raises:
        UnknownNameError: No such node, with the nearest names.
    """
    return _shipped_node(_slug("nodes", "node type", name))


def device_names() -> tuple[str, ...]:
    """Catalogue names of all devices, sorted."""
    return tuple(path.stem for path in _files("devices"))


def node_names() -> tuple[str, ...]:
    """Catalogue names of all types of node, sorted."""
    return tuple(path.stem for path in _files("nodes"))


def list_devices() -> tuple[Device, ...]:
    """All devices, by catalogue name."""
    return tuple(_shipped_device(slug) for slug in device_names())


def list_nodes() -> tuple[Node, ...]:
    """All types of node, by catalogue name."""
    return tuple(_shipped_node(slug) for slug in node_names())


def default_node(device: Device) -> Node | None:
    """The type of node that a bare ``8xH100`` means, if the catalogue has one for the device."""
    slug = _default_nodes().get(device.slug)
    return _shipped_node(slug) if slug else None


def parse_gpus(text: str) -> GpuGroup:
    """The GPU argument: ``H100`` (one), ``8xH100``, ``2n8xH200`` (2 nodes of 8).

    A count that fills several whole nodes is split into them: ``16xH100`` is 2 nodes of 8.

    Raises:
        InputError: A count that is no positive whole number, or that fills no whole nodes.
        UnknownNameError: No such device.
    """
    match = _GPUS.fullmatch(text.strip())
    nodes, _, per_node, name = match.groups() if match else (None, None, None, text)
    if not name.strip():
        raise InputError(
            f"'{printable(text)}' names no GPU. Write H100, 8xH100, or 2n8xH200 for 2 nodes of 8."
        )
    counts = (_count(nodes, text) if nodes else None), _count(per_node or "1", text)
    if (counts[0] or 1) * counts[1] > MAX_COUNT:
        raise InputError(f"'{printable(text)}' is more than {MAX_COUNT:,} GPUs.")
    return _group(load_device(name), *counts)


def matching_key(name: str) -> str:
    """What two names must share to be the same: no case, separators, or leading vendor words."""
    words = [word for word in _SEPARATORS.split(name.lower()) if word]
    while len(words) > 1 and words[0] in _VENDOR_WORDS:
        words = words[1:]
    return "".join(words)


def _count(number: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", number) or not 1 <= int(number) <= MAX_COUNT:
        raise InputError(
            f"'{printable(text)}': {printable(number)} is no count. "
            f"Write a whole number from 1 to {MAX_COUNT:,}, as in 8xH100 or 2n8xH200."
        )
    return int(number)


def _group(device: Device, nodes: int | None, per_node: int) -> GpuGroup:
    node = default_node(device)
    if node is None or per_node <= node.devices:
        return GpuGroup(nodes or 1, per_node, device, node)
    if nodes is None and per_node % node.devices == 0:
        return GpuGroup(per_node // node.devices, node.devices, device, node)
    split = _even_split((nodes or 1) * per_node, node.devices)
    raise InputError(
        f"one {node.slug} node holds {node.devices} x {device.slug}, not {per_node}. "
        f"Write how they are spread, for example {split}x{device.slug}."
    )


def _even_split(count: int, node_size: int) -> str:
    """The fewest nodes that hold ``count`` devices, the same number in each."""
    nodes = next(n for n in range(divide_up(count, node_size), count + 1) if count % n == 0)
    return f"{nodes}n{count // nodes}"


def _slug(folder: str, kind: str, name: str) -> str:
    """The catalogue name that ``name`` means."""
    direct = _SEPARATORS.sub("-", name.strip().lower())
    if _SLUG.fullmatch(direct) and _path(folder, direct):
        return direct
    slugs = _slugs_by_key(folder)
    found = slugs.get(matching_key(name[:200]))
    if found is None:
        stems = sorted(set(slugs.values()))
        raise UnknownNameError(
            kind, name, stems if nearest_names(name, stems) else slugs, NEXT_STEP
        )
    return found


def _path(folder: str, slug: str) -> Path | None:
    return catalogue_file(f"hardware/{folder}", slug)


def _files(folder: str) -> list[Path]:
    return list(catalogue_files(f"hardware/{folder}").values())


def _chosen(folder: str, slug: str) -> tuple[Path, str]:
    """The file of a slug that exists, and how messages name it."""
    kind = f"hardware/{folder}"
    path = catalogue_file(kind, slug) or catalogue_files(kind)[slug]
    return path, shown_path(path, kind)


@cache
def _shipped_device(slug: str) -> Device:
    from llmplan.hardware.reading import read_device  # noqa: PLC0415 (see the module's docstring)

    return read_device(*_chosen("devices", slug))


@cache
def _shipped_node(slug: str) -> Node:
    from llmplan.hardware.reading import read_node  # noqa: PLC0415 (see the module's docstring)

    return read_node(*_chosen("nodes", slug))


@cache
def _slugs_by_key(folder: str) -> dict[str, str]:
    slugs: dict[str, str] = {}
    for path in _files(folder):
        for name in (path.stem, str(_top_level(path, "name", path.stem)), *_aliases(path)):
            other = slugs.setdefault(matching_key(name), path.stem)
            if other != path.stem:
                raise DocumentError(f"'{name}' already means {other}.", str(path), key="aliases")
    return slugs


@cache
def _default_nodes() -> dict[str, str]:
    return {
        _top_level(path, "device", ""): path.stem
        for path in _files("nodes")
        if _top_level(path, "default_for_device", default=False)
    }


def _aliases(path: Path) -> list[str]:
    aliases = _top_level(path, "aliases", [])
    if not isinstance(aliases, list):
        raise DocumentError("should be a list of names.", str(path), key="aliases")
    return [str(alias) for alias in aliases]


def _top_level(path: Path, key: str, default: Any) -> Any:
    """The value of one top-level key, read without parsing the rest of the file."""
    lines = re.search(rf"^{key}:.*(?:\n(?:[ \t\-#\]].*)?)*", path.read_text("utf-8"), re.MULTILINE)
    try:
        return yaml.load(lines[0], Loader=_Loader)[key] if lines else default  # noqa: S506  safe
    except yaml.YAMLError:
        return load_document(path).data.get(key, default)
