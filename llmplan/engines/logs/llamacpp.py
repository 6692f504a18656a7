"""llama.cpp and its forks: buffers by device, in MiB.

Weights, cache and compute buffers of one device are added up over a model and its draft model. A
compute buffer is printed anew each time that one context reserves it, so the last one counts.
"""

import re
from typing import ClassVar, Final

from llmplan.engines.logs.facts import Figure, LogFacts, Outcome
from llmplan.engines.logs.gathered import COUNT, MAX_RANKS, NUMBER, Repeat, Rule, quantity
from llmplan.engines.logs.lines import Line
from llmplan.engines.logs.printed import Key, Scalar, flag, settings_from, whole, word
from llmplan.engines.logs.reader import OUT_OF_MEMORY, OUT_OF_MEMORY_HINTS, LogReader
from llmplan.engines.settings import EngineName
from llmplan.errors import printable
from llmplan.units import MIB

_MIB: Final = rf"= *{NUMBER} MiB"
_DEVICE: Final = r"([A-Za-z][^\s=]{0,60}) +"

KEYS: Final = (
    Key("n_ctx_seq", "max_model_len", whole),
    Key("n_ctx_per_seq", "max_model_len", whole),
    Key("n_ctx_slot", "max_model_len", whole),
    Key("n_ubatch", "max_num_batched_tokens", whole),
    Key("n_seq_max", "max_num_seqs", whole),
    Key("n_slots", "max_num_seqs", whole),
    Key("offloaded", "n_gpu_layers", whole),
    Key("kv", "kv_dtype", word),
    Key("ftype", "quantization", word),
    Key("experts_on_cpu", "experts_on_cpu", flag),
    Key("mla", "mla", flag),
)

_WEIGHTS: Final = Rule(
    Figure.WEIGHTS,
    re.compile(rf"load_tensors: +{_DEVICE}(?:model )?buffer size {_MIB}"),
    MIB,
    Repeat.SUM,
)
_KV: Final = Rule(
    Figure.KV_AVAILABLE, re.compile(rf"{_DEVICE}KV buffer size {_MIB}"), MIB, Repeat.SUM
)
_COMPUTE: Final = Rule(
    Figure.ACTIVATIONS, re.compile(rf"{_DEVICE}compute buffer size {_MIB}"), MIB, Repeat.SUM
)
_WHOLE_KV: Final = Rule(
    Figure.KV_AVAILABLE,
    re.compile(rf"(?:KV self size +|llama_kv_cache\w*: size ){_MIB}"),
    MIB,
    Repeat.SUM,
)
_TOKENS: Final = Rule(
    Figure.KV_TOKENS,
    re.compile(rf"llama_(?:context|new_context_with_model|init_from_model): n_ctx += {COUNT}"),
    1,
    Repeat.FIRST,
)
_FREE: Final = Rule(
    Figure.FREE_AT_START,
    re.compile(
        r"using device (\S{1,60}) \((.{1,80}?)\)(?: \([\w:.]{1,40}\))? - (\d{1,9}) MiB free"
    ),
    MIB,
    Repeat.FIRST,
)
_TOTAL: Final = Rule(
    Figure.DEVICE_TOTAL,
    re.compile(r"found 1 (CUDA|ROCm|MUSA) devices \(Total VRAM: (\d{1,9}) MiB\)"),
    MIB,
)
_BREAKDOWN: Final = re.compile(
    r"memory_breakdown_print: \| +- ([A-Z][\w]{2,20}) \((.{1,80}?)\) *\| *(\d{1,9}) = "
)
_VERSION: Final = re.compile(
    r"(?:\bbuild: |^version: )(\d{1,7})(?= \([0-9a-f]{6,40}\))"
    r"|\bbuild_info: (b\d{1,7}-[0-9a-f]{6,40})"
)
_MODEL: Final = re.compile(r"loaded meta data with .{1,80}? from (.{1,300}?)(?: \(version |$)")
_GPU: Final = re.compile(r"^\s*Device \d{1,3}: (.{3,60}?), compute capability ")
_SETTING: Final = re.compile(
    r"(?:llama_\w{4,40}: |[ ,])(n_ctx_seq|n_ctx_per_seq|n_ctx_slot|n_ubatch|n_seq_max|n_slots)"
    r" *= *(\d{1,12})\b"
)
_OFFLOADED: Final = re.compile(r"offloaded (\d{1,6})/\d{1,6} layers to GPU")
_TYPES: Final = re.compile(r"K \((\w{2,12})\): +[\d.]{1,15} MiB, +V \((\w{2,12})\): +([\d.]{1,15})")
_LATENT: Final = re.compile(r"c\^KV \((\w{2,12})\)")
_MLA: Final = re.compile(r"mla_attn +[=] +(\d)")
_FTYPE: Final = re.compile(
    r"(?:file type +|model ftype +)= (?:all )?(\w{2,12}(?: - (?:Small|Medium|Large))?)"
)
_EXPERTS: Final = re.compile(r"ffn_\w{2,20}_exps\.weight buffer type overrid+en to CPU")


def _scalar_of(written: str) -> Scalar:
    return int(written) if written.isdecimal() else written


def _is_host(device: str) -> bool:
    return device.startswith(("CPU", "BLAS", "AMX")) or device.endswith("_Host")


