"""Towers whose patches are handed to a decoder by a plain projector: LLaVA and its relatives."""

from collections.abc import Callable
from typing import Final

from llmplan.errors import DocumentError
from llmplan.model.importing.families import vision
from llmplan.model.importing.families.multimodal import pixtral_merger, text_of
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.view import ConfigView

TOWERS: Final[dict[str, Callable[[ConfigView], Spec]]] = {
    "clip_vision_model": vision.clip,
    "siglip_vision_model": vision.siglip,
    "siglip2_vision_model": vision.siglip2,
    "pixtral": vision.pixtral,
    "idefics3": vision.idefics3,
    "idefics3_vision": vision.idefics3,
    "smolvlm_vision": vision.idefics3,
    "internvl_vision": vision.internvl,
}
"""Reader by the tower's ``model_type``."""
TEXTS: Final = ("llama", "mistral", "granite", "qwen2", "qwen3")
"""Decoders that these wrappers are published with."""


def tower_of(config: ConfigView, *model_types: str) -> Spec:
    """The tower, of one of these types; the first is the class's own."""
    images = config.part("vision_config")
    model_type = images.text("model_type", model_types[0])
    if model_type not in model_types:
        raise images.refusal("model_type", f"'{model_type}' is no tower of this wrapper")
    return TOWERS[model_type](images)


def _parts(config: ConfigView, texts: tuple[str, ...], *towers: str) -> tuple[Spec, Spec]:
    return text_of(config, *texts), tower_of(config, *towers)


def _joined(config: ConfigView, key: str, default: int) -> int:
    """Patches that one vector stands for: the square of a factor a side."""
    factor: int = config.count(key, default)
    return factor**2


def llava(config: ConfigView) -> Spec:
    """LLaVA 1.5: two matrices, from as many layers of the tower as are named."""
    body, tower = _parts(config, TEXTS, "clip_vision_model", "siglip_vision_model", "pixtral")
    config.require("projector_hidden_act", "gelu", default="gelu")
    # which patches are handed on, and how many there are
    config.ignore("vision_feature_select_strategy", "image_seq_length")
    into, D = tower["hidden_size"] * _feature_layers(config), body["hidden_size"]
    has_bias = config.flag("multimodal_projector_bias", True)
    projector = [vision.linear(into, D, bias=has_bias), vision.linear(D, D, bias=has_bias)]
    return {**body, "vision": tower, "projector": projector}


def _feature_layers(config: ConfigView) -> int:
    """One layer, counted from either end, or a list of them that are joined."""
    try:
        config.number("vision_feature_layer", -2)
    except DocumentError:
        return len(config.numbers("vision_feature_layer"))
    return 1


def llava_next(config: ConfigView) -> Spec:
    """LLaVA-NeXT and Granite Vision: LLaVA with tiles, and a vector that ends a row of patches."""
    config.ignore("image_grid_pinpoints")  # shapes that an image is cut into
    config.require("use_image_newline_parameter", True, None)  # the class has it always
    body = llava(config)
    row_end = vision.vectors(1, body["hidden_size"])
    return {**body, "projector": [*body["projector"], row_end]}


def idefics3(config: ConfigView) -> Spec:
    """Idefics 3 and SmolVLM: patches are joined before one matrix."""
    config.ignore("_pad_token_id")
    towers = ("idefics3_vision", "idefics3", "smolvlm_vision")
    body, tower = _parts(config, ("llama",), *towers)
    into = tower["hidden_size"] * _joined(config, "scale_factor", 2)
    return {**body, "vision": tower, "projector": [vision.linear(into, body["hidden_size"])]}


def internvl(config: ConfigView) -> Spec:
    """InternVL in transformers' class: patches are joined, a norm and two matrices."""
    body, tower = _parts(config, ("qwen2", "qwen3", "llama"), "internvl_vision")
    config.require("projector_hidden_act", "gelu", default="gelu")
    config.require("downsample_ratio", 0.5, default=0.5)
    config.require("vision_feature_layer", -1, default=-1)
    config.ignore("vision_feature_select_strategy", "image_seq_length")  # of images
    into, D = 4 * tower["hidden_size"], body["hidden_size"]
    projector = [
        vision.norm(into, layer=True),
        vision.linear(into, D, bias=True),
        vision.linear(D, D, bias=True),
    ]
    return {**body, "vision": tower, "projector": projector}


