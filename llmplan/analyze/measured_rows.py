"""Measured engine starts: one row of ``hardware/measured/engine_memory.csv`` as a question.

A blank cell is *not stated*. What notes state in a fixed form (decode context parallelism, draft
tokens, a fixed pool) is read from them, since the table has no column for it.
"""

import re
from dataclasses import dataclass, replace
from typing import Final

from llmplan.analyze.measured import (
    GGUF_ROLES,
    KEPT_REMARK,
    Row,
    Skipped,
    device_of,
    is_low_bit,
    keeps_attention,
    lowered_whole,
    model_of,
    with_attention_kept,
)
from llmplan.analyze.serving import Serving, serving
from llmplan.dtypes import format_of_bits, state_format_named
from llmplan.engines.profile import Profile, profile_of
from llmplan.engines.settings import EngineName, Settings
from llmplan.engines.words import kv_words, weight_words
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.device import Device
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model, Part
from llmplan.ops.compressed import CompressedAttention
from llmplan.parallel.layout import Layout
from llmplan.parallel.precision import NATIVE, StateFormats
from llmplan.units import GIB, parse_bytes

_BITS: Final = re.compile(r"\(([\d.]+) BPW\)")
_NOTES: Final = (
    (
        "decode_context_parallel",
        re.compile(r"(?:decode context parallel |DCP=|decode_context_parallel_size=)(\d+)"),
    ),
    ("speculative_tokens", re.compile(r"MTP (\d+) (?:draft )?tokens")),
    ("speculative_tokens", re.compile(r"MTP (\d+)\b(?! tokens)")),
    ("max_mamba_cache_size", re.compile(r"for (\d+) slots")),
    ("swa_full_tokens_ratio", re.compile(r"swa_full_tokens_ratio=([\d.]+)")),
    ("cpu_offload_gib", re.compile(r"cpu_offload_gb=([\d.]+)")),
    ("pool", re.compile(r"KV bytes fixed at ([\d.]+ GB)")),
    ("attention_dp", re.compile(r"DP attention with (\d+) groups")),
)
_FLAGS: Final = (
    ("language_model_only", re.compile(r"--language-model-only")),
    ("sequences", re.compile(r"--max-num-seqs (\d+)")),
    ("fused_sampler", re.compile(r"\bimage\b")),
)
_DRAFTER: Final = re.compile(r"(?<!no )\b(?:drafter|draft model|Eagle3?\b|EAGLE)", re.IGNORECASE)
_AFTER_START: Final = re.compile(r"started, then|after start")


@dataclass(frozen=True)
class Asked:
    """A row as a question.

    Attributes:
        row: The row.
        published: The model of the catalogue.
        model: The model in the formats of the row.
        is_exact_id: The repository is one of the catalogue, no relative of it.
        device: The GPU, with the capacity that the row states if it states one.
        layout: The split.
        profile: The engine at the row's version.
        settings: What the row states.
        assumed: What it does not state and an engine default fills, where that decides the answer.
        remarks: How words of the row were read.
    """

    row: Row
    published: Model
    model: Model
    device: Device
    layout: Layout
    profile: Profile
    settings: Settings
    assumed: tuple[str, ...]
    remarks: tuple[str, ...]

    def answer(self) -> Serving:
        """The engine's answer.

        Raises:
            Skipped: The layout is refused.
        """
        try:
            return serving(self.model, self.layout, self.device, self.profile, self.settings)
        except LayoutError as error:
            raise Skipped(f"layout: {error}") from None


def asked_by(row: Row) -> Asked:
    """The question that a row asks.

    Raises:
        Skipped: No known model, GPU or format, with the reason.
    """
    engine = _engine(row)
    notes = _from_notes(row)
    device = _device(row, engine)
    published = model_of(row["model"])
    layout = _layout(row, notes)
    weights, remark = _weights(row, published, engine)
    settings = _settings(row, notes, published)
    mtp = bool(settings.speculative_tokens) and "drafter" not in row.get("notes", "").lower()
    if weights != NATIVE and published.identity.assumptions:
        # the row states the format; the name alone may have said another
        published = load_model(published.identity.name)
    served = published.served(mtp=mtp, vision=not settings.language_model_only)
    states = _states(row, engine, published)
    model, group = lowered_whole(served, weights, states, layout)
    remarks = tuple(text for text in (remark, group) if text)
    return Asked(
        row,
        published,
        model,
        device,
        layout,
        engine,
        settings,
        _assumed(row, engine, settings),
        remarks,
    )


def failed_after_start(row: Row) -> bool:
    """Whether the engine had started before it failed."""
    return bool(_AFTER_START.search(row.get("notes", "")))


def holds_a_drafter(row: Row, model: Model) -> bool:
    """Whether a draft model is resident that the row does not measure by itself.

    Drafting with modules of the model's own is none: their sizes are known.
    """
    notes = row.get("notes", "")
    if _DRAFTER.search(notes):
        return True
    drafts = re.search(r"MTP \d+", notes) and not re.search(r"[Nn]o MTP", notes)
    return bool(drafts) and not model.parts(Part.MTP)


def gib(text: str) -> int | None:
    """Bytes of a cell in GiB; None where it is blank or no number."""
    try:
        return round(float(text) * GIB)
    except (ValueError, OverflowError):
        return None


