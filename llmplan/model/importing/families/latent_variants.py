"""Latent attention in layers of other shapes: LongCat-Flash, A.X K1, Hunyuan 4."""

from typing import Final

from llmplan.model.importing.families.latent_moe import indexer, latent, routed
from llmplan.model.importing.families.shared_moe import ROUTED
from llmplan.model.importing.parts import Spec, frame, stack
from llmplan.model.importing.sparse import (
    absent,
    dense,
    experts,
    networks,
    same_count,
    unknown_mtp,
    words,
)
from llmplan.model.importing.view import ConfigView


def longcat_flash(config: ConfigView) -> Spec:
    """LongCat-Flash: two attentions and networks a layer, experts beside the first network.

    What the experts give is added after the second network; sizes and work are the same.
    """
    depth = config.count("num_layers")
    # the class counts its attentions as layers in the second of these
    config.require("num_hidden_layers", depth, 2 * depth, None)
    config.require("attention_method", "MLA", None)
    config.require("zero_expert_type", "identity", None)
    config.ignore("mla_scale_q_lora", "mla_scale_kv_lora")  # numerics
    mla = latent(config, 1536)
    head = mla["qk_nope_head_dim"] + mla["qk_rope_head_dim"]
    config.require("qk_head_dim", head, None)
    if mla["q_lora_rank"] is None:
        raise config.refusal("q_lora_rank", "is null, but the class compresses queries")
    idle = config.size("zero_expert_num", 256)
    moe = experts(
        config,
        count=ROUTED,
        width=_stated(config, "expert_ffn_hidden_size", "moe_intermediate_size"),
        num_experts_per_tok=same_count(config, "moe_topk", "num_experts_per_tok"),
        router_bias=config.flag("router_bias", False),
        e_score_correction_bias=True,
    )
    blocks = {
        "mla": mla,
        "mlp": {
            "kind": "mlp",
            "intermediate_size": same_count(config, "ffn_hidden_size", "intermediate_size"),
        },
        "moe": {**moe, **({"zero_expert_num": idle} if idle else {})},
    }
    layer = ("mla", ("mlp", "moe"), "mla", "mlp")
    base = {
        "max_position_embeddings": config.count("max_position_embeddings"),
        "hidden_size": config.count("hidden_size"),
        "num_hidden_layers": depth,
        "vocab_size": config.count("vocab_size"),
        "tie_word_embeddings": config.flag("tie_word_embeddings", False),
    }
    return {**base, **unknown_mtp(config), **stack(blocks, [layer] * depth)}


def _stated(config: ConfigView, own: str, common: str) -> str:
    """Which of two names of a width the config uses."""
    if config.has(own) and config.has(common):
        raise config.refusal(common, f"stands beside {own}")
    return own if config.has(own) else common


def axk1(config: ConfigView) -> Spec:
    """A.X K1: DeepSeek V3 with a norm after the experts; its files store no selection bias."""
    mla = latent(config, 1536)
    if mla["q_lora_rank"] is None:
        raise config.refusal("q_lora_rank", "is null, but the class compresses queries")
    blocks = {
        "mla": mla,
        "dense": dense(config),
        "moe": {**routed(config, bias=False), "output_norm": True},
    }
    layers = [("mla", name) for name in networks(config, first=1)]
    return {**frame(config, tied=False), **unknown_mtp(config), **stack(blocks, layers)}


def hy_v4(config: ConfigView) -> Spec:
    """Hunyuan 4: sparse latent attention with sinks and a gate, streams that are not mixed."""
    absent(config, "mlp_bias")
    config.require("first_k_dense_replace", 1, None)
    config.ignore("hc_magnitude", "hc_eps", "learnable_sink_init")  # numerics, initial values
    if config.has("layer_types") and set(config.texts("layer_types")) != {"indexed_attention"}:
        raise config.refusal("layer_types", "names layers without an indexer")
    more = {"output_gate": "elementwise", "attention_sinks": True}
    own = latent(config, 1536, indexer=indexer(config), **more)
    if own["q_lora_rank"] is None:
        raise config.refusal("q_lora_rank", "is null, but the indexer needs it")
    blocks = {
        "mla": own,
        "mla_shared": {**own, "indexer": {**own["indexer"], "indexer_type": "shared"}},
        "dense": dense(config),
        "moe": routed(config),
    }
    mixers = _hy_v4_indexers(config)
    if mixers[0] != "mla":
        raise config.refusal("indexer_types", "shares an indexer before the first")
    layers = list(zip(mixers, networks(config, first=1), strict=True))
    streams = {"hc_mult": config.count("hc_mult", 4), "hc_mixing": False}
    kept = {"bias": "fp32", "head": "fp32"}
    return {
        **frame(config, tied=False),
        **unknown_mtp(config),
        **streams,
        "precision": kept,
        **stack(blocks, layers),
    }


def _hy_v4_indexers(config: ConfigView) -> list[str]:
    """``indexer_types``; without it the first layer has one of its own, then every fourth."""
    if config.has("indexer_types"):
        return words(config, "indexer_types", {"full": "mla", "shared": "mla_shared"})
    layers = range(config.count("num_hidden_layers"))
    return ["mla" if index == 0 or (index - 1) % 4 == 0 else "mla_shared" for index in layers]


READERS: Final = {
    "AXK1ForCausalLM": axk1,
    "HYV4ForCausalLM": hy_v4,
    "LongcatFlashForCausalLM": longcat_flash,
}
MODEL_TYPES: Final = {
    "axk1": "AXK1ForCausalLM",
    "hy_v4": "HYV4ForCausalLM",
    "longcat_flash": "LongcatFlashForCausalLM",
}
