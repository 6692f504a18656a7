"""Wrappers with towers, and decoders that look at images apart: equal to transformers, or refused.

Each small config is imported as a publisher would write it and as transformers writes it out; both
must give the parameters of the class on the meta device.
"""

import os
import warnings
from typing import Any, Final

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from llmplan.analyze.state import request_state
from llmplan.errors import DocumentError
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.importing.config import spec_of_config
from llmplan.ops.base import StateKind, Step
from llmplan.ops.cross_attention import CrossAttention, ImageLinear
from llmplan.parallel.shard import sharded_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle

BASE: Final = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 6, "max_position_embeddings": 128,
    "intermediate_size": 112, "num_attention_heads": 4, "num_key_value_heads": 2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip
LLAMA: Final = {**BASE, "model_type": "llama"}
TIED: Final = {**BASE, "tie_word_embeddings": True}
GEMMA: Final = {
    **TIED, "head_dim": 24, "global_head_dim": 40, "sliding_window": 16,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
}  # fmt: skip
PLE: Final = {"hidden_size_per_layer_input": 12, "vocab_size_per_layer_input": 80}
TOWER: Final = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "image_size": 56, "patch_size": 14,
}  # fmt: skip
CLIP: Final = {**TOWER, "model_type": "clip_vision_model"}
SIGLIP: Final = {**TOWER, "model_type": "siglip_vision_model", "vision_use_head": False}
HEADED: Final = {**SIGLIP, "vision_use_head": True}
SIGLIP2: Final = {
    **{key: value for key, value in TOWER.items() if key != "image_size"},
    "model_type": "siglip2_vision_model", "num_patches": 20, "vision_use_head": False,
}  # fmt: skip
TILES: Final = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4, "attention_heads": 4,
    "num_global_layers": 2, "image_size": 56, "patch_size": 14, "vision_output_dim": 144,
    "intermediate_layers_indices": [1, 3], "max_num_tiles": 3,
    "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1], [3, 1]],
}  # fmt: skip
QWEN_TOWER: Final = {
    "depth": 3, "embed_dim": 48, "hidden_size": 64, "mlp_ratio": 3, "num_heads": 4,
    "patch_size": 14, "spatial_merge_size": 3,
}  # fmt: skip
GLM_TOWER: Final = {
    "depth": 3, "hidden_size": 48, "num_heads": 4, "image_size": 56, "patch_size": 14,
    "out_hidden_size": 64, "intermediate_size": 72, "spatial_merge_size": 2,
}  # fmt: skip
GLM_EXPERTS: Final = {
    **BASE, "model_type": "glm4v_moe_text", "head_dim": 16, "n_routed_experts": 6,
    "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 28, "n_group": 1,
    "topk_group": 1, "first_k_dense_replace": 1, "attention_bias": True,
}  # fmt: skip

VARIANTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "mllama": (
        "MllamaForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "mllama_text_model",
                         "cross_attention_layers": [1, 4]},
         "vision_config": TILES},
    ),
    "mllama-no-cross": (
        "MllamaForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "mllama_text_model", "num_key_value_heads": 4,
                         "cross_attention_layers": []},
         "vision_config": {**TILES, "vision_output_dim": 96, "intermediate_layers_indices": [2]}},
    ),
    "gemma4-inputs": ("Gemma4ForCausalLM", {**GEMMA, **PLE}),
    "gemma4-reused-keys": (
        "Gemma4ForCausalLM",
        {**GEMMA, **PLE, "num_kv_shared_layers": 3, "use_double_wide_mlp": True},
    ),
    "gemma4-reused-keys-that-are-values": (
        "Gemma4ForCausalLM",
        {**GEMMA, "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 2,
         "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    "gemma4-unified-text": (
        "Gemma4UnifiedForCausalLM",
        {**GEMMA, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    "gemma4-unified": (
        "Gemma4UnifiedForConditionalGeneration",
        {"text_config": {**GEMMA, "model_type": "gemma4_unified_text"},
         "vision_config": {"patch_size": 4, "pooling_kernel_size": 2, "mm_embed_dim": 56,
                           "mm_posemb_size": 9, "output_proj_dims": 56},
         "audio_config": {"audio_embed_dim": 20}},
    ),
    "gemma4-unified-silent": (
        "Gemma4UnifiedForConditionalGeneration",
        {"text_config": {**GEMMA, "model_type": "gemma4_unified_text"},
         "vision_config": {"mm_embed_dim": 32, "output_proj_dims": 32}, "audio_config": None},
    ),
    "gemma3-pooling-head": (
        "Gemma3ForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "gemma3_text", "head_dim": 24,
                         "sliding_window": 16},
         "vision_config": HEADED, "mm_tokens_per_image": 4},
    ),
    "llava": (
        "LlavaForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": CLIP, "tie_word_embeddings": False},
    ),
    "llava-several-layers": (
        "LlavaForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "qwen2"}, "vision_config": HEADED,
         "vision_feature_layer": [-3, -1], "multimodal_projector_bias": False,
         "tie_word_embeddings": True},
    ),
    "granite-vision": (
        "LlavaNextForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "granite"}, "vision_config": SIGLIP,
         "vision_feature_layer": [-3, -2, -1], "tie_word_embeddings": True,
         "image_grid_pinpoints": [[56, 112]], "use_image_newline_parameter": True},
    ),
    "idefics3": (
        "Idefics3ForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": {**TOWER, "image_size": 60}, "scale_factor": 3},
    ),
    "smolvlm-tied": (
        "SmolVLMForConditionalGeneration",
        {"text_config": {**LLAMA, "tie_word_embeddings": True}, "vision_config": TOWER,
         "tie_word_embeddings": True},
    ),
    "internvl": (
        "InternVLForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "qwen2"},
         "vision_config": {**TOWER, "image_size": [56, 56], "patch_size": [14, 14],
                           "attention_bias": True},
         "tie_word_embeddings": False},
    ),
    "internvl-last-norm": (
        "InternVLForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "llama"},
         "vision_config": {**TOWER, "use_mean_pooling": False}, "tie_word_embeddings": False},
    ),
    "internvl-normed": (
        "InternVLForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "qwen3", "head_dim": 24},
         "vision_config": {**TOWER, "use_qk_norm": True, "norm_type": "rms_norm"},
         "tie_word_embeddings": False},
    ),
    "aya-vision": (
        "AyaVisionForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "cohere2", "head_dim": 16},
         "vision_config": SIGLIP, "downsample_factor": 3, "alignment_intermediate_size": 90},
    ),
    "command-a-vision": (
        "Cohere2VisionForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "cohere2", "head_dim": 16},
         "vision_config": HEADED, "alignment_intermediate_size": 44},
    ),
    "deepseek-vl": (
        "DeepseekVLForConditionalGeneration",
        {"text_config": LLAMA, "vision_config": SIGLIP, "tie_word_embeddings": False},
    ),
    "lfm2-vl": (
        "Lfm2VlForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "lfm2", "full_attn_idxs": [1, 4],
                         "block_multiple_of": 16},
         "vision_config": SIGLIP2, "projector_hidden_size": 56, "projector_use_layernorm": False},
    ),
    "qwen2-vl": (
        "Qwen2VLForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "qwen2_vl_text"}, "vision_config": QWEN_TOWER,
         "tie_word_embeddings": False},
    ),
    "qwen2-vl-keys-beside-the-tower": (
        "Qwen2VLForConditionalGeneration",
        {**TIED, "vision_config": {**QWEN_TOWER, "in_chans": 3, "spatial_patch_size": 14}},
    ),
    "glm4v": (
        "Glm4vForConditionalGeneration",
        {"text_config": {**BASE, "model_type": "glm4v_text"},
         "vision_config": {**GLM_TOWER, "attention_bias": True}, "tie_word_embeddings": False},
    ),
    "glm46v-experts": (
        "Glm46VForConditionalGeneration",
        {"text_config": GLM_EXPERTS, "vision_config": GLM_TOWER, "tie_word_embeddings": False},
    ),
    "lighton-ocr": (
        "LightOnOcrForConditionalGeneration",
        {"text_config": {**TIED, "model_type": "qwen3", "head_dim": 24},
         "vision_config": {**TOWER, "model_type": "pixtral", "hidden_act": "silu"},
         "spatial_merge_size": 3, "tie_word_embeddings": True},
    ),
    "glm4v-experts": (
        "Glm4vMoeForConditionalGeneration",
        {"text_config": GLM_EXPERTS, "vision_config": GLM_TOWER, "tie_word_embeddings": False},
    ),
}  # fmt: skip


def imported(config: dict[str, Any]) -> Model:
    """The import of a config, compiled without its MTP modules."""
    spec, document = spec_of_config(config, "variant.json")
    return compile_spec(spec, document).served()


def parameters(model: Model) -> int:
    return sum(operator.parameters * repeats for operator, repeats in model.counted())


