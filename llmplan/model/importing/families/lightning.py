"""Hybrids of lightning attention: MiniMax-01 and Ling 2.5."""

from typing import Any, Final

from llmplan.model.importing.parts import (
    Spec,
    activation,
    attention,
    frame,
    layer_kinds,
    mlp,
    rotary_dim,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

MIXERS: Final = {"linear_attention": "linear", "full_attention": "full"}
CODES: Final = {0: "linear", 1: "full"}


def minimax(config: ConfigView) -> Spec:
    """MiniMax-01 in transformers' own class."""
    config.ignore(
        "block_size", "full_attn_alpha_factor", "full_attn_beta_factor",
        "linear_attn_alpha_factor", "linear_attn_beta_factor", "mlp_alpha_factor",
        "mlp_beta_factor",
    )  # fmt: skip
    config.require("sliding_window", None)
    count = config.count("num_hidden_layers")
    words = ["linear_attention" if i % 2 else "full_attention" for i in range(count)]
    mixers = layer_kinds(config, "layer_types", MIXERS, words, count=count)
    full = _full_attention(config)
    return {
        **frame(config, tied=False, context=131072),
        **_minimax_stack(config, mixers, full),
    }


def minimax_text_01(config: ConfigView) -> Spec:
    """MiniMax-01 as published: one code a layer, and part of each full head rotated."""
    # weights of the residual sum, and whether its stream is taken after the norm
    config.ignore(
        "layernorm_full_attention_alpha", "layernorm_full_attention_beta",
        "layernorm_linear_attention_alpha", "layernorm_linear_attention_beta",
        "layernorm_mlp_alpha", "layernorm_mlp_beta", "postnorm",
    )  # fmt: skip
    config.require("shared_intermediate_size", 0, None)
    config.require("sliding_window", None)
    codes = config.counts("attn_type_list")
    if len(codes) != config.count("num_hidden_layers") or not set(codes) <= set(CODES):
        raise config.refusal("attn_type_list", "must hold 0 or 1 for each layer")
    full = _full_attention(config)
    if config.has("rotary_dim"):
        full["rotary_dim"] = config.count("rotary_dim")
    return {
        **frame(config, tied=False),
        **_minimax_stack(config, [CODES[code] for code in codes], full),
    }


def _full_attention(config: ConfigView) -> Spec:
    """Attention without biases and without norms of queries and keys."""
    config.require("attention_bias", False, None)
    return attention(config, num_key_value_heads=config.count("num_key_value_heads"))


def _minimax_stack(config: ConfigView, mixers: list[str], full: Spec) -> Spec:
    linear = {
        "kind": "lightning",
        "num_attention_heads": full["num_attention_heads"],
        "head_dim": full["head_dim"],
    }
    moe = without_defaults({
        "kind": "moe",
        "num_experts": config.count("num_local_experts", 8),
        "num_experts_per_tok": config.count("num_experts_per_tok", 2),
        "moe_intermediate_size": config.count("intermediate_size"),
        "hidden_act": activation(config),
    })  # fmt: skip
    blocks = {"linear": linear, "full": full, "moe": moe}
    return stack(blocks, [(mixer, "moe") for mixer in mixers])


def ling_2_5(config: ConfigView) -> Spec:
    """Ling 2.5: lightning attention, and latent attention at the end of each group of layers."""
    count, group = config.count("num_hidden_layers"), config.count("layer_group_size")
    if count % group:
        raise config.refusal("layer_group_size", f"does not divide {count} layers")
    config.require("num_kv_heads_for_linear_attn", config.count("num_attention_heads"), None)
    for key in ("use_bias", "use_qkv_bias"):
        config.require(key, False, default=False)
    config.require("num_nextn_predict_layers", 0, None)
    # groups of one norm, forms of the gate, formats, and heads of the cached latent
    config.ignore("group_norm_size", "linear_silu", "router_dtype", "num_key_value_heads")
    dense = config.size("first_k_dense_replace")
    blocks = {"linear": _ling_linear(config), "full": _ling_full(config), **_ling_networks(config)}
    layers = [
        ("linear" if index % group else "full", "dense" if index <= dense else "moe")
        for index in range(1, count + 1)
    ]
    return {**frame(config, tied=False), **stack(blocks, layers)}


def _ling_linear(config: ConfigView) -> Spec:
    width = config.count("head_dim")
    rotated = rotary_dim(config, width) or width
    config.require("rotary_dim", rotated, None)
    norm = {"qk_norm": "head"} if config.flag("use_qk_norm") else {}
    return {
        "kind": "lightning",
        "num_attention_heads": config.count("num_attention_heads"),
        "head_dim": width,
        **norm,
        "rotary_dim": rotated,
    }


def _ling_full(config: ConfigView) -> Spec:
    nope, rope = config.count("qk_nope_head_dim"), config.count("qk_rope_head_dim")
    config.require("qk_head_dim", nope + rope, None)
    return {
        "kind": "mla",
        "num_attention_heads": config.count("num_attention_heads"),
        "q_lora_rank": config.count("q_lora_rank"),
        "kv_lora_rank": config.count("kv_lora_rank"),
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": config.count("v_head_dim"),
    }


def _ling_networks(config: ConfigView) -> Spec:
    act = activation(config)
    expert, shared = config.count("moe_intermediate_size"), config.count("num_shared_experts")
    stated = config.count("moe_shared_expert_intermediate_size", expert)
    widths: dict[str, Any] = {"n_shared_experts": shared}
    if stated != expert:
        config.require("num_shared_experts", 1)
        widths = {"shared_expert_intermediate_size": stated}
    bias = config.flag("moe_router_enable_expert_bias")
    moe = {
        "kind": "moe",
        "num_experts": config.count("num_experts"),
        "num_experts_per_tok": config.count("num_experts_per_tok"),
        "moe_intermediate_size": expert,
        **widths,
        "hidden_act": act,
        "e_score_correction_bias": True if bias else None,
    }
    return {"dense": mlp(config, hidden_act=act), "moe": without_defaults(moe)}


READERS = {
    "MiniMaxForCausalLM": minimax,
    "MiniMaxText01ForCausalLM": minimax_text_01,
    "BailingMoeV2_5ForCausalLM": ling_2_5,
}
MODEL_TYPES = {"minimax": "MiniMaxForCausalLM", "minimax_text_01": "MiniMaxText01ForCausalLM"}
