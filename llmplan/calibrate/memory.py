"""Memory of a GPU that no tensor is: its context, what the allocator keeps, pools of graphs."""

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from llmplan.calibrate.attempts import Failed, guarded
from llmplan.calibrate.cold import Inputs, generator_of, one_set
from llmplan.calibrate.kernel import Kernel, Place
from llmplan.calibrate.timing import captured, current, warm_up
from llmplan.calibrate.watch import Nvml, nvml_of


@dataclass(frozen=True, slots=True)
class MemoryConstants:
    """What running a sequence of kernels takes beside its inputs; ``None`` where it is unknown.

    Attributes:
        context_bytes: CUDA's context with the kernels that were loaded: what the driver counts for
            this process, less what torch has reserved.
        allocator_slack_bytes: Most that torch reserved while the kernels ran, less the most that
            tensors held at once.
        graph_pool_bytes: What a captured graph of the kernels keeps for itself.
        activation_bytes: Most that results and buffers held at once, inputs left out.
        note: Why a value is unknown; empty where none is.
    """

    context_bytes: int | None = None
    allocator_slack_bytes: int | None = None
    graph_pool_bytes: int | None = None
    activation_bytes: int | None = None
    note: str = ""


def memory_constants(kernels: Sequence[Kernel], place: Place) -> MemoryConstants | Failed:
    """Memory constants of the place, with the kernels as what a process does there."""
    if not place.is_cuda:
        return MemoryConstants(note=f"torch does not count the memory of {place.device.type}")
    return guarded(kernels, place, lambda: _constants(kernels, place))


def context_bytes(place: Place) -> int | str:
    """What the driver counts for this process beside torch's memory, or why that is unknown.

    It is not the fall of free memory: asking the runtime for that makes the context.
    """
    with nvml_of(place) as source:
        if isinstance(source, str):
            return source
        used = _own_bytes(source)
    if isinstance(used, str):
        return used
    reserved = torch.cuda.memory_reserved(place.device)
    if used < reserved:
        return f"the driver counts {used:,} bytes, and torch alone has {reserved:,}"
    return used - reserved


def _own_bytes(source: Nvml) -> int | str:
    """What the driver counts for this process."""
    processes = source.read(("nvmlDeviceGetComputeRunningProcesses",))
    if processes is None:
        return "; ".join(source.unread.values())
    own = [process for process in processes if process.pid == os.getpid()]
    if not own and len(processes) > 1:
        return f"{len(processes)} processes use the GPU, none under this process's number"
    # in a container the driver knows the process by another number; alone, it is this one
    found = own or list(processes)
    if not found or found[0].usedGpuMemory is None:
        return "the driver does not say what this process uses"
    return int(found[0].usedGpuMemory)


def _constants(kernels: Sequence[Kernel], place: Place) -> MemoryConstants:
    with torch.inference_mode(), current(place):
        inputs = one_set(kernels, generator_of(place))
        run = _once(kernels, inputs)
        warm_up(run, place)
        activation_bytes, slack_bytes = _peaks(run, place)
        pool = _pool_bytes(run, place)
    context = context_bytes(place)
    reasons = {"context": context, "graph": pool}
    return MemoryConstants(
        context_bytes=None if isinstance(context, str) else context,
        allocator_slack_bytes=slack_bytes,
        graph_pool_bytes=None if isinstance(pool, str) else pool,
        activation_bytes=activation_bytes,
        note="; ".join(f"{key}: {why}" for key, why in reasons.items() if isinstance(why, str)),
    )


def _once(kernels: Sequence[Kernel], inputs: Inputs) -> Callable[[], None]:
    def run() -> None:
        for kernel, tensors in zip(kernels, inputs, strict=True):
            kernel.run(*tensors)

    return run


def _peaks(run: Callable[[], None], place: Place) -> tuple[int, int]:
    """Bytes of activations, and of what the allocator holds beyond all tensors, at their peaks.

    Libraries keep a workspace for every stream that they once ran on; it is no activation.
    """
    run()
    _released(place)
    before = torch.cuda.memory_allocated(place.device)
    torch.cuda.reset_peak_memory_stats(place.device)
    run()
    torch.cuda.synchronize(place.device)
    most = torch.cuda.max_memory_allocated(place.device)
    return most - before, torch.cuda.max_memory_reserved(place.device) - most


def _pool_bytes(run: Callable[[], None], place: Place) -> int | str:
    """What torch reserves more with a graph than without; or why nothing was captured."""
    _released(place)
    before = torch.cuda.memory_reserved(place.device)
    graph = captured(run, place)
    if isinstance(graph, str):
        return graph
    return torch.cuda.memory_reserved(place.device) - before


def _released(place: Place) -> None:
    gc.collect()
    torch.cuda.synchronize(place.device)
    torch.cuda.empty_cache()
