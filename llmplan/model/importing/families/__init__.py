"""Readers by architecture, one module a group of families."""

from collections.abc import Callable

from llmplan.model.importing.families import dense
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.view import ConfigView

Reader = Callable[[ConfigView], Spec]

READERS: dict[str, Reader] = {**dense.READERS}
"""Reader by ``architectures[0]`` of the config."""

MODEL_TYPES: dict[str, str] = {**dense.MODEL_TYPES}
"""Architecture by ``model_type``, for configs that name no architecture."""
