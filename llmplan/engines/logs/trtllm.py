"""TensorRT-LLM: ``[MemUsageChange] Allocated`` lines, and the dry run of its PyTorch back end.

KB, MB and GB are powers of 1024. Its C++ lines name no rank, so of several equal lines the largest
use and the smallest cache are kept, with a remark where they differ.
"""

import re
from typing import ClassVar, Final

from llmplan.engines.logs.facts import Figure, LogFacts, Outcome
from llmplan.engines.logs.gathered import COUNT, MAX_RANKS, NUMBER, UNITS, Repeat, Rule, quantity
from llmplan.engines.logs.lines import Line
from llmplan.engines.logs.printed import (
    Key,
    Scalar,
    fraction,
    names_of,
    printed_values,
    settings_from,
    whole,
)
from llmplan.engines.logs.reader import OUT_OF_MEMORY, OUT_OF_MEMORY_HINTS, LogReader
from llmplan.engines.settings import EngineName

_SIZE: Final = NUMBER + r" ?(B|bytes|KB|MB|GB|KiB|MiB|GiB)\b"
_GIB: Final = NUMBER + r" ?(GiB)\b"

KEYS: Final = (
    Key("fraction", "memory_frac", fraction),
    Key("max_seq_len", "max_model_len", whole),
    Key("maxSequenceLen", "max_model_len", whole),
    Key("max_num_tokens", "max_num_batched_tokens", whole),
    Key("maxNumTokens", "max_num_batched_tokens", whole),
    Key("max_batch_size", "max_num_seqs", whole),
    Key("maxBatchSize", "max_num_seqs", whole),
    Key("tokens_per_block", "block_size", whole),
)
_WANTED: Final = names_of(KEYS)

_KV: Final = Rule(
    Figure.KV_AVAILABLE,
    re.compile(rf"Allocated {_SIZE} for max tokens in paged KV cache"),
    repeat=Repeat.LEAST,
)
_KV_TOKENS: Final = Rule(
    Figure.KV_TOKENS,
    re.compile(rf"for max tokens in paged KV cache \({COUNT}\)"),
    unit=1,
    repeat=Repeat.LEAST,
)
_ESTIMATE: Final = Rule(
    Figure.KV_AVAILABLE,
    re.compile(rf"available KV cache memory when calculating max tokens: {_GIB}"),
    repeat=Repeat.LEAST,
)
_RULES: Final = (
    Rule(Figure.WEIGHTS, re.compile(rf"Loaded engine size: {_SIZE}"), repeat=Repeat.MOST),
    Rule(
        Figure.WEIGHTS,
        re.compile(rf"(?:\b[Uu]se|Rank \d{{1,6}} uses) {_SIZE} for model weights"),
        repeat=Repeat.MOST,
    ),
    Rule(
        Figure.WEIGHTS,
        re.compile(rf"Memory used after loading model weights \(inside torch\).{{0,60}}?: {_GIB}"),
        repeat=Repeat.FIRST,
    ),
    Rule(
        Figure.ACTIVATIONS,
        re.compile(rf"Memory dynamically allocated during inference.{{0,80}}?: {_GIB}"),
        repeat=Repeat.MOST,
    ),
    Rule(
        Figure.NON_TORCH,
        re.compile(rf"Memory used outside torch \(e\.g\..{{0,80}}?: {_GIB}"),
        repeat=Repeat.MOST,
    ),
    Rule(
        Figure.DEVICE_TOTAL,
        re.compile(rf"device total memory {_GIB}"),
        repeat=Repeat.LEAST,
    ),
    Rule(
        Figure.DEVICE_TOTAL,
        re.compile(rf"calculating max tokens in paged kv cache: total: {_GIB}"),
        repeat=Repeat.LEAST,
    ),
    _ESTIMATE,
    Rule(
        Figure.KV_AVAILABLE,
        re.compile(rf"\bAllocate {_SIZE} for k/v cache"),
        repeat=Repeat.LEAST,
    ),
    _KV,
    _KV_TOKENS,
    Rule(
        Figure.KV_TOKENS,
        re.compile(rf"\bUsing {COUNT} tokens in paged KV cache"),
        unit=1,
        repeat=Repeat.LEAST,
    ),
    Rule(
        Figure.KV_BLOCK_SIZE,
        re.compile(rf"Number of tokens per block: {COUNT}"),
        unit=1,
    ),
)
# the parts of a TensorRT engine's working memory, each allocated once in each rank
_BUFFERS: Final = (
    re.compile(rf"Allocated {_SIZE} for execution context memory"),
    re.compile(rf"Allocated {_SIZE} GPU memory for runtime buffers"),
    re.compile(rf"Allocated {_SIZE} GPU memory for decoder"),
)
_BUFFER_RULE: Final = Rule(Figure.ACTIVATIONS, _BUFFERS[0])
_VERSION: Final = re.compile(r"TensorRT-LLM version: (\d[\w.+-]{1,50})")
_PEAK: Final = re.compile(r"Peak memory during memory usage profiling")
_FRACTION: Final = re.compile(
    r"(?:fraction is set|free_gpu_memory_fraction and max_tokens are set \(to) ([01]\.\d{1,20})"
)
_LIMITS: Final = re.compile(r"\bmax_seq_len=\d{1,12}, max_num_requests=")
_MODEL_LIMIT: Final = re.compile(
    r"TRTGptModel (maxBatchSize|maxSequenceLen|maxNumTokens): (\d{1,12})"
)
_BLOCK: Final = re.compile(rf"Number of tokens per block: {COUNT}")


