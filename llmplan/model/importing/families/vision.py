"""Vision towers and projectors of multimodal models; each reader takes the tower's own config."""

from typing import Any, Final

from llmplan.dtypes import divide_exactly
from llmplan.errors import DocumentError
from llmplan.model.importing.parts import Spec, activation, same_layers, without_defaults
from llmplan.model.importing.view import ConfigView

LAYERNORM: Final = {"kind": "layernorm", "bias": True}
RMSNORM: Final = {"kind": "rmsnorm"}
PIXEL_CHANNELS: Final = 3


def encoder(config: ConfigView, *, layers: str, heads: str, gated: bool, **more: Any) -> Spec:
    """Equal encoder layers; ``layers`` and ``heads`` are the keys of depth and heads.

    ``more`` holds what the spec says of the tower besides; ``bias`` stands for all its matrices,
    ``act`` is the class's own activation. ``width`` and ``inner`` are the tower's widths where
    the config names them otherwise.
    """
    has_bias, act = more.pop("bias"), more.pop("act", "gelu")
    width = more.pop("width", None) or config.count("hidden_size")
    inner = more.pop("inner", None) or config.count("intermediate_size")
    count = config.count(layers)
    attention = {
        "kind": "attention",
        **_equal_heads(config, width, heads),
        "attention_bias": has_bias,
        "o_proj_bias": has_bias,
        "causal": False,
    }
    network = {
        "kind": "mlp",
        "intermediate_size": inner,
        "hidden_act": activation(config, default=act),
        "gated": gated,
        "mlp_bias": has_bias,
    }
    return {
        "hidden_size": width,
        "num_hidden_layers": count,
        **more,
        "blocks": {"attention": without_defaults(attention), "mlp": without_defaults(network)},
        "layers": same_layers(count, "attention", "mlp"),
    }


def _equal_heads(config: ConfigView, width: int, key: str) -> Spec:
    """Heads that share the width of the tower; the classes know no other size of a head."""
    count = config.count(key)
    if width % count:
        raise config.refusal(key, f"does not divide the width {width}")
    head_dim = divide_exactly(width, count)
    config.require("head_dim", head_dim, None)
    return {"num_attention_heads": count, "num_key_value_heads": count, "head_dim": head_dim}


def siglip(config: ConfigView) -> Spec:
    """SigLIP, with its pooling head unless that is off."""
    image, patch = config.count("image_size"), config.count("patch_size")
    config.ignore("projection_dim", "vocab_size")  # of a text tower that is not there
    head = {"pooling_head": True} if config.flag("vision_use_head", True) else {}
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        image_size=image, patch_size=patch, num_channels=config.count("num_channels", 3),
        patch_bias=True, num_positions=(image // patch) ** 2, post_norm=True, norm=LAYERNORM,
        **head,
    )  # fmt: skip


def siglip2(config: ConfigView) -> Spec:
    """SigLIP 2, which takes images of any shape: so many patches have a position."""
    head = {"pooling_head": True} if config.flag("vision_use_head", True) else {}
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        patch_size=config.count("patch_size"), num_channels=config.count("num_channels", 3),
        patch_bias=True, num_positions=config.count("num_patches"), post_norm=True,
        norm=LAYERNORM, **head,
    )  # fmt: skip


def idefics3(config: ConfigView) -> Spec:
    """The tower of Idefics 3 and SmolVLM: SigLIP without a head, for images of any shape."""
    image, patch = config.count("image_size"), config.count("patch_size")
    config.ignore("size", "max_image_size", "use_base_siglip", "tie_word_embeddings")  # of images
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        image_size=image // patch * patch, patch_size=patch,
        num_channels=config.count("num_channels", 3), patch_bias=True,
        num_positions=(image // patch) ** 2, post_norm=True, norm=LAYERNORM,
    )  # fmt: skip


def clip(config: ConfigView) -> Spec:
    """CLIP: a class token, and norms before and after the layers."""
    image, patch = config.count("image_size"), config.count("patch_size")
    config.ignore("projection_dim", "vocab_size")  # of a text tower that is not there
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        image_size=image, patch_size=patch, num_channels=config.count("num_channels", 3),
        patch_bias=False, num_positions=(image // patch) ** 2 + 1, class_embedding=True,
        pre_norm=True, post_norm=True, norm=LAYERNORM,
    )  # fmt: skip


