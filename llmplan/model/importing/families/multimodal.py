"""Wrappers of a text model and a vision tower; the text is read by its own family's reader."""

from collections.abc import Callable
from typing import Final

from llmplan.model.importing.families import (
    delta,
    dense,
    gemma4,
    hybrid,
    latent_moe,
    moe,
    parallel,
    vision,
    windowed,
)
from llmplan.model.importing.families.llama4 import llama4_text
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.view import ConfigView

Reader = Callable[[ConfigView], Spec]

TEXT: Final[dict[str, Reader]] = {
    "gemma3_text": windowed.READERS["Gemma3ForCausalLM"],
    "gemma4_text": gemma4.gemma4_text,
    "gemma4_unified_text": gemma4.gemma4_unified_text,
    "cohere2": parallel.READERS["Cohere2ForCausalLM"],
    "granite": dense.READERS["GraniteForCausalLM"],
    "lfm2": hybrid.READERS["Lfm2ForCausalLM"],
    "llama": dense.READERS["LlamaForCausalLM"],
    "qwen2": windowed.READERS["Qwen2ForCausalLM"],
    "qwen2_vl_text": windowed.READERS["Qwen2ForCausalLM"],
    "qwen3": windowed.READERS["Qwen3ForCausalLM"],
    "llama4_text": llama4_text,
    "mistral": dense.READERS["MistralForCausalLM"],
    "ministral3": dense.READERS["Ministral3ForCausalLM"],
    "qwen2_5_vl_text": windowed.READERS["Qwen2ForCausalLM"],
    "qwen3_vl_text": windowed.READERS["Qwen3ForCausalLM"],
    "qwen3_vl_moe_text": moe.READERS["Qwen3MoeForCausalLM"],
    "qwen3_5_text": delta.qwen3_5,
    "qwen3_5_moe_text": delta.qwen3_5_moe,
    "kimi_k2": latent_moe.READERS["DeepseekV3ForCausalLM"],
    "deepseek_v3": latent_moe.READERS["DeepseekV3ForCausalLM"],
}
"""Reader by the text config's ``model_type``."""


def text_of(config: ConfigView, *model_types: str) -> Spec:
    """The decoder, read from ``text_config``; a family's wrapper takes these model types only."""
    text = config.part("text_config")
    model_type = text.text("model_type", model_types[0])
    if model_type not in model_types:
        raise text.refusal("model_type", f"'{model_type}' is no text model of this wrapper")
    body = TEXT[model_type](text)
    return {**body, "tie_word_embeddings": is_tied(config, text, body)}


def is_tied(config: ConfigView, text: ConfigView, body: Spec) -> bool:
    """Wrapper and text may each say it; where neither does, the text class's default holds."""
    tied: bool = body["tie_word_embeddings"]
    if not config.has("tie_word_embeddings"):
        return tied
    outer = config.flag("tie_word_embeddings")
    if text.has("tie_word_embeddings") and tied != outer:
        raise config.refusal("tie_word_embeddings", "contradicts that of text_config")
    return outer


def gemma3(config: ConfigView) -> Spec:
    """Gemma 3 with its SigLIP tower."""
    config.ignore("mm_tokens_per_image")  # how far images are pooled
    body, tower = text_of(config, "gemma3_text"), vision.siglip(config.part("vision_config"))
    width = tower["hidden_size"]
    projector = [vision.norm(width), vision.linear(width, body["hidden_size"])]
    return {**body, "vision": tower, "projector": projector}


def gemma4_images(config: ConfigView) -> Spec:
    """Gemma 4 with its tower; models with sound have an audio tower, which cannot be said."""
    config.require("audio_config", None)
    config.ignore("vision_soft_tokens_per_image", "boa_token_id", "eoa_token_id", "eoa_token_index")
    body = text_of(config, "gemma4_text")
    if not config.has("vision_config"):
        config.ignore("vision_config")
        return body  # the class then has the text model alone
    tower = vision.gemma4(config.part("vision_config"))
    width = tower["hidden_size"]
    bare = {**vision.norm(width), "weight": False}
    return {**body, "vision": tower, "projector": [bare, vision.linear(width, body["hidden_size"])]}