class TrtllmReader(LogReader):
    """Reads TensorRT-LLM's log."""

    engine: ClassVar = EngineName.TRTLLM
    hints: ClassVar = (
        "[TensorRT-LLM]",
        "[TRT-LLM]",
        "[MemUsageChange]",
        "k/v cache",
        "paged KV",
        "Engine loaded and ready",
        "Application startup complete",
        *OUT_OF_MEMORY_HINTS,
    )
    rules: ClassVar = _RULES
    # every process prints the version as it is imported, so no line tells a new start
    start: ClassVar = re.compile(r"(?!)")
    up: ClassVar = re.compile(
        r"Engine loaded and ready to serve|Executor instance created by worker"
        r"|Application startup complete"
    )
    failures: ClassVar = ((re.compile(OUT_OF_MEMORY), Outcome.OOM),)

    def _begin(self) -> None:
        super()._begin()
        self._limits: dict[str, Scalar] = {}
        self._buffers: dict[str, dict[int, tuple[int, int]]] = {}

    def details(self, line: Line) -> None:
        """Settings, working memory part by part, and the cache of the dry run, which is let go."""
        text = line.text
        if found := _VERSION.search(text):
            self.got.name_version(found[1])
        if _PEAK.search(text):
            self._forget_dry_run(line.rank)
        if found := _FRACTION.search(text):
            self._limits["fraction"] = float(found[1])
        if found := _LIMITS.search(text):
            self._limits |= printed_values(text[found.start() :], _WANTED)
        if found := _MODEL_LIMIT.search(text):
            self._limits[found[1]] = int(found[2])
        if found := _BLOCK.search(text):
            self._limits["tokens_per_block"] = quantity(found[1], 1)
        for part, pattern in enumerate(_BUFFERS):
            found = pattern.search(text)
            if found and (line.rank in self._buffers or len(self._buffers) < MAX_RANKS):
                size = quantity(found[1], UNITS[found[2]])
                held = self._buffers.setdefault(line.rank, {}).get(part, (-1, 0))
                self._buffers[line.rank][part] = max(held, (size, line.number))

    def _forget_dry_run(self, rank: str) -> None:
        """Drop the tokens and bytes of the small cache that the dry run was given."""
        for place in (rank, ""):
            self.got.drop(place, _KV)
            self.got.drop(place, _KV_TOKENS)

    def evidence(self) -> int:
        """As for all engines, and buffers that are added up at the end."""
        return super().evidence() + len(self._buffers) + len(self._limits)

    def facts(self, lines: int) -> LogFacts:
        """What the log said."""
        for rank, parts in self._buffers.items():
            if self.got.value(rank, Figure.ACTIVATIONS) is None:
                total = sum(size for size, _ in parts.values())
                last = max(number for _, number in parts.values())
                self.got.record(rank, _BUFFER_RULE, total, last)
        if any(self.got.holds(rank, _KV) for rank in self.got.cells):
            for rank in self.got.cells:
                self.got.drop(rank, _ESTIMATE)
        settings = settings_from(self._limits, KEYS)
        return self.got.facts(self.engine, settings, lines)
