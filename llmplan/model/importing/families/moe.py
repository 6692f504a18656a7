"""Mixtures of experts whose layers all attend in the same way."""

from typing import Final

from llmplan.model.importing.parts import (
    ACTIVATIONS,
    Spec,
    frame,
    head_dim,
    rotary_dim,
    stack,
    without_defaults,
)
from llmplan.model.importing.sparse import (
    absent,
    dense,
    experts,
    grouped_query,
    key_value_heads,
    sparse_steps,
)
from llmplan.model.importing.view import ConfigView

LAYER_NORM: Final = {"kind": "layernorm"}


def decoder(blocks: Spec, networks: list[str], mtp: Spec | None = None) -> Spec:
    """Layers of ``attention`` and the named networks."""
    return stack(blocks, [("attention", name) for name in networks], mtp)


def all_sparse(config: ConfigView) -> list[str]:
    """Experts in every layer."""
    return ["moe"] * config.count("num_hidden_layers")


def mixtral(config: ConfigView) -> Spec:
    """Mixtral; a window, where stated, holds in every layer."""
    absent(config, "attention_bias")
    window = config.count("sliding_window") if config.has("sliding_window") else None
    blocks = {
        "attention": grouped_query(config, sliding_window=window),
        "moe": experts(config, width="intermediate_size"),
    }
    return {**frame(config, tied=False), **decoder(blocks, all_sparse(config))}


def phimoe(config: ConfigView) -> Spec:
    """Phi-3.5-MoE: Mixtral with biases and LayerNorm."""
    window = config.count("sliding_window") if config.has("sliding_window") else None
    bias = config.flag("attention_bias", False)
    blocks = {
        "attention": grouped_query(config, bias=bias, sliding_window=window),
        "moe": experts(config, width="intermediate_size"),
    }
    head = {"lm_head_bias": True} if config.flag("lm_head_bias", False) else {}
    norm = {"norm": {**LAYER_NORM, "bias": True}}
    body = decoder(blocks, all_sparse(config))
    return {**frame(config, tied=False), **head, **norm, **body}


def qwen2_moe(config: ConfigView) -> Spec:
    """Qwen1.5 and Qwen2 with experts, one of them shared and gated."""
    config.require("use_sliding_window", False, None)
    config.ignore("sliding_window")  # not used without the flag above
    if config.has("layer_types") and set(config.texts("layer_types")) != {"full_attention"}:
        raise config.refusal("layer_types", "names windows, but use_sliding_window is not set")
    absent(config, "attention_bias")
    blocks = {
        "attention": grouped_query(config, bias=config.flag("qkv_bias", True), o_proj_bias=False),
        "dense": dense(config),
        "moe": experts(
            config,
            shared_expert_intermediate_size=config.count("shared_expert_intermediate_size"),
            shared_expert_gate=True,
        ),
    }
    return {**frame(config, tied=False), **decoder(blocks, sparse_steps(config))}


def qwen3_moe(config: ConfigView) -> Spec:
    """Qwen3 with experts."""
    absent(config, "qkv_bias")
    config.require("shared_expert_intermediate_size", 0, None)
    config.require("use_qk_norm", True, None)
    uses_window = config.flag("use_sliding_window", False)
    window = config.count("sliding_window") if uses_window else None
    config.ignore("sliding_window")  # not used without the flag above
    bias = config.flag("attention_bias", False)
    blocks = {
        "attention": grouped_query(config, bias=bias, qk_norm="head", sliding_window=window),
        "dense": dense(config),
        "moe": experts(config),
    }
    return {**frame(config, tied=False), **decoder(blocks, sparse_steps(config))}


def olmoe(config: ConfigView) -> Spec:
    """OLMoE; the norm of queries spans the stream's width, so heads must fill it."""
    config.ignore("clip_qkv")  # clips values
    if head_dim(config) * config.count("num_attention_heads") != config.count("hidden_size"):
        raise config.refusal("head_dim", "must fill hidden_size")
    return {**frame(config, tied=False), **_full_norm(config)}


def flex_olmo(config: ConfigView) -> Spec:
    """FlexOlmo: norms after each block."""
    return {**frame(config, tied=False), "norm": {"placement": "post"}, **_full_norm(config)}


def _full_norm(config: ConfigView) -> Spec:
    bias = config.flag("attention_bias", False)
    heads = key_value_heads(config)
    blocks = {
        "attention": grouped_query(config, bias=bias, num_key_value_heads=heads, qk_norm="full"),
        "moe": experts(config, width="intermediate_size"),
    }
    return decoder(blocks, all_sparse(config))


def granite_moe(config: ConfigView) -> Spec:
    """Granite 3 with experts, with or without a shared network."""
    bias = config.flag("attention_bias", False)
    blocks = {
        "attention": grouped_query(config, bias=bias, num_key_value_heads=key_value_heads(config)),
        "moe": granite_experts(config),
    }
    return {**frame(config, tied=False), **decoder(blocks, all_sparse(config))}


