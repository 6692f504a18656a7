"""Mixtures of experts with experts that every token passes."""

from typing import Final

from llmplan.model.importing.families.moe import all_sparse, decoder
from llmplan.model.importing.parts import Spec, activation, frame, rotary_dim
from llmplan.model.importing.sparse import (
    absent,
    dense,
    dense_first,
    equal_count,
    experts,
    grouped_query,
    key_value_heads,
    known_mtp,
    networks,
    shared,
    unknown_mtp,
)
from llmplan.model.importing.view import ConfigView

ROUTED: Final = ("n_routed_experts", "num_local_experts")
"""The number of routed experts where a config follows DeepSeek's names."""


def ernie(config: ConfigView) -> Spec:
    """ERNIE 4.5; its selection bias is a parameter of the class."""
    absent(config, "use_bias")
    config.require("moe_use_aux_free", True, None)
    config.require("moe_gate", "topk", None)
    config.ignore("moe_capacity", "moe_norm_min", "use_rmsnorm")  # routing, and the class's norm
    blocks = {
        "attention": grouped_query(config),
        "dense": dense(config),
        "moe": experts(
            config,
            count=("moe_num_experts", "num_experts"),
            top_k=("moe_k", "num_experts_per_tok"),
            n_shared_experts=shared(config, "moe_num_shared_experts", 2),
            router_bias=True,
        ),
    }
    body = decoder(blocks, _ernie_networks(config))
    return {**frame(config, tied=True), **unknown_mtp(config), **body}


def _ernie_networks(config: ConfigView) -> list[str]:
    layers = config.count("num_hidden_layers")
    config.require("moe_layer_end_index", *range(-1, layers), None)
    stated = int(config.number("moe_layer_end_index", -1))
    last = layers - 1 if stated == -1 else stated
    first = config.size("moe_layer_start_index", 1)
    step = config.count("moe_layer_interval", 1)
    return ["moe" if first <= i <= last and not (i + 1) % step else "dense" for i in range(layers)]


def hunyuan_moe(config: ConfigView) -> Spec:
    """Hunyuan A13B: one shared expert as wide as the routed ones."""
    width = config.count("intermediate_size")
    config.require("use_qk_norm", True, None)
    config.require("use_mixed_mlp_moe", True, None)
    absent(config, "use_cla")
    config.ignore("cla_share_factor", "eod_token_id", "moe_layer_num_skipped")  # unused without cla
    if equal_count(config, "moe_intermediate_size", width) != width:
        raise config.refusal("moe_intermediate_size", "differs from intermediate_size")
    blocks = {
        "attention": grouped_query(
            config,
            bias=config.flag("attention_bias", False),
            num_key_value_heads=key_value_heads(config),
            qk_norm="head",
        ),
        "moe": experts(
            config,
            width="intermediate_size",
            num_experts_per_tok=equal_count(config, "moe_topk"),
            n_shared_experts=equal_count(config, "num_shared_expert", 1),
        ),
    }
    return {**frame(config, tied=False), **decoder(blocks, all_sparse(config))}


def solar_open(config: ConfigView) -> Spec:
    """Solar Open."""
    config.require("first_k_dense_replace", 0, None)
    absent(config, "use_qk_norm")
    config.ignore("intermediate_size")  # no layer is dense
    width = config.count("head_dim", 128)
    bias = config.flag("attention_bias", False)
    rotated = rotary_dim(config, width)
    blocks = {
        "attention": grouped_query(
            config, bias=bias, o_proj_bias=False, head=width, rotary_dim=rotated
        ),
        "moe": deepseek_experts(config),
    }
    body = decoder(blocks, all_sparse(config))
    return {**frame(config, tied=False), **unknown_mtp(config), **body}


def deepseek_experts(config: ConfigView) -> Spec:
    """Experts under DeepSeek's names, chosen with a stored selection bias."""
    return experts(
        config,
        count=ROUTED,
        n_shared_experts=shared(config),
        e_score_correction_bias=True,
    )


def glm4_moe(config: ConfigView) -> Spec:
    """GLM-4.5 to 4.7; the MTP layer stores its own embedding and head."""
    # the class rounds the width over the heads down where it does not come out even
    derived = config.count("hidden_size") // config.count("num_attention_heads")
    width = config.count("head_dim", derived)
    config.require("topk_method", "noaux_tc", None)
    blocks = {
        "attention": grouped_query(
            config,
            bias=config.flag("attention_bias", False),
            head=width,
            o_proj_bias=False,
            qk_norm="head" if config.flag("use_qk_norm", False) else "none",
            rotary_dim=rotary_dim(config, width, 0.5),
        ),
        "dense": dense(config),
        "moe": deepseek_experts(config),
    }
    mtp = known_mtp(config, "attention", "moe", own_embedding=True, own_head=True)
    body = decoder(blocks, dense_first(config, default=1), mtp)
    return {**frame(config, tied=False), **body}


