"""vLLM: from ``total_gpu_memory (…) x gpu_memory_utilization`` (V0) to merged capacity lines.

Successive versions print the same figures in other words; a later line replaces an earlier one. Its
``GB`` of loaded weights is 2^30 bytes.
"""

import re
from typing import ClassVar, Final

from llmplan.engines.logs.facts import Figure, LogFacts, Outcome
from llmplan.engines.logs.gathered import COUNT, MAX_RANKS, NUMBER, Repeat, Rule, quantity
from llmplan.engines.logs.lines import Line
from llmplan.engines.logs.printed import (
    Key,
    Scalar,
    flag,
    fraction,
    gib,
    name,
    names_of,
    settings_from,
    whole,
    word,
)
from llmplan.engines.logs.reader import OUT_OF_MEMORY, OUT_OF_MEMORY_HINTS, LogReader, rule_of
from llmplan.engines.settings import EngineName, Settings
from llmplan.units import GIB

_GIB: Final = NUMBER + r" ?GiB"

KEYS: Final = (
    Key("gpu_memory_utilization", "memory_frac", fraction),
    Key("kv_cache_memory_bytes", "kv_cache_memory_bytes", whole),
    Key("max_seq_len", "max_model_len", whole),
    Key("max_model_len", "max_model_len", whole),
    Key("max_num_batched_tokens", "max_num_batched_tokens", whole),
    Key("max_num_seqs", "max_num_seqs", whole),
    Key("block_size", "block_size", whole),
    Key("enforce_eager", "enforce_eager", flag),
    Key("compilation_config.max_cudagraph_capture_size", "max_capture_batch", whole),
    Key("compilation_config.max_capture_size", "max_capture_batch", whole),
    Key("kv_cache_dtype", "kv_dtype", word),
    Key("dtype", "dtype", word),
    Key("quantization", "quantization", word),
    Key("tensor_parallel_size", "tensor_parallel", whole),
    Key("pipeline_parallel_size", "pipeline_parallel", whole),
    Key("data_parallel_size", "data_parallel", whole),
    Key("decode_context_parallel_size", "decode_context_parallel", whole),
    Key("prefill_context_parallel_size", "prefill_context_parallel", whole),
    Key("enable_expert_parallel", "expert_parallel", flag),
    Key("eplb_config.num_redundant_experts", "redundant_experts", whole),
    Key("enable_prefix_caching", "enable_prefix_caching", flag),
    Key("chunked_prefill_enabled", "enable_chunked_prefill", flag),
    Key("enable_chunked_prefill", "enable_chunked_prefill", flag),
    Key("speculative_config.num_speculative_tokens", "speculative_tokens", whole),
    Key("speculative_config.num_spec_tokens", "speculative_tokens", whole),
    Key("speculative_config.method", "speculative_method", word),
    Key("speculative_config.model", "draft_model", name),
    Key("max_loras", "max_loras", whole),
    Key("max_lora_rank", "max_lora_rank", whole),
    Key("cpu_offload_gb", "cpu_offload_bytes", gib),
    Key("swap_space", "swap_space_bytes", gib),
    Key("language_model_only", "language_model_only", flag),
    Key("mamba_ssm_cache_dtype", "mamba_cache_dtype", word),
    Key("mamba_cache_dtype", "mamba_cache_dtype", word),
)
_WANTED: Final = names_of(KEYS, "model")

