"""100,000 (batch, context) points of DeepSeek-V3: memory and step cost in one call.

Target: at most 0.2 s on one core. Beside it, the same points one by one (a sample of them), which
is what a vectorised call is to be compared with.
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

from llmplan.analyze.sweep import decode_sweep
from llmplan.model.catalogue import load_model

POINTS, SAMPLE, REPEATS = 100_000, 200, 7


def main() -> None:
    """Time both ways and print medians and their ratio."""
    model = load_model("deepseek-v3")
    generator = np.random.default_rng(0)
    batch = generator.integers(1, 512, POINTS)
    context = generator.integers(1, 131_072, POINTS)

    sample = list(zip(batch[:SAMPLE], context[:SAMPLE], strict=True))
    whole = [seconds(lambda: decode_sweep(model, batch, context)) for _ in range(REPEATS)]
    one = [seconds(lambda: [decode_sweep(model, b, c) for b, c in sample]) for _ in range(3)]
    vectorised = statistics.median(whole)
    singly = statistics.median(one) / SAMPLE * POINTS
    print(f"{POINTS:,} points of deepseek-v3, decode: {vectorised:.3f} s (median of {REPEATS})")
    print(f"the same one by one: {singly:.1f} s, {singly / vectorised:.0f} times as long")


def seconds(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
