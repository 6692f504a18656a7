"""Whether an engine starts: the rule that each applies before it takes requests."""

from llmplan.analyze.serving import Serving
from llmplan.engines.settings import EngineName


def starts(serving: Serving, devices: int = 1) -> bool:
    """Whether the engine would start.

    vLLM wants room for one request of the full length, and graphs must fit in what utilisation
    leaves over. SGLang and TensorRT-LLM want any pool at all. llama.cpp wants everything placed.
    """
    return why_not(serving, devices) is None


def why_not(serving: Serving, devices: int = 1) -> str | None:
    """What stops the start; None where nothing does.

    llama.cpp may spread the layers over ``devices`` GPUs.
    """
    held = serving.worst.plan.held
    if serving.profile.engine is EngineName.LLAMACPP:
        need = held.weights.bytes + held.activations.bytes + held.non_torch.bytes + held.pool_bytes
        need += held.beside.bytes
        room = serving.gpu.capacity_bytes * devices
        return (
            "weights, cache and compute buffer need more than the device has"
            if need > room
            else None
        )
    if held.pool_bytes <= 0:
        return "weights and reserve leave nothing for a cache"
    over = serving.gpu.capacity_bytes - held.budget_bytes
    if serving.profile.engine is not EngineName.VLLM:
        return None
    if not held.graphs_in_budget and held.graphs.bytes > over:
        return "captured graphs do not fit in what utilisation leaves over"
    if not serving.worst.requests(serving.length):
        return f"the cache is too small for one request of {serving.length:,} tokens"
    return None