_RULES: Final = (
    Rule(
        Figure.WEIGHTS,
        re.compile(rf"(?:Model loading|Loading model weights) took {NUMBER} ?(GB|GiB)\b"),
        repeat=Repeat.MOST,
    ),
    Rule(Figure.WEIGHTS, re.compile(rf"model weights take {_GIB}"), repeat=Repeat.FIRST),
    Rule(Figure.WEIGHTS, re.compile(rf"weights memory: {_GIB}"), repeat=Repeat.FIRST),
    Rule(Figure.WEIGHTS, re.compile(rf"Actual usage is {_GIB} for weight\b"), repeat=Repeat.FIRST),
    Rule(Figure.ACTIVATIONS, re.compile(rf"PyTorch activation peak memory takes {_GIB}")),
    Rule(Figure.ACTIVATIONS, re.compile(rf"torch peak memory increase: {_GIB}")),
    Rule(Figure.ACTIVATIONS, re.compile(rf"{_GIB} for peak activation")),
    Rule(Figure.NON_TORCH, re.compile(rf"non_torch_memory takes {_GIB}")),
    Rule(Figure.NON_TORCH, re.compile(rf"\bnon_torch_memory={_GIB}")),
    Rule(Figure.NON_TORCH, re.compile(rf"non-torch forward increase memory: {_GIB}")),
    Rule(Figure.NON_TORCH, re.compile(rf"{_GIB} for non-torch memory")),
    Rule(
        Figure.GRAPHS,
        re.compile(rf"Graph capturing finished in [\d.]{{1,12}} secs?, took {_GIB}"),
    ),
    Rule(Figure.GRAPHS, re.compile(rf"CUDA graph pool memory: {_GIB} \(actual\)")),
    Rule(Figure.GRAPHS, re.compile(rf"{_GIB} for CUDAGraph memory")),
    Rule(Figure.DEVICE_TOTAL, re.compile(rf"total_gpu_memory(?: \(|=){_GIB}")),
    Rule(
        Figure.DEVICE_TOTAL,
        re.compile(rf"Free memory on device (?:\S{{1,20}} )?\([\d.]{{1,15}}/{_GIB}\)"),
    ),
    Rule(
        Figure.FREE_AT_START,
        re.compile(rf"Free memory on device (?:\S{{1,20}} )?\({NUMBER}/[\d.]{{1,15}} GiB\)"),
    ),
    Rule(Figure.FREE_AT_START, re.compile(rf"Initial free memory:? {_GIB}")),
    Rule(Figure.KV_AVAILABLE, re.compile(rf"reserved for KV Cache is {_GIB}")),
    Rule(Figure.KV_AVAILABLE, re.compile(rf"\bkv_cache_size={_GIB}")),
    Rule(
        Figure.KV_AVAILABLE,
        re.compile(rf"Available KV cache memory: {_GIB}"),
        repeat=Repeat.LEAST,
    ),
    Rule(Figure.KV_AVAILABLE, re.compile(rf"reserved {_GIB} memory for KV Cache as specified")),
    Rule(
        Figure.KV_AVAILABLE,
        re.compile(rf"Current kv cache memory in use is {NUMBER} (bytes|GiB)"),
    ),
    Rule(
        Figure.KV_AVAILABLE,
        re.compile(rf"larger than the available KV cache memory \({_GIB}\)"),
        repeat=Repeat.LEAST,
    ),
    Rule(
        Figure.KV_TOKENS,
        re.compile(rf"\b\w{{2,10}} KV cache size: {COUNT} tokens"),
        unit=1,
        repeat=Repeat.LEAST,
    ),
    Rule(
        Figure.KV_BLOCK_SIZE,
        re.compile(rf"Setting attention block size to {COUNT} tokens"),
        unit=1,
    ),
)