def internvl(config: ConfigView) -> Spec:
    """InternViT: layer scales, and norms of queries and keys where they are on."""
    config.require("use_mask_token", False, default=False)
    config.require("use_absolute_position_embeddings", True, default=True)
    config.require("layer_scale_init_value", 0.1, 0.0, 1.0, default=0.1)  # as it is learned from
    config.ignore("projection_dropout")
    image, patch = _side(config, "image_size"), _side(config, "patch_size")
    kind = config.text("norm_type", "layer_norm")
    if kind not in ("layer_norm", "rms_norm"):
        raise config.refusal("norm_type", f"'{kind}' is no norm that can be read")
    if kind == "rms_norm":
        config.require("use_mean_pooling", True, default=True)  # the last norm is of another kind
    tower = encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        image_size=image, patch_size=patch, num_channels=config.count("num_channels", 3),
        patch_bias=True, num_positions=(image // patch) ** 2 + 1, class_embedding=True,
        post_norm=not config.flag("use_mean_pooling", True),
        norm=LAYERNORM if kind == "layer_norm" else RMSNORM,
    )  # fmt: skip
    scale = {"output_scale": "channel"}
    attention = {**tower["blocks"]["attention"], **scale}
    attention["attention_bias"] = config.flag("attention_bias", False)
    attention["qk_norm"] = "full" if config.flag("use_qk_norm", False) else "none"
    network = {**tower["blocks"]["mlp"], **scale}
    return {**tower, "blocks": {"attention": without_defaults(attention), "mlp": network}}


def _side(config: ConfigView, key: str) -> int:
    """Pixels a side, stated once or for both sides."""
    try:
        return config.count(key)
    except DocumentError:
        sides = config.counts(key)
    if len(set(sides)) != 1 or not all(sides):
        raise config.refusal(key, "differs between the sides")
    return sides[0]


def qwen2_vl(config: ConfigView) -> Spec:
    """The tower of Qwen2-VL, whose ``hidden_size`` is the width that it gives."""
    config.require("in_chans", PIXEL_CHANNELS, None)
    config.require("spatial_patch_size", config.count("patch_size"), None)
    width, ratio = config.count("embed_dim"), config.number("mlp_ratio", 4)
    return encoder(
        config, layers="depth", heads="num_heads", gated=False, bias=True, width=width,
        inner=int(width * ratio), **_qwen_patches(config), patch_bias=False, num_positions=0,
        norm=LAYERNORM, act="quick_gelu",
    )  # fmt: skip


def glm4v(config: ConfigView) -> Spec:
    """The tower of GLM-4.1V: gated networks as wide as what it gives, a grid of positions."""
    image, patch = config.count("image_size"), config.count("patch_size")
    tower = encoder(
        config, layers="depth", heads="num_heads", gated=True, bias=False,
        inner=config.count("out_hidden_size"), image_size=image, **_qwen_patches(config),
        patch_bias=True, num_positions=(image // patch) ** 2, pre_norm=True, post_norm=True,
        norm=RMSNORM, act="silu",
    )  # fmt: skip
    if config.flag("attention_bias", False):
        tower["blocks"]["attention"]["attention_bias"] = True
    return tower


def pixtral(config: ConfigView, act: str = "gelu") -> Spec:
    """Pixtral: rotary positions only, no biases."""
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=True, bias=False,
        image_size=config.count("image_size"), patch_size=config.count("patch_size"),
        num_channels=config.count("num_channels", 3), patch_bias=False, num_positions=0,
        pre_norm=True, norm=RMSNORM, act=act,
    )  # fmt: skip


def llama4(config: ConfigView) -> Spec:
    """The tower of Llama 4: learned positions, one more for the class token."""
    image, patch = config.count("image_size"), config.count("patch_size")
    # which layer and which tokens are handed on; all of the tower is held
    config.ignore("vision_feature_layer", "vision_feature_select_strategy", "projector_dropout")
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        image_size=image, patch_size=patch, num_channels=config.count("num_channels", 3),
        patch_bias=False, num_positions=(image // patch) ** 2 + 1, class_embedding=True,
        pre_norm=True, post_norm=True, norm=LAYERNORM,
    )  # fmt: skip


