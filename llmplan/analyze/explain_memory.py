"""Totals of memory and fit, each with its formula, the values put in, and their source."""

from llmplan.analyze.explain import Explained
from llmplan.analyze.fit import Deployment
from llmplan.analyze.memory import Load, ModelMemory
from llmplan.analyze.state import RequestState
from llmplan.engines.base import Held
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
    """How the figures of each GPU follow from the device, the rank's share and the engine."""
    load, replicas = deployment.load, deployment.arrangement.replicas
    serving = deployment.serving
    worst = serving.worst
    held, settings, title = worst.plan.held, worst.plan.settings, serving.profile.title
    capacity = serving.gpu.capacity_bytes
    terms = (
        ("weights_bytes", held.weights),
        ("activations_bytes", held.activations),
        ("non_torch_bytes", held.non_torch),
        ("graphs_bytes", held.graphs),
        *((("beside_bytes", held.beside),) if held.beside.bytes else ()),
    )
    per_request = deployment.request_bytes(load.context)
    copies = replicas * serving.layout.dp
    return (
        Explained(
            "per_gpu.capacity_bytes",
            "what the driver gives a process",
            device.capacity_provenance.value,
            _bytes(capacity),
            f"{device.slug}: {device.capacity_source}",
        ),
        Explained(
            "per_gpu.budget_bytes",
            "memory share x what it is taken of",
            f"{settings.memory_frac:g}" if settings.memory_frac else "all of the device",
            _bytes(held.budget_bytes),
            title,
        ),
        *(
            Explained(
                f"per_gpu.{name}",
                term.note,
                f"layout {deployment.arrangement}",
                _bytes(term.bytes),
                f"{title}, {term.provenance.value}",
            )
            for name, term in terms
        ),
        Explained(
            "per_gpu.kv_available_bytes",
            held.pool_note,
            " - ".join(f"{size:,}" for size in (held.budget_bytes, *_kept(held))),
            _bytes(held.pool_bytes),
            title,
        ),
        Explained(
            "max_concurrency",
            "copies x whole(kv_available / what one request takes of it)",
            f"{copies} x whole({held.pool_bytes:,} / {per_request:,})",
            f"{deployment.max_concurrency:,} requests of {load.context:,} tokens",
            worst.plan.cache.unit,
        ),
    )


def _kept(held: Held) -> tuple[int, ...]:
    """What comes out of the budget before the pool."""
    beside = (held.beside.bytes,) if held.beside.bytes else ()
    kept = (held.weights.bytes, held.activations.bytes, held.non_torch.bytes, *beside)
    return (*kept, held.graphs.bytes) if held.graphs_in_budget else kept


def _bytes(size: int) -> str:
    return f"{size:,} bytes ({format_gib(size)})"
