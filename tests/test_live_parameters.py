"""Parameters of the catalogue equal those of transformers' classes, to the digit.

Each model is built on the meta device from its official config, so that no weights are read and a
model of a trillion parameters takes less than a second. The configs stand in ``oracles/configs``;
the spec of the same name says where each was read.
"""

import json
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from llmplan.model.catalogue import load_model, spec_paths
from tests.small_models import needs_transformers, quiet_transformers

pytestmark = [pytest.mark.oracle, needs_transformers]

ORACLES: Final = Path(__file__).parent / "oracles"
PUBLISHED: Final = yaml.safe_load((ORACLES / "models.yaml").read_text())
CONFIGS: Final = ORACLES / "configs"

Config = dict[str, Any]


class Counts(NamedTuple):
    """Entries of a model: parameters, tied ones once, and stored buffers."""

    parameters: int
    buffers: int


class NoClass(NamedTuple):
    """A model that transformers cannot build: the class in its config, and why none stands in."""

    architecture: str
    reason: str


NO_CLASS: Final = {
    "flux.1-dev": NoClass("FluxPipeline", "a pipeline of classes; see test_flux.py"),
    "flux.1-schnell": NoClass("FluxPipeline", "a pipeline of classes; see test_flux.py"),
    "grok-2.5-270b": NoClass("Grok1ForCausalLM", "no class; counted from a list of tensor shapes"),
    "kimi-k3": NoClass("KimiK3ForConditionalGeneration", "no class; counted with mlx-lm"),
    "llama-3.1-nemotron-ultra-253b": NoClass("DeciLMForCausalLM", "see test_import_nemotron_nas"),
    "llama-3.3-nemotron-super-49b": NoClass("DeciLMForCausalLM", "see test_import_nemotron_nas"),
    "ling-2.5-1t": NoClass("BailingMoeV2_5ForCausalLM", "bailing_hybrid is the later Ling 3.0"),
    "rwkv6-finch-7b": NoClass("Rwkv6ForCausalLM", "no class; counted with flash-linear-attention"),
}


def as_class(architecture: str, **changes: object) -> Callable[[Config], Config]:
    """The config read by another class of the same design."""
    return lambda config: {**config, "architectures": [architecture], **changes}


def minimax_text_01(config: Config) -> Config:
    """The native class names layer kinds where the published code lists 0 and 1."""
    kinds = ("linear_attention", "full_attention")
    layers = [kinds[kind] for kind in config["attn_type_list"]]
    return as_class("MiniMaxForCausalLM", model_type="minimax", layer_types=layers)(config)


def mistral_large_3(config: Config) -> Config:
    """A DeepSeek-V3 decoder with the Pixtral tower and projector of the Mistral 3 class."""
    tower = dict(config["vision_config"], model_type="pixtral")
    text = {key: value for key, value in config.items() if key != "vision_config"}
    return {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "text_config": dict(text, model_type="deepseek_v3"),
        "vision_config": tower,
        "spatial_merge_size": tower["spatial_merge_size"],
        "multimodal_projector_bias": tower["adapter_bias"],
        "tie_word_embeddings": config["tie_word_embeddings"],
    }


def sarvam_105b(config: Config) -> Config:
    """DeepSeek-V3 without query compression, under other key names."""
    return as_class(
        "DeepseekV3ForCausalLM",
        model_type="deepseek_v3",
        q_lora_rank=None,
        n_routed_experts=config["num_experts"],
        n_shared_experts=config["num_shared_experts"],
        num_key_value_heads=config["num_attention_heads"],
        n_group=1,
        topk_group=1,
        rope_scaling=None,
    )(config)


def sarvam_30b(config: Config) -> Config:
    """GLM-4 MoE without biases, with norms of queries and keys, under other key names."""
    return as_class(
        "Glm4MoeForCausalLM",
        model_type="glm4_moe",
        attention_bias=False,
        n_routed_experts=config["num_experts"],
        n_shared_experts=config["num_shared_experts"],
    )(config)


def step_35_flash(config: Config) -> Config:
    """The text half of Step 3.7, without the entries of the MTP layers in its pattern."""
    text = {key: value for key, value in config.items() if key != "num_nextn_predict_layers"}
    text["layer_types"] = config["layer_types"][: config["num_hidden_layers"]]
    return {
        "architectures": ["Step3p7ForConditionalGeneration"],
        "text_config": text,
        "tie_word_embeddings": False,
    }


def kimi_vl(config: Config) -> Config:
    """The class of Kimi K2.5, whose tower and projector are the same, under its key names."""
    names = {"init_pos_emb_height": "pos_emb_height", "init_pos_emb_width": "pos_emb_width"}
    tower = {names.get(key, key): value for key, value in config["vision_config"].items()}
    return as_class(
        "Kimi_K25ForConditionalGeneration",
        model_type="kimi_k25",
        vision_config={key: value for key, value in tower.items() if key != "model_type"},
        projection_hidden_size=tower["hidden_size"],
        tie_word_embeddings=False,
    )(config)


