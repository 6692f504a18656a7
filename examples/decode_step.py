"""What one decode step asks of a GPU as the batch grows: work, bytes moved, and their ratio.

Nothing here is a time. A step whose ratio is below that of the GPU waits for memory.

Run: python examples/decode_step.py
"""

import numpy as np

from llmplan import Step, load_device, load_model
from llmplan.analyze.flops import decoder_only, step_cost

BATCHES = np.array([1, 8, 64, 512])
CONTEXT = 2048


def main() -> None:
    """All batches are one call: the fields of a step broadcast."""
    model, gpu = decoder_only(load_model("llama-3.1-8b")), load_device("h100")
    cost = step_cost(model, Step.decode(BATCHES, CONTEXT))
    ratios = cost.model_flops / cost.moved_bytes
    print(f"{'requests':>8}{'GFLOP':>12}{'GB moved':>12}{'FLOP/byte':>12}")
    rows = zip(BATCHES, cost.model_flops, cost.moved_bytes, ratios, strict=True)
    for batch, flops, moved, ratio in rows:
        print(f"{batch:8}{flops / 1e9:12,.1f}{moved / 1e9:12,.1f}{ratio:12,.1f}")
    peak, bandwidth = gpu.peak_flops_per_s("bf16"), gpu.bandwidth_bytes_per_s
    if peak and bandwidth:
        print(f"{gpu.name}, as published: {peak / bandwidth:,.0f} FLOP/byte in bf16")


if __name__ == "__main__":
    main()
