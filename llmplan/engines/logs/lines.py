"""Lines of a log, bounded and cleaned, and the rank that wrote each.

A log is a stranger's file: no line is kept beyond 64 KiB, no file is read beyond 256 MiB, and
nothing of it is shown without ``printable``.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmplan.errors import DocumentError, printable
from llmplan.units import KIB, MIB

MAX_LINE_BYTES: Final = 64 * KIB
MAX_LOG_BYTES: Final = 256 * MIB
MAX_FIGURE_CHARACTERS: Final = 4096
"""Figures stand this far into a line; only printed settings go on for longer."""
_HEAD_CHARACTERS: Final = 200
"""Tags of ranks stand at the start of a line."""

# the second form is what is left where the escape character was lost in copying
_ANSI: Final = re.compile(
    r"\x1b\][^\x07\x1b]*\x07?|\x1b\[[0-9;?]*[ -/]*[@-~]?|\[\d{1,3}(?:;\d{1,3})*m"
)
_VLLM_TAG: Final = re.compile(
    r"\((?P<who>VllmWorkerProcess|VllmWorker|Worker|RayWorkerWrapper|EngineCore|APIServer)"
    r"(?P<ranks>(?:_[A-Z]*\d+)*)(?: rank=(?P<rank>\d{1,6}))?(?: (?P<tp>TP\d{1,6}))? "
    r"pid=(?P<pid>\d{1,10})"
)
_RANK_WORD: Final = r"(?:(?:ATTN_|MOE_)?(?:DP|PP|TP|EP|CP)|DCP|PCP)\d{1,6}"
_SGLANG_TAG: Final = re.compile(
    rf"\[(?:\d{{4}}-\d\d-\d\d[ T][\d:.,]{{5,20}} )?({_RANK_WORD}(?: {_RANK_WORD}){{0,9}})\]"
)
_GPU_TAG: Final = re.compile(r"\[gpu(?:_id)?=(\d{1,6})\]")
_NUMBER_TAG: Final = re.compile(
    r"\[RANK (\d{1,6})\]|^\[?rank ?(\d{1,6})\]?:|^\[1,(\d{1,6})\]<std|^\[(\d{1,6})\](?=[:\s\[])"
    r"|^\s{0,4}(\d{1,6}): (?=\[)"
)
_NO_RANK: Final = ("EngineCore", "APIServer")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log.

    Attributes:
        number: One-based.
        text: Without colours, the first 4 KiB.
        whole: The same, at most 64 KiB.
        tag: The process as the log names it, without its id; two starts repeat it.
        rank: The rank that wrote it, empty where none is named.
    """

    number: int
    text: str
    whole: str
    tag: str
    rank: str


@dataclass(slots=True)
class LineCounts:
    """What a pass over a log met, for the remarks.

    Attributes:
        lines: Lines seen.
        cut_lines: Lines longer than the bound.
        stopped: The log went on beyond the bound of its size.
    """

    lines: int = 0
    cut_lines: int = 0
    stopped: bool = False


def raw_lines(source: str | Path | Iterable[str], counts: LineCounts) -> Iterator[str]:
    """The lines of a file, or those given, each cut to its bound.

    Raises:
        DocumentError: The file cannot be read, or is no text.
    """
    if isinstance(source, str | Path):
        return _file_lines(Path(source), counts)
    return _given_lines(source, counts)


def _given_lines(lines: Iterable[str], counts: LineCounts) -> Iterator[str]:
    taken = 0
    for line in lines:
        counts.lines += 1
        counts.cut_lines += len(line) > MAX_LINE_BYTES
        taken += min(len(line), MAX_LINE_BYTES) + 1
        if taken > MAX_LOG_BYTES:
            counts.stopped = True
            return
        yield line[:MAX_LINE_BYTES]


def _file_lines(path: Path, counts: LineCounts) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            taken = 0
            while chunk := file.readline(MAX_LINE_BYTES):
                if b"\0" in chunk:
                    raise DocumentError(
                        "holds NUL bytes, so it is no text log. A log saved as UTF-16 has to be "
                        "saved as UTF-8.",
                        printable(str(path)),
                        counts.lines + 1,
                    )
                counts.lines += 1
                taken += len(chunk)
                rest = chunk
                while not rest.endswith(b"\n") and len(rest) == MAX_LINE_BYTES:
                    rest = file.readline(MAX_LINE_BYTES)
                    taken += len(rest)
                    if taken > MAX_LOG_BYTES:
                        break
                counts.cut_lines += rest is not chunk and rest != b""
                yield chunk.decode("utf-8", errors="replace")
                if taken > MAX_LOG_BYTES:
                    counts.stopped = True
                    return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such path"
        raise DocumentError(f"cannot be read ({reason}).", printable(str(path))) from None


def cleaned(number: int, raw: str) -> Line:
    """A line without colours, with its rank."""
    whole = _ANSI.sub("", raw).rstrip("\r\n")
    text, head = whole[:MAX_FIGURE_CHARACTERS], whole[:_HEAD_CHARACTERS]
    tags = list(_VLLM_TAG.finditer(head))
    if tags:
        tag = tags[-1]
        return Line(number, text, whole, f"{tag['who']}{tag['ranks']}", _vllm_rank(tag))
    return Line(number, text, whole, "", _bracketed_rank(head))


def _vllm_rank(tag: re.Match[str]) -> str:
    if tag["rank"]:
        return f"rank {int(tag['rank'])}"
    if tag["tp"]:
        return tag["tp"]
    if tag["ranks"]:
        # EngineCore_0 and EngineCore_DP0 are the same core in successive versions
        words = tag["ranks"].strip("_").split("_")
        named = [f"DP{word}" if word.isdigit() else word for word in words]
        return "" if tag["who"] == "APIServer" else " ".join(named)
    return "" if tag["who"] in (*_NO_RANK, "Worker") else f"pid {tag['pid']}"


def _bracketed_rank(head: str) -> str:
    if found := _SGLANG_TAG.search(head):
        return found[1]
    if found := _GPU_TAG.search(head):
        return f"gpu {int(found[1])}"
    if found := _NUMBER_TAG.search(head):
        number = next(group for group in found.groups() if group)
        return f"rank {int(number)}"
    return ""
