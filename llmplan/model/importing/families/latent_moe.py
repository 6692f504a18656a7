"""Latent attention with experts: DeepSeek V2 to V3.2 and the models published in their classes."""

from typing import Final

from llmplan.model.importing.families.shared_moe import ROUTED, sarvam_experts
from llmplan.model.importing.parts import Spec, frame, stack
from llmplan.model.importing.sparse import (
    absent,
    dense,
    dense_first,
    experts,
    known_mtp,
    networks,
    shared,
    unknown_mtp,
    words,
)
from llmplan.model.importing.view import ConfigView


def latent(config: ConfigView, rank: int, **more: object) -> Spec:
    """Latent attention; ``rank`` is the class's ``q_lora_rank``, which a stated null overrides."""
    absent(config, "attention_bias")
    # the first belongs to the grouped-query form, the others follow from the widths below
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim", "q_head_dim")
    default = None if config.stated("q_lora_rank") else rank
    return {
        "kind": "mla",
        "num_attention_heads": config.count("num_attention_heads"),
        "q_lora_rank": config.count("q_lora_rank", default),
        "kv_lora_rank": config.count("kv_lora_rank"),
        "qk_nope_head_dim": config.count("qk_nope_head_dim"),
        "qk_rope_head_dim": config.size("qk_rope_head_dim"),
        "v_head_dim": config.count("v_head_dim"),
        **more,
    }


def indexer(config: ConfigView) -> Spec:
    """The indexer of sparse attention."""
    config.ignore("indexer_rope_interleave")  # order of rotated pairs
    return {
        "index_n_heads": config.count("index_n_heads"),
        "index_head_dim": config.count("index_head_dim"),
        "index_topk": config.count("index_topk"),
    }


def routed(config: ConfigView, *, bias: bool = True) -> Spec:
    """DeepSeek's experts; ``bias`` is the stored selection bias of V3 and later."""
    config.require("moe_layer_freq", 1, None)
    config.ignore("moe_router_dtype")  # of the scores, which are computed
    return experts(
        config, count=(*ROUTED, "num_experts"), n_shared_experts=shared(config),
        e_score_correction_bias=bias,
    )  # fmt: skip


def deepseek_v2(config: ConfigView) -> Spec:
    """DeepSeek V2 and V2-Lite."""
    absent(config, "mlp_bias")
    config.require("topk_method", "greedy", "group_limited_greedy", None)
    blocks = {
        "mla": latent(config, 1536),
        "dense": dense(config),
        "moe": routed(config, bias=False),
    }
    layers = [("mla", name) for name in dense_first(config)]
    return {**frame(config, tied=False), **stack(blocks, layers)}


def deepseek_v3(config: ConfigView) -> Spec:
    """DeepSeek V3 and R1, Kimi K2 and others in this class; MTP has an embedding and head."""
    config.require("topk_method", "noaux_tc", None)
    blocks = {"mla": latent(config, 1536), "dense": dense(config), "moe": routed(config)}
    layers = [("mla", name) for name in dense_first(config, default=3)]
    mtp = known_mtp(config, "mla", "moe", own_embedding=True, own_head=True)
    return {**frame(config, tied=False, context=4096), **stack(blocks, layers, mtp)}


def deepseek_v32(config: ConfigView) -> Spec:
    """DeepSeek V3.2: every layer has an indexer."""
    blocks = _indexed(config, 1536)
    layers = [("mla", name) for name in networks(config, first=3)]
    mtp = known_mtp(config, "mla", "moe", own_embedding=True, own_head=True)
    return {**frame(config, tied=False), **stack(blocks, layers, mtp)}


def _indexed(config: ConfigView, rank: int) -> Spec:
    absent(config, "mlp_bias")
    config.require("topk_method", "noaux_tc", None)
    if config.has("layer_types") and set(config.texts("layer_types")) != {"indexed_attention"}:
        raise config.refusal("layer_types", "names layers without an indexer")
    block = latent(config, rank, indexer=indexer(config))
    if block["q_lora_rank"] is None:
        raise config.refusal("q_lora_rank", "is null, but the indexer needs it")
    return {"mla": block, "dense": dense(config), "moe": routed(config)}