def aria_text(config: ConfigView) -> Spec:
    """The text half of Aria."""
    absent(config, "mlp_bias")
    bias = config.flag("attention_bias", False)
    blocks = {
        "attention": grouped_query(config, bias=bias, num_key_value_heads=key_value_heads(config)),
        "moe": experts(
            config,
            count=("moe_num_experts",),
            top_k=("moe_topk",),
            width="intermediate_size",
            n_shared_experts=shared(config, "moe_num_shared_experts", 2),
        ),
    }
    return {**frame(config, tied=False), **decoder(blocks, all_sparse(config))}


def hy_v3(config: ConfigView) -> Spec:
    """Hunyuan 3."""
    absent(config, "mlp_bias")
    config.require("first_k_dense_replace", 1, None)
    config.ignore("router_scaling_factor", "enable_moe_fp32_combine")  # routing and numerics
    bias = config.flag("attention_bias", False)
    blocks = {
        "attention": grouped_query(config, bias=bias, head=128, qk_norm="head"),
        "dense": dense(config),
        "moe": experts(
            config,
            n_shared_experts=config.count("num_shared_experts", 1),
            e_score_correction_bias=True,
        ),
    }
    body = decoder(blocks, networks(config, first=1))
    return {**frame(config, tied=False), **unknown_mtp(config), **body}


def sarvam_moe(config: ConfigView) -> Spec:
    """Sarvam 30B."""
    absent(config, "use_bias", "use_qkv_bias")
    config.require("use_rmsnorm", True, None)
    config.ignore("router_dtype")  # of the scores, which are computed
    blocks = {
        "attention": grouped_query(
            config, qk_norm="head" if config.flag("use_qk_norm", False) else "none"
        ),
        "dense": dense(config),
        "moe": sarvam_experts(config),
    }
    return {**frame(config, tied=False), **decoder(blocks, dense_first(config))}


def sarvam_experts(config: ConfigView) -> Spec:
    """Experts of both Sarvam models; shared ones are as wide as routed ones."""
    width, count = config.count("moe_intermediate_size"), config.size("num_shared_experts")
    config.require("moe_shared_expert_intermediate_size", width, None)
    return experts(
        config,
        n_shared_experts=count or None,
        e_score_correction_bias=config.flag("moe_router_enable_expert_bias"),
    )


def grok(config: ConfigView) -> Spec:
    """Grok 2.5: experts beside a dense network, with gelu unless the config says otherwise."""
    config.require("residual_moe", True)
    config.require("sliding_window_size", -1, None)
    config.require("global_attn_every_n", 1, None)
    config.ignore(
        "embedding_multiplier_scale", "output_multiplier_scale", "router_logit_softcapping",
        "attn_temperature_len", "rope_type", "scaling_factor", "extrapolation_factor",
        "attn_factor", "beta_fast", "beta_slow",
    )  # fmt: skip  # numerics and rotary tables
    blocks = {
        "attention": grouped_query(config),
        "moe": experts(
            config,
            shared_expert_intermediate_size=config.count("intermediate_size"),
            hidden_act=activation(config, default="gelu"),
        ),
    }
    norm = {"norm": {"placement": "sandwich"}}
    return {**frame(config, tied=False), **norm, **decoder(blocks, all_sparse(config))}


READERS: Final = {
    "AriaTextForCausalLM": aria_text,
    "Ernie4_5_MoeForCausalLM": ernie,
    "Glm4MoeForCausalLM": glm4_moe,
    "Grok1ForCausalLM": grok,
    "HYV3ForCausalLM": hy_v3,
    "HunYuanMoEV1ForCausalLM": hunyuan_moe,
    "SarvamMoEForCausalLM": sarvam_moe,
    "SolarOpenForCausalLM": solar_open,
}
MODEL_TYPES: Final = {
    "aria_text": "AriaTextForCausalLM",
    "ernie4_5_moe": "Ernie4_5_MoeForCausalLM",
    "glm4_moe": "Glm4MoeForCausalLM",
    "hunyuan_v1_moe": "HunYuanMoEV1ForCausalLM",
    "hy_v3": "HYV3ForCausalLM",
    "sarvam_moe": "SarvamMoEForCausalLM",
    "solar_open": "SolarOpenForCausalLM",
}
