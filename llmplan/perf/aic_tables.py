"""Kernel times of ai-dynamo/aiconfigurator as rows of operator tables.

Its data lie in ``SYSTEM/FAMILY/ENGINE/VERSION/NAME_perf.parquet``; collectors write the same
columns as CSV text, ``NAME_perf.txt``. Of each engine the newest version that has a table is read.
Kernels are called as in the profiles that come with llmplan: ``aic/FAMILY/ENGINE/VERSION`` and the
first 28 letters of ``kernel_source``. Sizes of messages are elements.
Source: aiconfigurator-core 0.12.0, systems/data.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias

from llmplan.errors import DocumentError, InputError, MissingPartError, printable
from llmplan.perf.foreign import Foreign, checked
from llmplan.perf.rates import BITS
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import MAX_BYTES, grouped

PACKAGE: Final = "aiconfigurator_core"
KERNEL_LETTERS: Final = 28
SUFFIXES: Final = (".parquet", ".txt", ".csv")
EP_RANKS: Final = 8
"""Ranks of a node, in tables that state nodes alone."""
DEEPEP: Final = "wideep_deepep_ll"
_VERSION: Final = re.compile(r"(\d+(?:\.\d+)*)(?:\.?(rc|post)(\d+))?")
Row: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Source:
    """One of its tables.

    Attributes:
        name: Of its files, without ``_perf``.
        operator: The table that its rows are of.
        columns: Our column by its column.
        fixed: Columns that all of its rows share.
        length: Columns whose sum is ``kv_len``.
        unit_ms: Of its times.
        latency: Column of its times.
    """

    name: str
    operator: str
    columns: Mapping[str, str]
    fixed: Mapping[str, str]
    length: tuple[str, ...] = ()
    unit_ms: float = 1.0
    latency: str = "latency"


_ATTENTION: Final = {
    "batch": "batch_size", "heads": "num_heads", "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim", "dtype": "attn_dtype", "kv_dtype": "kv_cache_dtype",
}  # fmt: skip
_LATENT: Final = {
    "batch": "batch_size", "heads": "num_heads", "dtype": "mla_dtype", "kv_dtype": "kv_cache_dtype",
}  # fmt: skip
_MODULE: Final = {**_LATENT, "model": "model", "gemm_type": "gemm_type"}
_EXPERTS: Final = {
    "tokens": "num_tokens", "hidden": "hidden_size", "inter": "inter_size", "topk": "topk",
    "experts": "num_experts", "tp": "moe_tp_size", "ep": "moe_ep_size", "dtype": "moe_dtype",
    "distribution": "distribution",
}  # fmt: skip
_DISPATCH: Final = {
    "backend": "comm_backend", "phase": "phase", "dtype": "comm_dtype", "ep": "ep_size",
    "nodes": "node_num", "hidden": "hidden_size", "topk": "topk", "experts": "num_experts",
    "tokens": "num_tokens",
}  # fmt: skip
_DEEPEP: Final = {
    "nodes": "node_num", "hidden": "hidden_size", "topk": "num_topk", "experts": "num_experts",
    "tokens": "num_token",
}  # fmt: skip
_PROMPT, _DECODE = {"phase": "context"}, {"phase": "generation"}
SOURCES: Final = (
    Source("gemm", "gemm", {"dtype": "gemm_dtype", "m": "m", "n": "n", "k": "k"}, {}),
    Source("context_attention", "context_attention", _ATTENTION, {}, ("isl", "step")),
    Source("generation_attention", "generation_attention", _ATTENTION, {}, ("isl", "step")),
    Source("context_mla", "mla", _LATENT, _PROMPT, ("isl", "step")),
    Source("generation_mla", "mla", _LATENT, _DECODE, ("isl", "step")),
    Source("mla_context_module", "mla_module", _MODULE, _PROMPT, ("isl", "step")),
    Source("mla_generation_module", "mla_module", _MODULE, _DECODE, ("step",)),
    Source("moe", "moe", _EXPERTS, {}),
    Source("nccl", "collectives", {"op": "op_name", "gpus": "num_gpus", "dtype": "nccl_dtype"}, {}),
    Source(
        "custom_allreduce",
        "collectives",
        {"op": "op_name", "gpus": "num_gpus", "dtype": "allreduce_dtype"},
        {},
    ),
    Source("moe_a2a", "moe_a2a", _DISPATCH, {}, unit_ms=1e-3),
    *(
        Source(
            DEEPEP, "moe_a2a", _DEEPEP, {"backend": "deepep_ll", "phase": phase, "dtype": ""},
            unit_ms=1e-3, latency=f"{phase}_avg_t_us",
        )
        for phase in ("dispatch", "combine")
    ),
)  # fmt: skip
"""Tables whose operators have curves."""


def installed_data() -> Path:
    """The data of the installed package.

    Raises:
        MissingPartError: It is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPartError(
            "the kernel times of aiconfigurator are not installed: pip install aiconfigurator-core"
            "; or name a folder that holds SYSTEM/FAMILY/ENGINE/VERSION."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"


def systems(root: Path) -> tuple[str, ...]:
    """Systems that there are data of, as ``h100_sxm``."""
    return tuple(sorted(path.name for path in root.iterdir() if path.is_dir()))


def aic_measurements(root: Path, system: str) -> Iterator[Foreign]:
    """All tables of one system, an operator and a file at a time.

    Raises:
        InputError: There is no such system, or it has no table that a curve is of.
        DocumentError: A table cannot be read.
        MissingPartError: Its files are Parquet, and pyarrow is not installed.
    """
    if not root.is_dir() or system not in systems(root):
        known = ", ".join(systems(root)) if root.is_dir() else "none"
        raise InputError(f"{root} has no system '{printable(system)}': {known}.")
    seen = False
    for source in SOURCES:
        for path in _newest(root / system, source.name):
            seen = True
            yield _measurements(path, source)
    if not seen:
        raise InputError(f"{root / system} has no table that a curve is of.")


def _newest(system: Path, name: str) -> Iterator[Path]:
    """Of every family and engine the file of the newest version that has the table."""
    for engine in sorted(system.glob("*/*")):
        found = [
            (version, path)
            for folder in engine.iterdir()
            if (version := _version(folder.name))
            for suffix in SUFFIXES
            if (path := folder / f"{name}_perf{suffix}").is_file()
        ]
        if found:
            yield max(found, key=lambda pair: pair[0])[1]


def _version(text: str) -> tuple[tuple[int, ...], int, int] | None:
    """A version as something to compare: candidates come before, fixes after a release."""
    read = _VERSION.fullmatch(text)
    if not read:
        return None
    stage = {"rc": -1, None: 0, "post": 1}[read[2]]
    return tuple(map(int, read[1].split("."))), stage, int(read[3] or 0)


def _measurements(path: Path, source: Source) -> Foreign:
    rows = _rows(path, source)
    family, engine, version = path.parts[-4:-1]
    src = f"aic/{family}/{engine}/{version}"
    words = [_words(row, source, src) for row in rows]
    operator = OPERATORS[source.operator]
    return checked(operator, grouped(words, operator), len(words))


def _words(row: Row, source: Source, src: str) -> dict[str, str]:
    """A row of ours, as text; a number that is missing or odd is refused with the row."""
    kernel = str(row.get("kernel_source", ""))
    if source.operator == "moe":
        kernel = kernel.removeprefix("vllm_")
    words = {"src": src, "kernel": kernel[:KERNEL_LETTERS], **source.fixed}
    words.update({ours: str(row[its]) for ours, its in source.columns.items()})
    if any(row[its] in {None, ""} for its in source.columns.values()):
        return {**words, "latency_ms": ""}
    try:
        words["latency_ms"] = repr(_number(row[source.latency]) * source.unit_ms)
        if source.length:
            words["kv_len"] = repr(sum(_number(row[column]) for column in source.length))
            words["window"] = repr(_number(row.get("window_size") or 0))
        if source.operator == "collectives":
            width = BITS[words["dtype"]] / 8
            words["bytes"] = repr(_number(row["message_size"]) * width)
        if source.name == DEEPEP:
            words["ep"] = repr(EP_RANKS * _number(row["node_num"]))
    except (KeyError, TypeError, ValueError):
        words["latency_ms"] = ""
    return words


def _number(value: object) -> float:
    return float(str(value))


def _rows(path: Path, source: Source) -> list[Row]:
    """All rows of a file.

    Raises:
        DocumentError: It cannot be read, or lacks a column.
        MissingPartError: It is Parquet, and pyarrow is not installed.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DocumentError(f"is larger than {MAX_BYTES:,} bytes.", str(path))
    rows = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    needed = {*source.columns.values(), *source.length, source.latency}
    for column in sorted(needed):
        if rows and column not in rows[0]:
            raise DocumentError(f"has no column '{column}'.", str(path))
    return rows


def _csv(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise DocumentError("is no CSV text.", str(path)) from None


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 (an optional part)
    except ImportError:
        raise MissingPartError(
            f"{path} is Parquet, which is read through pyarrow: pip install pyarrow."
        ) from None
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except (OSError, ArrowInvalid):
        raise DocumentError("is no Parquet file.", str(path)) from None
    return rows