def granite_experts(config: ConfigView) -> Spec:
    """Granite's experts; ``shared_intermediate_size`` 0 says that none is shared."""
    width = config.size("shared_intermediate_size", 0) or None
    return experts(config, width="intermediate_size", shared_expert_intermediate_size=width)


def minimax_m2(config: ConfigView) -> Spec:
    """MiniMax-M2; its repositories hold no MTP weights, whatever ``num_mtp_modules`` says."""
    config.require("use_qk_norm", True, None)
    config.require("qk_norm_type", "per_layer", None)
    config.require("use_routing_bias", True, None)
    config.require("shared_intermediate_size", 0, None)
    absent(config, "sliding_window", "attention_bias")
    _only_softmax(config)
    config.ignore(
        "layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta",
        "shared_moe_mode", "mlp_intermediate_size",  # of the generation before, not in the class
        "num_mtp_modules", "mtp_transformer_layers", "use_mtp",
    )  # fmt: skip
    width = config.count("head_dim", 128)
    blocks = {
        "attention": grouped_query(
            config, head=width, qk_norm="full", rotary_dim=_rotary_width(config, width)
        ),
        "moe": experts(config, width="intermediate_size", e_score_correction_bias=True),
    }
    return {**frame(config, tied=False), **decoder(blocks, all_sparse(config))}


def _only_softmax(config: ConfigView) -> None:
    if set(config.counts("attn_type_list", [1])) != {1}:
        raise config.refusal("attn_type_list", "names linear attention, which the class has not")


def _rotary_width(config: ConfigView, width: int) -> int | None:
    stated = rotary_dim(config, width)
    return config.count("rotary_dim") if config.has("rotary_dim") else stated


def dbrx(config: ConfigView) -> Spec:
    """DBRX: sizes under names of its own, attention and experts in objects of their own."""
    heads, width = config.count("n_heads"), config.count("d_model")
    attn, ffn = config.part("attn_config"), config.part("ffn_config")
    attn.ignore("clip_qkv", "attn_pdrop")  # clips values; training
    # the class takes d_model for the width in and out
    ffn.ignore("hidden_size", "moe_jitter_eps", "moe_loss_weight", "moe_normalize_expert_weights",
               "uniform_expert_assignment")  # fmt: skip
    config.require("num_key_value_heads", attn.count("kv_n_heads"), None)
    if width % heads:
        raise config.refusal("n_heads", "does not divide d_model")
    attention = {
        "kind": "attention",
        "num_attention_heads": heads,
        "num_key_value_heads": attn.count("kv_n_heads"),
        "head_dim": width // heads,
    }
    layers = config.count("n_layers")
    config.require("tie_word_embeddings", False, None)
    return {
        "max_position_embeddings": config.count("max_seq_len"),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "vocab_size": config.count("vocab_size"),
        "tie_word_embeddings": False,
        "norm": LAYER_NORM,
        **stack(
            {"attention": attention, "moe": _dbrx_experts(ffn)}, [("attention", "moe")] * layers
        ),
    }


def _dbrx_experts(ffn: ConfigView) -> Spec:
    act = ffn.part("ffn_act_fn").text("name")
    if act not in ACTIVATIONS:
        raise ffn.refusal("ffn_act_fn", f"'{act}' is no activation that can be read")
    block = {
        "kind": "moe",
        "num_experts": ffn.count("moe_num_experts"),
        "num_experts_per_tok": ffn.count("moe_top_k"),
        "moe_intermediate_size": ffn.count("ffn_hidden_size"),
        "hidden_act": ACTIVATIONS[act],
    }
    return without_defaults(block)


READERS: Final = {
    "DbrxForCausalLM": dbrx,
    "FlexOlmoForCausalLM": flex_olmo,
    "GraniteMoeForCausalLM": granite_moe,
    "GraniteMoeSharedForCausalLM": granite_moe,
    "MiniMaxM2ForCausalLM": minimax_m2,
    "MixtralForCausalLM": mixtral,
    "OlmoeForCausalLM": olmoe,
    "PhiMoEForCausalLM": phimoe,
    "PhimoeForCausalLM": phimoe,
    "Qwen2MoeForCausalLM": qwen2_moe,
    "Qwen3MoeForCausalLM": qwen3_moe,
}
MODEL_TYPES: Final = {
    "dbrx": "DbrxForCausalLM",
    "flex_olmo": "FlexOlmoForCausalLM",
    "granitemoe": "GraniteMoeForCausalLM",
    "granitemoeshared": "GraniteMoeSharedForCausalLM",
    "minimax_m2": "MiniMaxM2ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "olmoe": "OlmoeForCausalLM",
    "phimoe": "PhimoeForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
