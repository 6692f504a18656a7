"""Llama 3.2 Vision: layers of the decoder that attend to the image, and a tower of tiles."""

from typing import Final

from llmplan.dtypes import divide_exactly
from llmplan.model.importing.families import vision
from llmplan.model.importing.parts import Spec, activation, frame, mlp, stack
from llmplan.model.importing.view import ConfigView

CROSS_LAYERS: Final = [3, 8, 13, 18, 23, 28, 33, 38]
ASPECT_RATIOS: Final = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
INNER_LAYERS: Final = [3, 7, 15, 23, 30]
"""Defaults of the classes."""
EXTRA_ROWS: Final = 8
"""Rows of the input table beyond the vocabulary, the class's own: the token of an image."""


def mllama(config: ConfigView) -> Spec:
    """The whole: decoder, tower, and one matrix from all kept layers of the tower."""
    # the class never ties, whatever the wrapper's default says
    config.ignore("tie_word_embeddings")
    images = config.part("vision_config")
    body, tower = _text(config.part("text_config"), _image_tokens(images)), _tower(images)
    out = images.count("vision_output_dim", 7680)
    inner = images.counts("intermediate_layers_indices", INNER_LAYERS)
    if out != tower["hidden_size"] * (1 + len(inner)):
        raise images.refusal("vision_output_dim", "is not the width of the layers handed on")
    projector = [vision.linear(out, body["hidden_size"], bias=True)]
    return {**body, "vision": tower, "projector": projector}


def mllama_text(config: ConfigView) -> Spec:
    """The decoder alone; the tower's config says how many tokens an image has."""
    config.ignore("tie_word_embeddings")
    images = config.part("vision_config")
    tokens = _image_tokens(images)
    images.ignore_all()  # nothing of the tower is in this class
    return _text(config.part("text_config"), tokens)


def _image_tokens(images: ConfigView) -> int:
    """Tokens of an image of all tiles, each with a class token."""
    tiles: int = images.count("max_num_tiles", 4)
    return tiles * _tile_tokens(images)


def _tile_tokens(images: ConfigView) -> int:
    image, patch = images.count("image_size", 448), images.count("patch_size", 14)
    return (image // patch) ** 2 + 1


def _text(text: ConfigView, image_tokens: int) -> Spec:
    text.require("model_type", "mllama_text_model", None)
    text.require("tie_word_embeddings", False, None)
    text.ignore("dropout")  # training only
    base = frame(text, tied=False, context=131072)
    count = base["num_hidden_layers"]
    cross = text.counts("cross_attention_layers", CROSS_LAYERS)
    if any(index >= count for index in cross):
        raise text.refusal("cross_attention_layers", f"names a layer beyond the last of {count}")
    names = {True: ("cross", "cross_mlp"), False: ("attention", "mlp")}
    layers = [names[index in cross] for index in range(count)]
    return {**base, "extra_input_rows": EXTRA_ROWS, **stack(_blocks(text, image_tokens), layers)}


def _blocks(text: ConfigView, image_tokens: int) -> Spec:
    heads = text.count("num_attention_heads")
    width = text.count("hidden_size")
    if width % heads:
        raise text.refusal("num_attention_heads", "does not divide hidden_size")
    same = {
        "num_attention_heads": heads,
        "num_key_value_heads": text.count("num_key_value_heads", 8),
        "head_dim": divide_exactly(width, heads),
    }
    network = mlp(text, hidden_act=activation(text))
    gate = {"output_scale": "scalar"}
    return {
        "attention": {"kind": "attention", **same},
        "mlp": network,
        "cross": {
            "kind": "cross_attention",
            **same,
            "qk_norm": "head",
            "image_tokens": image_tokens,
            **gate,
        },
        "cross_mlp": {**network, **gate},
    }


def _tower(images: ConfigView) -> Spec:
    """Local layers, then global ones with gates; tables of positions for every ratio of sides."""
    images.require("model_type", "mllama_vision_model", None)
    images.ignore("tie_word_embeddings")  # there is nothing to tie
    # read as it stands: a list of pairs, of which only the number matters
    ratios = len(images.lists("supported_aspect_ratios", ASPECT_RATIOS)) + 1
    tiles, tokens = images.count("max_num_tiles", 4), _tile_tokens(images)
    tower = vision.encoder(
        images, layers="num_hidden_layers", heads="attention_heads", gated=False, bias=True,
        image_size=images.count("image_size", 448), patch_size=images.count("patch_size", 14),
        num_channels=images.count("num_channels", 3), patch_bias=False,
        # a table for a tile; one for all tiles, and one before and after the local layers, a ratio
        num_positions=tokens + ratios * tiles * (tokens + 2), position_gates=3,
        class_embedding=True, pre_norm=True, post_norm=True, norm=vision.LAYERNORM,
    )  # fmt: skip
    attention = {key: value for key, value in tower["blocks"]["attention"].items()
                 if key not in ("attention_bias", "o_proj_bias")}  # fmt: skip
    network, gate = tower["blocks"]["mlp"], {"output_scale": "scalar"}
    local, of_all = tower["num_hidden_layers"], images.count("num_global_layers", 8)
    return {
        **tower,
        "num_hidden_layers": local + of_all,
        "blocks": {
            "attention": attention,
            "mlp": network,
            "global_attention": {**attention, **gate},
            "global_mlp": {**network, **gate},
        },
        "layers": [
            {"count": local, "blocks": ["attention", "mlp"]},
            {"count": of_all, "blocks": ["global_attention", "global_mlp"]},
        ],
    }


READERS: Final = {
    "MllamaForConditionalGeneration": mllama,
    "MllamaForCausalLM": mllama_text,
}
MODEL_TYPES: Final = {"mllama": "MllamaForConditionalGeneration"}
