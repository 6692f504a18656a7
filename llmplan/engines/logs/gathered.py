"""What has been read so far: one cell for each rank and figure, and how the start went."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction
from typing import Final

from llmplan.engines.logs.facts import (
    FIGURE_WORDS,
    Concurrency,
    Figure,
    LogFacts,
    Outcome,
    RankFacts,
    Reading,
)
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import printable
from llmplan.units import GIB, KIB, MIB

MAX_BYTES: Final = 2**50
MAX_COUNT: Final = 10**12
MAX_CONCURRENCY: Final = 10**9
MAX_RANKS: Final = 4096
MAX_REMARKS: Final = 40
_MAY_BE_NEGATIVE: Final = (Figure.KV_AVAILABLE, Figure.GRAPHS, Figure.NON_TORCH)
_COUNTS: Final = (Figure.KV_TOKENS, Figure.KV_BLOCK_SIZE)

# TensorRT-LLM and SGLang print GB and mean 2^30, as their sources divide by 1024
UNITS: Final = {
    "B": 1, "bytes": 1,
    "KB": KIB, "MB": MIB, "GB": GIB, "KiB": KIB, "MiB": MIB, "GiB": GIB,
}  # fmt: skip
NUMBER: Final = r"(?<![\d.,])(-?\d{1,15}(?:\.\d{1,9})?)"
COUNT: Final = r"(?<![\d.,])(\d{1,3}(?:,\d{3}){1,5}|\d{1,15})(?![\d,]*\d)"


class Repeat(Enum):
    """What a figure is when a rank prints it more than once."""

    LAST = auto()
    FIRST = auto()
    MOST = auto()
    LEAST = auto()
    SUM = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """Where a figure stands: a pattern with the number and, where it varies, the unit after it.

    A figure that comes by another rule later replaces the earlier one, unless it says FIRST.
    """

    figure: Figure
    pattern: re.Pattern[str]
    unit: int = GIB
    repeat: Repeat = Repeat.LAST


@dataclass(slots=True)
class _Cell:
    value: int
    line: int
    rule: Rule
    times: int = 1
    differs: bool = False


def quantity(text: str, unit: int) -> int:
    """The exact bytes (or count) of a printed number, to the nearest whole one."""
    return round(Fraction(text.replace(",", "")) * unit)


@dataclass(slots=True)
class Gathered:
    """The mutable side of ``LogFacts``; a reader of an engine fills it line by line."""

    version: str | None = None
    model: str | None = None
    gpus: dict[str, None] = field(default_factory=dict)
    cells: dict[str, dict[Figure, _Cell]] = field(default_factory=dict)
    concurrency: dict[str, Concurrency] = field(default_factory=dict)
    failure: tuple[Outcome, int] | None = None
    ready_line: int = 0
    remarks: dict[str, None] = field(default_factory=dict)

    def remark(self, text: str) -> None:
        """Keep a remark, once; a log cannot make more than a few."""
        if len(self.remarks) < MAX_REMARKS:
            self.remarks[text] = None

    def name_model(self, text: str | None) -> None:
        """Keep the model's name; the first that is printed counts."""
        if text and self.model is None:
            self.model = printable(text, 300)

    def name_version(self, text: str) -> None:
        """Keep the version; the first that is printed counts."""
        self.version = self.version or printable(text, 60)

    def name_gpu(self, text: str) -> None:
        """Keep a device's name."""
        if len(self.gpus) < MAX_RANKS:
            self.gpus[printable(text.replace("_", " ").strip(), 60)] = None

    def record(self, rank: str, rule: Rule, value: int, line: int) -> None:
        """Keep a figure, as its rule says where there is one already."""
        if not self._in_range(rule, value, line):
            return
        row = self._row(rank)
        if row is None:
            return
        cell = row.get(rule.figure)
        if cell is None or (cell.rule is not rule and rule.repeat is not Repeat.FIRST):
            row[rule.figure] = _Cell(value, line, rule)
        elif cell.rule is rule:
            _merge(cell, rule.repeat, value, line)

    def record_match(self, rank: str, rule: Rule, found: re.Match[str], line: int) -> None:
        """Keep the figure of a match: group 1 is the number, group 2 the unit if there is one."""
        unit = UNITS[found[2]] if (found.re.groups or 0) > 1 and found[2] else rule.unit
        self.record(rank, rule, quantity(found[1], unit), line)

    def record_concurrency(self, rank: str, times: str, length: str, line: int) -> None:
        """Keep the smallest count of concurrent requests of a rank."""
        tokens, count = quantity(length, 1), float(times)
        if not 0 < tokens <= MAX_COUNT or not 0 <= count <= MAX_CONCURRENCY:
            self.remark(f"line {line}: a count of requests is out of range and was left out")
        elif self._row(rank) is not None:
            held = self.concurrency.get(rank)
            if held is None or count < held.times:
                self.concurrency[rank] = Concurrency(count, tokens, line)

    def value(self, rank: str, figure: Figure) -> int | None:
        """A figure read so far."""
        cell = self.cells.get(rank, {}).get(figure)
        return cell.value if cell else None

    def holds(self, rank: str, rule: Rule) -> bool:
        """Whether the figure that a rank has came by this rule."""
        cell = self.cells.get(rank, {}).get(rule.figure)
        return cell is not None and cell.rule is rule

    def drop(self, rank: str, rule: Rule) -> None:
        """Forget a figure that came by this rule."""
        if self.holds(rank, rule):
            del self.cells[rank][rule.figure]

    def fail(self, outcome: Outcome, line: int) -> None:
        """Note a failure; the first counts, and none after the start."""
        if self.ready_line:
            self.remark(f"line {line}: out of memory after the start")
        elif self.failure is None:
            self.failure = (outcome, line)

    def ready(self, line: int) -> None:
        """Note that the engine is up, so that an earlier complaint was survived."""
        if self.failure is not None and not self.ready_line:
            self.remark(f"line {self.failure[1]}: a failed allocation that the start survived")
        self.ready_line = self.ready_line or line

    def _in_range(self, rule: Rule, value: int, line: int) -> bool:
        most = MAX_COUNT if rule.figure in _COUNTS else MAX_BYTES
        least = -most if rule.figure in _MAY_BE_NEGATIVE or rule.repeat is Repeat.SUM else 0
        if least <= value <= most:
            return True
        what = FIGURE_WORDS[rule.figure]
        self.remark(f"line {line}: a figure for {what} is out of range and was left out")
        return False

    def _row(self, rank: str) -> dict[Figure, _Cell] | None:
        if rank not in self.cells and len(self.cells) >= MAX_RANKS:
            self.remark(f"more than {MAX_RANKS:,} ranks; the rest was left out")
            return None
        return self.cells.setdefault(rank, {})

    def _rank_facts(self, rank: str) -> RankFacts:
        row = self.cells[rank]

        def reading(figure: Figure) -> Reading | None:
            cell = row.get(figure)
            if cell is None or (cell.value < 0 and figure not in _MAY_BE_NEGATIVE):
                return None
            return Reading(cell.value, cell.line)

        return RankFacts(
            rank=rank,
            device_total_bytes=reading(Figure.DEVICE_TOTAL),
            free_at_start_bytes=reading(Figure.FREE_AT_START),
            weights_bytes=reading(Figure.WEIGHTS),
            activations_bytes=reading(Figure.ACTIVATIONS),
            non_torch_bytes=reading(Figure.NON_TORCH),
            graphs_bytes=reading(Figure.GRAPHS),
            kv_available_bytes=reading(Figure.KV_AVAILABLE),
            kv_tokens=reading(Figure.KV_TOKENS),
            kv_block_size=reading(Figure.KV_BLOCK_SIZE),
            max_concurrency=self.concurrency.get(rank),
        )

    def _remark_repeats(self) -> None:
        for rank, row in self.cells.items():
            for figure, cell in row.items():
                if cell.times > 1 and _is_choice(cell):
                    whose = f" by {printable(rank, 40)}" if rank else ""
                    self.remark(
                        f"{FIGURE_WORDS[figure]}: printed {cell.times} times{whose}; "
                        f"{_KEPT[cell.rule.repeat]}"
                    )

    def facts(
        self,
        engine: EngineName,
        settings: Settings,
        lines: int,
        is_host: Callable[[str], bool] = lambda _: False,
    ) -> LogFacts:
        """The finished value.

        Args:
            engine: Who wrote the log.
            settings: What it says of the flags.
            lines: How many lines were read.
            is_host: Whether a rank is host memory rather than a device.
        """
        self._remark_repeats()
        rows = [self._rank_facts(rank) for rank in self.cells]
        ranks = tuple(row for row in rows if not is_host(row.rank))
        outcome, line = self._outcome()
        said = {figure for figure in Figure for row in ranks if row.figure(figure)}
        missing = [FIGURE_WORDS[figure] for figure in Figure if figure not in said]
        missing += ["requests at once"] if not self.concurrency else []
        missing += ["version"] if self.version is None else []
        missing += ["model"] if self.model is None else []
        missing += ["how the start ended"] if outcome is Outcome.UNKNOWN else []
        return LogFacts(
            engine=engine,
            version=self.version,
            model=self.model,
            settings=settings,
            gpus=tuple(self.gpus),
            ranks=ranks,
            host=tuple(row for row in rows if is_host(row.rank)),
            outcome=outcome,
            outcome_line=line,
            missing=tuple(missing),
            remarks=tuple(self.remarks),
            lines=lines,
        )

    def _outcome(self) -> tuple[Outcome, int]:
        if self.ready_line:
            return Outcome.OK, self.ready_line
        return self.failure or (Outcome.UNKNOWN, 0)


_KEPT: Final = {
    Repeat.LAST: "the last is kept",
    Repeat.MOST: "the largest is kept",
    Repeat.LEAST: "the smallest is kept",
    Repeat.SUM: "the figure is their sum",
}


def _is_choice(cell: _Cell) -> bool:
    """Whether repeated figures of a cell leave something to be said."""
    repeat = cell.rule.repeat
    return repeat is Repeat.SUM or (cell.differs and repeat is not Repeat.FIRST)


def _merge(cell: _Cell, repeat: Repeat, value: int, line: int) -> None:
    cell.times += 1
    cell.differs = cell.differs or value != cell.value
    match repeat:
        case Repeat.SUM:
            cell.value, cell.line = cell.value + value, line
        case Repeat.LAST:
            cell.value, cell.line = value, line
        case Repeat.MOST if value > cell.value:
            cell.value, cell.line = value, line
        case Repeat.LEAST if value < cell.value:
            cell.value, cell.line = value, line
        case _:
            pass