class LlamacppReader(LogReader):
    """Reads the log of llama.cpp."""

    engine: ClassVar = EngineName.LLAMACPP
    hints: ClassVar = (
        "llama_",
        "llm_load",
        "buffer size",
        "load_tensors",
        "KV self size",
        "file type",
        "ggml_",
        ", compute capability ",
        "buffer type overrid",
        "build: ",
        "build_info: ",
        "version: ",
        "n_ctx_slot",
        "n_slots",
        "server is listening",
        "slots are idle",
        "model loaded",
        "memory_breakdown_print",
        *OUT_OF_MEMORY_HINTS,
    )
    rules: ClassVar = (_TOKENS,)
    start: ClassVar = re.compile(r"\bbuild: \d{1,7} \(|\bbuild_info: ")
    up: ClassVar = re.compile(
        r"(?:main|llama_server): model loaded|main: server is listening on|all slots are idle"
        r"|llama_perf_context_print|llama_print_timings"
    )
    failures: ClassVar = (
        (
            re.compile(
                r"cudaMalloc failed: out of memory|failed to allocate buffer for kv cache"
                r"|unable to allocate \S+ buffer|failed to allocate compute"
                r"|failed to allocate \S+ buffer of size|ErrorOutOfDeviceMemory"
            ),
            Outcome.OOM,
        ),
        (re.compile(OUT_OF_MEMORY), Outcome.OOM),
    )

    def _begin(self) -> None:
        super()._begin()
        self._values: dict[str, Scalar] = {}
        self._compute: dict[tuple[str, int], tuple[int, int]] = {}
        self._whole_cache: list[tuple[int, int]] = []
        self._contexts = 0
        self._paths: set[str] = set()

    def details(self, line: Line) -> None:
        """Buffers by device, names and settings."""
        text, number = line.text, line.number
        if found := _MODEL.search(text):
            self._begin_model(found[1])
        if found := _VERSION.search(text):
            self.got.name_version(found[1] or found[2])
        self._contexts += bool(_TOKENS.pattern.search(text))
        for rule in (_WEIGHTS, _KV):
            if found := rule.pattern.search(text):
                self._record(found[1], rule, found[2], number)
        found = _COMPUTE.pattern.search(text)
        if found and len(self._compute) < MAX_RANKS:
            place = (printable(found[1], 40), self._contexts)
            self._compute[place] = (quantity(found[2], MIB), number)
        found = _WHOLE_KV.pattern.search(text)
        if found and len(self._whole_cache) < MAX_RANKS:
            self._whole_cache.append((quantity(found[1], MIB), number))
        self._note_device(text, number)
        self._note(text)

    def _note_device(self, text: str, number: int) -> None:
        """Names and memory of devices; a table at the end of a run has the totals."""
        if found := _FREE.pattern.search(text):
            self._record(found[1], _FREE, found[3], number)
            self.got.name_gpu(found[2])
        if found := _TOTAL.pattern.search(text):
            self._record(f"{found[1]}0", _TOTAL, found[2], number)
        if found := _BREAKDOWN.search(text):
            self._record(found[1], _TOTAL, found[3], number)
            self.got.name_gpu(found[2])
        if found := _GPU.search(text):
            self.got.name_gpu(found[1])

    def _begin_model(self, path: str) -> None:
        """A model that is loaded again, or after the engine was up, belongs to a new start."""
        if path in self._paths or self.got.ready_line:
            version, gpus = self.got.version, self.got.gpus
            self._begin()
            self.starts += 1
            self.got.version, self.got.gpus = version, gpus
        if len(self._paths) < MAX_RANKS:
            self._paths.add(path)
        self.got.name_model(path)

    def _record(self, device: str, rule: Rule, number: str, line: int) -> None:
        self.got.record(printable(device, 40), rule, quantity(number, rule.unit), line)

    def _note(self, text: str) -> None:
        """Settings; of several contexts the first one's, which is the model's own."""
        for found in _SETTING.finditer(text):
            self._values.setdefault(found[1], int(found[2]))
        for pattern, key in ((_OFFLOADED, "offloaded"), (_FTYPE, "ftype"), (_LATENT, "kv")):
            if named := pattern.search(text):
                self._values.setdefault(key, _scalar_of(named[1]))
        if types := _TYPES.search(text):
            keys, values, size = types.groups()
            same = keys == values or not size.strip("0.")
            self._values.setdefault("kv", keys if same else f"K {keys}, V {values}")
        if mla := _MLA.search(text):
            self._values.setdefault("mla", mla[1] != "0")
        if _LATENT.search(text):
            self._values.setdefault("mla", True)
        if _EXPERTS.search(text):
            self._values["experts_on_cpu"] = True

    def evidence(self) -> int:
        """As for all engines, and buffers that are added up at the end."""
        return super().evidence() + len(self._compute) + len(self._whole_cache)

    def facts(self, lines: int) -> LogFacts:
        """What the log said; the size of the whole cache stands in where no device printed its."""
        for (device, _), (size, line) in self._compute.items():
            self.got.record(device, _COMPUTE, size, line)
        by_device = any(
            self.got.value(device, Figure.KV_AVAILABLE) is not None for device in self.got.cells
        )
        for size, line in () if by_device else self._whole_cache:
            self.got.record("", _WHOLE_KV, size, line)
        self.remark_starts()
        settings = settings_from(self._values, KEYS)
        return self.got.facts(self.engine, settings, lines, _is_host)
