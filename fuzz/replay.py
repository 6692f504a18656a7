"""Inputs again, each in a process of its own without instrumentation, with its work measured.

``python -m fuzz.replay TARGET FILE...`` writes one JSON object: the outcome, the seconds of work
and the most bytes of memory, by file.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from fuzz.common import MOST_BYTES, MOST_SECONDS, ROOT, Target
from fuzz.targets import target_named

_CUT_OFF_S: Final = 20
_CUT_OFF_BYTES: Final = 2 * 10**9
_HANGS_AFTER_S: Final = 300


class Measured(NamedTuple):
    """What came of an input."""

    outcome: str
    seconds: float
    most_bytes: int

    def fault(self) -> str:
        """What is wrong with it; empty if nothing is."""
        if not self.outcome.startswith(("accepted", "refused")):
            return self.outcome
        if self.seconds > MOST_SECONDS or self.most_bytes > MOST_BYTES:
            return f"{self.seconds:.2f} s and {self.most_bytes:,} bytes: {self.outcome}"
        return ""


def replayed(name: str, paths: Iterable[Path]) -> dict[Path, Measured]:
    """Each input of a target in a fresh process."""
    paths = list(paths)
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.replay", name, *map(str, paths)],
        capture_output=True,
        check=True,
        cwd=ROOT,
        timeout=_HANGS_AFTER_S,
    )
    answers = json.loads(done.stdout)
    return {path: Measured(*answers[str(path)]) for path in paths}


def _measured(target: Target, raw: bytes) -> Measured:
    """The input in a forked process, which has nothing but the imports."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        resource.setrlimit(resource.RLIMIT_AS, (_CUT_OFF_BYTES, _CUT_OFF_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_CUT_OFF_S, _CUT_OFF_S))
        with tempfile.TemporaryDirectory() as folder:
            target.prepare(Path(folder))
            try:
                outcome = target.outcome(Path(folder), raw)
            except BaseException as error:  # noqa: BLE001 (whatever escapes is the finding)
                outcome = f"crashed: {error!r}"
        used = resource.getrusage(resource.RUSAGE_SELF)
        answer = outcome[:2000], used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
        os.write(write_end, json.dumps(answer).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    os.wait()
    return Measured(*json.loads(answer)) if answer else Measured("killed", _CUT_OFF_S, 0)


def main(name: str, *paths: str) -> None:
    """Measure each input after one that loads what the reader needs."""
    target = target_named(name)
    with tempfile.TemporaryDirectory() as folder:
        target.prepare(Path(folder))
        target.outcome(Path(folder), next(iter(target.seeds())))
    print(json.dumps({path: _measured(target, Path(path).read_bytes()) for path in paths}))


if __name__ == "__main__":
    main(*sys.argv[1:])
