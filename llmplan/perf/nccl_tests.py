"""Output of nccl-tests (``all_reduce_perf`` and its siblings) as rows of the table of collectives.

Each line is one size: the larger of what a rank sends and receives, so that of all-gather and
reduce-scatter it is the whole buffer, as in the table. Times are microseconds; the first set of
columns is out of place, and is the one taken. Size over time is printed as well: lines where it
does not agree were read wrongly, or written by a version that counts otherwise.
Source: NVIDIA/nccl-tests, src/common.cu, src/util.cu and doc/PERFORMANCE.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from llmplan.errors import DocumentError, InputError
from llmplan.perf.foreign import Foreign, Refusal
from llmplan.perf.kernels import US
from llmplan.perf.tables import KernelRows

COLLECTIVES: Final = {
    "all_reduce_perf": "all_reduce",
    "all_gather_perf": "all_gather",
    "reduce_scatter_perf": "reduce_scatter",
    "alltoall_perf": "alltoall",
}
"""Word of the table by program; the others are no collectives of a step."""
MAX_BYTES: Final = 20_000_000
TITLES: Final = ("size", "count", "type", "redop", "root", "time", "algbw", "busbw")
EAGER: Final = (
    "the host launched every call (graph: 0): small sizes may be at its pace; `-G 1` times them as "
    "engines run them"
)
NOTE: Final = (
    "rows of any element type are taken for those of 'half', by which the library's curves are "
    "asked for: bytes and ranks decide"
)
AGREES: Final = 0.02
"""Rates are printed to three digits or two decimals."""
LEAST_PRINTED: Final = 0.011
_PROGRAM: Final = re.compile(r"\b([a-z_]+_perf)\b")
_LINE: Final = re.compile(r"\s*\d+\s+\d+\s")
"""Size and count; messages of the library between lines begin otherwise."""
_RANK: Final = re.compile(r"#\s+Rank\s+(\d+)\b(?:.*?\bon\s+(\S+))?")


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a program.

    Attributes:
        program: Its name; empty where none was seen.
        ranks: Listed, from 0.
        hosts: Names of their hosts.
        is_muddled: Whether a rank is listed twice: several runs at once, their lines mixed.
        has_wrong: Whether lines say how many elements were wrong.
        is_open: Whether its lines have begun.
    """

    program: str = ""
    ranks: int = 0
    hosts: frozenset[str] = frozenset()
    is_muddled: bool = False
    has_wrong: bool = False
    is_open: bool = False


@dataclass(slots=True)
class _Found:
    """Rows by collective: line, ranks, bytes and seconds."""

    rows: dict[str, list[tuple[int, float, float, float]]] = field(default_factory=dict)
    refused: list[Refusal] = field(default_factory=list)


def nccl_measurements(path: Path, collective: str | None = None) -> Foreign:
    """The rows of a file that holds the output of one or several runs.

    Args:
        path: The file.
        collective: ``all_reduce``, ``all_gather``, ``reduce_scatter`` or ``alltoall``; None to read
            it from the output, or from the file's name where that does not say.

    Raises:
        DocumentError: It cannot be read, is no such output, or does not say which program ran.
        InputError: A collective that the table does not have.
    """
    if collective is not None and collective not in COLLECTIVES.values():
        known = ", ".join(COLLECTIVES.values())
        raise InputError(f"'{collective}' is no collective of the table: {known}.")
    found, lines = _Found(), _text(path).splitlines()
    named = _PROGRAM.search(path.stem)
    run = _Run(program=named[1] if named else "")
    seen = False
    for number, line in enumerate(lines, 1):
        run = _after(run, line)
        if run.is_open and _LINE.match(line):
            seen = True
            which = collective or _collective(run, path, number)
            _take(line, number, run, which, found)
    if not seen:
        raise DocumentError(
            f"holds no output of nccl-tests with the columns {', '.join(TITLES)}.", str(path)
        )
    notes = (NOTE, EAGER) if any("graph: 0" in line for line in lines) else (NOTE,)
    return Foreign("collectives", tuple(_kernels(found)), tuple(found.refused), notes)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise DocumentError(f"is larger than {MAX_BYTES:,} bytes.", str(path))
        return raw.decode("utf-8")
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None
    except UnicodeDecodeError:
        raise DocumentError("is not UTF-8 text.", str(path)) from None


