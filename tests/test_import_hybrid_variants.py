"""Hybrid, recurrent and multimodal configs beside the defaults: equal to transformers, or refused.

Each small variant is imported as a publisher would write it, keys left to the class included, and
as transformers writes it out in full; both must give the parameters and buffers of the class.
"""

import os
import warnings
from typing import Any, Final

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from llmplan.errors import DocumentError
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model, Part
from llmplan.model.importing.config import spec_of_config
from llmplan.ops.base import StateKind

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle

BASE: Final = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 6, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HEADS: Final = {"num_attention_heads": 4, "num_key_value_heads": 2}
DENSE: Final = {**BASE, **HEADS, "intermediate_size": 112}
FREE: Final = {k: v for k, v in BASE.items() if k != "max_position_embeddings"}
MIXED: Final = ["linear_attention", "full_attention"] * 3
DELTA: Final = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 12,
    "linear_value_head_dim": 20, "linear_conv_kernel_dim": 3, "head_dim": 24,
}  # fmt: skip
QWEN_MOE: Final = {
    **BASE, **HEADS, **DELTA, "num_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 28, "shared_expert_intermediate_size": 36,
}  # fmt: skip
SSM: Final = {"mamba_n_heads": 8, "mamba_d_state": 12, "mamba_d_conv": 3, "mamba_n_groups": 2}
LATENT: Final = {
    **BASE, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 112,
    "moe_intermediate_size": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8, "v_head_dim": 16,
}  # fmt: skip
NEMOTRON: Final = {
    **{k: v for k, v in DENSE.items() if k != "num_hidden_layers"}, "head_dim": 20,
    "mamba_num_heads": 6, "mamba_head_dim": 12, "n_groups": 2, "ssm_state_size": 16,
}  # fmt: skip
NEMOTRON_MOE: Final = {
    **NEMOTRON, "n_routed_experts": 6, "moe_intermediate_size": 20,
    "moe_shared_expert_intermediate_size": 44,
}  # fmt: skip
LLAMA4: Final = {
    **BASE, **HEADS, "intermediate_size": 40, "intermediate_size_mlp": 112, "head_dim": 24,
    "num_local_experts": 4,
}  # fmt: skip
KIMI_LAYERS: Final = {
    "num_heads": 3, "head_dim": 20, "short_conv_kernel_size": 3,
    "full_attn_layers": [2, 6], "kda_layers": [1, 3, 4, 5],
}  # fmt: skip

VARIANTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "qwen3-next-dense-layers": (
        "Qwen3NextForCausalLM",
        {**QWEN_MOE, "intermediate_size": 112, "mlp_only_layers": [2], "decoder_sparse_step": 2},
    ),
    "qwen3-next-all-dense": (
        "Qwen3NextForCausalLM",
        {**QWEN_MOE, "intermediate_size": 112, "num_experts": 0, "tie_word_embeddings": True},
    ),
    "qwen3-next-interval": (
        "Qwen3NextForCausalLM",
        {**QWEN_MOE, "intermediate_size": 112, "full_attention_interval": 3},
    ),
    "qwen3.5": ("Qwen3_5ForCausalLM", {**DENSE, **DELTA, "layer_types": MIXED}),
    "qwen3.5-moe": ("Qwen3_5MoeForCausalLM", {**QWEN_MOE, "tie_word_embeddings": True}),
    "olmo-hybrid": ("OlmoHybridForCausalLM", {**DENSE, "attention_bias": True}),
    "olmo-hybrid-sizes": (
        "OlmoHybridForCausalLM",
        {**DENSE, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "layer_types": MIXED},
    ),
    "kimi-linear": ("KimiLinearForCausalLM", {**LATENT, "num_experts": 12}),
    "kimi-linear-listed": (
        "KimiLinearForCausalLM",
        {**LATENT, "linear_attn_config": KIMI_LAYERS, "q_lora_rank": 20, "num_experts": 6,
         "num_shared_experts": 2, "num_experts_per_token": 3, "first_k_dense_replace": 2},
    ),
    "ling-3": (
        "BailingHybridForCausalLM",
        {**LATENT, "num_experts": 6, "num_experts_per_token": 2, "head_dim": 20,
         "layer_group_size": 3, "first_k_dense_replace": 1},
    ),
    "minimax": ("MiniMaxForCausalLM", {**DENSE, "num_local_experts": 4, "head_dim": 24}),
    "minimax-listed": ("MiniMaxForCausalLM", {**DENSE, "layer_types": MIXED}),
    "nemotron-dense": (
        "NemotronHForCausalLM",
        {**NEMOTRON, "hybrid_override_pattern": "M-M*M-", "use_bias": True, "mlp_bias": True},
    ),
    "nemotron-latent": (
        "NemotronHForCausalLM",
        {**NEMOTRON_MOE, "hybrid_override_pattern": "MEM*E-", "moe_latent_size": 24},
    ),
    "nemotron-words": (
        "NemotronHForCausalLM",
        {**NEMOTRON_MOE, "layers_block_type": ["mamba", "moe", "attention"],
         "use_conv_bias": False},
    ),
    "mamba-biased": (
        "MambaForCausalLM",
        {**FREE, "state_size": 6, "use_bias": True, "use_conv_bias": False, "conv_kernel": 3},
    ),
    "mamba-rank": ("MambaForCausalLM", {**FREE, "expand": 3, "time_step_rank": 7}),
    "mamba2": (
        "Mamba2ForCausalLM",
        {**FREE, "num_heads": 8, "head_dim": 16, "n_groups": 2, "use_bias": True},
    ),
    "mamba2-tied": (
        "Mamba2ForCausalLM",
        {**FREE, "num_heads": 8, "head_dim": 24, "expand": 3, "tie_word_embeddings": True},
    ),
    "falcon-mamba": ("FalconMambaForCausalLM", {**FREE, "tie_word_embeddings": False}),
    "jamba": (
        "JambaForCausalLM",
        {**DENSE, "num_experts": 4, "attn_layer_period": 3, "attn_layer_offset": 1,
         "expert_layer_period": 3, "expert_layer_offset": 2, "mamba_dt_rank": 5},
    ),
    "jamba-dense": (
        "JambaForCausalLM",
        {**DENSE, "num_experts": 1, "mamba_proj_bias": True, "mamba_conv_bias": False},
    ),
    "bamba": (
        "BambaForCausalLM",
        {**DENSE, **SSM, "attn_layer_indices": [1, 4], "attention_bias": True, "mlp_bias": True},
    ),
    "bamba-no-attention": ("BambaForCausalLM", {**DENSE, **SSM, "mamba_proj_bias": True}),
    "granite-experts": (
        "GraniteMoeHybridForCausalLM",
        {**DENSE, **SSM, "layer_types": ["mamba", "attention"] * 3, "num_local_experts": 4,
         "shared_intermediate_size": 52, "position_embedding_type": "rope"},
    ),
    "granite-dense": (
        "GraniteMoeHybridForCausalLM",
        {**DENSE, **SSM, "num_local_experts": 0, "attention_bias": True, "layer_types": MIXED},
    ),
    "falcon-h1": (
        "FalconH1ForCausalLM",
        {**DENSE, **SSM, "mamba_d_ssm": 96, "attention_bias": True, "mlp_bias": True},
    ),
    "falcon-h1-normed": (
        "FalconH1ForCausalLM",
        {**DENSE, **SSM, "mamba_d_ssm": 96, "mamba_rms_norm": True, "projectors_bias": True,
         "mamba_proj_bias": True, "tie_word_embeddings": True},
    ),
    "recurrent-gemma": (
        "RecurrentGemmaForCausalLM",
        {**FREE, **HEADS, "intermediate_size": 112, "lru_width": 48, "conv1d_width": 3,
         "block_types": ["recurrent", "attention"], "attention_bias": True},
    ),
    "lfm2": ("Lfm2ForCausalLM", {**DENSE, "full_attn_idxs": [1, 4], "block_multiple_of": 16}),
    "lfm2-kept-width": (
        "Lfm2ForCausalLM",
        {**DENSE, "layer_types": ["conv", "full_attention"] * 3, "conv_bias": True,
         "block_auto_adjust_ff_dim": False, "tie_embedding": False},
    ),
    "lfm2-scaled": (
        "Lfm2ForCausalLM",
        {**DENSE, "full_attn_idxs": [0], "block_ff_dim": 200, "block_ffn_dim_multiplier": 1.3,
         "block_multiple_of": 8, "conv_L_cache": 4},
    ),
    "lfm2-moe": (
        "Lfm2MoeForCausalLM",
        {**DENSE, "layer_types": ["conv", "conv", "full_attention"] * 2, "num_experts": 6,
         "moe_intermediate_size": 20, "num_dense_layers": 1},
    ),
    "lfm2-moe-unbiased": (
        "Lfm2MoeForCausalLM",
        {**DENSE, "layer_types": ["conv"] * 6, "use_expert_bias": False, "conv_bias": True},
    ),
    "llama4": ("Llama4ForCausalLM", {**LLAMA4, "interleave_moe_layer_step": 2}),
    "llama4-listed": (
        "Llama4ForCausalLM",
        {**LLAMA4, "moe_layers": [0, 5], "attention_bias": True, "use_qk_norm": False,
         "no_rope_layers": [1, 0, 1, 1, 1, 0], "attention_chunk_size": 32},
    ),
}  # fmt: skip

