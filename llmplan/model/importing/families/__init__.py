"""Readers by architecture, one module a group of families."""

from collections.abc import Callable

from llmplan.model.importing.families import (
    compressed,
    delta,
    dense,
    gemma4,
    gpt,
    hybrid,
    latent,
    latent_moe,
    lightning,
    moe,
    multimodal,
    nemotron,
    parallel,
    recurrent,
    shared_moe,
    step_mimo,
    windowed,
    windowed_moe,
)
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.view import ConfigView

Reader = Callable[[ConfigView], Spec]

READERS: dict[str, Reader] = {
    **dense.READERS,
    **windowed.READERS,
    **parallel.READERS,
    **gpt.READERS,
    **latent.READERS,
    **recurrent.READERS,
    **hybrid.READERS,
    **nemotron.READERS,
    **delta.READERS,
    **lightning.READERS,
    **multimodal.READERS,
    **latent_moe.READERS,
    **compressed.READERS,
    **gemma4.READERS,
    **moe.READERS,
    **shared_moe.READERS,
    **step_mimo.READERS,
    **windowed_moe.READERS,
}
"""Reader by ``architectures[0]`` of the config."""

MODEL_TYPES: dict[str, str] = {
    **dense.MODEL_TYPES,
    **windowed.MODEL_TYPES,
    **parallel.MODEL_TYPES,
    **gpt.MODEL_TYPES,
    **latent.MODEL_TYPES,
    **recurrent.MODEL_TYPES,
    **hybrid.MODEL_TYPES,
    **nemotron.MODEL_TYPES,
    **delta.MODEL_TYPES,
    **lightning.MODEL_TYPES,
    **multimodal.MODEL_TYPES,
    **latent_moe.MODEL_TYPES,
    **compressed.MODEL_TYPES,
    **gemma4.MODEL_TYPES,
    **moe.MODEL_TYPES,
    **shared_moe.MODEL_TYPES,
    **step_mimo.MODEL_TYPES,
    **windowed_moe.MODEL_TYPES,
}
"""Architecture by ``model_type``, for configs that name no architecture."""
