"""Totals of memory and fit, each with its formula, the values put in, and their source."""

from llmplan.analyze.explain import Explained
from llmplan.analyze.fit import Deployment
from llmplan.analyze.memory import Load, ModelMemory
from llmplan.analyze.state import RequestState
from llmplan.hardware.device import Device
from llmplan.units import format_gib


def explained_totals(memory: ModelMemory, load: Load) -> tuple[Explained, ...]:
    """How the totals of a model follow from its operators."""
    state = memory.state
    kv_words, kv_values = _state_terms(state, load.context)
    return (
        Explained(
            "weights_bytes",
            "sum over stored tensors, scales and buffers included",
            "the tensors above",
            _bytes(memory.weights_bytes),
            "the spec",
        ),
        Explained(
            "kv_cache.total_bytes",
            f"batch x ({kv_words})",
            f"{load.batch:,} x ({kv_values})",
            _bytes(memory.kv_bytes),
            "--batch, --context and the states above",
        ),
        Explained(
            "activations_bytes",
            "operator that moves most + residual stream + batch x vocab_size x 4",
            "one step of at most 8,192 tokens",
            _bytes(memory.activations_bytes),
            "estimate",
        ),
    )


def _state_terms(state: RequestState, context: int) -> tuple[str, str]:
    """The terms of one request's state that are not zero, in words and in numbers."""
    terms = [_grown(context, tokens, width) for tokens, width in state.entries]
    terms += [
        ("min(context, window) x bytes per token", f"{min(context, window):,} x {width:,}")
        for window, width in state.windows
    ]
    fixed = state.recurrent_bytes + state.convolution_bytes
    terms += [("recurrent + convolution", f"{fixed:,}")] if fixed else []
    terms += [("keys and values of the image", f"{state.cross_bytes:,}")] * bool(state.cross_bytes)
    return " + ".join(words for words, _ in terms), " + ".join(values for _, values in terms)


def _grown(context: int, tokens: int, width: int) -> tuple[str, str]:
    if tokens == 1:
        return "context x bytes per token", f"{context:,} x {width:,}"
    entries, _waiting = divmod(context, tokens)
    return f"entries of {tokens} tokens x bytes per entry", f"{entries:,} x {width:,}"


def explained_deployment(deployment: Deployment, device: Device) -> tuple[Explained, ...]:
    """How the figures of each GPU follow from the device, the rank's share and the reserve."""
    gpu, load = deployment.gpu, deployment.load
    reserve, replicas = gpu.reserve, deployment.layout.replicas
    kept = (gpu.weights_bytes, reserve.activations_bytes, reserve.non_torch_bytes)
    per_request = gpu.state.bytes_at(load.context)
    return (
        Explained(
            "per_gpu.capacity_bytes",
            "what the driver gives a process",
            device.capacity_provenance.value,
            _bytes(gpu.capacity_bytes),
            f"{device.slug}: {device.capacity_source}",
        ),
        Explained(
            "per_gpu.budget_bytes",
            "capacity x utilization",
            f"{gpu.capacity_bytes:,} x {reserve.utilization_frac:g}",
            _bytes(gpu.budget_bytes),
            "generic engine reserve",
        ),
        Explained(
            "per_gpu.weights_bytes",
            "sum over the tensors of one rank, copies included",
            f"layout {deployment.layout}",
            _bytes(gpu.weights_bytes),
            "the spec",
        ),
        Explained(
            "per_gpu.kv_available_bytes",
            "budget - weights - activations - non_torch",
            " - ".join(f"{size:,}" for size in (gpu.budget_bytes, *kept)),
            _bytes(gpu.kv_available_bytes),
            reserve.note,
        ),
        Explained(
            "max_concurrency",
            "copies x whole(kv_available / state of one request on a rank)",
            f"{replicas} x whole({gpu.kv_available_bytes:,} / {per_request:,})",
            f"{deployment.max_concurrency:,} requests of {load.context:,} tokens",
            "the lines above",
        ),
    )


def _bytes(size: int) -> str:
    return f"{size:,} bytes ({format_gib(size)})"