def _after(run: _Run, line: str) -> _Run:
    """What is known of a run after one more line."""
    if rank := _RANK.match(line.strip()):
        hosts = run.hosts | ({rank[2]} if rank[2] else set())
        muddled = run.is_muddled or int(rank[1]) != run.ranks
        return replace(run, ranks=run.ranks + 1, hosts=frozenset(hosts), is_muddled=muddled)
    if "nThread" in line:
        return _Run(program=run.program)
    words = line.lstrip("# ").split()
    if tuple(words[: len(TITLES)]) == TITLES:
        wrong = words[len(TITLES) : len(TITLES) + 1] == ["#wrong"]
        return replace(run, has_wrong=wrong, is_open=True)
    if words[:2] == ["size", "count"]:
        return replace(run, is_open=False)
    if program := _PROGRAM.search(line):
        return replace(run, program=program[1])
    return run


def _collective(run: _Run, path: Path, number: int) -> str:
    if run.program in COLLECTIVES:
        return COLLECTIVES[run.program]
    if run.program:
        known = ", ".join(COLLECTIVES)
        raise DocumentError(f"{run.program} is none of {known}.", str(path), number)
    raise DocumentError(
        "does not say which program ran: name the collective, or name the file after the program, "
        "as all_reduce_perf.txt.",
        str(path),
        number,
    )


def _take(line: str, number: int, run: _Run, collective: str, found: _Found) -> None:
    """Add the row of a line, or the reason why it is none."""
    words = line.split()
    reason = _fault(words, run)
    if reason:
        found.refused.append(Refusal(f"line {number}", reason))
        return
    size, time_us = float(words[0]), float(words[5])
    found.rows.setdefault(collective, []).append((number, float(run.ranks), size, time_us * US))


def _fault(words: list[str], run: _Run) -> str:
    """Why a line is no measurement of the table; empty where it is one."""
    if reason := _run_fault(run):
        return reason
    try:
        size, time_us, rate = float(words[0]), float(words[5]), float(words[6])
        wrong = 0.0 if not run.has_wrong or words[8] == "N/A" else float(words[8])
    except (ValueError, IndexError):
        return "its numbers cannot be read"
    return f"{wrong:g} elements were wrong" if wrong else _disagreement(size, time_us, rate)


def _run_fault(run: _Run) -> str:
    """Why no line of a run is a measurement of the table; empty where they may be."""
    if run.ranks < 2:
        return "no two ranks are listed above it"
    if len(run.hosts) > 1:
        return f"ran on {len(run.hosts)} hosts: the table is of one node"
    if run.is_muddled:
        return "ranks are listed twice or not in order: several runs in one"
    return ""


def _disagreement(size: float, time_us: float, rate: float) -> str:
    """Where bytes, microseconds and GB/s do not go together, in words."""
    if size <= 0 or time_us <= 0:
        return "holds no size or no time"
    expected = size / time_us / 1e3
    if abs(rate - expected) > max(AGREES * expected, LEAST_PRINTED):
        return f"its rate is {rate:g} GB/s where size over time is {expected:.4g}"
    return ""


def _kernels(found: _Found) -> Iterator[KernelRows]:
    for collective, rows in found.rows.items():
        numbers, ranks, sizes, seconds = zip(*rows, strict=True)
        yield KernelRows(
            {"src": "nccl-tests", "kernel": "NCCL", "op": collective, "dtype": "half"},
            {"gpus": np.array(ranks), "bytes": np.array(sizes)},
            np.array(seconds),
            tuple(numbers),
        )
