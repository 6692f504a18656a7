"""Llama Nemotron Super and Ultra: layers of their own, empty ones among them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from llmplan.dtypes import divide_exactly
from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_model
from llmplan.model.compile import EMPTY, compile_spec
from llmplan.model.importing.config import spec_of_config
from llmplan.model.reading import load_config, load_spec
from tests.published import ORACLES
from tests.small_models import needs_transformers, quiet_transformers

CONFIGS = Path(__file__).parent / "oracles" / "configs"
NAMES = ("llama-3.1-nemotron-ultra-253b", "llama-3.3-nemotron-super-49b")
NONE = {"no_op": True, "replace_with_linear": False}


def layer(group: int | None, factor: float | None) -> dict[str, Any]:
    """An entry of block_configs; None stands for a part that is taken away."""
    attention = {"n_heads_in_group": group, "no_op": False} if group else NONE
    return {"attention": dict(attention), "ffn": {"ffn_mult": factor} if factor else dict(NONE)}


CONFIG: dict[str, Any] = {
    "architectures": ["DeciLMForCausalLM"],
    "model_type": "nemotron-nas",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "num_key_value_heads": None,
    "intermediate_size": None,
    "hidden_act": "silu",
    "max_position_embeddings": 512,
    "vocab_size": 130,
    "block_configs": [
        layer(4, 1.0), layer(None, None), layer(None, 2.5), layer(6, None), layer(None, None),
        layer(4, 3.0),
    ],
}  # fmt: skip


def llama_parameters(config: dict[str, Any]) -> int:
    """Modules of Llama, as many as each layer has, on the meta device."""
    import torch

    llama = quiet_transformers().models.llama.modeling_llama
    settings = quiet_transformers().LlamaConfig
    D, H = config["hidden_size"], config["num_attention_heads"]
    modules = []
    with torch.device("meta"):
        modules += [torch.nn.Embedding(config["vocab_size"], D), llama.LlamaRMSNorm(D)]
        modules += [torch.nn.Linear(D, config["vocab_size"], bias=False)]
        for own in config["block_configs"]:
            group, factor = own["attention"].get("n_heads_in_group"), own["ffn"].get("ffn_mult")
            width = -(-int(2 * (factor or 0) * D / 3) // 256) * 256
            stated = settings(
                hidden_size=D, num_attention_heads=H, intermediate_size=width,
                num_key_value_heads=divide_exactly(H, group or H),
            )  # fmt: skip
            if group:
                modules += [llama.LlamaAttention(stated, 0), llama.LlamaRMSNorm(D)]
            if factor:
                modules += [llama.LlamaMLP(stated), llama.LlamaRMSNorm(D)]
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("name", NAMES)
def test_published_sizes_are_those_of_the_modules_of_llama(name):
    config = json.loads((CONFIGS / f"{name}.json").read_text())

    assert llama_parameters(config) == ORACLES[name]["total"]


@pytest.mark.oracle
@needs_transformers
def test_small_layers_are_those_of_the_modules_of_llama():
    model = compile_spec(*spec_of_config(CONFIG, "small.json"))

    assert sum(o.parameters * n for o, n in model.counted()) == llama_parameters(CONFIG)
    assert [found.name for found in model.decoder.layers] == [
        "attention_3+mlp_256", EMPTY, "mlp_768", "attention_2", EMPTY, "attention_3+mlp_768",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_config_and_spec_are_one_model(name):
    imported, shipped = load_config(CONFIGS / f"{name}.json"), load_model(name)

    assert imported.decoder.counted == shipped.decoder.counted
    assert [la.operators for la in imported.decoder.layers] == [
        la.operators for la in shipped.decoder.layers
    ]


def test_tensors_are_as_many_as_a_public_log_says():
    # ik_llama.cpp, pull request 377: 648 tensors, one of them a table of rotary factors
    model = load_model(NAMES[0])

    assert sum(len(o.weights) * n for o, n in model.counted()) == 648 - 1


def test_keys_and_values_are_those_of_a_public_log():
    # the same log: keys in q8_0 (34 bytes for 32) and values in q4_0 (18), 106,496 bytes a token
    kv = ORACLES[NAMES[0]]["kv"]

    per_side = divide_exactly(kv, 2 * 2)
    assert divide_exactly(per_side * (34 + 18), 32) == 106_496


def test_an_empty_layer_holds_and_computes_nothing():
    layers = {found.name: found for found in load_model(NAMES[0]).decoder.layers}

    assert layers[EMPTY].operators == ()
    assert [found.name for found in load_model(NAMES[0]).decoder.layers].count(EMPTY) == 81


def test_an_empty_layer_stands_in_a_spec_and_not_in_mtp(tmp_path):
    text = (Path(__file__).parent / "golden" / "files" / "small.yaml").read_text()
    text += "\nmtp: {num_nextn_predict_layers: 1, blocks: []}\n"
    path = tmp_path / "small.yaml"
    path.write_text(text)

    with pytest.raises(DocumentError, match=r"mtp\.blocks"):
        load_spec(path)


def with_first(part: str, **keys: Any) -> dict[str, Any]:
    """The small config with other keys in a part of its first layer."""
    config = copy.deepcopy(CONFIG)
    config["block_configs"][0][part] |= keys
    return config


REFUSALS = {
    "block_configs.0.attention.n_heads_in_group": with_first("attention", n_heads_in_group=5),
    "block_configs.0.attention.replace_with_linear": with_first(
        "attention", replace_with_linear=True
    ),
    "block_configs.0.attention.window_length": with_first("attention", window_length=64),
    "block_configs.0.attention.secret": with_first("attention", secret=1),
    "block_configs.0.ffn.ffn_mult": with_first("ffn", ffn_mult=1e9),
    "block_configs.0.ffn.replace_with_linear": with_first("ffn", replace_with_linear=True),
    "block_configs.1.attention.n_heads_in_group": {
        **CONFIG,
        "block_configs": [
            layer(4, 1.0), {"attention": {**NONE, "n_heads_in_group": 4}, "ffn": NONE},
            *CONFIG["block_configs"][2:],
        ],
    },
    "block_configs": {**CONFIG, "num_hidden_layers": 7},
    "attention_bias": {**CONFIG, "attention_bias": True},
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSALS)
def test_what_cannot_be_read_is_refused(key):
    with pytest.raises(DocumentError) as caught:
        spec_of_config(REFUSALS[key], "small.json")
    assert caught.value.key == key
