"""Hybrids of the delta rule: Qwen3-Next and later, Kimi Linear, OLMo Hybrid, Ling 3.0."""

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
NETWORKS: Final = {"dense": "dense", "sparse": "moe"}


def _mixers(config: ConfigView, words: list[str]) -> list[str]:
    """The layers' mixers; ``words`` is what the class makes of other keys."""
    return layer_kinds(config, "layer_types", MIXERS, words, count=len(words))


def qwen3_next(config: ConfigView) -> Spec:
    """Qwen3-Next."""
    return {
        **frame(config, tied=False, context=32768),
        **_qwen_stack(config, _qwen_networks(config), _qwen_moe(config, experts=512, chosen=10)),
    }


def qwen3_5(config: ConfigView) -> Spec:
    """The text model of Qwen3.5 and 3.6, dense."""
    networks = ["dense"] * config.count("num_hidden_layers")
    config.require("mlp_only_layers", [], None)
    dense = {"dense": mlp(config, hidden_act=activation(config))}
    return {
        **frame(config, tied=False, context=32768),
        **_qwen_stack(config, networks, dense, _qwen_mtp(config, "dense")),
    }


def qwen3_5_moe(config: ConfigView) -> Spec:
    """The text model of Qwen3.5 and 3.6 with experts in every layer."""
    networks = ["moe"] * config.count("num_hidden_layers")
    config.require("mlp_only_layers", [], None)
    config.require("decoder_sparse_step", 1, default=1)
    moe = _qwen_moe(config, experts=256, chosen=8)
    config.ignore("intermediate_size")  # of a dense network, which no layer has
    return {
        **frame(config, tied=False, context=32768),
        **_qwen_stack(config, networks, moe, _qwen_mtp(config, "moe")),
    }


def _qwen_networks(config: ConfigView) -> list[str]:
    """Experts in every n-th layer, but for the layers that are listed as dense."""
    dense = config.counts("mlp_only_layers", [])
    step, experts = config.count("decoder_sparse_step", 1), config.size("num_experts", 512)
    return [
        "moe" if experts and index not in dense and (index + 1) % step == 0 else "dense"
        for index in range(config.count("num_hidden_layers"))
    ]


def _qwen_moe(config: ConfigView, *, experts: int, chosen: int) -> Spec:
    """Experts with a gated shared one, and the dense network of other layers."""
    act = activation(config)
    moe = {
        "kind": "moe",
        "num_experts": config.size("num_experts", experts),
        "num_experts_per_tok": config.count("num_experts_per_tok", chosen),
        "moe_intermediate_size": config.count("moe_intermediate_size", 512),
        "shared_expert_intermediate_size": config.count("shared_expert_intermediate_size", 512),
        "shared_expert_gate": True,
        "hidden_act": act,
    }
    dense = {"kind": "mlp", "intermediate_size": config.count("intermediate_size", 5632)}
    return {
        "dense": without_defaults({**dense, "hidden_act": act}),
        "moe": without_defaults(moe),
    }


def _qwen_stack(
    config: ConfigView, networks: list[str], blocks: Spec, mtp: Spec | None = None
) -> Spec:
    config.require("attention_bias", False, default=False)  # it would reach the gate as well
    config.require("attn_output_gate", True, default=True)
    config.require("use_sliding_window", False, None)
    # form of the gate, format of the state, and a window that no layer uses
    config.ignore("output_gate_type", "mamba_ssm_dtype", "sliding_window")
    mixers = _mixers(config, _qwen_words(config))
    named = {"linear": gated_delta_net(config), "full": _gated_attention(config), **blocks}
    return stack(named, list(zip(mixers, networks, strict=True)), mtp)


def _qwen_words(config: ConfigView) -> list[str]:
    interval = config.count("full_attention_interval", 4)
    return [
        "linear_attention" if (index + 1) % interval else "full_attention"
        for index in range(config.count("num_hidden_layers"))
    ]


def gated_delta_net(config: ConfigView, **sizes: int) -> Spec:
    """Gated delta net; ``sizes`` are the class's defaults where they are not Qwen's."""
    defaults = {
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        **sizes,
    }
    stated = {key: config.count(key, default) for key, default in defaults.items()}
    return {"kind": "gated_delta_net", **stated}


def _gated_attention(config: ConfigView) -> Spec:
    width = config.count("head_dim", 256)
    return without_defaults({
        "kind": "attention",
        "num_attention_heads": config.count("num_attention_heads"),
        "num_key_value_heads": config.count("num_key_value_heads"),
        "head_dim": width,
        "qk_norm": "head",
        "output_gate": "elementwise",
        "rotary_dim": rotary_dim(config, width, 0.25),
    })  # fmt: skip