def minimax_m3(config: Config) -> Config:
    """The tower names another class; its keys are those of the class's own tower."""
    tower = {key: value for key, value in config["vision_config"].items() if key != "model_type"}
    return dict(config, vision_config=tower)


def dbrx(config: Config) -> Config:
    """The class wants a float where the published file has the integer 1."""
    ffn = dict(config["ffn_config"], moe_normalize_expert_weights=1.0)
    return dict(config, ffn_config=ffn)


kimi_k2: Final = as_class("DeepseekV3ForCausalLM", model_type="deepseek_v3")
kimi_k25: Final = as_class("Kimi_K25ForConditionalGeneration")
# the wrapper's default is tied; the text model's, which holds, is not
mistral_small: Final = as_class("Mistral3ForConditionalGeneration", tie_word_embeddings=False)

READ_AS: Final[dict[str, Callable[[Config], Config]]] = {
    "dbrx": dbrx,
    "kimi-k2": kimi_k2,
    "kimi-k2-thinking": kimi_k2,
    "kimi-k2.5": kimi_k25,
    "kimi-k2.6": kimi_k25,
    "kimi-vl-a3b": kimi_vl,
    "minimax-m3": minimax_m3,
    "minimax-text-01": minimax_text_01,
    "mistral-large-3": mistral_large_3,
    "mistral-small-3.1-24b": mistral_small,
    "sarvam-105b": sarvam_105b,
    "sarvam-30b": sarvam_30b,
    "step-3.5-flash": step_35_flash,
}

OTHER_PARTS: Final = {
    # the class that stands in has a vision tower; Step 3.5 has none
    "step-3.5-flash": ("model.vision_model.", "model.multi_modal_projector."),
}

BUFFERS_APART: Final = {
    "minimax-text-01": "the class stores decay tables that follow from the number of heads",
    "mistral-large-3": "the class stores routing biases; whether the checkpoint does is not known",
}


@cache
def transformers_counts(name: str) -> Counts:
    """Parameters and persistent buffers of the class, built on the meta device."""
    import torch

    config = official_config(name)
    with warnings.catch_warnings():
        # fields of remote code, which the class does not know
        warnings.simplefilter("ignore")
        model_class = getattr(quiet_transformers(), config["architectures"][0])
        read = model_class.config_class.from_dict(config)
        with torch.device("meta"):
            model = model_class(read)
        model.tie_weights()
    others = OTHER_PARTS.get(name, ())
    parameters = {
        key: tensor
        for key, tensor in model.named_parameters(remove_duplicate=False)
        if not key.startswith(others)
    }
    buffers = [
        tensor
        for key, tensor in model.state_dict().items()
        if key not in parameters and not key.startswith(others)
    ]
    once = {id(tensor): tensor.numel() for tensor in parameters.values()}
    return Counts(sum(once.values()), sum(tensor.numel() for tensor in buffers))


def official_config(name: str) -> Config:
    """The published file as the class reads it: unquantised, and through ``READ_AS``."""
    path = CONFIGS / f"{name}.json"
    assert path.is_file(), (
        f"copy the official config.json to {path}, or state in NO_CLASS why there is no class"
    )
    config = READ_AS.get(name, dict)(json.loads(path.read_text()))
    for part in (config, config.get("text_config") or {}):
        part.pop("quantization_config", None)
    return config


SPECS: Final = [path.stem for path in spec_paths() if path.stem not in NO_CLASS]


@pytest.mark.parametrize("name", SPECS)
def test_parameters_equal_those_of_the_class(name):
    expected = transformers_counts(name).parameters

    published = load_model(name).served()

    assert sum(o.parameters * n for o, n in published.counted()) == expected


@pytest.mark.parametrize("name", [name for name in SPECS if name not in BUFFERS_APART])
def test_stored_buffers_equal_those_of_the_class(name):
    expected = transformers_counts(name).buffers

    published = load_model(name).served()

    assert sum(o.buffers * n for o, n in published.counted()) == expected


BUILT: Final = sorted(path.stem for path in CONFIGS.glob("*.json") if path.stem not in NO_CLASS)


@pytest.mark.parametrize("name", BUILT)
def test_the_oracle_table_equals_the_class(name):
    assert transformers_counts(name).parameters == PUBLISHED[name]["total"]


def test_buffers_apart_really_differ():
    stored = {name: transformers_counts(name).buffers for name in BUFFERS_APART}

    assert {n for n, count in stored.items() if count != PUBLISHED[n].get("buffers")} == {
        *BUFFERS_APART
    }


def test_no_entry_of_the_tables_is_stale():
    transformers = quiet_transformers()
    configs = {path.stem for path in CONFIGS.glob("*.json")}

    assert configs <= set(PUBLISHED)
    assert {*READ_AS, *OTHER_PARTS, *BUFFERS_APART} <= configs
    assert [n for n in NO_CLASS if hasattr(transformers, NO_CLASS[n].architecture)] == []
