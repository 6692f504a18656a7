"""What the readers of all engines share: rules, starts, ends and failures."""

import re
from abc import ABC, abstractmethod
from collections.abc import Container
from typing import ClassVar, Final

from llmplan.engines.logs.facts import Figure, LogFacts, Outcome
from llmplan.engines.logs.gathered import MAX_RANKS, Gathered, Rule
from llmplan.engines.logs.lines import Line
from llmplan.engines.logs.printed import Scalar, printed_values
from llmplan.engines.settings import EngineName

OUT_OF_MEMORY: Final = (
    r"torch(?:\.cuda|_npu)?\.OutOfMemoryError|(?:CUDA|HIP|XPU|NPU) (?:error: )?out of memory"
)
OUT_OF_MEMORY_HINTS: Final = ("OutOfMemoryError", "out of memory")
_MAX_PARSES: Final = 64
_DEVICE_NAME: Final = re.compile(r"\bdevice_name=([A-Za-z][\w-]{2,59}?)(?:,|\.json|\s|$)")

_STATE: Final = re.compile(r"RS buffer size|Mamba Cache is allocated")


class LogReader(ABC):
    """Reads one engine's log; ``read_log`` offers it the lines that hold a hint.

    Attributes:
        engine: The engine.
        hints: What all lines of interest have one of.
        rules: Where the figures stand.
        start: A line that a start prints once for each process.
        up: A line that is printed when the engine serves.
        failures: What a failed start prints, and what it means.
        seen: Lines that were offered.
    """

    engine: ClassVar[EngineName]
    hints: ClassVar[tuple[str, ...]]
    rules: ClassVar[tuple[Rule, ...]]
    start: ClassVar[re.Pattern[str]]
    up: ClassVar[re.Pattern[str]]
    failures: ClassVar[tuple[tuple[re.Pattern[str], Outcome], ...]]

    def __init__(self) -> None:
        self.seen = 0
        self._parses = 0
        self.starts = 1
        self._begin()

    def _begin(self) -> None:
        """Forget everything: a new start begins."""
        self.got = Gathered()
        self._processes: set[tuple[str, str]] = set()

    def wants(self, raw: str) -> bool:
        """Whether a line is worth a look; most are not, and plain words are quick to seek."""
        return any(hint in raw for hint in self.hints)

    def read(self, line: Line) -> None:
        """Take in one line."""
        self.seen += 1
        self._notice_start(line)
        for rule in self.rules:
            if found := rule.pattern.search(line.text):
                self.got.record_match(line.rank, rule, found, line.number)
        if found := _DEVICE_NAME.search(line.text):
            self.got.name_gpu(found[1])
        if _STATE.search(line.text):
            self.got.remark("recurrent state is printed apart and is in no figure")
        for pattern, outcome in self.failures:
            if pattern.search(line.text):
                self.got.fail(outcome, line.number)
                break
        if self.up.search(line.text):
            self.got.ready(line.number)
        self.details(line)

    def _notice_start(self, line: Line) -> None:
        found = self.start.search(line.text)
        if not found:
            return
        process = (found[0], line.tag)
        if process in self._processes and self.got.cells:
            self._begin()
            self.starts += 1
        if len(self._processes) < MAX_RANKS:
            self._processes.add(process)

    def parse(self, text: str, wanted: Container[str]) -> dict[str, Scalar]:
        """Printed settings; a log has a few such lines, and one made of them is not followed."""
        self._parses += 1
        return printed_values(text, wanted) if self._parses <= _MAX_PARSES else {}

    @abstractmethod
    def details(self, line: Line) -> None:
        """Take in what is more than one figure."""

    def evidence(self) -> int:
        """How much was found that no other program prints; a line of readiness many do."""
        got = self.got
        figures = sum(len(row) for row in got.cells.values()) + len(got.concurrency)
        small = got.failure is not None and got.failure[0] is Outcome.KV_TOO_SMALL
        return figures + bool(got.version) + bool(got.model) + small

    @abstractmethod
    def facts(self, lines: int) -> LogFacts:
        """What the log said."""

    def remark_starts(self) -> None:
        """Say so where a log holds more than one start."""
        if self.starts > 1:
            self.got.remark(f"the log holds {self.starts} starts; the last is read")


def rule_of(rules: tuple[Rule, ...], figure: Figure) -> Rule:
    """The first rule for a figure, under which a derived figure is kept."""
    return next(rule for rule in rules if rule.figure is figure)