_VERSION: Final = re.compile(r"(?:LLM engine \(v|vLLM API server version )(\d[\w.+-]{1,50})")
_BANNER: Final = re.compile(r"[█▄▀]\s{1,20}version (\d[\w.+-]{1,50})")
_MODEL_LINE: Final = re.compile(r"Starting to load model (\S{1,300}?)(?:\.\.\.|\s|$)")
_ARGS: Final = re.compile(r"non-default args: (?=\{)")
_CONFIG: Final = re.compile(r"Initializing an? (?:V\d )?LLM engine \([^)]{1,60}\) with config: ")
_CHUNKED: Final = re.compile(rf"Chunked prefill is enabled with max_num_batched_tokens={COUNT}")
_MAX_LEN: Final = re.compile(rf"Using max model len {COUNT}")
_DESIRED: Final = re.compile(r"Desired GPU memory utilization is \(([\d.]{1,12}), ")
_UTILISATION: Final = re.compile(r"gpu_memory_utilization(?: \(|=)([\d.]{1,12})(?:\)|\.?\s|\.?$)")
_CONCURRENCY: Final = re.compile(
    rf"Maximum concurrency for {COUNT} tokens per request: (\d{{1,9}}(?:\.\d{{1,6}})?)x"
)
_BLOCKS: Final = re.compile(rf"# (?!CPU)\w{{3,4}} blocks: {COUNT}")
_PEAK: Final = re.compile(rf"\bpeak_torch_memory={_GIB}")
_CONSUMED: Final = re.compile(
    rf"(?:Actual usage is {_GIB} for consumed memory|total consumed \(from mem_get_info\): {_GIB})"
)
_ENGINE_UP: Final = re.compile(r"init engine \(profile, create kv cache, warmup model\) took")
_BLOCK_SIZES: Final = (8, 16, 32, 64, 128, 256)