def _engine(row: Row) -> Profile:
    name = row["engine"]
    try:
        plain = profile_of(name)
        if not plain.version:
            return plain
        for word in (row.get("engine_version", ""), row.get("date", "")):
            try:
                if word:
                    return profile_of(f"{name}@{word}")
            except InputError:
                continue
    except InputError as error:
        raise Skipped(str(error)) from None
    return plain


def _device(row: Row, engine: Profile) -> Device:
    label = row.get("gpu", "")
    if label.strip() == "CPU" and engine.engine is EngineName.LLAMACPP:
        label = "h100-sxm"  # its cache follows from n_ctx alone, whatever holds it
    device = device_of(label)
    stated = gib(row.get("device_total_gib", ""))
    return replace(device, capacity_bytes=stated) if stated else device


def _layout(row: Row, notes: dict[str, float | str]) -> Layout:
    def number(name: str) -> int:
        text = row.get(name, "")
        return int(text) if text.isdigit() and int(text) else 1

    groups = int(notes.get("attention_dp", 1))
    tp = number("tp")
    return Layout(
        tp=max(tp // groups, 1),
        pp=number("pp"),
        dp=groups,
        ep=groups > 1 or row.get("ep") == "1",
        decode_cp=int(notes.get("decode_context_parallel", 1)),
    )


def _weights(row: Row, published: Model, engine: Profile) -> tuple[str, str]:
    """``--dtype`` of the row, and how it was read."""
    said = row.get("weight_quant", "")
    is_derived = bool(published.identity.assumptions) or "(" in row["model"]
    if not said:
        return "native", "weights as published"
    words = weight_words(said)
    if words is None:
        raise Skipped(f"weight format '{said}' is not known")
    if engine.engine is EngineName.LLAMACPP:
        return _gguf(said), ""
    if not is_derived and is_low_bit(published):
        return "native", "the repository is the published checkpoint"
    if keeps_attention(words, published):
        return with_attention_kept(words), KEPT_REMARK
    return words, ""


def _gguf(said: str) -> str:
    """A format of the file's average bits: types by tensor are not stated."""
    match = _BITS.search(said)
    if not match:
        raise Skipped(f"weight format '{said}' does not state its bits")
    each = format_of_bits(float(match[1])).name
    return ",".join(f"{role.value}={each}" for role in GGUF_ROLES)


def _states(row: Row, engine: Profile, model: Model) -> StateFormats:
    said = row.get("kv_dtype", "")
    words = kv_words(said)
    is_compressed = any(isinstance(o, CompressedAttention) for o, _ in model.decoder.counted)
    if is_compressed and engine.engine in (EngineName.VLLM, EngineName.SGLANG):
        words = "fp8"
    if words is None:
        raise Skipped(f"KV format '{said}' is not known")
    kv = state_format_named(words)
    indexer = state_format_named("fp8_indexer" if kv.bits <= 9 else "bf16")
    recurrent = state_format_named("fp16" if "fp16 SSM" in row.get("notes", "") else "fp32")
    return StateFormats(kv, recurrent, indexer, state_format_named("bf16"))


def _settings(row: Row, notes: dict[str, float | str], model: Model) -> Settings:
    def whole(name: str) -> int | None:
        text = row.get(name, "")
        return int(text) if text.isdigit() else None

    frac = row.get("gpu_memory_utilization", "")
    length = whole("max_model_len")
    pool = notes.get("pool")
    return Settings(
        memory_frac=float(frac) if frac else None,
        max_model_len=length or model.context_length,
        max_num_batched_tokens=whole("max_num_batched_tokens"),
        max_num_seqs=whole("max_num_seqs") or int(notes.get("sequences", 0)) or None,
        block_size=whole("block_size"),
        enforce_eager={"1": True, "0": False}.get(row.get("enforce_eager", "")),
        speculative_tokens=int(notes.get("speculative_tokens", 0)) or None,
        swa_full_tokens_ratio=float(notes.get("swa_full_tokens_ratio", 0)) or None,
        max_mamba_cache_size=int(notes.get("max_mamba_cache_size", 0)) or None,
        cpu_offload_bytes=int(float(notes.get("cpu_offload_gib", 0)) * GIB) or None,
        language_model_only=bool(notes.get("language_model_only")) or None,
        fused_sampler=bool(notes.get("fused_sampler")) or None,
        kv_cache_memory_bytes=parse_bytes(str(pool)) if pool else None,
    )


def _from_notes(row: Row) -> dict[str, float | str]:
    text = row.get("notes", "")
    found: dict[str, float | str] = {}
    for name, pattern in (*_NOTES, *_FLAGS):
        if (match := pattern.search(text)) and name not in found:
            found[name] = match[1] if match.groups() else "1"
    return found


def _assumed(row: Row, engine: Profile, settings: Settings) -> tuple[str, ...]:
    """Cells that decide the cache and that a default fills."""
    if engine.engine is EngineName.LLAMACPP:
        return () if row.get("max_model_len") else ("n_ctx",)
    if settings.kv_cache_memory_bytes is not None:
        return ()
    return () if settings.memory_frac is not None else ("memory share",)
