"""GLM-4.1V and GLM-4.5V: a tower with its own downsampling and a gated merger."""

from typing import Final

from llmplan.model.importing.decoders import heads, refuse_switches, uniform
from llmplan.model.importing.families import vision
from llmplan.model.importing.families.multimodal import is_tied
from llmplan.model.importing.families.shared_moe import glm4_moe
from llmplan.model.importing.parts import Spec, activation, frame, mlp, rotary_dim, without_defaults
from llmplan.model.importing.view import ConfigView


def glm4v(config: ConfigView) -> Spec:
    """GLM-4.1V: the text of GLM-4 of 2025."""
    text = config.part("text_config")
    text.require("model_type", "glm4v_text", None)
    return _whole(config, text, _glm4v_text(text))


def glm46v(config: ConfigView) -> Spec:
    """GLM-4.6V and its Flash: either text, as its own ``model_type`` says."""
    is_sparse = config.part("text_config").text("model_type", "glm4v_text") == "glm4v_moe_text"
    return glm4v_moe(config) if is_sparse else glm4v(config)


def _glm4v_text(config: ConfigView) -> Spec:
    refuse_switches(config, "mlp_bias")
    config.require("attention_bias", True, None)
    block = heads(config, kv=2, attention_bias=True)
    block = without_defaults({**block, "rotary_dim": rotary_dim(config, block["head_dim"])})
    network = mlp(config, hidden_act=activation(config))
    base = frame(config, tied=False, context=32768)
    return uniform(base, block, network, norm={"placement": "sandwich"})


def glm4v_moe(config: ConfigView) -> Spec:
    """GLM-4.5V: the text of GLM-4.5 Air."""
    text = config.part("text_config")
    text.require("model_type", "glm4v_moe_text", None)
    return _whole(config, text, glm4_moe(text))


def _whole(config: ConfigView, text: ConfigView, body: Spec) -> Spec:
    config.ignore("video_start_token_id", "video_end_token_id")
    images = config.part("vision_config")
    tower, out = vision.glm4v(images), images.count("out_hidden_size")
    images.require("out_hidden_size", body["hidden_size"])
    merged = tower["hidden_size"] * images.count("spatial_merge_size", 2) ** 2
    inner = images.count("intermediate_size")
    projector = [
        vision.linear(merged, out, bias=True),  # a convolution whose patches do not overlap
        vision.linear(out, out),
        vision.norm(out, layer=True),
        vision.linear(out, 2 * inner),
        vision.gate(inner),
        vision.linear(inner, out),
    ]
    tied = is_tied(config, text, body)
    return {**body, "tie_word_embeddings": tied, "vision": tower, "projector": projector}


READERS: Final = {
    "Glm46VForConditionalGeneration": glm46v,
    "Glm4vForConditionalGeneration": glm4v,
    "Glm4vMoeForConditionalGeneration": glm4v_moe,
}
MODEL_TYPES: Final = {
    "glm46v": "Glm46VForConditionalGeneration",
    "glm4v": "Glm4vForConditionalGeneration",
    "glm4v_moe": "Glm4vMoeForConditionalGeneration",
}
