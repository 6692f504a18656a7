"""Every language model class of transformers, with or without vision: imported exactly, or refused.

The default config of each class is imported and compared with the class built on the meta device.
What is refused must be refused with an error that names a key; what is accepted must be equal.
"""

import os
import re
import warnings
from pathlib import Path

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
PAGE = Path(__file__).parents[1] / "docs" / "add-a-model.md"
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
    counted = sum(parameter.numel() for parameter in model.parameters())
    return counted - rows_without_use(built)


def rows_without_use(config: "transformers.PretrainedConfig") -> int:
    """LongCat's class makes the first matrices of experts that compute nothing, and never reads
    them; the published 560 billion parameters (LongCat-Flash report, 2025) are without."""
    if config.model_type != "longcat_flash":
        return 0
    rows = config.zero_expert_num * 2 * config.expert_ffn_hidden_size
    return config.num_layers * rows * config.hidden_size


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


def is_accepted(config: dict) -> bool:
    """Whether the import of a config is not refused."""
    try:
        spec_of_config(config, "config.json")
    except DocumentError:
        return False
    return True


def test_the_share_in_the_docs_is_that_of_the_classes():
    found = (default_config(name, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
             for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)  # fmt: skip
    accepted = [is_accepted(config) for config, _ in filter(None, found)]

    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    (stated,) = re.findall(
        r"Of the (\d+) causal .*? (\d+) import with .*? (\d+) import but .*? (\d+) are refused",
        page,
    )

    classes, exact, unbuilt, refused = map(int, stated)
    assert classes == len(accepted)
    assert exact + unbuilt == sum(accepted)
    assert refused == classes - sum(accepted)