SIGLIP: Final = {
    "model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 80,
    "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": 56, "patch_size": 14,
    "vision_use_head": False,
}  # fmt: skip
PIXTRAL: Final = {
    "model_type": "pixtral", "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "image_size": 56, "patch_size": 14,
}  # fmt: skip
QWEN_TOWER: Final = {
    "depth": 3, "hidden_size": 48, "intermediate_size": 80, "num_heads": 4, "patch_size": 14,
    "out_hidden_size": 64, "num_position_embeddings": 36, "spatial_merge_size": 3,
}  # fmt: skip
QWEN2_TOWER: Final = {k: v for k, v in QWEN_TOWER.items() if k != "num_position_embeddings"}
LLAMA4_TOWER: Final = {
    "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 56, "patch_size": 14, "projector_input_dim": 36, "projector_output_dim": 36,
    "vision_output_dim": 36,
}  # fmt: skip
MOONVIT: Final = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "patch_size": 14, "pos_emb_height": 6, "pos_emb_width": 5,
}  # fmt: skip
QWEN3_MOE: Final = {
    **DENSE, "head_dim": 24, "num_experts": 6, "num_experts_per_tok": 2,
    "moe_intermediate_size": 28, "tie_word_embeddings": False,
}  # fmt: skip
DEEPSEEK: Final = {
    **LATENT, "model_type": "deepseek_v3", "q_lora_rank": 20, "n_routed_experts": 6,
    "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1,
}  # fmt: skip

WRAPPERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "gemma3": (
        "Gemma3ForConditionalGeneration",
        {"text_config": {**DENSE, "model_type": "gemma3_text", "head_dim": 24,
                         "sliding_window": 16},
         "vision_config": SIGLIP, "mm_tokens_per_image": 4},
    ),
    "llama4": (
        "Llama4ForConditionalGeneration",
        {"text_config": {**LLAMA4, "model_type": "llama4_text"}, "vision_config": LLAMA4_TOWER},
    ),
    "mistral3": (
        "Mistral3ForConditionalGeneration",
        {"text_config": {**DENSE, "model_type": "mistral", "sliding_window": None},
         "vision_config": PIXTRAL, "multimodal_projector_bias": True, "spatial_merge_size": 3,
         "tie_word_embeddings": False},
    ),
    "mistral3-tied": (
        "Mistral3ForConditionalGeneration",
        {"text_config": {**DENSE, "model_type": "ministral3", "tie_word_embeddings": True},
         "vision_config": PIXTRAL, "tie_word_embeddings": True},
    ),
    "qwen3.5": (
        "Qwen3_5ForConditionalGeneration",
        {"text_config": {**DENSE, **DELTA, "model_type": "qwen3_5_text"},
         "vision_config": QWEN_TOWER},
    ),
    "qwen3.5-moe-tied": (
        "Qwen3_5MoeForConditionalGeneration",
        {"text_config": {**QWEN_MOE, "model_type": "qwen3_5_moe_text",
                         "tie_word_embeddings": True},
         "vision_config": QWEN_TOWER, "tie_word_embeddings": True},
    ),
    "qwen3-vl": (
        "Qwen3VLForConditionalGeneration",
        {"text_config": {**DENSE, "model_type": "qwen3_vl_text", "head_dim": 24,
                         "attention_bias": True},
         "vision_config": {**QWEN_TOWER, "deepstack_visual_indexes": [0, 1]}},
    ),
    "qwen3-vl-flat-tower": (
        "Qwen3VLForConditionalGeneration",
        {"text_config": {**DENSE, "model_type": "qwen3_vl_text"},
         "vision_config": {**QWEN_TOWER, "deepstack_visual_indexes": []}},
    ),
    "qwen3-vl-moe": (
        "Qwen3VLMoeForConditionalGeneration",
        {"text_config": {**QWEN3_MOE, "model_type": "qwen3_vl_moe_text"},
         "vision_config": {**QWEN_TOWER, "deepstack_visual_indexes": [1]},
         "tie_word_embeddings": False},
    ),
    "qwen2.5-vl": (
        "Qwen2_5_VLForConditionalGeneration",
        {"text_config": {**DENSE, "model_type": "qwen2_5_vl_text"},
         "vision_config": QWEN2_TOWER},
    ),
    "qwen2.5-vl-keys-beside-the-tower": (
        "Qwen2_5_VLForConditionalGeneration",
        {**DENSE, "vision_config": {**QWEN2_TOWER, "spatial_patch_size": 14}},
    ),
    "kimi-k2.5": (
        "Kimi_K25ForConditionalGeneration",
        {"text_config": DEEPSEEK, "vision_config": MOONVIT, "projection_hidden_size": 48,
         "tie_word_embeddings": False},
    ),
}  # fmt: skip


