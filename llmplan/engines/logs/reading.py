"""From a log to its facts: every engine's reader is offered each line, and one of them knows it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from llmplan.engines.logs.facts import LogFacts
from llmplan.engines.logs.lines import MAX_LINE_BYTES, MAX_LOG_BYTES, LineCounts, cleaned, raw_lines
from llmplan.engines.logs.llamacpp import LlamacppReader
from llmplan.engines.logs.reader import LogReader
from llmplan.engines.logs.sglang import SglangReader
from llmplan.engines.logs.trtllm import TrtllmReader
from llmplan.engines.logs.vllm import VllmReader
from llmplan.errors import InputError
from llmplan.units import KIB, MIB

_READERS: Final = (VllmReader, SglangReader, TrtllmReader, LlamacppReader)


def read_log(source: str | Path | Iterable[str]) -> LogFacts:
    """What a start-up log says, read line by line in bounded memory.

    Args:
        source: A file's path, or lines.

    Raises:
        DocumentError: The file cannot be read or is no text.
        InputError: No line is of an engine that is known.
    """
    counts = LineCounts()
    readers: list[LogReader] = [reader() for reader in _READERS]
    for raw in raw_lines(source, counts):
        offered = [reader for reader in readers if reader.wants(raw)]
        if offered:
            line = cleaned(counts.lines, raw)
            for reader in offered:
                reader.read(line)
    return _facts(readers, counts)


def _facts(readers: list[LogReader], counts: LineCounts) -> LogFacts:
    best = max(readers, key=lambda reader: (reader.evidence(), reader.seen))
    if best.evidence() == 0:
        raise InputError(
            "no engine recognised in the log. Start-up logs of vLLM, SGLang, TensorRT-LLM and "
            "llama.cpp are read; give the part from the launch to the line that says the server "
            "is ready."
        )
    for other in readers:
        if other is not best and 2 * other.evidence() >= best.evidence():
            best.got.remark(f"lines of {other.engine} stand in the log too; they are left out")
    if counts.cut_lines:
        best.got.remark(
            f"lines longer than {MAX_LINE_BYTES // KIB} KiB that were cut: {counts.cut_lines}"
        )
    if counts.stopped:
        best.got.remark(f"only the first {MAX_LOG_BYTES // MIB} MiB were read")
    return best.facts(counts.lines)
