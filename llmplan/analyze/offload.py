"""A model of which some parts stay in host memory: what the GPUs hold, and what the host does.

Both halves are the model itself with layers or operators left out, so every sum over operators
holds for each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from llmplan.analyze.state import request_state
from llmplan.dtypes import divide_up
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.device import Device
from llmplan.model.compiled import Component, Layer, Model
from llmplan.ops.base import Operator
from llmplan.ops.embedding import Embedding
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout
from llmplan.parallel.shard import sharded_model
from llmplan.parallel.shared_weights import with_shared_weights

BY_PARTS: Final = (EngineName.GENERIC, EngineName.LLAMACPP)
"""Engines that keep chosen layers or experts in host memory."""
BY_SIZE: Final = (EngineName.GENERIC, EngineName.VLLM, EngineName.SGLANG)
"""Engines that keep so many bytes of each GPU's weights in host memory."""


@dataclass(frozen=True)
class Halves:
    """A model in two halves.

    Attributes:
        on_gpu: What the GPUs hold.
        on_host: Layers, experts and output head that stay in host memory.
        first_layer: Number of the first decoder layer on a GPU.
    """

    on_gpu: Model
    on_host: Model
    first_layer: int = 0

    @property
    def is_split(self) -> bool:
        """Whether anything stays in host memory."""
        return any(True for _ in self.on_host.counted())

    def host_weights_bytes(self, layout: Layout) -> int:
        """Stored bytes in host memory of one copy of the model, all ranks."""
        held = sharded_model(self.on_host, layout.tp)
        return sum(o.weights_bytes * n for o, n in held.counted()) * layout.tp

    def host_state_bytes(self, context: int) -> int:
        """Cache in host memory of one request: a layer keeps its cache where it stands."""
        return request_state(self.on_host).bytes_at(context)

    def read_bytes_per_token(self, layout: Layout) -> int:
        """Bytes of host weights that one token of one request uses, all ranks of a copy."""
        held = sharded_model(self.on_host, layout.tp)
        return sum(active_bytes(o) * n for o, n in held.counted()) * layout.tp

    @property
    def largest_bytes(self) -> int:
        """The largest tensor in host memory."""
        sizes = (o.weight_bytes(w) for o, _ in self.on_host.counted() for w in o.weights)
        return max(sizes, default=0)


def active_bytes(operator: Operator) -> int:
    """Stored bytes of an operator that one token uses; the table of inputs apart: one row."""
    if isinstance(operator, Embedding):
        return divide_up(operator.weights_bytes, operator.vocab_size)
    return sum(
        divide_up(operator.weight_bytes(w) * w.active_frac[0], w.active_frac[1])
        for w in operator.weights
    )


def halves(model: Model, settings: Settings) -> Halves:
    """The model as its settings split it between GPUs and host.

    ``n_gpu_layers`` counts from the end and takes the output head for a layer: of L layers the
    first L + 1 - n stay in host memory. Vision towers and the table of inputs are not counted here.

    Raises:
        LayoutError: No layer would be left on a GPU, or the model is a diffusion pipeline.
    Source: llama.cpp, src/llama-model.cpp, load_tensors; before 2026 the head went last instead.
    """
    total, wanted = len(model.decoder.layers), settings.n_gpu_layers
    first = 0 if wanted is None else max(total + 1 - wanted, 0)
    no_experts = total if settings.experts_on_cpu else settings.experts_on_cpu_layers or 0
    if not first and not no_experts:
        return Halves(model, replace(model, components=()))
    if model.diffusion:
        raise LayoutError(
            f"{model.identity.name} is a diffusion pipeline: parts of it in host memory are not "
            "described."
        )
    if first >= total:
        raise LayoutError(
            f"--gpu-layers {wanted} leaves no layer on a GPU: of {total} layers and the output "
            "head, which counts as one, take at least 2."
        )
    decoder = model.decoder
    kept = with_shared_weights(decoder.layers[first:])
    on_gpu = _filtered(kept, no_experts - first, _is_no_expert)
    stripped = _filtered(kept, no_experts - first, _is_expert, whole_after=False)
    gpu_parts = [Component(decoder.part, decoder.before, on_gpu, decoder.after)]
    host_parts = [Component(decoder.part, (), (*decoder.layers[:first], *stripped), ())]
    for part in model.components[1:]:
        count = len(part.layers) if settings.experts_on_cpu else 0
        layers = _filtered(part.layers, count, _is_no_expert)
        gpu_parts.append(Component(part.part, part.before, layers, part.after))
        gone = _filtered(part.layers, count, _is_expert, whole_after=False)
        host_parts.append(Component(part.part, (), gone, ()))
    return Halves(
        replace(model, components=tuple(gpu_parts)),
        replace(model, components=tuple(host_parts)),
        first,
    )


def _is_expert(operator: Operator) -> bool:
    return isinstance(operator, Experts)


def _is_no_expert(operator: Operator) -> bool:
    return not isinstance(operator, Experts)


def _filtered(
    layers: tuple[Layer, ...],
    count: int,
    keeps: Callable[[Operator], bool],
    *,
    whole_after: bool = True,
) -> tuple[Layer, ...]:
    """Layers with some operators only in the first ``count``; equal layers stay one object."""
    filtered: dict[int, Layer] = {}

    def of(layer: Layer) -> Layer:
        if all(map(keeps, layer.operators)):
            return layer
        if id(layer) not in filtered:
            operators = tuple(filter(keeps, layer.operators))
            filtered[id(layer)] = Layer(layer.name, operators)
        return filtered[id(layer)]

    first = tuple(map(of, layers[: max(count, 0)]))
    return first + layers[max(count, 0) :] if whole_after else first


def check_offload(split: Halves, settings: Settings, profile: Profile, device: Device) -> None:
    """Refuse what an engine or a device cannot do.

    Raises:
        InputError: Naming the option and the reason.
    """
    engine, title = profile.engine, profile.title
    parts = (
        ("--gpu-layers", split.first_layer > 0),
        ("--experts-on-cpu", settings.experts_on_cpu),
        ("--n-cpu-moe", settings.experts_on_cpu_layers),
    )
    asked = [name for name, is_asked in parts if is_asked]
    if asked and engine not in BY_PARTS:
        raise InputError(
            f"{asked[0]}: {title} does not keep chosen layers or experts in host memory. llama.cpp "
            "does; vLLM and SGLang take a size, --cpu-offload."
        )
    if settings.cpu_offload_bytes and engine not in BY_SIZE:
        other = ": --gpu-layers and --experts-on-cpu choose parts." if engine in BY_PARTS else "."
        raise InputError(f"--cpu-offload: {title} takes no size of weights for host memory{other}")
    if settings.cache_on_host:
        raise InputError("--no-kv-offload: a cache that is all in host memory is not described.")
    asked += ["--cpu-offload"] if settings.cpu_offload_bytes else []
    if asked and is_unified(device):
        raise InputError(
            f"{asked[0]}: CPU and GPU of {device.slug} share one memory, so what moves to the "
            "other side frees nothing."
        )


def is_unified(device: Device) -> bool:
    """Whether CPU and GPU share its memory."""
    return device.memory_type.startswith("LPDDR")