def imported(config: dict[str, Any]) -> Model:
    """The import of a config, compiled without its MTP modules."""
    spec, document = spec_of_config(config, "variant.json")
    return compile_spec(spec, document).served()


def counts(model: Model) -> tuple[int, int]:
    """Parameters and stored buffers."""
    counted = list(model.counted())
    return sum(o.parameters * n for o, n in counted), sum(o.buffers * n for o, n in counted)


def class_counts(model_class: type, config: Any) -> tuple[int, int]:
    """Parameters of the class on the meta device, ties once, and the buffers that it stores."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = model_class(config)
        model.tie_weights()
    parameters = dict(model.named_parameters())
    buffers = [name for name in model.state_dict() if name.endswith(BIAS_BUFFERS)]
    return (
        sum(parameter.numel() for parameter in parameters.values()),
        sum(model.state_dict()[name].numel() for name in buffers if name not in parameters),
    )


BIAS_BUFFERS: Final = ("e_score_correction_bias", "expert_bias")
"""Stored buffers; others are tables that classes compute, such as lightning's decays."""


@pytest.mark.parametrize("name", [*VARIANTS, *(f"with-tower-{name}" for name in WRAPPERS)])
def test_a_variant_is_imported_as_the_class_builds_it(name):
    wrapped = name.removeprefix("with-tower-")
    architecture, keys = VARIANTS[name] if name in VARIANTS else WRAPPERS[wrapped]
    model_class = getattr(transformers, architecture)
    built = model_class.config_class(**keys)
    written = {"model_type": built.model_type, **keys, "architectures": [architecture]}

    expected = class_counts(model_class, built)

    assert counts(imported(written)) == expected
    assert counts(imported({**built.to_dict(), "architectures": [architecture]})) == expected


def test_a_short_convolution_keeps_its_last_columns():
    architecture, keys = VARIANTS["lfm2-scaled"]

    model = imported({"model_type": "lfm2", **keys, "architectures": [architecture]})
    states = [(state, n) for operator, n in model.decoder.counted for state in operator.states]

    kept = sum(s.width for s, n in states if s.kind is StateKind.CONVOLUTION for _ in range(n))
    assert kept == 5 * (4 - 1) * 64


def test_side_by_side_mixers_share_one_norm():
    architecture, keys = VARIANTS["falcon-h1"]

    model = imported({"model_type": "falcon_h1", **keys, "architectures": [architecture]})
    names = [operator.name for operator in model.decoder.layers[0].operators]

    assert names.count("pre_norm") == 2
    assert names.index("residual") > names.index("q_proj") > names.index("in_proj.zxdt")


def test_inner_layers_of_a_tower_have_projectors_of_their_own():
    architecture, keys = WRAPPERS["qwen3-vl"]

    model = imported({"model_type": "qwen3_vl", **keys, "architectures": [architecture]})
    (projector,) = model.parts(Part.PROJECTOR)

    assert len(projector.layers) == 2