def _qwen_mtp(config: ConfigView, network: str) -> Spec | None:
    """One module of a full-attention layer; more are not known to be published."""
    config.require("mtp_num_hidden_layers", 0, 1, None)
    own = config.flag("mtp_use_dedicated_embeddings", False)
    if not config.size("mtp_num_hidden_layers", 0):
        return None
    mtp = {"num_nextn_predict_layers": 1, "blocks": ["full", network]}
    return {**mtp, "own_embedding": True} if own else mtp


def olmo_hybrid(config: ConfigView) -> Spec:
    """OLMo Hybrid: gated delta nets beside attention with norms over the full width."""
    # initial values, and the range of a factor
    config.ignore("linear_a_log_min", "linear_a_log_max", "linear_dt_min", "linear_dt_max",
                  "linear_dt_init_floor", "linear_allow_neg_eigval")  # fmt: skip
    count, heads = config.count("num_hidden_layers"), config.count("num_attention_heads")
    key_heads = config.count("linear_num_key_heads", heads)
    key_dim = int(0.75 * config.count("hidden_size") / key_heads)
    linear = gated_delta_net(
        config,
        linear_num_key_heads=heads,
        linear_num_value_heads=heads,
        linear_key_head_dim=key_dim,
        linear_value_head_dim=2 * config.count("linear_key_head_dim", key_dim),
    )
    blocks = {
        "linear": linear,
        "full": attention(config, qk_norm="full", rotary_dim=_olmo_rotary(config)),
        "mlp": mlp(config, hidden_act=activation(config)),
    }
    words = ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(count)]
    mixers = _mixers(config, words)
    note = "Attention layers have their norms after the blocks; here all stand before them."
    return {
        **frame(config, tied=False, context=65536),
        "notes": [note],
        **stack(blocks, [(mixer, "mlp") for mixer in mixers]),
    }


def _olmo_rotary(config: ConfigView) -> int | None:
    """The released models rotate nothing; others state a base."""
    if config.has("rope_theta"):
        return None
    if not config.has("rope_parameters"):
        return 0
    rope = config.part("rope_parameters")
    rotates = rope.has("rope_theta")
    rope.ignore_all()
    return None if rotates else 0


def kimi_linear(config: ConfigView) -> Spec:
    """Kimi Linear: delta attention beside latent attention without rotation."""
    config.require("mla_use_nope", True, default=True)
    rank = config.count("q_lora_rank") if config.has("q_lora_rank") else None
    blocks = {
        "linear": _kda(_kimi_linear_sizes(config)),
        "full": {**_mla(config, q_lora_rank=rank), "rotary": False},
        **_moe_networks(config, experts=256),
    }
    mixers = _kimi_mixers(config)
    config.require("num_nextn_predict_layers", 0, None)
    return {
        **_kimi_frame(config, 1048576),
        **stack(blocks, list(zip(mixers, _networks(config, 1), strict=True))),
    }


def _kimi_linear_sizes(config: ConfigView) -> tuple[int, int, int]:
    """Heads, their width and the taps, in a part of their own or beside the other keys."""
    own = (
        config.count("linear_num_heads", 32),
        config.count("linear_head_dim", 128),
        config.count("linear_conv_kernel_dim", 4),
    )
    if not config.has("linear_attn_config"):
        return own
    part = config.part("linear_attn_config")
    keys = ("num_heads", "head_dim", "short_conv_kernel_size")
    heads, width, taps = (part.count(k, v) for k, v in zip(keys, own, strict=True))
    return heads, width, taps


def _kimi_mixers(config: ConfigView) -> list[str]:
    """Layer words, or two lists of layer numbers that count from 1."""
    count = config.count("num_hidden_layers")
    if not config.has("linear_attn_config"):
        words = ["linear_attention"] * count
        words[4::4] = ["full_attention"] * len(words[4::4])
        return _mixers(config, words)
    part = config.part("linear_attn_config")
    full, linear = part.counts("full_attn_layers"), part.counts("kda_layers")
    if sorted(full + linear) != list(range(1, count + 1)):
        raise part.refusal("full_attn_layers", "and kda_layers do not name each layer once")
    words = ["full_attention" if i in full else "linear_attention" for i in range(1, count + 1)]
    return _mixers(config, words)


