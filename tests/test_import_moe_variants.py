"""Mixtures of experts with settings other than their class's defaults, against transformers."""

import os
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from llmplan.errors import DocumentError
from llmplan.model.compile import compile_spec
from llmplan.model.importing.config import spec_of_config
from llmplan.ops.base import StateKind

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle

SMALL = {
    "vocab_size": 130,
    "hidden_size": 48,
    "intermediate_size": 88,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": None,
}
LATENT = {
    **SMALL,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 20,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 6,
    "v_head_dim": 10,
}
INDEXER = {"index_n_heads": 3, "index_head_dim": 14, "index_topk": 8}
FEW = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 20, "head_dim": 10}
MIXED = ["full_attention", "sliding_attention"] * 3
DENSE = ["dense", "dense", "sparse", "dense", "sparse", "sparse"]

VARIANTS = {
    "mixtral, window and tied head": ("mixtral", {
        "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 32, "head_dim": 10,
        "tie_word_embeddings": True}),
    "mixtral, head size from the width": ("mixtral", {
        "num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": None}),
    "phimoe, biases": ("phimoe", {
        "num_local_experts": 6, "attention_bias": True, "lm_head_bias": True}),
    "qwen2_moe, dense layers": ("qwen2_moe", {
        **FEW, "shared_expert_intermediate_size": 36, "mlp_only_layers": [0, 3]}),
    "qwen2_moe, sparse steps, no bias": ("qwen2_moe", {
        **FEW, "shared_expert_intermediate_size": 36, "decoder_sparse_step": 2,
        "qkv_bias": False}),
    "qwen3_moe, dense layers and biases": ("qwen3_moe", {
        **FEW, "mlp_only_layers": [5], "decoder_sparse_step": 3, "attention_bias": True}),
    "qwen3_moe, window and tied head": ("qwen3_moe", {
        **FEW, "use_sliding_window": True, "sliding_window": 16, "tie_word_embeddings": True}),
    "olmoe, biases": ("olmoe", {"num_experts": 8, "attention_bias": True}),
    "flex_olmo, fewer key heads": ("flex_olmo", {"num_experts": 8, "num_experts_per_tok": 2}),
    "granitemoe, biases": ("granitemoe", {"num_local_experts": 6, "attention_bias": True}),
    "granitemoeshared, shared network": ("granitemoeshared", {
        "num_local_experts": 6, "shared_intermediate_size": 36}),
    "granitemoe_swa, shared network": ("granitemoe_swa", {
        "num_local_experts": 6, "shared_intermediate_size": 36}),
    "ernie, no shared experts": ("ernie4_5_moe", {
        "moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 20,
        "moe_num_shared_experts": 0}),
    "ernie, dense ends and steps": ("ernie4_5_moe", {
        "moe_num_experts": 8, "moe_k": 2, "moe_intermediate_size": 20, "moe_layer_interval": 2,
        "moe_layer_start_index": 2, "moe_layer_end_index": 4, "tie_word_embeddings": False}),
    "hunyuan, biases": ("hunyuan_v1_moe", {
        "num_experts": 8, "moe_topk": 2, "attention_bias": True, "head_dim": 10}),
    "solar_open, biases": ("solar_open", {
        "n_routed_experts": 8, "n_shared_experts": 3, "num_experts_per_tok": 2,
        "moe_intermediate_size": 20, "head_dim": 10, "attention_bias": True}),
    "glm4_moe, no norm, all sparse": ("glm4_moe", {
        "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2,
        "moe_intermediate_size": 20, "head_dim": 12, "first_k_dense_replace": 0}),
    "glm4_moe, norm and biases": ("glm4_moe", {
        "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 20,
        "head_dim": 12, "first_k_dense_replace": 3, "use_qk_norm": True, "attention_bias": True}),
    "hy_v3, layer types": ("hy_v3", {
        **FEW, "num_shared_experts": 2, "mlp_layer_types": DENSE, "attention_bias": True}),
    "aria_text, biases": ("aria_text", {
        "moe_num_experts": 6, "moe_topk": 2, "moe_num_shared_experts": 3,
        "attention_bias": True, "head_dim": 12}),
    "gpt_oss, no attention bias": ("gpt_oss", {
        "num_local_experts": 8, "head_dim": 10, "attention_bias": False, "sliding_window": 8,
        "layer_types": MIXED}),
    "dots1, windows and dense layers": ("dots1", {
        "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2,
        "moe_intermediate_size": 20, "first_k_dense_replace": 2, "sliding_window": 8,
        "max_window_layers": 3, "attention_bias": True}),
    "exaone_moe, layer types": ("exaone_moe", {
        **FEW, "sliding_window": 8, "layer_types": MIXED, "mlp_layer_types": DENSE,
        "num_shared_experts": 2}),
    "afmoe, dense layers": ("afmoe", {
        **FEW, "num_dense_layers": 3, "num_shared_experts": 3, "sliding_window": 8,
        "attention_bias": True}),
    "laguna, heads a layer, gate an element": ("laguna", {
        **FEW, "shared_expert_intermediate_size": 36, "layer_types": MIXED, "sliding_window": 8,
        "num_attention_heads_per_layer": [4, 6, 4, 6, 4, 8], "gating": "per-element"}),
    "cohere2_moe, dense front, RMSNorm": ("cohere2_moe", {
        "num_experts": 8, "num_shared_experts": 2, "first_k_dense_replace": 2, "head_dim": 12,
        "prefix_dense_intermediate_size": 44, "rms_norm_eps": 1e-5, "sliding_window": 8,
        "attention_bias": True}),
    "mellum, dense layers": ("mellum", {
        **FEW, "layer_types": MIXED, "mlp_layer_types": DENSE, "sliding_window": 8}),
    "kolibri1, other pattern": ("kolibri1", {
        **FEW, "shared_expert_intermediate_size": 36, "layer_types": MIXED, "sliding_window": 8}),
    "flint, sparse steps": ("flint", {
        **FEW, "shared_expert_intermediate_size": 36, "decoder_sparse_step": 2,
        "mlp_only_layers": [5], "sliding_window": 8}),
    "mimo_v2_flash, layer types": ("mimo_v2_flash", {
        "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 20,
        "head_dim": 12, "v_head_dim": 8, "layer_types": MIXED, "mlp_layer_types": DENSE,
        "sliding_window": 8, "attention_bias": True}),
    "deepseek_v2, direct queries": ("deepseek_v2", {
        **LATENT, "q_lora_rank": None, "first_k_dense_replace": 1}),
    "deepseek_v2, grouped": ("deepseek_v2", {
        **LATENT, "topk_method": "group_limited_greedy", "n_group": 2, "topk_group": 1}),
    "deepseek_v3, direct queries, tied": ("deepseek_v3", {
        **LATENT, "q_lora_rank": None, "tie_word_embeddings": True}),
    "deepseek_v3, two dense layers": ("deepseek_v3", {**LATENT, "first_k_dense_replace": 2}),
    "deepseek_v32, layer types": ("deepseek_v32", {
        **LATENT, **INDEXER, "mlp_layer_types": DENSE}),
    "glm4_moe_lite, direct queries": ("glm4_moe_lite", {
        **LATENT, "q_lora_rank": None, "mlp_layer_types": DENSE}),
    "glm_moe_dsa, indexers by list": ("glm_moe_dsa", {
        **LATENT, **INDEXER,
        "indexer_types": ["full", "shared", "full", "shared", "shared", "full"]}),
    "glm_moe_dsa, indexers by period": ("glm_moe_dsa", {
        **LATENT, **INDEXER, "index_topk_freq": 3, "index_skip_topk_offset": 1}),
    "glm_moe_dsa, indexers by pattern": ("glm_moe_dsa", {
        **LATENT, **INDEXER, "index_topk_pattern": "FSFSSF"}),
}  # fmt: skip