def gemma4_unified(config: ConfigView) -> Spec:
    """Gemma 4 12B, which has no towers: pixels and frames of sound are projected by themselves."""
    body = text_of(config, "gemma4_unified_text")
    images = config.part("vision_config") if config.has("vision_config") else None
    sound = config.part("audio_config") if config.has("audio_config") else None
    config.ignore("boa_token_id", "eoa_token_index", "eoa_token_id")
    return {
        **body,
        **({"projector": _patches(images, body["hidden_size"])} if images else {}),
        **({"audio_projector": _frames(sound, body["hidden_size"])} if sound else {}),
    }


def _patches(images: ConfigView, hidden_size: int) -> list[Spec]:
    """A patch of pixels to a vector, positions for rows and columns, and the way to the stream."""
    side = images.count("patch_size", 16) * images.count("pooling_kernel_size", 3)
    images.require("model_patch_size", side, None)
    images.ignore("num_soft_tokens")  # patches of an image
    pixels, width = vision.PIXEL_CHANNELS * side**2, images.count("mm_embed_dim", 3840)
    images.require("output_proj_dims", width, default=3840)
    return [
        vision.norm(pixels, layer=True),
        vision.linear(pixels, width, bias=True),
        vision.norm(width, layer=True),
        vision.vectors(2 * images.count("mm_posemb_size", 1120), width),
        vision.norm(width, layer=True),
        {**vision.norm(width), "weight": False},
        vision.linear(width, hidden_size),
    ]


def _frames(sound: ConfigView, hidden_size: int) -> list[Spec]:
    width = sound.count("audio_embed_dim", 640)
    for key in ("hidden_size", "output_proj_dims", "audio_samples_per_token"):
        sound.require(key, width, None)
    return [{**vision.norm(width), "weight": False}, vision.linear(width, hidden_size)]


def llama4(config: ConfigView) -> Spec:
    """Llama 4: patches are joined by pixel shuffle before two matrices of an adapter."""
    body, images = text_of(config, "llama4_text"), config.part("vision_config")
    tower = vision.llama4(images)
    shuffled, ratio = images.count("intermediate_size"), images.number("pixel_shuffle_ratio", 0.5)
    if not ratio or shuffled != tower["hidden_size"] / ratio**2:
        raise images.refusal("pixel_shuffle_ratio", "does not join patches to intermediate_size")
    images.require("multi_modal_projector_bias", False, default=False)
    into, out = images.count("projector_input_dim"), images.count("projector_output_dim")
    final = images.count("vision_output_dim")
    projector = [
        vision.linear(shuffled, into),
        vision.linear(out, out),
        vision.linear(final, body["hidden_size"]),
    ]
    return {**body, "vision": tower, "projector": projector}


def mistral3(config: ConfigView) -> Spec:
    """Mistral 3 with a Pixtral tower and a merger of patches."""
    config.require("vision_feature_layer", -1, default=-1)  # several would widen the projector
    config.require("projector_hidden_act", "gelu", default="gelu")
    body = text_of(config, "mistral", "ministral3")
    tower = vision.pixtral(config.part("vision_config"))
    has_bias = config.flag("multimodal_projector_bias", False)
    merge = config.count("spatial_merge_size", 2)
    return {
        **body,
        "vision": tower,
        "projector": pixtral_merger(body, tower, merge, bias=has_bias),
    }


def pixtral_merger(body: Spec, tower: Spec, merge: int, *, bias: bool) -> list[Spec]:
    """A norm, a matrix over patches that are joined ``merge`` a side, and two to the decoder."""
    width, D = tower["hidden_size"], body["hidden_size"]
    return [
        vision.norm(width),
        vision.linear(width * merge**2, width),
        vision.linear(width, D, bias=bias),
        vision.linear(D, D, bias=bias),
    ]


def mistral_large3(config: ConfigView) -> Spec:
    """Mistral Large 3: a flat DeepSeek-V3 config with the tower and its merger in one part."""
    images = config.part("vision_config")
    images.require("add_pre_mm_projector_layer_norm", True)
    images.require("mm_projector_id", "patch_merge")
    images.require("max_image_size", images.count("image_size"), None)
    body, tower = latent_moe.mistral_large_3(config), vision.pixtral(images, act="silu")
    note = "Whether routing biases are stored is not known; none are counted."
    merge, has_bias = images.count("spatial_merge_size"), images.flag("adapter_bias")
    projector = pixtral_merger(body, tower, merge, bias=has_bias)
    return {**body, "notes": [note], "vision": tower, "projector": projector}