class VllmReader(LogReader):
    """Reads vLLM's log."""

    engine: ClassVar = EngineName.VLLM
    hints: ClassVar = (
        "LLM engine",
        "vLLM API server",
        "non-default args",
        "odel weights",
        "Model loading took",
        "weights memory",
        "memory takes",
        "reserved for KV",
        "gpu_memory",
        "KV cache size",
        "KV cache memory",
        "kv_cache_memory",
        "KV Cache as specified",
        "stored in KV cache",
        "Maximum concurrency for",
        " blocks:",
        "Graph capturing finished",
        "graph pool memory",
        "Free memory on device",
        "Initial free memory",
        "attention block size",
        "max_num_batched_tokens=",
        "max model len",
        "init engine (profile",
        "max seq len",
        "cache blocks",
        "Application startup complete",
        "█",
        "Starting to load model",
        "device_name=",
        *OUT_OF_MEMORY_HINTS,
    )
    rules: ClassVar = _RULES
    start: ClassVar = re.compile(
        r"vLLM API server version|non-default args: \{|Initializing an? (?:V\d )?LLM engine"
    )
    up: ClassVar = re.compile(r"Application startup complete")
    failures: ClassVar = (
        (re.compile(r"Available KV cache memory: -\d"), Outcome.KV_TOO_SMALL),
        (re.compile(r"No available memory for the cache blocks"), Outcome.KV_TOO_SMALL),
        (re.compile(r"To serve at least one request with the model"), Outcome.KV_TOO_SMALL),
        (
            re.compile(r"larger than the maximum number of tokens that can be stored in KV cache"),
            Outcome.KV_TOO_SMALL,
        ),
        (re.compile(r"on startup is less than desired GPU memory"), Outcome.OOM),
        (re.compile(OUT_OF_MEMORY), Outcome.OOM),
    )

    def _begin(self) -> None:
        super()._begin()
        self._typed: dict[str, Scalar] = {}
        self._resolved: dict[str, Scalar] = {}
        self._printed: dict[str, Scalar] = {}
        self._blocks: dict[str, tuple[int, int]] = {}
        self._peak: dict[str, tuple[int, int]] = {}
        self._consumed: dict[str, tuple[int, int]] = {}
        self._engines = self._engines_up = 0
        self._banner = ""

    def details(self, line: Line) -> None:
        """Names, settings, and the figures that need a second one."""
        text = line.text
        if found := _VERSION.search(text):
            self.got.name_version(found[1].rstrip("."))
        if found := _BANNER.search(text):
            self._banner = found[1]
        if found := _ARGS.search(text):
            self._typed |= self.parse(line.whole[found.end() :], _WANTED)
        if found := _CONFIG.search(text):
            self._engines += 1
            self._resolved |= self.parse(line.whole[found.end() :], _WANTED)
        self._note(text)
        if found := _CONCURRENCY.search(text):
            self.got.record_concurrency(line.rank, found[2], found[1], line.number)
        for pattern, kept, unit in (
            (_BLOCKS, self._blocks, 1),
            (_PEAK, self._peak, GIB),
            (_CONSUMED, self._consumed, GIB),
        ):
            found = pattern.search(text)
            if found and (line.rank in kept or len(kept) < MAX_RANKS):
                number = next(group for group in found.groups() if group)
                kept[line.rank] = (quantity(number, unit), line.number)
        if _ENGINE_UP.search(text):
            self._engines_up += 1
            if self._engines_up >= self._engines and self.got.failure is None:
                self.got.ready(line.number)

    def _note(self, text: str) -> None:
        """Settings that stand in lines of their own, and the model where no config names it."""
        for pattern, key in ((_CHUNKED, "max_num_batched_tokens"), (_MAX_LEN, "max_model_len")):
            if found := pattern.search(text):
                self._printed[key] = quantity(found[1], 1)
        if found := _DESIRED.search(text) or _UTILISATION.search(text):
            number = found[1].rstrip(".")
            if number.count(".") <= 1 and number.replace(".", "").isdigit():
                self._printed.setdefault("gpu_memory_utilization", float(number))
        if found := _MODEL_LINE.search(text):
            self._printed.setdefault("model", found[1])

    def evidence(self) -> int:
        """As for all engines, and the settings."""
        return super().evidence() + len(self._typed) + len(self._resolved) + len(self._blocks)

    def facts(self, lines: int) -> LogFacts:
        """What the log said; what was resolved goes before what was typed."""
        if self._banner:
            self.got.name_version(self._banner)
        for values in (self._resolved, self._typed, self._printed):
            self.got.name_model(name(values.get("model")))
        typed = settings_from(self._typed, KEYS).over(settings_from(self._printed, KEYS))
        settings = settings_from(self._resolved, KEYS).over(typed)
        self._derive(settings)
        self.remark_starts()
        return self.got.facts(self.engine, settings, lines)

    def _derive(self, settings: Settings) -> None:
        """Figures that are a difference or a product of printed ones."""
        for figure, kept, what in (
            (Figure.ACTIVATIONS, self._peak, "activations: torch's peak less the weights"),
            (Figure.NON_TORCH, self._consumed, "outside torch: consumed memory less the weights"),
        ):
            for rank, (total, line) in kept.items():
                weights = self.got.value(rank, Figure.WEIGHTS)
                if weights is not None and self.got.value(rank, figure) is None:
                    self.got.record(rank, rule_of(_RULES, figure), total - weights, line)
                    self.got.remark(what)
        for rank, (blocks, line) in self._blocks.items():
            self._derive_tokens(rank, blocks, line, settings.block_size)

    def _derive_tokens(self, rank: str, blocks: int, line: int, stated: int | None) -> None:
        """Tokens of a count of blocks, where the size of a block is stated or can only be one."""
        size = stated or self._block_size(rank, blocks)
        if size is None:
            self.got.remark(f"line {line}: {blocks:,} cache blocks of a size that is not stated")
            return
        self.got.record(rank, rule_of(_RULES, Figure.KV_BLOCK_SIZE), size, line)
        if self.got.value(rank, Figure.KV_TOKENS) is None:
            self.got.record(rank, rule_of(_RULES, Figure.KV_TOKENS), blocks * size, line)

    def _block_size(self, rank: str, blocks: int) -> int | None:
        """The one block size that makes the printed concurrency of the printed blocks."""
        printed = self.got.concurrency.get(rank)
        if printed is None:
            return None
        fits = [
            size
            for size in _BLOCK_SIZES
            if abs(blocks * size / printed.length_tokens - printed.times) <= 0.0051
        ]
        if len(fits) != 1:
            return None
        self.got.remark(f"blocks of {fits[0]} tokens, as the printed concurrency says")
        return fits[0]
