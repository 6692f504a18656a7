"""SGLang: ``Load weight end``, ``KV Cache is allocated`` and the line of totals after them.

It prints GB and means 2^30 bytes. A draft model prints the same lines once more in the same rank,
so weights, pools and graphs are added up; a draft's share of weights can be negative, as loading
it frees what the allocator had kept.
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
    not_flag,
    printed_values,
    settings_from,
    whole,
    word,
)
from llmplan.engines.logs.reader import OUT_OF_MEMORY, OUT_OF_MEMORY_HINTS, LogReader, rule_of
from llmplan.engines.settings import EngineName
from llmplan.units import GIB

_GB: Final = NUMBER + r" ?(GB)\b"


def _several(value: Scalar) -> bool | None:
    """Whether experts are split: an expert-parallel size over 1."""
    size = whole(value)
    return None if size is None else size > 1


def _method(value: Scalar) -> str | None:
    said = word(value)
    return said.lower() if said else None


KEYS: Final = (
    Key("mem_fraction_static", "memory_frac", fraction),
    Key("context_length", "max_model_len", whole),
    Key("context_len", "max_model_len", whole),
    Key("chunked_prefill_size", "max_num_batched_tokens", whole),
    Key("max_running_requests", "max_num_seqs", whole),
    Key("page_size", "block_size", whole),
    Key("disable_cuda_graph", "enforce_eager", flag),
    Key("cuda_graph_max_bs", "max_capture_batch", whole),
    Key("kv_cache_dtype", "kv_dtype", word),
    Key("dtype", "dtype", word),
    Key("quantization", "quantization", word),
    Key("tp_size", "tensor_parallel", whole),
    Key("pp_size", "pipeline_parallel", whole),
    Key("dp_size", "data_parallel", whole),
    Key("ep_size", "expert_parallel", _several),
    Key("enable_dp_attention", "attention_dp", flag),
    Key("ep_num_redundant_experts", "redundant_experts", whole),
    Key("disable_radix_cache", "enable_prefix_caching", not_flag),
    Key("speculative_algorithm", "speculative_method", _method),
    Key("speculative_num_draft_tokens", "speculative_tokens", whole),
    Key("speculative_draft_model_path", "draft_model", name),
    Key("cpu_offload_gb", "cpu_offload_bytes", gib),
    Key("swa_full_tokens_ratio", "swa_full_tokens_ratio", fraction),
    Key("max_mamba_cache_size", "max_mamba_cache_size", whole),
    Key("mamba_ssm_dtype", "mamba_cache_dtype", word),
)
_LORA_KEYS: Final = (
    Key("max_loras_per_batch", "max_loras", whole),
    Key("max_lora_rank", "max_lora_rank", whole),
)
_WANTED: Final = names_of([*KEYS, *_LORA_KEYS], "model_path", "enable_lora")

_POOL: Final = Rule(Figure.KV_AVAILABLE, re.compile("KV size"), repeat=Repeat.SUM)
_POOL_TOKENS: Final = Rule(Figure.KV_TOKENS, re.compile("#tokens"), unit=1, repeat=Repeat.MOST)
_RULES: Final = (
    Rule(
        Figure.FREE_AT_START,
        re.compile(rf"Load weight begin\. avail mem={_GB}"),
        repeat=Repeat.FIRST,
    ),
    Rule(
        Figure.WEIGHTS,
        re.compile(rf"Load weight end\..{{0,300}}?mem usage={_GB}"),
        repeat=Repeat.SUM,
    ),
    Rule(
        Figure.GRAPHS,
        re.compile(rf"Capture .{{0,40}}(?i:cuda graph) end\..{{0,60}}?mem usage={_GB}"),
        repeat=Repeat.SUM,
    ),
    Rule(Figure.KV_TOKENS, re.compile(rf"\bmax_total_num_tokens={COUNT}"), unit=1),
)
_ALLOCATED: Final = re.compile(rf"KV Cache is allocated\..{{0,60}}?#tokens: {COUNT}")
_SIZES: Final = re.compile(rf"\b(?:K|V|KV) size: {_GB}")
_SERVER_ARGS: Final = re.compile(r"server_args=ServerArgs(?=\()")
_TOTALS: Final = re.compile(r"\bmax_total_num_tokens=\d{1,15}, ")
_KV_DTYPE: Final = re.compile(
    r"(?:Using KV cache dtype|KV Cache is allocated\. dtype): (torch\.\w{3,24})"
)
_FREE_AFTER: Final = re.compile(rf"Load weight end\.(?!.*mem usage=).{{0,300}}?avail mem={_GB}")
_MAMBA: Final = re.compile(rf"Mamba Cache is allocated\. max_mamba_cache_size: {COUNT}")


class SglangReader(LogReader):
    """Reads SGLang's log."""

    engine: ClassVar = EngineName.SGLANG
    hints: ClassVar = (
        "ServerArgs(",
        "Load weight ",
        "larger than the profiled value",
        "KV Cache is allocated",
        "KV cache dtype",
        "Mamba Cache is",
        "graph end",
        "max_total_num_tokens=",
        "mem-fraction-static",
        "fired up and ready",
        "device_name=",
        *OUT_OF_MEMORY_HINTS,
    )
    rules: ClassVar = _RULES
    start: ClassVar = re.compile(r"server_args=ServerArgs\(")
    up: ClassVar = re.compile(r"server is fired up and ready to roll")
    failures: ClassVar = (
        (
            re.compile(r"Not enough memory\. Please try to increase --mem-fraction-static"),
            Outcome.KV_TOO_SMALL,
        ),
        (re.compile(r"is larger than the profiled value -\d"), Outcome.KV_TOO_SMALL),
        (re.compile(r"Loaded weights leave no GPU memory for the KV cache"), Outcome.KV_TOO_SMALL),
        (re.compile(OUT_OF_MEMORY), Outcome.OOM),
    )

    def _begin(self) -> None:
        super()._begin()
        self._args: dict[str, Scalar] = {}
        self._totals: dict[str, Scalar] = {}
        self._resolved: dict[str, Scalar] = {}
        self._free_after: dict[str, tuple[int, int]] = {}

    def details(self, line: Line) -> None:
        """Settings, and pools: keys and values of each, one line a pool."""
        text = line.text
        if found := _SERVER_ARGS.search(text):
            self._args |= self.parse(line.whole[found.end() :], _WANTED)
            self.got.name_model(name(self._args.get("model_path")))
        if found := _TOTALS.search(text):
            self._totals |= printed_values(text[found.start() :], _WANTED)
        if found := _KV_DTYPE.search(text):
            self._resolved["kv_cache_dtype"] = found[1]
        if found := _MAMBA.search(text):
            self._totals["max_mamba_cache_size"] = quantity(found[1], 1)
        found = _FREE_AFTER.search(text)
        if found and len(self._free_after) < MAX_RANKS:
            self._free_after[line.rank] = (quantity(found[1], GIB), line.number)
        if found := _ALLOCATED.search(text):
            self.got.record(line.rank, _POOL_TOKENS, quantity(found[1], 1), line.number)
            sizes = [quantity(size[1], _POOL.unit) for size in _SIZES.finditer(text)]
            if sizes:
                self.got.record(line.rank, _POOL, sum(sizes), line.number)

    def evidence(self) -> int:
        """As for all engines, and the totals."""
        return super().evidence() + len(self._totals)

    def facts(self, lines: int) -> LogFacts:
        """What the log said; the line of totals, printed last, goes before the arguments.

        The format of the cache comes last: it says what an ``auto`` became.
        """
        keys = KEYS + (_LORA_KEYS if self._args.get("enable_lora") is True else ())
        typed = settings_from(self._args, keys).over(settings_from(self._resolved, keys))
        settings = settings_from(self._totals, keys).over(typed)
        self._derive_weights()
        self.remark_starts()
        return self.got.facts(self.engine, settings, lines)

    def _derive_weights(self) -> None:
        """Weights of versions that print only what is free before and after loading."""
        for rank, (after, line) in self._free_after.items():
            before = self.got.value(rank, Figure.FREE_AT_START)
            if before is not None and self.got.value(rank, Figure.WEIGHTS) is None:
                self.got.record(rank, rule_of(_RULES, Figure.WEIGHTS), before - after, line)
                self.got.remark("weights: memory free before loading less that after it")
