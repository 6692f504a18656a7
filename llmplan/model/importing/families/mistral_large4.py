"""Mistral Large 4: latent attention without compressed queries, an indexer in every layer.

Every fourth layer has no positions: its latent comes without a rotary key, and its heads are as
wide as in the other layers.
"""

from typing import Any, Final

from llmplan.model.importing.families import vision
from llmplan.model.importing.families.latent_moe import indexer, latent, routed
from llmplan.model.importing.families.multimodal import pixtral_merger
from llmplan.model.importing.parts import Spec, frame, stack
from llmplan.model.importing.sparse import absent, dense, networks
from llmplan.model.importing.view import ConfigView

PERIOD: Final = 4
"""The class leaves positions out of the last of so many layers."""
NOTE: Final = "The draft module of the checkpoint (mtp_dspark) is not known and left out."


def mistral_large4(config: ConfigView) -> Spec:
    """The text model with a Pixtral tower and its merger."""
    config.require("tie_word_embeddings", False, default=False)
    config.require("vision_feature_layer", -1, default=-1)  # several would widen the projector
    config.require("projector_hidden_act", "gelu", default="gelu")
    text = config.part("text_config")
    text.require("model_type", "mistral_large4_text", None)
    body, tower = _text(text), vision.pixtral(config.part("vision_config"))
    merge = config.count("spatial_merge_size", 2)
    has_bias = config.flag("multimodal_projector_bias", False)
    projector = pixtral_merger(body, tower, merge, bias=has_bias)
    return {**body, "notes": [NOTE], "vision": tower, "projector": projector}


def _text(config: ConfigView) -> Spec:
    """Layers with and without positions; each keeps its own latent and its own indexer."""
    absent(config, "mlp_bias")
    config.require("q_lora_rank", None)
    _same_in_all(config, "layer_types", "indexed_attention")
    _same_in_all(config, "indexer_types", "full")
    config.require("index_topk_pattern", None)
    config.require("index_topk_freq", 1, None)
    rotated = _rotated(config)
    own = list(range(len(rotated)))
    if config.counts("kv_source_layers", own) != own:
        raise config.refusal("kv_source_layers", "has layers that share a latent, which is unread")
    block = _block(config)
    blocks = {
        "mla": block,
        "mla_nope": _without_positions(block),
        "dense": dense(config),
        "moe": routed(config, bias=False),
    }
    mixers = ["mla" if is_rotated else "mla_nope" for is_rotated in rotated]
    layers = list(zip(mixers, networks(config, first=1), strict=True))
    scales = {"rotary_scales": block["qk_rope_head_dim"] // 2}
    base = frame(config, tied=False, context=1048576)
    return {**base, **scales, **stack(blocks, layers)}


def _block(config: ConfigView) -> Spec:
    own = {"query_norm": True, "position_scale": True}
    block = latent(config, 1, position_scale=True, indexer={**indexer(config), **own})
    if not block["qk_rope_head_dim"] or block["qk_rope_head_dim"] % 2:
        raise config.refusal("qk_rope_head_dim", "must be even and more than 0")
    return {**block, "q_lora_rank": None}


def _without_positions(block: Spec) -> Spec:
    """Heads of the same width, all of it from the latent."""
    head = block["qk_nope_head_dim"] + block["qk_rope_head_dim"]
    return {**block, "qk_nope_head_dim": head, "qk_rope_head_dim": 0}


def _same_in_all(config: ConfigView, key: str, word: str) -> None:
    stated = config.texts(key, [word])
    if set(stated) != {word}:
        raise config.refusal(key, f"names layers that are not '{word}', which cannot be read")


def _rotated(config: ConfigView) -> list[Any]:
    """``no_rope_layers``, which is 1 where a layer has positions, or the class's own period."""
    count = config.count("num_hidden_layers")
    period = config.count("no_rope_layer_interval", PERIOD)
    stated = config.counts("no_rope_layers", [int(i % period != 0) for i in range(1, count + 1)])
    if len(stated) != count or not set(stated) <= {0, 1}:
        raise config.refusal("no_rope_layers", "must be a list of 0 and 1, one a layer")
    return stated


READERS: Final = {"MistralLarge4ForConditionalGeneration": mistral_large4}
MODEL_TYPES: Final = {"mistral_large4": "MistralLarge4ForConditionalGeneration"}