def qwen3_5(config: ConfigView) -> Spec:
    """Qwen3.5 and 3.6 with their tower."""
    return _qwen_vl(config, "qwen3_5_text")


def qwen3_5_moe(config: ConfigView) -> Spec:
    """Qwen3.5 and 3.6 with experts and their tower."""
    return _qwen_vl(config, "qwen3_5_moe_text")


def _qwen_vl(config: ConfigView, text_type: str) -> Spec:
    config.require("language_model_only", False, default=False)
    images = config.part("vision_config")
    images.require("deepstack_visual_indexes", [], None)
    return _with_qwen_tower(text_of(config, text_type), images, vision.qwen3_vl(images))


def _with_qwen_tower(body: Spec, images: ConfigView, tower: Spec, *, layer: bool = True) -> Spec:
    D, width = body["hidden_size"], tower["hidden_size"]
    images.require("out_hidden_size", D)
    merged = width * images.count("spatial_merge_size", 2) ** 2
    merger = vision.two_layer_merger(width, merged, D, before=True, layer=layer)
    return {**body, "vision": tower, "projector": merger}


def qwen3_vl(config: ConfigView) -> Spec:
    """Qwen3-VL: inner layers of the tower are carried into the decoder as well."""
    return _deepstacked(config, "qwen3_vl_text")


def qwen3_vl_moe(config: ConfigView) -> Spec:
    """Qwen3-VL with experts."""
    if not config.has("tie_word_embeddings"):
        text = config.part("text_config")
        text.flag("tie_word_embeddings")  # wrapper and text class differ in their defaults
    return _deepstacked(config, "qwen3_vl_moe_text")


def _deepstacked(config: ConfigView, text_type: str) -> Spec:
    images = config.part("vision_config")
    tower = vision.qwen3_vl(images)
    body = _with_qwen_tower(text_of(config, text_type), images, tower)
    count = len(images.counts("deepstack_visual_indexes", [8, 16, 24]))
    if not count:
        return body
    width, D = tower["hidden_size"], body["hidden_size"]
    merged = width * images.count("spatial_merge_size", 2) ** 2
    merger = vision.two_layer_merger(width, merged, D, before=False, layer=True)
    return {**body, "deepstack": {"count": count, "projector": merger}}


def qwen2_5_vl(config: ConfigView) -> Spec:
    """Qwen2.5-VL, whose published configs hold the text keys beside the tower."""
    config.ignore("vision_token_id")  # of the prompt
    images = config.part("vision_config")
    tower = vision.qwen2_5_vl(images)
    if config.has("text_config"):
        body = text_of(config, "qwen2_5_vl_text")
    else:
        body = TEXT["qwen2_5_vl_text"](config)
    note = "Windowed layers of the vision tower are counted as full attention."
    return {**_with_qwen_tower(body, images, tower, layer=False), "notes": [note]}


def qwen2_vl(config: ConfigView) -> Spec:
    """Qwen2-VL, whose published configs hold the text keys beside the tower."""
    config.ignore("vision_token_id")  # of the prompt
    images = config.part("vision_config")
    tower = vision.qwen2_vl(images)
    is_nested = config.has("text_config")
    body = text_of(config, "qwen2_vl_text") if is_nested else TEXT["qwen2_vl_text"](config)
    width, D = tower["hidden_size"], body["hidden_size"]
    images.require("hidden_size", D)
    merged = width * images.count("spatial_merge_size", 2) ** 2
    merger = vision.two_layer_merger(width, merged, D, before=True, layer=True)
    return {**body, "vision": tower, "projector": merger}


def kimi_vl(config: ConfigView) -> Spec:
    """Kimi-VL: Moonlight, which is DeepSeek-V3 without compressed queries, with a MoonViT tower."""
    body = text_of(config, "deepseek_v3")
    images = config.part("vision_config").renamed({
        "init_pos_emb_height": "pos_emb_height",
        "init_pos_emb_width": "pos_emb_width",
    })  # fmt: skip
    images.require("model_type", "moonvit", None)
    tower = vision.kimi(images)
    return {**body, "vision": tower, "projector": _kimi_projector(body, images, tower)}