REFUSED: Final = {
    "qwen3-next-biased": ("qwen3.5", {"attention_bias": True}, "attention_bias"),
    "qwen3-next-ungated": ("qwen3.5", {"attn_output_gate": False}, "attn_output_gate"),
    "qwen3.5-two-mtp": ("qwen3.5", {"mtp_num_hidden_layers": 2}, "mtp_num_hidden_layers"),
    "layers-missing": ("qwen3.5", {"layer_types": MIXED[:5]}, "layer_types"),
    "foreign-layer": ("qwen3.5", {"layer_types": ["sliding_attention"] * 6}, "layer_types"),
    "kimi-tied": ("kimi-linear", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    "kimi-rotated": ("kimi-linear", {"mla_use_nope": False}, "mla_use_nope"),
    "two-expert-counts": ("kimi-linear", {"num_local_experts": 8}, "num_local_experts"),
    "nemotron-shared": ("nemotron-latent", {"n_shared_experts": 2}, "n_shared_experts"),
    "nemotron-biased": ("nemotron-latent", {"mlp_bias": True}, "mlp_bias"),
    "nemotron-depth": ("nemotron-latent", {"num_hidden_layers": 7}, "num_hidden_layers"),
    "nemotron-letter": ("nemotron-latent", {"hybrid_override_pattern": "MX"},
                        "hybrid_override_pattern"),
    "mamba-inner": ("mamba-rank", {"intermediate_size": 128}, "intermediate_size"),
    "mamba2-heads": ("mamba2", {"num_heads": 9}, "num_heads"),
    "jamba-no-kv": ("jamba", {"num_key_value_heads": None}, "num_key_value_heads"),
    "bamba-heads": ("bamba", {"mamba_d_head": 5}, "mamba_d_head"),
    "bamba-layer": ("bamba", {"attn_layer_indices": [6]}, "attn_layer_indices"),
    "falcon-h1-one-bias": ("falcon-h1", {"projectors_bias": True}, "mamba_proj_bias"),
    "recurrent-gemma-odd": ("recurrent-gemma", {"intermediate_size": 111}, "intermediate_size"),
    "recurrent-gemma-heads": ("recurrent-gemma", {"head_dim": 24}, "head_dim"),
    "lfm2-no-scale": ("lfm2", {"block_ffn_dim_multiplier": None}, "block_ffn_dim_multiplier"),
    "lfm2-moe-layers": ("lfm2-moe", {"layer_types": None}, "layer_types"),
    "minimax-window": ("minimax", {"sliding_window": 8}, "sliding_window"),
    "llama4-layers": ("llama4", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
    "two-ties": ("with-tower-mistral3-tied", {"tie_word_embeddings": False},
                 "tie_word_embeddings"),
    "foreign-text": ("with-tower-mistral3",
                     {"text_config": {**DENSE, "model_type": "llama"}}, "model_type"),
    "several-features": ("with-tower-mistral3", {"vision_feature_layer": [-1, -2]},
                         "vision_feature_layer"),
    "wrong-merger": ("with-tower-qwen3.5",
                     {"vision_config": {**QWEN_TOWER, "out_hidden_size": 60}}, "out_hidden_size"),
    "hidden-tie": ("with-tower-qwen3-vl-moe", {"tie_word_embeddings": None,
                   "text_config": {k: v for k, v in QWEN3_MOE.items()
                                   if k != "tie_word_embeddings"}}, "tie_word_embeddings"),
    "unknown-key-of-a-tower": ("with-tower-qwen2.5-vl",
                               {"vision_config": {**QWEN2_TOWER, "extra_layers": 2}},
                               "extra_layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_refused_with_its_key(name):
    base, changes, key = REFUSED[name]
    wrapped = base.removeprefix("with-tower-")
    architecture, keys = WRAPPERS[wrapped] if base != wrapped else VARIANTS[base]

    with pytest.raises(DocumentError) as refusal:
        imported({**keys, **changes, "architectures": [architecture]})

    assert refusal.value.key.endswith(key)


@pytest.mark.parametrize("architecture", ["DogeForCausalLM", "RwkvForCausalLM"])
def test_an_architecture_without_a_reader_is_refused(architecture):
    with pytest.raises(DocumentError, match="is not known"):
        imported({**DENSE, "architectures": [architecture]})