def class_parameters(model_class: type, config: Any) -> int:
    """Parameters of the class on the meta device, ties once."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        model = model_class(config)
        model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def variant(name: str) -> Model:
    architecture, keys = VARIANTS[name]
    model_type = getattr(transformers, architecture).config_class.model_type
    return imported({"model_type": model_type, **keys, "architectures": [architecture]})


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_imported_as_the_class_builds_it(name):
    architecture, keys = VARIANTS[name]
    model_class = getattr(transformers, architecture)
    built = model_class.config_class(**keys)

    expected = class_parameters(model_class, built)

    assert parameters(variant(name)) == expected
    assert parameters(imported({**built.to_dict(), "architectures": [architecture]})) == expected


# -- attention to an image ------------------------------------------------------------------------

IMAGE_TOKENS: Final = 3 * (4 * 4 + 1)
"""Three tiles of 4 x 4 patches and a class token, of the small tower."""


def test_the_image_of_a_request_is_kept_whatever_the_context():
    model = variant("mllama")
    state = request_state(model)

    assert state.cross_bytes == 2 * IMAGE_TOKENS * 2 * 2 * 16 * 2
    assert state.bytes_at(0) == state.cross_bytes
    assert state.bytes_at(9) - state.bytes_at(8) == state.growing_bytes_per_token
    assert state.growing_bytes_per_token == 4 * 2 * 2 * 16 * 2


def test_an_image_is_projected_in_the_first_step_of_its_request_only():
    operators = [o for o, _ in variant("mllama").decoder.counted if isinstance(o, ImageLinear)]

    for operator in operators:
        first, later = operator.cost(Step.prefill(3, 5)), operator.cost(Step.decode(3, 5))
        assert first.matmul_flops == 3 * IMAGE_TOKENS * 2 * 64 * 32
        assert later.matmul_flops == later.weight_read_bytes == later.launches == 0.0
    assert len(operators) == 2


def test_text_tokens_use_no_projection_of_images():
    model = variant("mllama")
    unused = sum(
        (operator.parameters - operator.active_parameters) * n
        for operator, n in model.decoder.counted
        if operator.name in ("k_proj", "v_proj", "k_norm")
    )

    assert unused == 2 * (2 * 64 * 32 + 16)


def test_ranks_share_the_image_by_heads():
    whole, rank = variant("mllama"), sharded_model(variant("mllama"), 2)

    assert 2 * request_state(rank).cross_bytes == request_state(whole).cross_bytes


def test_flops_of_the_text_equal_those_that_torch_counts():
    """Prefill and decode over a given image: the counter sees what the class runs on the CPU."""
    from torch.utils.flop_counter import FlopCounterMode

    architecture, keys = VARIANTS["mllama"]
    config = getattr(transformers, architecture).config_class(**keys)
    config._attn_implementation = "eager"
    network = getattr(transformers, architecture)(config).eval()
    image = torch.zeros(2, IMAGE_TOKENS, 64)
    tokens = torch.ones(2, 5, dtype=torch.long)

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        first = network(input_ids=tokens, cross_attention_states=image, use_cache=True)
    prefill = counter.get_total_flops()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(input_ids=tokens[:, :1], past_key_values=first.past_key_values, use_cache=True)
    decode = counter.get_total_flops()

    assert flops("mllama", Step.prefill(2, 5)) == prefill
    assert flops("mllama", Step.decode(2, 5)) == decode


def test_flops_with_inputs_of_every_layer_equal_those_that_torch_counts():
    """Layers that reuse keys and values are as costly in scores, and cheaper in projections."""
    from torch.utils.flop_counter import FlopCounterMode

    architecture, keys = VARIANTS["gemma4-reused-keys"]
    model_class = getattr(transformers, architecture)
    config = model_class.config_class(**keys)
    config._attn_implementation = "eager"
    network = model_class(config).eval()

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(input_ids=torch.ones(2, 5, dtype=torch.long), use_cache=True)

    assert flops("gemma4-reused-keys", Step.prefill(2, 5)) == counter.get_total_flops()


def flops(name: str, step: Step) -> float:
    """Matmuls and attention of the decoder, full squares and logits everywhere, as counted."""
    from tests.test_live_flops import as_full_square, at_all_positions, model_flops

    model = variant(name).rewritten(as_full_square).rewritten(at_all_positions)
    return model_flops(model, step)


def test_layers_that_reuse_keys_keep_none():
    model = variant("gemma4-reused-keys")
    states = [(state, n) for o, n in model.decoder.counted for state in o.states]

    assert sum(n for state, n in states if state.kind is StateKind.WINDOW) == 2
    assert sum(n for state, n in states if state.kind is StateKind.KV) == 1


def test_cross_layers_stand_where_the_config_says():
    layers = variant("mllama").decoder.layers
    cross = [any(isinstance(o, CrossAttention) for o in layer.operators) for layer in layers]

    assert [index for index, is_cross in enumerate(cross) if is_cross] == [1, 4]


# -- quantised checkpoints ------------------------------------------------------------------------


def quantised(name: str, *left_out: str) -> dict[str, Any]:
    """A variant whose linear weights are converted to fp8, but for what a list names."""
    architecture, keys = VARIANTS[name]
    settings = {
        "quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic",
        "modules_to_not_convert": list(left_out),
    }  # fmt: skip
    return {**keys, "quantization_config": settings, "architectures": [architecture]}


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("mllama", ("lm_head", "vision_model", "multi_modal_projector")),
        ("idefics3", ("lm_head", "vision_model", "connector")),
        ("gemma4-unified", ("vision_embedder", "embed_vision", "embed_audio")),
    ],
)
def test_what_stands_beside_the_decoder_keeps_its_format(name, left_out):
    spec, _ = spec_of_config(quantised(name, *left_out), "variant.json")

    assert {role.value: fmt for role, fmt in spec.precision.items() if role.value != "buffer"} == {
        "attention": "fp8",
        "ffn": "fp8",
    }


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("mllama", ("lm_head", "vision_model")),
        ("gemma4-unified", ("vision_embedder", "embed_vision")),
        ("gemma4-unified", ("embed_vision", "embed_audio")),
        ("mllama", ("lm_head", "vision_model", "multi_modal_projector", "cross_attn")),
    ],
)
def test_a_list_that_names_a_part_only_is_refused(name, left_out):
    with pytest.raises(DocumentError) as refusal:
        spec_of_config(quantised(name, *left_out), "variant.json")

    assert refusal.value.key == "quantization_config.modules_to_not_convert"


# -- refusals --------------------------------------------------------------------------------------

REFUSED: Final = {
    "layer-beyond": (
        "mllama",
        {"text_config": {**BASE, "cross_attention_layers": [6]}},
        "cross_attention_layers",
    ),
    "tied-decoder": (
        "mllama",
        {"text_config": {**BASE, "tie_word_embeddings": True}},
        "tie_word_embeddings",
    ),
    "unread-key-of-the-tower": (
        "mllama",
        {"vision_config": {**TILES, "extra_layers": 2}},
        "extra_layers",
    ),
    "wrong-output": ("mllama", {"vision_config": {**TILES, "vision_output_dim": 96}},
                     "vision_output_dim"),
    "no-keys-to-reuse": ("gemma4-inputs", {"num_kv_shared_layers": 5}, "num_kv_shared_layers"),
    "encoder": ("gemma4-inputs", {"use_bidirectional_attention": "all"},
                "use_bidirectional_attention"),
    "unread-key-of-sound": ("gemma4-unified", {"audio_config": {"num_hidden_layers": 2}},
                            "num_hidden_layers"),
    "foreign-tower": ("llava", {"vision_config": {**TOWER, "model_type": "sam"}}, "model_type"),
    "foreign-text": ("idefics3", {"text_config": {**BASE, "model_type": "qwen2"}}, "model_type"),
    "two-ties": ("internvl", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    "uneven-sides": ("internvl", {"vision_config": {**TOWER, "image_size": [56, 70]}},
                     "image_size"),
    "two-kinds-of-norm": (
        "internvl-normed",
        {"vision_config": {**TOWER, "norm_type": "rms_norm", "use_mean_pooling": False}},
        "use_mean_pooling",
    ),
    "odd-halves": ("command-a-vision", {"alignment_intermediate_size": 45},
                   "alignment_intermediate_size"),
    "wrong-width": ("qwen2-vl", {"vision_config": {**QWEN_TOWER, "hidden_size": 60}},
                    "hidden_size"),
    "unread-key-of-a-wrapper": ("llava", {"resampler_layers": 2}, "resampler_layers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_refused_with_its_key(name):
    base, changes, key = REFUSED[name]
    architecture, keys = VARIANTS[base]

    with pytest.raises(DocumentError) as refusal:
        imported({**keys, **changes, "architectures": [architecture]})

    assert refusal.value.key.endswith(key)
