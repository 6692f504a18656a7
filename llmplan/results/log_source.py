"""A log as it was given: a file, or a stream that is read once and in bounds."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from llmplan.engines.logs import LogFacts, read_log
from llmplan.engines.logs.lines import MAX_LINE_BYTES, MAX_LOG_BYTES
from llmplan.errors import DocumentError, printable
from llmplan.units import MIB

STDIN = "-"


@dataclass(slots=True)
class LogSource:
    """A log with its name and, once it was read, the digest of what was read.

    Attributes:
        given: A path, or ``-`` for the stream.
        stream: Standard input.
    """

    given: str
    stream: BinaryIO | None = None
    _digest: Any = field(default_factory=hashlib.sha256)

    @property
    def name(self) -> str:
        """As answers name it: the file's own name, without its folder."""
        return "stdin" if self.given == STDIN else printable(Path(self.given).name, 200)

    @property
    def sha256(self) -> str:
        """Of the bytes that were read."""
        digest: str = self._digest.hexdigest()
        return digest

    def read(self) -> LogFacts:
        """What it says.

        Raises:
            DocumentError: It cannot be read, or is no text.
            InputError: No line is of an engine that is known.
        """
        if self.given == STDIN and self.stream is not None:
            return read_log(self._lines(self.stream))
        facts = read_log(Path(self.given))
        left = MAX_LOG_BYTES
        try:
            with Path(self.given).open("rb") as file:
                while left > 0 and (chunk := file.read(min(MIB, left))):
                    self._digest.update(chunk)
                    left -= len(chunk)
        except OSError as error:
            raise DocumentError(
                f"cannot be read ({error.strerror}).", printable(self.given)
            ) from None
        return facts

    def _lines(self, stream: BinaryIO) -> Iterator[str]:
        """Lines of a stream, each cut to its bound; the rest of a long one is passed over."""
        taken, number = 0, 0
        while taken < MAX_LOG_BYTES and (chunk := stream.readline(MAX_LINE_BYTES)):
            number += 1
            rest = chunk
            self._digest.update(chunk)
            taken += len(chunk)
            if b"\0" in chunk:
                raise DocumentError("holds NUL bytes, so it is no text log.", "stdin", number)
            while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                rest = stream.readline(MAX_LINE_BYTES)
                self._digest.update(rest)
                taken += len(rest)
                if taken >= MAX_LOG_BYTES:
                    break
            yield chunk.decode("utf-8", errors="replace")
