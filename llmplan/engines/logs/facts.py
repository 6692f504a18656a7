"""What a start-up log says: measured figures by rank, each with the line that it stands in."""

from dataclasses import dataclass
from enum import StrEnum

from llmplan.engines.settings import EngineName, Settings


class Outcome(StrEnum):
    """How a start ended, as far as the log tells."""

    OK = "ok"
    OOM = "oom"
    KV_TOO_SMALL = "kv_too_small"
    UNKNOWN = "unknown"


class Figure(StrEnum):
    """The measured figures; a value is the attribute of ``RankFacts`` that holds it."""

    DEVICE_TOTAL = "device_total_bytes"
    FREE_AT_START = "free_at_start_bytes"
    WEIGHTS = "weights_bytes"
    ACTIVATIONS = "activations_bytes"
    NON_TORCH = "non_torch_bytes"
    GRAPHS = "graphs_bytes"
    KV_AVAILABLE = "kv_available_bytes"
    KV_TOKENS = "kv_tokens"
    KV_BLOCK_SIZE = "kv_block_size"


FIGURE_WORDS = {
    Figure.DEVICE_TOTAL: "memory of the device",
    Figure.FREE_AT_START: "memory free at the start",
    Figure.WEIGHTS: "weights",
    Figure.ACTIVATIONS: "activations",
    Figure.NON_TORCH: "memory outside torch",
    Figure.GRAPHS: "captured graphs",
    Figure.KV_AVAILABLE: "memory of the cache",
    Figure.KV_TOKENS: "tokens of the cache",
    Figure.KV_BLOCK_SIZE: "tokens of a block",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A figure and the one-based line that it was read from (the last, where lines were added)."""

    value: int
    line: int


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Requests of ``length_tokens`` that the engine says it can hold, and the line of it."""

    times: float
    length_tokens: int
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFacts:
    """What one rank or device printed, in bytes; None where it printed nothing.

    Sizes are as exact as the log: two decimals of GiB are good to 5 MiB either way.

    Attributes:
        rank: As the log names it (``TP3``, ``DP0 TP1``, ``rank 2``, ``CUDA0``); empty where the
            line belongs to no rank, which is all of a single-GPU start.
        device_total_bytes: Memory of the device as the engine sees it.
        free_at_start_bytes: Free before the weights were loaded.
        weights_bytes: Taken by loading the model (and a draft model).
        activations_bytes: vLLM: torch's peak over the weights in the profiling run. TensorRT-LLM:
            execution context, buffers and decoder, or what the dry run took. llama.cpp: compute
            buffers.
        non_torch_bytes: Growth outside torch's allocator (libraries, communicators).
        graphs_bytes: Taken by captured graphs; a difference of free memory, so it may be negative.
        kv_available_bytes: Set aside for keys and values; vLLM prints it negative when the
            weights alone go over the budget.
        kv_tokens: Tokens that the cache holds, in the engine's own count.
        kv_block_size: Tokens of a cache block.
        max_concurrency: Longest requests at once.
    """

    rank: str
    device_total_bytes: Reading | None = None
    free_at_start_bytes: Reading | None = None
    weights_bytes: Reading | None = None
    activations_bytes: Reading | None = None
    non_torch_bytes: Reading | None = None
    graphs_bytes: Reading | None = None
    kv_available_bytes: Reading | None = None
    kv_tokens: Reading | None = None
    kv_block_size: Reading | None = None
    max_concurrency: Concurrency | None = None

    def figure(self, name: Figure) -> Reading | None:
        """The reading of a figure."""
        reading: Reading | None = getattr(self, name.value)
        return reading


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFacts:
    """A start-up log, read.

    Attributes:
        engine: Who wrote it.
        version: As printed.
        model: Name or path as printed.
        settings: What the log says of the flags in force.
        gpus: Device names that are printed, each once.
        ranks: Measured figures by rank, in the order of the log.
        host: The same of buffers in host memory (llama.cpp).
        outcome: How the start ended; unknown where the log ends before or says something else.
        outcome_line: The line that tells, 0 where none does.
        missing: What the log does not say, in words.
        remarks: What a reader of the figures has to know.
        lines: Lines read.
    """

    engine: EngineName
    version: str | None
    model: str | None
    settings: Settings
    gpus: tuple[str, ...]
    ranks: tuple[RankFacts, ...]
    host: tuple[RankFacts, ...]
    outcome: Outcome
    outcome_line: int
    missing: tuple[str, ...]
    remarks: tuple[str, ...]
    lines: int

    def least(self, name: Figure) -> tuple[str, Reading] | None:
        """The smallest reading of a figure over the ranks, with its rank; None without any."""
        found = [(rank.rank, rank.figure(name)) for rank in self.ranks]
        present = [(rank, reading) for rank, reading in found if reading is not None]
        return min(present, key=lambda item: item[1].value) if present else None

    def least_concurrency(self) -> Concurrency | None:
        """The smallest count of concurrent requests that any rank printed."""
        found = [rank.max_concurrency for rank in self.ranks if rank.max_concurrency]
        return min(found, key=lambda item: item.times) if found else None
