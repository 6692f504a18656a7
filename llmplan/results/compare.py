"""Models side by side: what they are made of, and how cache and work grow with the context."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmplan.analyze.flops import decoder_only, step_cost
from llmplan.analyze.state import request_state
from llmplan.errors import InputError
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.results import schema
from llmplan.results.common import Said
from llmplan.results.listing import model_row

CONTEXTS: Final = tuple(2**power for power in range(10, 21))
"""1k to 1M tokens, each twice the one before."""
MOST_MODELS: Final = 8
"""More columns than that nobody reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareQuestion:
    """Two to eight models side by side."""

    models: tuple[str, ...]

    def ask(self) -> schema.Envelope:
        """Their descriptions, and growth over ``CONTEXTS``.

        Raises:
            InputError: Fewer than two models, more than eight, or a diffusion pipeline.
            UnknownNameError: One is not known.
        """
        if not 2 <= len(self.models) <= MOST_MODELS:
            raise InputError(f"--compare takes two to {MOST_MODELS} models.")
        loaded = [load_model(name) for name in self.models]
        for model in loaded:
            if model.diffusion:
                name = model.identity.name
                raise InputError(f"{name} is a diffusion pipeline: it has no growth to compare.")
        remarks = tuple(text for model in loaded for text in model.identity.assumptions)
        said = Said("models", {"compare": [m.identity.name for m in loaded]}, remarks)
        return said.answered(
            schema.CompareModelsResult(
                models=[model_row(model) for model in loaded],
                growth=[growth_row(model) for model in loaded],
            )
        )


def growth_row(model: Model) -> schema.GrowthRow:
    """State and decode FLOPs of one request at every context, beyond the published one too."""
    contexts = np.array(CONTEXTS, dtype=np.int64)
    text = decoder_only(model)
    flops = step_cost(text, Step.decode(1, contexts)).model_flops
    return schema.GrowthRow(
        model=model.identity.name,
        context_tokens=list(CONTEXTS),
        published_context=model.context_length,
        state_bytes=[int(size) for size in request_state(text).bytes_over(contexts)],
        decode_flops_per_token=[float(f) for f in np.broadcast_to(flops, contexts.shape)],
    )