def kimi_k25(config: ConfigView) -> Spec:
    """Kimi K2.5: DeepSeek-V3 with a MoonViT tower."""
    # placeholders of the prompt, and how frames are joined
    config.ignore("use_unified_vision_chunk", "video_placeholder", "projection_layer_norm_eps")
    body, images = text_of(config, "kimi_k2", "deepseek_v3"), config.part("vision_config")
    if images.has("vt_hidden_size"):
        return _published_kimi(body, images)
    tower = vision.kimi(images)
    config.require("projection_hidden_size", tower["hidden_size"], default=1152)
    return {**body, "vision": tower, "projector": _kimi_projector(body, images, tower)}


def _published_kimi(body: Spec, images: ConfigView) -> Spec:
    """The same tower under the published key names."""
    renamed = images.renamed({
        "vt_hidden_size": "hidden_size",
        "vt_intermediate_size": "intermediate_size",
        "vt_num_attention_heads": "num_attention_heads",
        "vt_num_hidden_layers": "num_hidden_layers",
        "init_pos_emb_height": "pos_emb_height",
        "init_pos_emb_width": "pos_emb_width",
        "init_pos_emb_time": "pos_emb_time",
    })  # fmt: skip
    tower = vision.kimi(renamed)
    renamed.require("mm_hidden_size", tower["hidden_size"], None)
    renamed.require("text_hidden_size", body["hidden_size"], None)
    renamed.require("mm_projector_type", "patchmerger")
    renamed.require("merge_type", "sd2_tpool")
    renamed.require("pos_emb_type", "divided_fixed")
    renamed.require("video_attn_type", "spatial_temporal")
    renamed.require("projector_hidden_act", "gelu", default="gelu")
    renamed.ignore("projector_ln_eps")
    return {**body, "vision": tower, "projector": _kimi_projector(body, renamed, tower)}


def _kimi_projector(body: Spec, images: ConfigView, tower: Spec) -> list[Spec]:
    high, wide = images.counts("merge_kernel_size", [2, 2])
    width = tower["hidden_size"]
    merged = width * high * wide
    return vision.two_layer_merger(width, merged, body["hidden_size"], before=True, layer=True)


READERS = {
    "Gemma3ForConditionalGeneration": gemma3,
    "Gemma4ForConditionalGeneration": gemma4_images,
    "Llama4ForConditionalGeneration": llama4,
    "Llama4ForCausalLM": llama4_text,
    "Mistral3ForConditionalGeneration": mistral3,
    "MistralLarge3ForCausalLM": mistral_large3,
    "Qwen2_5_VLForConditionalGeneration": qwen2_5_vl,
    "Qwen3VLForConditionalGeneration": qwen3_vl,
    "Qwen3VLMoeForConditionalGeneration": qwen3_vl_moe,
    "Qwen3_5ForConditionalGeneration": qwen3_5,
    "Qwen3_5MoeForConditionalGeneration": qwen3_5_moe,
    "Gemma4UnifiedForConditionalGeneration": gemma4_unified,
    "Qwen2VLForConditionalGeneration": qwen2_vl,
    "KimiVLForConditionalGeneration": kimi_vl,
    "KimiK25ForConditionalGeneration": kimi_k25,
    "Kimi_K25ForConditionalGeneration": kimi_k25,
}
MODEL_TYPES = {
    "gemma3": "Gemma3ForConditionalGeneration",
    "gemma4": "Gemma4ForConditionalGeneration",
    "llama4": "Llama4ForConditionalGeneration",
    "llama4_text": "Llama4ForCausalLM",
    "mistral3": "Mistral3ForConditionalGeneration",
    "mistral_large3": "MistralLarge3ForCausalLM",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen3_vl_moe": "Qwen3VLMoeForConditionalGeneration",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
    "gemma4_unified": "Gemma4UnifiedForConditionalGeneration",
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "kimi_vl": "KimiVLForConditionalGeneration",
    "kimi_k25": "KimiK25ForConditionalGeneration",
}
