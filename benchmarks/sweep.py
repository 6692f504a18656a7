"""How long it takes to time a step at 100,000 points of one deployment.

``python benchmarks/sweep.py``: batch x context x chunk of DeepSeek-R1 over eight GPUs, and of a
dense model beside it (numpy works on one core here); medians of several runs, and points a second.
"""

import statistics
import time

import numpy as np

from llmplan.analyze.traffic import worker_group
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model
from llmplan.ops.base import Step
from llmplan.parallel.layout import Layout
from llmplan.perf.step import StepModel

RUNS = 7
DEPLOYMENTS = (
    ("llama-3.1-70b", Layout(tp=8), "h100-sxm", "vllm"),
    ("deepseek-r1", Layout(tp=8), "h200-sxm", "sglang"),
    ("gpt-oss-120b", Layout(tp=1, dp=8, ep=True), "b200", "trtllm"),
)


def points() -> Step:
    """50 batches, 50 contexts and 40 chunks of a prompt beside them."""
    batch, context, chunk = np.meshgrid(
        np.arange(1, 51) * 5.0, np.arange(1, 51) * 640.0, np.arange(40) * 200.0, indexing="ij"
    )
    requests = np.stack([batch.ravel(), (chunk > 0).ravel().astype(float)], axis=-1)
    new = np.stack([np.ones(batch.size), np.maximum(chunk, 1).ravel()], axis=-1)
    held = np.stack([context.ravel(), np.zeros(batch.size)], axis=-1)
    return Step(requests, new, held)


def main() -> None:
    """Print medians."""
    for name, layout, device, engine in DEPLOYMENTS:
        model = load_model(name).served(mtp=False, vision=False)
        group = worker_group(load_device(device), layout)
        priced = StepModel(model, layout, group, engine)
        priced.seconds(Step.decode(1, 1))
        taken = []
        for _ in range(RUNS):
            step = points()
            begin = time.perf_counter()
            priced.seconds(step)
            taken.append(time.perf_counter() - begin)
        middle = statistics.median(taken)
        print(f"{name:16} {layout!s:14} {device:10} {points().tokens.size:,} points"
              f"  {middle:.3f} s  (least {min(taken):.3f})")  # fmt: skip


if __name__ == "__main__":
    main()