def glm_moe_dsa(config: ConfigView) -> Spec:
    """GLM-5: layers may share the choice of the indexer before them."""
    config.ignore("index_share_for_mtp_iteration")  # of the MTP module's steps, not its weights
    blocks = _indexed(config, 2048)
    own = blocks["mla"]
    blocks["mla_shared"] = {**own, "indexer": {**own["indexer"], "indexer_type": "shared"}}
    mixers = _indexers(config)
    if mixers[0] != "mla":
        raise config.refusal("indexer_types", "shares an indexer before the first")
    layers = list(zip(mixers, networks(config, first=3), strict=True))
    return {**frame(config, tied=False), **stack(blocks, layers, known_mtp(config, "mla", "moe"))}


def _indexers(config: ConfigView) -> list[str]:
    """``indexer_types``, or the class's own: a pattern of F and S, else a period and an offset."""
    period, offset = config.size("index_topk_freq", 1), config.size("index_skip_topk_offset", 2)
    pattern = config.text("index_topk_pattern", "")
    layers = range(config.count("num_hidden_layers"))
    if config.has("indexer_types"):
        return words(config, "indexer_types", {"full": "mla", "shared": "mla_shared"})
    if pattern:
        if len(pattern) != len(layers) or set(pattern) - {"F", "S"}:
            raise config.refusal("index_topk_pattern", "must have an F or S for each layer")
        return ["mla" if letter == "F" else "mla_shared" for letter in pattern]
    return ["mla_shared" if max(i - offset + 1, 0) % max(period, 1) else "mla" for i in layers]


def glm4_moe_lite(config: ConfigView) -> Spec:
    """GLM-4.7 Flash."""
    config.require("topk_method", "noaux_tc", None)
    config.require("first_k_dense_replace", 1, None)
    config.require("partial_rotary_factor", 1, None)
    blocks = {"mla": latent(config, 768), "dense": dense(config), "moe": routed(config)}
    layers = [("mla", name) for name in networks(config, first=1)]
    return {**frame(config, tied=False), **unknown_mtp(config), **stack(blocks, layers)}


def sarvam_mla(config: ConfigView) -> Spec:
    """Sarvam 105B: DeepSeek V3 without query compression; its norm is that of the latent."""
    config.require("use_qk_norm", True, None)
    config.require("q_lora_rank", None)
    block = {**latent(config, 0), "q_lora_rank": None}
    blocks = {"mla": block, "dense": dense(config), "moe": sarvam_experts(config)}
    layers = [("mla", name) for name in dense_first(config)]
    return {**frame(config, tied=False), **stack(blocks, layers)}


def mistral_large_3(config: ConfigView) -> Spec:
    """The text model of Mistral Large 3: no routing bias is known to be stored."""
    moe = routed(config, bias=False)
    blocks = {"mla": latent(config, 1536), "dense": dense(config), "moe": moe}
    layers = [("mla", name) for name in dense_first(config, default=3)]
    return {**frame(config, tied=False), **stack(blocks, layers)}


READERS: Final = {
    "DeepseekV2ForCausalLM": deepseek_v2,
    "DeepseekV32ForCausalLM": deepseek_v32,
    "DeepseekV3ForCausalLM": deepseek_v3,
    "Glm4MoeLiteForCausalLM": glm4_moe_lite,
    "GlmMoeDsaForCausalLM": glm_moe_dsa,
    "SarvamMLAForCausalLM": sarvam_mla,
}
MODEL_TYPES: Final = {
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
    "deepseek_v32": "DeepseekV32ForCausalLM",
    "glm4_moe_lite": "Glm4MoeLiteForCausalLM",
    "glm_moe_dsa": "GlmMoeDsaForCausalLM",
    "kimi_k2": "DeepseekV3ForCausalLM",
    "sarvam_mla": "SarvamMLAForCausalLM",
}
