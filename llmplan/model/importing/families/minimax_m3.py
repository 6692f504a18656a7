"""MiniMax-M3: softmax attention over blocks of keys, which an indexer in most layers chooses."""

from typing import Final

from llmplan.model.importing.families import vision
from llmplan.model.importing.parts import Spec, frame, layer_kinds, mlp, stack
from llmplan.model.importing.sparse import absent, grouped_query, same_count, words
from llmplan.model.importing.view import ConfigView

MIXERS: Final = {"full_attention": "full", "minimax_m3_sparse": "sparse"}
"""Block by word of ``layer_types``."""
NETWORKS: Final = {"dense": "dense", "sparse": "moe"}
"""Block by word of ``mlp_layer_types``."""
INDEXER: Final = {
    "index_n_heads": ("sparse_num_index_heads", 4),
    "index_head_dim": ("sparse_index_dim", 128),
    "index_block_size": ("sparse_block_size", 128),
    "index_topk_blocks": ("sparse_topk_blocks", 16),
}
"""Sizes of the indexer: their names in the released file, and the class's own."""


def minimax_m3(config: ConfigView) -> Spec:
    """The text model with its tower."""
    config.require("tie_word_embeddings", False, default=False)
    config.require("multimodal_projector_bias", True, default=True)
    config.require("projector_hidden_act", "gelu", default="gelu")
    config.require("vision_feature_layer", -1, None)
    config.require("vision_feature_select_strategy", "full", None)
    config.require("num_reward_heads", 0, None)
    # how images are cut and how many tokens they give
    config.ignore("image_grid_pinpoints", "image_seq_length", "process_image_mode")
    config.ignore("video_token_index")
    text = config.part("text_config")
    body, images = minimax_m3_text(text), config.part("vision_config")
    merge, frames = _merged(config, images)
    tower, D = _tower(images, frames), body["hidden_size"]
    config.require("merged_hidden_size", D * merge**2, None)
    inner = config.count("projector_hidden_size", 6144)
    projector = [
        vision.linear(tower["hidden_size"], inner, bias=True),
        vision.linear(inner, D, bias=True),
        {**vision.linear(D * merge**2, inner, bias=True), "joined": merge**2},
        vision.linear(inner, D, bias=True),
    ]
    return {**body, "vision": tower, "projector": projector}


def _merged(config: ConfigView, images: ConfigView) -> tuple[int, int]:
    """Patches a side that are joined and frames of a patch, as stated in up to three places."""
    sizes = images.count("spatial_merge_size", 2), images.count("temporal_patch_size", 2)
    for view in (config, images):
        if view.has("img_token_compression_config"):
            part = view.part("img_token_compression_config")
            part.require("image_token_compression_method", "patch_merge")
            part.require("spatial_merge_size", sizes[0])
            part.require("temporal_patch_size", sizes[1])
    return sizes


def _tower(config: ConfigView, frames: int) -> Spec:
    """CLIP with rotary positions in three dimensions, and without a norm after its layers."""
    config.require("model_type", "minimax_m3_vl_vision", "clip_vision_model", None)
    config.require("position_embedding_type", "rope", None)
    config.require("rope_mode", "3d", None)
    # of a text tower that is not there, and of how videos are cut
    config.ignore("vocab_size", "projection_dim", "vision_segment_max_frames")
    return vision.encoder(
        config, layers="num_hidden_layers", heads="num_attention_heads", gated=False, bias=True,
        image_size=config.count("image_size"), patch_size=config.count("patch_size"),
        temporal_patch_size=frames, num_channels=config.count("num_channels", 3),
        patch_bias=False, num_positions=0, pre_norm=True, norm=vision.LAYERNORM,
    )  # fmt: skip


def minimax_m3_text(config: ConfigView) -> Spec:
    """The text model by itself."""
    absent(config, "attention_bias", "mlp_bias", "attention_output_gate")
    for key in ("use_gemma_norm", "use_qk_norm", "use_routing_bias"):
        config.require(key, True, None)
    config.require("qk_norm_type", "per_head", None)
    config.require("hidden_act", "swigluoai", "silu", None)  # one form of the gate in the class
    config.require("n_shared_experts", 1, None)
    config.require("moe_intermediate_size", config.count("intermediate_size"), None)
    config.require("model_type", "minimax_m3", "minimax_m3_vl_text", None)
    config.ignore("swiglu_alpha")  # form of the gate
    sizes, mixers = _indexer(config)
    networks = _networks(config)
    attention = grouped_query(
        config, head=config.count("head_dim", 128), qk_norm="head", rotary_dim=_rotary(config)
    )
    blocks = {
        "full": attention,
        "sparse": {**attention, "block_indexer": sizes},
        "dense": mlp(config, width_key="dense_intermediate_size"),
        "moe": _experts(config),
    }
    base = frame(config, tied=False, context=524288)
    return {**base, **_mtp(config), **stack(blocks, list(zip(mixers, networks, strict=True)))}


