"""Every language model class of transformers, with or without vision: imported exactly, or refused.

The default config of each class is imported and compared with the class built on the meta device.
What is refused must be refused with an error that names a key; what is accepted must be equal.
"""

import os
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from llmplan.errors import DocumentError
from llmplan.model.compile import compile_spec
from llmplan.model.importing.config import spec_of_config

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from huggingface_hub.errors import StrictDataclassError  # noqa: E402
from transformers.models.auto.modeling_auto import (  # noqa: E402
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

pytestmark = pytest.mark.oracle
LARGEST = 2_000
"""Layers times experts beyond which building the class takes too long; such configs are shrunk."""


def default_config(model_type: str, classes: dict) -> tuple[dict, type] | None:
    """A config of the class's own defaults, and the class, where both can be had offline."""
    name = classes[model_type]
    name = name[0] if isinstance(name, tuple) else name
    model_class = getattr(transformers, name, None)
    if model_class is None:
        return None
    try:
        config = transformers.AutoConfig.for_model(model_type)
    except (
        ImportError, OSError, ValueError, TypeError, AttributeError, KeyError, StrictDataclassError,
    ):  # fmt: skip
        return None
    return {**config.to_dict(), "architectures": [name]}, model_class


def meta_parameters(config: dict, model_class: type) -> int | None:
    """Parameters of the class on the meta device; None where its defaults cannot be built."""
    built = transformers.AutoConfig.for_model(config["model_type"])
    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = model_class(built)
            model.tie_weights()
    except Exception:  # noqa: BLE001 (defaults of a foreign class may not fit together)
        return None
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))
def test_a_class_is_imported_exactly_or_refused(model_type):
    found = default_config(model_type, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    if found is None:
        pytest.skip("no default config of this class can be made offline")
    assert_exact_or_refused(model_type, *found)


@pytest.mark.parametrize("model_type", sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES))
def test_a_multimodal_class_is_imported_exactly_or_refused(model_type):
    found = default_config(model_type, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    if found is None:
        pytest.skip("no default config of this class can be made offline")
    assert_exact_or_refused(model_type, *found)


def assert_exact_or_refused(model_type: str, config: dict, model_class: type) -> None:
    """The import equals the class on the meta device, or names the key it cannot read."""

    refusal = None
    try:
        spec, document = spec_of_config(config, f"{model_type}.json")
    except DocumentError as error:
        refusal = error
    if refusal:
        assert refusal.key
        return

    counted = compile_spec(spec, document).served().counted()
    total = sum(operator.parameters * repeats for operator, repeats in counted)
    expected = meta_parameters(config, model_class)
    if expected is None:
        pytest.skip("transformers cannot build its own defaults")
    assert total == expected
