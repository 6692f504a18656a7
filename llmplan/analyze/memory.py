"""Memory of a model, on its own and on a GPU under tensor parallelism.

Weights and state are exact sums over operators. Activations, and what an engine reserves, are
estimates: their provenance says so.
"""

from dataclasses import dataclass, replace
from typing import Final

from llmplan.analyze.image import image_activation_bytes, published_image
from llmplan.analyze.state import RequestState, request_state
from llmplan.errors import InputError
from llmplan.hardware.device import Device
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.ops.embedding import Embedding
from llmplan.parallel.shard import sharded_model
from llmplan.units import GIB

BATCHED_TOKENS: Final = 8192
"""Tokens of one forward step that activations are sized for: a usual prefill chunk."""
LOGIT_BYTES: Final = 4
"""Logits are held in fp32."""


@dataclass(frozen=True, slots=True)
class EngineReserve:
    """What a serving engine keeps back on each GPU, the same for every model.

    Attributes:
        utilization_frac: Share of the device's memory that the engine may fill.
        activations_bytes: Peak of the profiling run.
        non_torch_bytes: Communication buffers and libraries.
        graphs_bytes: Captured graphs; taken from what utilisation leaves over.
        note: Where the figures come from.
    """

    utilization_frac: float
    activations_bytes: int
    non_torch_bytes: int
    graphs_bytes: int
    note: str

    @property
    def kept_bytes(self) -> int:
        """What comes out of the budget: activations and libraries."""
        return self.activations_bytes + self.non_torch_bytes


GENERIC_RESERVE: Final = EngineReserve(
    utilization_frac=0.9,
    activations_bytes=round(2.12 * GIB),
    non_torch_bytes=round(0.25 * GIB),
    graphs_bytes=round(0.90 * GIB),
    note="medians of about 49 public vLLM start-up logs, 2024 to 2026; any one engine differs",
)


def engine_reserve(utilization_frac: float | None, kept_bytes: int | None) -> EngineReserve:
    """The generic reserve, with the share or the bytes kept back replaced where they are given.

    Raises:
        InputError: A share outside (0, 1].
    """
    reserve = GENERIC_RESERVE
    if utilization_frac is not None:
        if not 0 < utilization_frac <= 1:
            raise InputError("--gpu-memory-utilization is a share above 0 and at most 1.")
        reserve = replace(reserve, utilization_frac=utilization_frac)
    if kept_bytes is None:
        return reserve
    non_torch = min(kept_bytes, reserve.non_torch_bytes)
    return replace(
        reserve,
        activations_bytes=kept_bytes - non_torch,
        non_torch_bytes=non_torch,
        note="as given by --reserve",
    )


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """Memory of a whole model, on no particular device.

    Attributes:
        weights_bytes: Stored weights, scales and buffers included; exact.
        state: What one request keeps; exact.
        kv_bytes: State of all requests at the context; exact.
        activations_bytes: Estimate of the largest intermediate values of one step.
    """

    weights_bytes: int
    state: RequestState
    kv_bytes: int
    activations_bytes: int

    @property
    def total_bytes(self) -> int:
        """All three."""
        return self.weights_bytes + self.kv_bytes + self.activations_bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What is held at once.

    Attributes:
        context: Prompt and output tokens per request.
        batch: Requests.
    """

    context: int
    batch: int


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of one GPU of a tensor-parallel group; all ranks hold the same.

    Attributes:
        capacity_bytes: What the driver gives a process.
        budget_bytes: What the engine may fill.
        weights_bytes: This rank's share, copies included.
        reserve: What the engine keeps back.
        state: What one request keeps on this rank.
    """

    capacity_bytes: int
    budget_bytes: int
    weights_bytes: int
    reserve: EngineReserve
    state: RequestState

    @property
    def kv_available_bytes(self) -> int:
        """Budget less weights and reserve; negative when the weights alone do not fit."""
        return self.budget_bytes - self.weights_bytes - self.reserve.kept_bytes

    @property
    def headroom_bytes(self) -> int:
        """What utilisation leaves over, less captured graphs."""
        return self.capacity_bytes - self.budget_bytes - self.reserve.graphs_bytes

    def concurrency(self, context: int) -> int:
        """Requests of ``context`` tokens that fit at once."""
        per_request = self.state.bytes_at(context)
        if self.kv_available_bytes <= 0:
            return 0
        return self.kv_available_bytes // per_request if per_request else 0

    def kv_tokens(self, context: int) -> int:
        """Tokens that fit in requests of ``context``: for full attention, pool / bytes a token."""
        per_request = self.state.bytes_at(context)
        if self.kv_available_bytes <= 0 or not per_request:
            return 0
        return self.kv_available_bytes * context // per_request

    def longest_context(self, most: int) -> int:
        """The longest context of one request, up to ``most``; 0 if none fits."""
        return self.state.longest_context(self.kv_available_bytes, most)


def weights_bytes(model: Model) -> int:
    """Stored bytes of all components of ``model``."""
    return sum(operator.weights_bytes * repeats for operator, repeats in model.counted())


def weights_bytes_by_part(model: Model) -> dict[str, int]:
    """The same apart by component."""
    return {
        component.part.value: sum(o.weights_bytes * n for o, n in component.counted)
        for component in model.components
    }


def model_memory(model: Model, load: Load) -> ModelMemory:
    """Memory of ``model`` with ``load.batch`` requests of ``load.context`` tokens."""
    state = request_state(model)
    return ModelMemory(
        weights_bytes(model),
        state,
        load.batch * state.bytes_at(load.context),
        activation_peak_bytes(model, load),
    )


def activation_peak_bytes(model: Model, load: Load) -> int:
    """Estimate: the operator that moves most, beside the residual stream, and fp32 logits.

    Sized for one step of at most ``BATCHED_TOKENS`` tokens of the language model; logits for one
    position of each request. Of a pipeline, for images of the published size.
    """
    if model.diffusion:
        return load.batch * image_activation_bytes(
            model, model.diffusion, published_image(model.diffusion)
        )
    step = Step.prefill(1, min(load.batch * load.context, BATCHED_TOKENS))
    moved = {o: float(o.cost(step).activation_bytes) for o, _ in model.decoder.counted}
    table = next(operator for operator in moved if isinstance(operator, Embedding))
    logits = load.batch * table.vocab_size * LOGIT_BYTES
    return round(max(moved.values()) + moved[table]) + logits


def gpu_memory(model: Model, device: Device, tp: int, reserve: EngineReserve) -> GpuMemory:
    """Memory of each GPU when ``tp`` of them hold one copy of ``model``.

    Raises:
        LayoutError: The model does not split over ``tp``.
    """
    rank = sharded_model(model, tp)
    return GpuMemory(
        device.capacity_bytes,
        int(device.capacity_bytes * reserve.utilization_frac),
        weights_bytes(rank),
        reserve,
        request_state(rank),
    )