REFUSED = {
    "deepseek_v3, attention_bias": ("deepseek_v3", {**LATENT, "attention_bias": True}),
    "deepseek_v2, mlp_bias": ("deepseek_v2", {**LATENT, "mlp_bias": True}),
    "ernie4_5_moe, use_bias": ("ernie4_5_moe", {"use_bias": True}),
    "aria_text, mlp_bias": ("aria_text", {"mlp_bias": True}),
    "qwen2_moe, use_sliding_window": ("qwen2_moe", {**FEW, "use_sliding_window": True}),
    "granitemoe_swa, layer_rope_theta": ("granitemoe_swa", {"layer_rope_theta": [0.0] * 6}),
    "hunyuan_v1_moe, moe_topk": ("hunyuan_v1_moe", {
        "num_experts": 8, "moe_topk": [1, 2, 1, 2, 1, 2], "head_dim": 10}),
    "axk2, architectures": ("axk2", {}),
}  # fmt: skip


def variant(model_type: str, settings: dict) -> tuple[dict, object]:
    """A config as ``save_pretrained`` would write it, with what it was made from beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = transformers.AutoConfig.for_model(model_type, **{**SMALL, **settings})
    names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return {**config.to_dict(), "architectures": [names[model_type]]}, config


def class_counts(architecture: str, config: object) -> tuple[int, int]:
    """Parameters and stored buffers of the class on the meta device."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = getattr(transformers, architecture)(config)
        model.tie_weights()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    named = dict(model.named_parameters(remove_duplicate=False))
    buffers = sum(t.numel() for name, t in model.state_dict().items() if name not in named)
    return parameters, buffers


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_imported_exactly(name):
    data, config = variant(*VARIANTS[name])
    expected = class_counts(data["architectures"][0], config)

    spec, document = spec_of_config(data, "config.json")
    counted = tuple(compile_spec(spec, document).served().counted())

    assert (
        sum(o.parameters * n for o, n in counted),
        sum(o.buffers * n for o, n in counted),
    ) == expected