def _experts(config: ConfigView) -> Spec:
    """Routed experts beside one shared network; the selection bias is a stored buffer."""
    return {
        "kind": "moe",
        "num_experts": same_count(config, "num_local_experts", "num_experts"),
        "num_experts_per_tok": config.count("num_experts_per_tok", 4),
        "moe_intermediate_size": config.count("intermediate_size"),
        "shared_expert_intermediate_size": config.count("shared_intermediate_size", 3072),
        "e_score_correction_bias": True,
    }


def _rotary(config: ConfigView) -> int:
    """The rotated part of a head; its share of the head must agree where it is stated."""
    width, head = config.count("rotary_dim", 64), config.count("head_dim", 128)
    if config.number("partial_rotary_factor", width / head) * head != width:
        raise config.refusal("partial_rotary_factor", "does not agree with rotary_dim")
    return width


def _indexer(config: ConfigView) -> tuple[Spec, list[str]]:
    """Sizes of the indexer and the layers that have one, in the class's spelling or as released."""
    if not config.has("sparse_attention_config"):
        config.require("index_local_blocks", 1, default=1)
        sizes = {key: config.count(key, own) for key, (_, own) in INDEXER.items()}
        count = config.count("num_hidden_layers")
        full = ["full_attention"] * count
        return sizes, layer_kinds(config, "layer_types", MIXERS, full, count=count)
    part = config.part("sparse_attention_config")
    part.require("use_sparse_attention", True)
    part.require("sparse_score_type", "max", None)
    part.require("sparse_init_block", 0, None)
    part.require("sparse_local_block", 1, default=1)
    sizes = {key: part.count(name, own) for key, (name, own) in INDEXER.items()}
    is_sparse = _marks(part, "sparse_attention_freq", config)
    # a value of the index beside its key, which the class does not have
    if part.has("sparse_disable_index_value"):
        disabled = _marks(part, "sparse_disable_index_value", config)
        if any(sparse and not off for sparse, off in zip(is_sparse, disabled, strict=True)):
            raise part.refusal("sparse_disable_index_value", "leaves values to the index, unread")
    return sizes, ["sparse" if mark else "full" for mark in is_sparse]


def _networks(config: ConfigView) -> list[str]:
    """``mlp_layer_types`` of the class, or ``moe_layer_freq`` as released; experts by default."""
    if config.has("mlp_layer_types"):
        return words(config, "mlp_layer_types", NETWORKS)
    if not config.has("moe_layer_freq"):
        config.require("first_k_dense_replace", 0, None)
        return ["moe"] * config.count("num_hidden_layers")
    marks = _marks(config, "moe_layer_freq", config)
    leading = marks.index(1) if 1 in marks else len(marks)
    config.require("first_k_dense_replace", leading, None)
    return ["moe" if mark else "dense" for mark in marks]


def _marks(part: ConfigView, key: str, config: ConfigView) -> list[int]:
    """A list of 0 and 1, one a layer."""
    marks = part.counts(key)
    if len(marks) != config.count("num_hidden_layers") or not set(marks) <= {0, 1}:
        raise part.refusal(key, "must be a list of 0 and 1, one a layer")
    return marks


def _mtp(config: ConfigView) -> Spec:
    """A note where modules are stated: the class has none, and their make-up is not known."""
    keys = ("num_mtp_modules", "num_nextn_predict_layers")
    stated = [f"{key} {config.size(key)}" for key in keys if config.has(key)]
    note = f"Multi-token-prediction modules ({', '.join(stated)}) are not known and left out."
    return {"notes": [note]} if stated else {}


READERS: Final = {
    "MiniMaxM3ForCausalLM": minimax_m3_text,
    "MiniMaxM3SparseForCausalLM": minimax_m3_text,
    "MiniMaxM3VLForCausalLM": minimax_m3_text,
    "MiniMaxM3SparseForConditionalGeneration": minimax_m3,
}
MODEL_TYPES: Final = {
    "minimax_m3_vl": "MiniMaxM3SparseForConditionalGeneration",
    "minimax_m3_vl_text": "MiniMaxM3VLForCausalLM",
}
