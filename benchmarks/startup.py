"""Start-up of the commands that must be instant: wall time and peak memory of whole processes.

Targets on an idle two-core machine: `llmplan --help` at most 0.3 s, `llmplan memory kimi-k2` at
most 0.4 s and 80 MB, `llmplan models` at most 0.5 s. Beside them, a bare interpreter and the
libraries alone, which no command can beat.
"""

import os
import statistics
import subprocess
import sys
import time

REPEATS = 9
LIBRARIES = "import typer, pydantic, numpy, yaml, rich.console, rich.table; pydantic.BaseModel"
CASES = (
    ("bare interpreter", [sys.executable, "-c", "pass"]),
    ("the libraries alone", [sys.executable, "-c", LIBRARIES]),
    ("llmplan --help", [sys.executable, "-m", "llmplan", "--help"]),
    ("llmplan memory kimi-k2", [sys.executable, "-m", "llmplan", "memory", "kimi-k2"]),
    ("llmplan models", [sys.executable, "-m", "llmplan", "models"]),
    ("llmplan fit --gpus 8xH100", [sys.executable, "-m", "llmplan", "fit", "--gpus", "8xH100"]),
)


def main() -> None:
    """Run the cases in turn, so that a busy moment touches all of them, and print medians."""
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name, _ in CASES}
    for _ in range(REPEATS):
        for name, command in CASES:
            runs[name].append(measured(command))
    base = statistics.median(wall for wall, _ in runs["the libraries alone"])
    for name, results in runs.items():
        wall = statistics.median(wall for wall, _ in results)
        peak = max(peak for _, peak in results)
        print(f"{name:28} {wall:6.3f} s  {wall / base:4.1f} x libraries  {peak:5.0f} MB peak")


def measured(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes (10^6 bytes) of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