@pytest.mark.parametrize("name", VARIANTS)
def test_layer_types_decide_which_layers_have_windows(name):
    data, _ = variant(*VARIANTS[name])
    kinds = data.get("layer_types") or []
    if not kinds or set(kinds) - {"full_attention", "sliding_attention"}:
        pytest.skip("the class has no windows by layer")

    spec, document = spec_of_config(data, "config.json")
    states = [(s, n) for o, n in compile_spec(spec, document).served().counted() for s in o.states]

    windows = sum(n for state, n in states if state.kind is StateKind.WINDOW)
    assert windows == (kinds.count("sliding_attention") if data["sliding_window"] else 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_refused_by_its_key(name):
    data, _ = variant(*REFUSED[name])

    with pytest.raises(DocumentError) as refusal:
        spec_of_config(data, "config.json")

    assert refusal.value.key == name.partition(", ")[2]


DBRX = {
    "architectures": ["DbrxForCausalLM"],
    "d_model": 48,
    "n_heads": 4,
    "n_layers": 3,
    "max_seq_len": 512,
    "vocab_size": 130,
    "tie_word_embeddings": False,
    "attn_config": {"kv_n_heads": 2, "clip_qkv": 8},
    "ffn_config": {"ffn_hidden_size": 36, "moe_num_experts": 6, "moe_top_k": 2,
                   "ffn_act_fn": {"name": "gelu"}},
}  # fmt: skip


def test_nested_objects_of_dbrx_are_read():
    spec, _ = spec_of_config(DBRX, "config.json")

    assert spec.blocks["moe"].model_dump()["num_experts"] == 6
    assert spec.blocks["moe"].model_dump()["hidden_act"] == "gelu"


def test_an_unknown_key_of_a_nested_object_is_refused():
    data = {**DBRX, "ffn_config": {**DBRX["ffn_config"], "moe_expert_groups": 2}}

    with pytest.raises(DocumentError, match=r"ffn_config\.moe_expert_groups: is not known"):
        spec_of_config(data, "config.json")


def test_a_null_rank_overrides_that_of_the_class():
    data, _ = variant("deepseek_v3", {**LATENT, "q_lora_rank": None})
    without = {key: value for key, value in data.items() if key != "q_lora_rank"}

    by_null, _ = spec_of_config(data, "config.json")
    by_class, _ = spec_of_config(without, "config.json")

    assert by_null.blocks["mla"].model_dump()["q_lora_rank"] is None
    assert by_class.blocks["mla"].model_dump()["q_lora_rank"] == 1536


def test_names_of_the_same_number_must_agree():
    data, _ = variant("qwen3_moe", FEW)

    with pytest.raises(DocumentError, match="num_experts: does not agree with num_local_experts"):
        spec_of_config({**data, "num_experts": 9}, "config.json")


def test_unknown_mtp_modules_are_left_out_with_a_note():
    data, _ = variant("exaone_moe", {**FEW, "sliding_window": 8})

    spec, _ = spec_of_config({**data, "num_nextn_predict_layers": 1}, "config.json")

    assert spec.mtp is None
    assert "num_nextn_predict_layers is 1" in spec.notes[0]