def bailing_hybrid(config: ConfigView) -> Spec:
    """Ling 3.0: delta attention with full-rank gates beside latent attention with a gate a head."""
    config.ignore("kda_safe_gate", "kda_lower_bound")  # form of the decay
    count, group = config.count("num_hidden_layers"), config.count("layer_group_size", 6)
    words = ["linear_attention" if i % group else "full_attention" for i in range(1, count + 1)]
    sizes = (
        config.count("linear_num_heads", config.count("num_attention_heads")),
        config.count("linear_head_dim", config.count("head_dim", 128)),
        config.count("linear_conv_kernel_dim", config.count("short_conv_kernel_size", 4)),
    )
    blocks = {
        "linear": {**_kda(sizes), "low_rank_gates": False},
        "full": {**_mla(config, q_lora_rank=None), "output_gate": "head"},
        **_moe_networks(config, experts=512),
    }
    config.require("q_lora_rank", None)
    config.ignore("num_nextn_predict_layers", "num_mtp_layers")  # make-up not published
    mixers = _mixers(config, words)
    return {
        **_kimi_frame(config, 262144),
        "notes": ["Multi-token-prediction modules are not read: their make-up is not known."],
        **stack(blocks, list(zip(mixers, _networks(config, 2), strict=True))),
    }


def _kimi_frame(config: ConfigView, context: int) -> Spec:
    """These classes name the context ``model_max_length`` and cannot tie the head."""
    config.require("tie_word_embeddings", False, default=False)
    stated = either(config, "model_max_length", "max_position_embeddings", context)
    return {**frame(config, tied=False, context=context), "max_position_embeddings": stated}


def either(config: ConfigView, key: str, other: str, default: int) -> int:
    """A count under one of two names; both may stand only where they agree."""
    value = config.count(key, config.count(other, default))
    config.require(other, value, None)
    return value


def _kda(sizes: tuple[int, int, int]) -> Spec:
    heads, width, taps = sizes
    return {"kind": "kda", "num_heads": heads, "head_dim": width, "short_conv_kernel_size": taps}


def _mla(config: ConfigView, **more: Any) -> Spec:
    config.require("attention_bias", False, default=False)
    # heads of the cached latent, and widths that follow from those read here
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim")
    return {
        "kind": "mla",
        "num_attention_heads": config.count("num_attention_heads"),
        "kv_lora_rank": config.count("kv_lora_rank", 512),
        "qk_nope_head_dim": config.count("qk_nope_head_dim", 128),
        "qk_rope_head_dim": config.count("qk_rope_head_dim", 64),
        "v_head_dim": config.count("v_head_dim", 128),
        **more,
    }


def _networks(config: ConfigView, dense: int) -> list[str]:
    """Dense first, then experts; ``dense`` is the class's default number of dense layers."""
    config.require("moe_layer_freq", 1, default=1)
    first = config.size("first_k_dense_replace", dense)
    words = ["dense" if i < first else "sparse" for i in range(config.count("num_hidden_layers"))]
    return layer_kinds(config, "mlp_layer_types", NETWORKS, words, count=len(words))


def _moe_networks(config: ConfigView, *, experts: int) -> Spec:
    act = activation(config)
    moe = {
        "kind": "moe",
        "num_experts": either(config, "num_experts", "num_local_experts", experts),
        "num_experts_per_tok": either(config, "num_experts_per_token", "num_experts_per_tok", 8),
        "moe_intermediate_size": config.count("moe_intermediate_size"),
        "n_shared_experts": either(config, "num_shared_experts", "n_shared_experts", 1),
        "hidden_act": act,
        "e_score_correction_bias": True,
    }
    return {"dense": mlp(config, hidden_act=act), "moe": without_defaults(moe)}


READERS = {
    "Qwen3NextForCausalLM": qwen3_next,
    "Qwen3_5ForCausalLM": qwen3_5,
    "Qwen3_5MoeForCausalLM": qwen3_5_moe,
    "OlmoHybridForCausalLM": olmo_hybrid,
    "KimiLinearForCausalLM": kimi_linear,
    "BailingHybridForCausalLM": bailing_hybrid,
}
MODEL_TYPES = {
    "qwen3_next": "Qwen3NextForCausalLM",
    "qwen3_5_text": "Qwen3_5ForCausalLM",
    "qwen3_5_moe_text": "Qwen3_5MoeForCausalLM",
    "olmo_hybrid": "OlmoHybridForCausalLM",
    "kimi_linear": "KimiLinearForCausalLM",
}
