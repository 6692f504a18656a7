"""GLM-5.3 Flash: delta attention beside latent attention whose indexer pools its keys."""

from typing import Final

from llmplan.model.importing.families import vision
from llmplan.model.importing.families.latent_moe import indexer, latent, routed
from llmplan.model.importing.parts import Spec, frame, layer_kinds, stack
from llmplan.model.importing.sparse import absent, dense, known_mtp, networks
from llmplan.model.importing.view import ConfigView

MIXERS: Final = {
    "linear_attention": "linear",
    "indexed_attention": "full",
    "full_attention": "full",
    "deepseek_sparse_attention": "full",
}
"""Block by word of ``layer_types``; published files and the class spell the indexed one apart."""


def glm5_next(config: ConfigView) -> Spec:
    """The text model with its tower."""
    config.ignore("video_start_token_id", "video_end_token_id")
    config.require("tie_word_embeddings", False, default=False)
    text = config.part("text_config")
    text.require("model_type", "glm5_next_text", None)
    body, images = glm5_next_text(text), config.part("vision_config")
    tower = _tower(images)
    out = images.count("out_hidden_size")
    projector = _merger(images, tower["hidden_size"], out)
    return {**body, **_misfit(out, body), "vision": tower, "projector": projector}


def _misfit(out: int, body: Spec) -> Spec:
    """The defaults of the class do not fit together; they count, but no image can be read."""
    D = body["hidden_size"]
    if out == D:
        return {}
    note = f"The projector gives {out:,} features, which do not fit the decoder's {D:,}."
    return {"projector_width": out, "notes": [note]}


def glm5_next_text(config: ConfigView) -> Spec:
    """Four residual streams that end in their mean; no layer has positions."""
    absent(config, "mlp_bias")
    config.require("topk_method", "noaux_tc", None)
    config.require("mhc", True, None)
    config.require("mla_use_nope", True, None)
    config.require("qk_rope_head_dim", 0)
    config.ignore("hc_eps", "hc_sinkhorn_iters")  # numerics
    blocks = {
        "linear": _delta(config),
        "full": latent(config, 1536, indexer=_pooled_indexer(config)),
        "dense": dense(config),
        "moe": routed(config),
    }
    mixers = _mixers(config)
    layers = list(zip(mixers, networks(config, first=3), strict=True))
    streams = {"hc_mult": config.count("hc_mult", 4), "hc_head": "mean"}
    base = frame(config, tied=False, context=1048576)
    mtp = known_mtp(config, "full", "moe", single_stream=True)
    return {**base, **streams, **stack(blocks, layers, mtp)}


def _mixers(config: ConfigView) -> list[str]:
    """Layer words, or an indexed layer every four; a list of layer numbers must agree."""
    count = config.count("num_hidden_layers")
    words = ["linear_attention" if i % 4 else "full_attention" for i in range(1, count + 1)]
    mixers = layer_kinds(config, "layer_types", MIXERS, words, count=count)
    if config.has("linear_attn_config"):
        part = config.part("linear_attn_config")
        for key, kind in (("kda_layers", "linear"), ("full_attn_layers", "full")):
            own = [index for index, mixer in enumerate(mixers) if mixer == kind]
            if part.counts(key, own) != own:
                raise part.refusal(key, "does not agree with layer_types")
    return mixers


def _delta(config: ConfigView) -> Spec:
    """Sizes of delta attention, in a part of their own or beside the other keys."""
    config.ignore("linear_lower_bound")  # form of the decay
    sizes = {
        "num_heads": config.count("linear_num_heads", 64),
        "head_dim": config.count("linear_head_dim", 128),
        "short_conv_kernel_size": config.count("linear_conv_kernel_dim", 4),
    }
    if config.has("linear_attn_config"):
        part = config.part("linear_attn_config")
        part.ignore("gate_lower_bound", "safe_gate")  # form of the decay
        sizes = {key: part.count(key, size) for key, size in sizes.items()}
    return {"kind": "kda", **sizes}


def _pooled_indexer(config: ConfigView) -> Spec:
    """The indexer; its pool must be stated, as the class's own differs from the released one."""
    config.require("index_kpool_compress", True, None)
    config.require("index_kpool_always_select_tail", True, None)
    config.require("index_topk_pattern", None)
    config.require("index_topk_freq", 1, None)
    # which layers share a choice, were there any, and that of the module's steps
    config.ignore("index_skip_topk_offset", "index_share_for_mtp_iteration")
    if config.has("indexer_types") and set(config.texts("indexer_types")) != {"full"}:
        raise config.refusal("indexer_types", "has layers that share a choice, which is unread")
    return {**indexer(config), "index_kpool": config.count("index_kpool")}


def _tower(config: ConfigView) -> Spec:
    """The tower of GLM-OCR: rotary positions only, norms of queries and keys."""
    config.ignore("image_size")  # any size is taken
    tower = vision.encoder(
        config, layers="depth", heads="num_heads", gated=True,
        bias=config.flag("attention_bias", True), patch_size=config.count("patch_size"),
        temporal_patch_size=config.count("temporal_patch_size", 2),
        num_channels=config.count("in_channels", vision.PIXEL_CHANNELS), patch_bias=True,
        num_positions=0, post_norm=True, norm=vision.RMSNORM, act="silu",
    )  # fmt: skip
    tower["blocks"]["attention"] |= {"qk_norm": "head"}
    return tower


def _merger(config: ConfigView, width: int, out: int) -> list[Spec]:
    """Patches are joined by a strided convolution, then pass a matrix, a norm and a network."""
    inner = config.count("projection_intermediate_size", 10240)
    return [
        vision.linear(width * config.count("spatial_merge_size", 2) ** 2, out, bias=True),
        vision.linear(out, out),
        vision.norm(out, layer=True),
        {**vision.linear(out, inner), "gated": True},
        vision.linear(inner, out),
    ]


READERS: Final = {"Glm5NextForConditionalGeneration": glm5_next}
MODEL_TYPES: Final = {"glm5_next": "Glm5NextForConditionalGeneration"}
