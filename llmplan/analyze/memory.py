"""Memory of a model on its own.

Weights and state are exact sums over operators. Activations are an estimate: their provenance says
so. What an engine holds on a GPU is in ``llmplan.analyze.serving``.
"""

from dataclasses import dataclass
from typing import Final

from llmplan.analyze.image import image_activation_bytes, published_image
from llmplan.analyze.state import RequestState, request_state
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.ops.embedding import Embedding

BATCHED_TOKENS: Final = 8192
"""Tokens of one forward step that activations are sized for: a usual prefill chunk."""
LOGIT_BYTES: Final = 4
"""Logits are held in fp32."""


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