def qwen3_vl(config: ConfigView) -> Spec:
    """The tower of Qwen3-VL and Qwen3.5: an interpolated grid of positions."""
    return encoder(
        config, layers="depth", heads="num_heads", gated=False, bias=True,
        **_qwen_patches(config), patch_bias=True,
        num_positions=config.count("num_position_embeddings"), norm=LAYERNORM,
    )  # fmt: skip


def qwen2_5_vl(config: ConfigView) -> Spec:
    """The tower of Qwen2.5-VL: gated networks with biases, and windows in most layers."""
    config.require("in_chans", PIXEL_CHANNELS, None)
    config.require("spatial_patch_size", config.count("patch_size"), None)
    # windows change work, not sizes; the wrapper's note says how they are counted
    config.ignore("window_size", "fullatt_block_indexes", "tokens_per_second")
    return encoder(
        config, layers="depth", heads="num_heads", gated=True, bias=True,
        **_qwen_patches(config), patch_bias=False, num_positions=0, norm=RMSNORM, act="silu",
    )  # fmt: skip


def _qwen_patches(config: ConfigView) -> Spec:
    return {
        "patch_size": config.count("patch_size"),
        "temporal_patch_size": config.count("temporal_patch_size", 2),
        "num_channels": config.count("in_channels", PIXEL_CHANNELS),
    }


def kimi(config: ConfigView) -> Spec:
    """MoonViT under transformers' key names."""
    height, width = config.count("pos_emb_height", 64), config.count("pos_emb_width", 64)
    config.ignore("pos_emb_time")  # computed, not stored
    return encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        patch_size=config.count("patch_size"), patch_bias=True, num_positions=height * width,
        post_norm=True, norm=LAYERNORM,
    )  # fmt: skip


def gemma4(config: ConfigView) -> Spec:
    """The tower of Gemma 4: two tables of positions, norms on both sides, heads with norms."""
    config.require("use_clipped_linears", False, None)
    config.require("attention_bias", False, None)
    config.require("hidden_activation", "gelu_pytorch_tanh", None)
    config.require("num_key_value_heads", config.count("num_attention_heads"))
    # how patches are pooled; positions beside the tables are rotary
    config.ignore("pooling_kernel_size", "default_output_length", "max_position_embeddings")
    config.ignore("global_head_dim")  # no layer of the tower is a full one
    positions = 2 * config.count("position_embedding_size", 10240)
    shift = {"standardize": True} if config.flag("standardize", False) else {}
    tower = encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=True, bias=False,
        patch_size=config.count("patch_size", 16), patch_bias=False, num_positions=positions,
        norm={"placement": "sandwich"}, **shift,
    )  # fmt: skip
    tower["blocks"]["attention"] |= {"qk_norm": "head", "value_norm": True}
    return tower


def linear(into: int, out: int, *, bias: bool = False) -> Spec:
    """One matrix of a projector."""
    item = {"kind": "linear", "in_features": into, "out_features": out}
    return {**item, "bias": True} if bias else item


def norm(width: int, *, layer: bool = False) -> Spec:
    """One norm of a projector: RMSNorm, or LayerNorm with a bias."""
    item: Spec = {"kind": "norm", "width": width}
    return {**item, "norm": "layernorm", "bias": True} if layer else item


def gate(width: int) -> Spec:
    """The product of two halves of a projector's matrix."""
    return {"kind": "gate", "width": width}


def vectors(count: int, width: int) -> Spec:
    """Learned vectors of a projector."""
    return {"kind": "vectors", "count": count, "width": width}


def two_layer_merger(width: int, merged: int, out: int, *, before: bool, layer: bool) -> list[Spec]:
    """A norm, before or after patches are joined, and two matrices with biases."""
    return [
        norm(width if before else merged, layer=layer),
        linear(merged, merged, bias=True),
        linear(merged, out, bias=True),
    ]
