"""Output of nccl-tests: lines of words and numbers."""

from collections.abc import Iterator
from random import Random

from fuzz.common import ROOT, Blind, Target
from llmplan.perf.nccl_tests import nccl_measurements

_WORDS = (b"-1", b"0", b"1e400", b"nan", b"inf", b"N/A", b"#", b"\x1b[31m", b"9" * 400, b"float")


def seeds() -> Iterator[bytes]:
    """The suite's example."""
    for path in sorted((ROOT / "tests" / "golden" / "files").glob("all_reduce_perf*")):
        yield path.read_bytes()


def mutate(raw: bytes, random: Random, blind: Blind) -> bytes:
    """A word or a line changed, left out or said twice; now and then, bytes."""
    if random.random() < 0.2:
        return blind(raw)
    lines = raw.split(b"\n")
    at = random.randrange(len(lines))
    words = lines[at].split(b" ")
    word = random.randrange(len(words))
    change = random.randrange(4)
    if change == 0:
        words[word] = random.choice(_WORDS)
    elif change == 1:
        del words[word]
    lines[at] = b" ".join(words)
    if change == 2:
        lines.insert(random.randrange(len(lines)), lines[at])
    elif change == 3:
        del lines[at]
    return b"\n".join(lines)


TARGET = Target("nccl_text", "all_reduce_perf.log", nccl_measurements, seeds, mutate)
