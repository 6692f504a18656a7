"""Ranks that are started on this machine, watched, and never left behind.

Each is a process with the variables that torchrun would set. They meet through a file in a
temporary folder. When one is lost or time is up, all are ended, and the error says which and why.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from llmplan.calibrate.ranks import LAUNCHED, STORE
from llmplan.errors import LlmplanError, printable

POLL_S: Final = 0.05
GRACE_S: Final = 0.3
"""Ranks that lose a peer fail soon after it: they are told apart from the first by this."""
END_S: Final = 5.0
"""From telling ranks to stop to ending them by force."""
TAIL_BYTES: Final = 4000
SAID_LINES: Final = 3


def run_ranks(command: Sequence[str], count: int, limit_s: float) -> None:
    """Run a command as so many ranks on this machine, and wait for all.

    Each has the variables that torchrun sets, and a file to meet through. However it ends, no rank
    is left running.

    Raises:
        LlmplanError: A rank failed, with what it said last, or was not done in time.
    """
    with TemporaryDirectory(prefix="llmplan-ranks-") as name:
        folder = Path(name)
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                with _said(folder, rank).open("wb") as said:
                    processes.append(
                        subprocess.Popen(  # noqa: S603 (our own module)
                            command,
                            env=_environment(folder, rank, count),
                            stdin=subprocess.DEVNULL,
                            stdout=said,
                            stderr=subprocess.STDOUT,
                        )
                    )
            _wait(processes, folder, limit_s)
        finally:
            _end(processes)


def _environment(folder: Path, rank: int, count: int) -> dict[str, str]:
    values = dict(zip(LAUNCHED, (str(rank), str(count)) * 2, strict=True))
    # as torchrun does: threads of several ranks would wait for each other
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return {**os.environ, **threads, **values, STORE: str(folder / "store")}


def _said(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}.txt"


def _wait(processes: Sequence[subprocess.Popen[bytes]], folder: Path, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while True:
        codes = [process.poll() for process in processes]
        if any(codes):
            time.sleep(GRACE_S)
            raise LlmplanError(_lost([process.poll() for process in processes], codes, folder))
        if None not in codes:
            return
        if time.monotonic() > end:
            raise LlmplanError(_stuck(codes, folder, limit_s))
        time.sleep(POLL_S)


def _lost(codes: Sequence[int | None], first: Sequence[int | None], folder: Path) -> str:
    """Which ranks failed: those seen first, by a signal before all others, then those after."""
    failed = [rank for rank, code in enumerate(codes) if code]
    failed.sort(key=lambda rank: (not first[rank], (codes[rank] or 0) > 0, rank))
    told = [f"rank {rank} of {len(codes)} {_ended(codes[rank] or 0)}" for rank in failed]
    return (
        f"{'; '.join(told)}: nothing was measured between ranks. Rank {failed[0]} said last: "
        f"{_last_words(folder, failed[0])}. Run again with fewer ranks, or with NCCL_DEBUG=INFO to "
        "see what the library does."
    )


def _ended(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _stuck(codes: Sequence[int | None], folder: Path, limit_s: float) -> str:
    ranks = [rank for rank, code in enumerate(codes) if code is None]
    return (
        f"rank {', '.join(map(str, ranks))} of {len(codes)} not done after {limit_s:.0f} s: "
        f"stopped. Rank {ranks[0]} said last: {_last_words(folder, ranks[0])}. Run again with "
        "fewer ranks, or with NCCL_DEBUG=INFO to see what the library waits for."
    )


def _last_words(folder: Path, rank: int) -> str:
    with _said(folder, rank).open("rb") as said:
        said.seek(max(0, said.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = said.read().decode(errors="replace").split("\n")
    last = [line.strip() for line in lines if line.strip()][-SAID_LINES:]
    return " | ".join(printable(line, 300) for line in last).rstrip(".") or "nothing"


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    end = time.monotonic() + END_S
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module with this Python."""
    return (sys.executable, "-m", module, *arguments)
