"""What every target shares: how an input becomes a file, and what its reader may do with it.

A reader gives a value or an ``LlmplanError`` whose message is one printable line, within a second
of work and 200 MB. Anything else is a finding.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from llmplan.errors import LlmplanError

MOST_SECONDS: Final = 1.0
"""Of work on one core, without instrumentation."""
MOST_BYTES: Final = 200_000_000
"""Of the whole process, of which the imports take a third."""
ROOT: Final = Path(__file__).parent.parent
FOUND: Final = ROOT / "fuzz" / "found"
"""Inputs that once failed, a folder per target."""
ACCEPTED: Final = "accepted"

Blind: TypeAlias = Callable[[bytes], bytes]
"""The fuzzer's own changes, which know nothing of the format."""
Mutate: TypeAlias = Callable[[bytes, Random, Blind], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """One reader.

    Attributes:
        name: As in ``python -m fuzz NAME`` and in ``fuzz/found``.
        file: Name of the file that the reader is given.
        read: The reader.
        seeds: Inputs to start from, good ones.
        mutate: A change that leaves the format plausible; raises on inputs that are no longer.
        beside: Other files of the same folder.
    """

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Mutate
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def prepare(self, folder: Path) -> None:
        """Write the other files of the folder."""
        for name, raw in self.beside.items():
            (folder / name).write_bytes(raw)

    def outcome(self, folder: Path, raw: bytes) -> str:
        """What the reader says of an input.

        Raises:
            AssertionError: A message that is not printable.
            BaseException: Whatever else the reader lets escape.
        """
        path = folder / self.file
        path.write_bytes(raw)
        try:
            self.read(path)
        except LlmplanError as error:
            message = str(error)
            if not message.isprintable():
                raise AssertionError(f"a message of control characters: {message!r}") from error
            return f"refused: {message}"
        return ACCEPTED