def aya_vision(config: ConfigView) -> Spec:
    """Aya Vision: a norm over joined patches, and a gated network."""
    config.ignore("adapter_layer_norm_eps", "vision_feature_select_strategy")  # numerics; images
    config.require("vision_feature_layer", -1, default=-1)
    body = _cohere(config, default=None)
    into = body["projector"][0]["in_features"]
    return {**body, "projector": [vision.norm(into, layer=True), *body["projector"]]}


def cohere2_vision(config: ConfigView) -> Spec:
    """Command A Vision: Aya Vision without the norm."""
    return _cohere(config, default=36864)


def _cohere(config: ConfigView, default: int | None) -> Spec:
    body, tower = _parts(config, ("cohere2",), "siglip_vision_model")
    D = body["hidden_size"]
    into = tower["hidden_size"] * _joined(config, "downsample_factor", 2)
    inner = config.count("alignment_intermediate_size", default or D)
    if inner % 2:
        raise config.refusal("alignment_intermediate_size", "does not divide into two halves")
    half = inner >> 1
    projector = [
        vision.linear(into, inner, bias=True),
        vision.gate(half),
        vision.linear(half, D, bias=True),
    ]
    return {**body, "vision": tower, "projector": projector}


def lighton_ocr(config: ConfigView) -> Spec:
    """LightOnOCR: Qwen 3 with the tower and merger of Mistral 3."""
    body, tower = _parts(config, ("qwen3",), "pixtral")
    merge = config.count("spatial_merge_size", 2)
    return {
        **body,
        "vision": tower,
        "projector": pixtral_merger(body, tower, merge, bias=False),
    }


def deepseek_vl(config: ConfigView) -> Spec:
    """DeepSeek-VL with SigLIP alone: two matrices."""
    body, tower = _parts(config, ("llama",), "siglip_vision_model")
    D = body["hidden_size"]
    projector = [vision.linear(tower["hidden_size"], D, bias=True), vision.linear(D, D, bias=True)]
    return {**body, "vision": tower, "projector": projector}


def lfm2_vl(config: ConfigView) -> Spec:
    """LFM2-VL: patches are joined, a norm that may be off, and two matrices."""
    body, tower = _parts(config, ("lfm2",), "siglip2_vision_model")
    config.require("projector_hidden_act", "gelu", default="gelu")
    into = tower["hidden_size"] * _joined(config, "downsample_factor", 2)
    inner, has_bias = config.count("projector_hidden_size"), config.flag("projector_bias", True)
    norms = [vision.norm(into, layer=True)] * config.flag("projector_use_layernorm", True)
    projector = [
        *norms,
        vision.linear(into, inner, bias=has_bias),
        vision.linear(inner, body["hidden_size"], bias=has_bias),
    ]
    return {**body, "vision": tower, "projector": projector}


READERS: Final = {
    "AyaVisionForConditionalGeneration": aya_vision,
    "Cohere2VisionForConditionalGeneration": cohere2_vision,
    "DeepseekVLForConditionalGeneration": deepseek_vl,
    "Idefics3ForConditionalGeneration": idefics3,
    "InternVLForConditionalGeneration": internvl,
    "Lfm2VlForConditionalGeneration": lfm2_vl,
    "LightOnOcrForConditionalGeneration": lighton_ocr,
    "LlavaForConditionalGeneration": llava,
    "LlavaNextForConditionalGeneration": llava_next,
    "SmolVLMForConditionalGeneration": idefics3,
}
MODEL_TYPES: Final = {
    "aya_vision": "AyaVisionForConditionalGeneration",
    "cohere2_vision": "Cohere2VisionForConditionalGeneration",
    "deepseek_vl": "DeepseekVLForConditionalGeneration",
    "idefics3": "Idefics3ForConditionalGeneration",
    "internvl": "InternVLForConditionalGeneration",
    "lfm2_vl": "Lfm2VlForConditionalGeneration",
    "lighton_ocr": "LightOnOcrForConditionalGeneration",
    "llava": "LlavaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
}
