"""Mistral Large 4: parameters, buffers, cached tensors and FLOPs are those of its class."""

import copy
from typing import Any

import pytest

from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_model
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.importing.config import spec_of_config
from llmplan.model.stored.sides import file_sides, spec_sides
from llmplan.model.stored.tensors import StoredTensor
from llmplan.ops.base import StateKind, Step
from llmplan.ops.counting import as_full_square
from llmplan.ops.latent import LatentAttention
from tests.small_models import needs_transformers, quiet_transformers

TEXT = {
    "model_type": "mistral_large4_text",
    "vocab_size": 130,
    "hidden_size": 48,
    "intermediate_size": 88,
    "moe_intermediate_size": 36,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 10,
    "num_experts_per_tok": 3,
    "kv_lora_rank": 18,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 6,
    "v_head_dim": 14,
    "index_n_heads": 7,
    "index_head_dim": 16,
    "index_topk": 8,
}
VISION = {
    "model_type": "pixtral",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "patch_size": 7,
    "image_size": 28,
    "head_dim": 8,
}
CONFIG = {
    "architectures": ["MistralLarge4ForConditionalGeneration"],
    "model_type": "mistral_large4",
    "text_config": TEXT,
    "vision_config": VISION,
}


def config_with(**changes: Any) -> dict[str, Any]:
    """The small config with other keys of the text model."""
    config: dict[str, Any] = copy.deepcopy(CONFIG)
    config["text_config"].update(changes)
    return config


def imported(config: dict[str, Any]) -> Model:
    return compile_spec(*spec_of_config(config, "small.json"))


def network(config: dict[str, Any]) -> Any:
    """The transformers model, in operations that a FLOP counter sees."""
    import torch

    transformers = quiet_transformers()
    made = transformers.MistralLarge4Config.from_dict(copy.deepcopy(config))
    made._attn_implementation = made.text_config._attn_implementation = "eager"
    made.text_config._experts_implementation = "eager"
    torch.manual_seed(0)
    return transformers.MistralLarge4ForConditionalGeneration(made).eval()


VARIANTS = {
    "defaults": {},
    "listed": {"no_rope_layers": [0, 1, 1, 0, 0, 1, 1, 1], "first_k_dense_replace": 3},
    "all rotated": {"no_rope_layers": [1] * 8},
}


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_buffers_are_those_of_the_class(name):
    config = config_with(**VARIANTS[name])
    net, model = network(config), imported(config)
    parameters = dict(net.named_parameters())
    stored = {key: tensor for key, tensor in net.state_dict().items() if key not in parameters}

    assert sum(o.parameters * n for o, n in model.counted()) == sum(
        tensor.numel() for tensor in parameters.values()
    )
    assert [*stored] == ["model.language_model.rotary_emb.alpha"]
    assert sum(o.buffers * n for o, n in model.counted()) == 6 // 2


@pytest.mark.oracle
@needs_transformers
def test_tensors_fall_to_the_groups_of_the_spec():
    net = network(CONFIG)
    stored = [
        StoredTensor(key, tuple(tensor.shape), "BF16", 2 * tensor.numel())
        for key, tensor in net.state_dict().items()
    ]
    model = imported(CONFIG)

    held, said = file_sides(stored, model), spec_sides(model)
    assert {group: side.entries for group, side in held.items()} == {
        group: side.entries for group, side in said.items()
    }


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("context", [1, 11])
def test_layers_without_positions_cache_the_latent_alone(name, context):
    import torch

    config = config_with(**VARIANTS[name])
    net = network(config).to(torch.bfloat16)
    with torch.no_grad():
        out = net(input_ids=torch.randint(1, 130, (2, context)), use_cache=True)
    layers = out.past_key_values.layers

    states = [(s, n) for o, n in imported(config).decoder.counted for s in o.states]
    said = {
        kind: sum(2 * context * s.width_bytes * n for s, n in states if s.kind is kind)
        for kind in (StateKind.KV, StateKind.INDEXER)
    }
    assert said[StateKind.KV] == sum(la.keys.nbytes + la.values.nbytes for la in layers)
    assert said[StateKind.INDEXER] == sum(la.indexer_keys.nbytes for la in layers)


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize(("requests", "prompt"), [(1, 7), (3, 21)])
def test_flops_of_a_prefill_are_those_of_the_class(requests, prompt):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    decoder = imported(CONFIG).rewritten(as_full_square).decoder
    ids = torch.randint(1, 130, (requests, prompt))

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(CONFIG)(input_ids=ids)

    tokens = requests * prompt
    head = 2 * 48 * 130 * (tokens - requests)  # there at all positions
    weighting = 8 * 2 * 7 * tokens * prompt  # a matmul there, vector work here
    step = Step.prefill(requests, prompt)
    said = sum(float(o.cost(step).model_flops) * n for o, n in decoder.counted)
    assert said + head + weighting == counter.get_total_flops()


def test_heads_are_as_wide_with_and_without_positions():
    model = load_model("mistral-large-4")
    cores = {o for o, _ in model.decoder.counted if isinstance(o, LatentAttention)}

    assert {(o.qk_nope_head_dim, o.qk_rope_head_dim) for o in cores} == {(64, 64), (128, 0)}


def test_defaults_of_a_class_are_said_to_be_that():
    (remark,) = load_model("mistral-large-4").identity.assumptions

    assert remark == (
        "mistral-large-4 is described by the defaults of its class; its published config was not "
        "read."
    )


REFUSALS = {
    "kv_source_layers": {"kv_source_layers": [0, 0, 2, 3, 4, 5, 6, 7]},
    "indexer_types": {"indexer_types": ["full"] * 7 + ["shared"]},
    "layer_types": {"layer_types": ["indexed_attention"] * 7 + ["full_attention"]},
    "no_rope_layers": {"no_rope_layers": [1, 2]},
    "q_lora_rank": {"q_lora_rank": 1536},
    "qk_rope_head_dim": {"qk_rope_head_dim": 5},
    "attention_bias": {"attention_bias": True},
}


@pytest.mark.parametrize("key", REFUSALS)
def test_what_cannot_be_read_is_refused(key):
    with pytest.raises(DocumentError, match=key):
        spec_of_config(config_with(**REFUSALS[key]), "small.json")
