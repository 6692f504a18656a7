"""State-space layers or short convolutions beside attention layers."""

from math import ceil
from typing import Any, Final

from llmplan.dtypes import divide_exactly
from llmplan.model.importing.decoders import window
from llmplan.model.importing.families.recurrent import LOW_RANK_SHARE, biases
from llmplan.model.importing.parts import (
    Spec,
    activation,
    attention,
    frame,
    head_dim,
    layer_kinds,
    mlp,
    rotary_dim,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

MIXERS: Final = {
    "linear_attention": "mamba", "mamba": "mamba",
    "full_attention": "attention", "attention": "attention",
}  # fmt: skip
"""Layer words of transformers 5 and of older configs."""


def _attention(config: ConfigView, **more: Any) -> Spec:
    """Attention of a class whose own number of key and value heads is no general default."""
    return attention(config, num_key_value_heads=config.count("num_key_value_heads"), **more)


def jamba(config: ConfigView) -> Spec:
    """Jamba: attention and experts at a period and an offset each."""
    config.require("attention_bias", False, None)  # the class has no biases, whatever it says
    config.require("mamba_inner_layernorms", True, default=True)
    config.require("sliding_window", None)
    config.ignore(
        "use_mamba_kernels", "use_mambapy", "use_associative_scan", "n_ctx",
        "calc_logits_for_entire_prompt",
    )  # fmt: skip
    act = activation(config)
    blocks = {
        "mamba": _jamba_mamba(config),
        "attention": _attention(config, rotary_dim=0),
        "dense": mlp(config, hidden_act=act),
        "moe": without_defaults({
            "kind": "moe",
            "num_experts": config.count("num_experts", 16),
            "num_experts_per_tok": config.count("num_experts_per_tok", 2),
            "moe_intermediate_size": config.count("intermediate_size"),
            "hidden_act": act,
        }),
    }  # fmt: skip
    return {
        **frame(config, tied=False, context=262144),
        **stack(blocks, _jamba_layers(config)),
    }


def _jamba_mamba(config: ConfigView) -> Spec:
    D = config.count("hidden_size")
    return {
        "kind": "mamba",
        "intermediate_size": config.count("mamba_expand", 2) * D,
        "state_size": config.count("mamba_d_state", 16),
        "conv_kernel": config.count("mamba_d_conv", 4),
        "time_step_rank": config.count_or_auto("mamba_dt_rank", ceil(D / LOW_RANK_SHARE)),
        **biases(config, "mamba_proj_bias", "mamba_conv_bias"),
        "inner_norms": True,
    }


def _jamba_layers(config: ConfigView) -> list[tuple[str, ...]]:
    attention_every = config.count("attn_layer_period", 8)
    attention_at = config.size("attn_layer_offset", 4)
    experts_every = config.count("expert_layer_period", 2)
    experts_at = config.size("expert_layer_offset", 1)
    has_experts = config.count("num_experts", 16) > 1
    return [
        (
            "attention" if index % attention_every == attention_at else "mamba",
            "moe" if has_experts and index % experts_every == experts_at else "dense",
        )
        for index in range(config.count("num_hidden_layers"))
    ]


def _mamba2(config: ConfigView, inner: int) -> Spec:
    """Mamba-2 under the key names of Bamba and its relatives."""
    heads = config.count("mamba_n_heads", 128)
    if inner % heads:
        raise config.refusal("mamba_n_heads", f"does not divide the inner width {inner}")
    width = divide_exactly(inner, heads)
    if config.count_or_auto("mamba_d_head", width) != width:
        raise config.refusal("mamba_d_head", f"times mamba_n_heads is not {inner}")
    config.ignore("mamba_chunk_size", "time_step_limit", "time_step_min", "time_step_max",
                  "time_step_floor", "use_mamba_kernels")  # fmt: skip
    return {
        "kind": "mamba2",
        "num_heads": heads,
        "head_dim": width,
        "n_groups": config.count("mamba_n_groups", 1),
        "state_size": config.count("mamba_d_state", 256),
        "conv_kernel": config.count("mamba_d_conv", 4),
        **biases(config, "mamba_proj_bias", "mamba_conv_bias"),
    }


def _expanded(config: ConfigView) -> int:
    return config.count("mamba_expand", 2) * config.count("hidden_size")


def bamba(config: ConfigView) -> Spec:
    """Bamba: half of each attention head is rotated."""
    config.ignore("z_loss_coefficient")  # training
    layers = range(config.count("num_hidden_layers"))
    attention_at = config.counts("attn_layer_indices", [])
    if any(index not in layers for index in attention_at):
        raise config.refusal("attn_layer_indices", "names a layer that is not there")
    width = head_dim(config)
    rotated = config.size("attn_rotary_emb", rotary_dim(config, width, 0.5) or width)
    blocks = {
        "mamba": _mamba2(config, _expanded(config)),
        "attention": _attention(config, rotary_dim=None if rotated == width else rotated),
        "mlp": mlp(config, hidden_act=activation(config), mlp_bias=config.flag("mlp_bias", False)),
    }
    pattern = [("attention" if index in attention_at else "mamba", "mlp") for index in layers]
    return {**frame(config, tied=False, context=262144), **stack(blocks, pattern)}


def granite_hybrid(config: ConfigView) -> Spec:
    """Granite 4.0 H: a shared network in each layer, with or without routed experts beside it."""
    config.require("normalization_function", "rmsnorm", default="rmsnorm")
    config.require("position_embedding_type", "nope", "rope", None)
    config.require("mlp_bias", False, None)
    config.ignore("init_method")
    rotates = config.text("position_embedding_type", "nope") == "rope"
    count = config.count("num_hidden_layers")
    mixers = layer_kinds(config, "layer_types", MIXERS, ["linear_attention"] * count, count=count)
    network = "moe" if config.size("num_local_experts", 8) else "mlp"
    blocks = {
        "mamba": _mamba2(config, _expanded(config)),
        "attention": attention(config, rotary_dim=None if rotates else 0),
        network: _granite_network(config),
    }
    return {
        **frame(config, tied=False, context=2048),
        **stack(blocks, [(mixer, network) for mixer in mixers]),
    }


def _granite_network(config: ConfigView) -> Spec:
    act, shared = activation(config), config.count("shared_intermediate_size", 1024)
    experts, chosen = config.size("num_local_experts", 8), config.size("num_experts_per_tok", 2)
    config.ignore("intermediate_size")  # of routed experts, read where there are any
    if not experts:
        return without_defaults({"kind": "mlp", "intermediate_size": shared, "hidden_act": act})
    return without_defaults({
        "kind": "moe",
        "num_experts": experts,
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": config.count("intermediate_size", 11008),
        "shared_expert_intermediate_size": shared,
        "hidden_act": act,
    })  # fmt: skip


def falcon_h1(config: ConfigView) -> Spec:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    has_bias = config.flag("projectors_bias", False)
    config.require("mamba_proj_bias", has_bias, default=False)
    config.require("mamba_use_mlp", True, default=True)
    config.ignore(
        "mamba_norm_before_gate", "lm_head_multiplier", "mlp_multipliers", "key_multiplier",
        "attention_out_multiplier", "attention_in_multiplier", "ssm_multipliers",
        "ssm_in_multiplier", "ssm_out_multiplier", "mlp_expansion_factor",
        "layers_block_type", "layer_types",
    )  # fmt: skip
    config.ignore("mamba_expand")  # of use only where mamba_d_ssm is null
    inner = config.count("mamba_d_ssm")
    mixer = _mamba2(config, inner)
    if not config.flag("mamba_rms_norm", False):
        mixer["gated_norm"] = False
    blocks = {
        "mamba": mixer,
        "attention": _attention(config),
        "mlp": mlp(config, hidden_act=activation(config), mlp_bias=config.flag("mlp_bias", False)),
    }
    layers = [(("mamba", "attention"), "mlp")] * config.count("num_hidden_layers")
    return {**frame(config, tied=False, context=8192), **stack(blocks, layers)}


def lfm2(config: ConfigView) -> Spec:
    """LFM2: short convolutions, and attention with norms of queries and keys."""
    blocks = {**_lfm2_mixers(config), "mlp": {
        "kind": "mlp", "intermediate_size": _lfm2_inner_width(config)
    }}  # fmt: skip
    return {**_lfm2_frame(config), **stack(blocks, [(m, "mlp") for m in _lfm2_layers(config)])}


def lfm2_moe(config: ConfigView) -> Spec:
    """LFM2 with experts after the first dense layers."""
    dense, count = config.size("num_dense_layers", 2), config.count("num_hidden_layers")
    bias = {"e_score_correction_bias": True} if config.flag("use_expert_bias", True) else {}
    blocks = {
        **_lfm2_mixers(config),
        "dense": {"kind": "mlp", "intermediate_size": config.count("intermediate_size")},
        "moe": {
            "kind": "moe",
            "num_experts": config.count("num_experts", 32),
            "num_experts_per_tok": config.count("num_experts_per_tok", 4),
            "moe_intermediate_size": config.count("moe_intermediate_size", 1792),
            **bias,
        },
    }
    layers = [
        (mixer, "dense" if index < dense else "moe")
        for index, mixer in enumerate(layer_kinds(config, "layer_types", LFM2_MIXERS, count=count))
    ]
    return {**_lfm2_frame(config), **stack(blocks, layers)}


def lfm3(config: ConfigView) -> Spec:
    """LFM3: short convolutions, sliding and full attention, a gate on every head."""
    count = config.count("num_hidden_layers")
    context = config.count("max_position_embeddings", 128000)
    full = _attention(
        config,
        bias=False,
        head_dim=config.count("head_dim", 128),
        qk_norm="head",
        output_gate="head" if config.flag("use_attention_gate", True) else "none",
    )
    tokens = window(config, 256)
    own = [_LFM3_KINDS.get(index % 4, "conv") if index else "conv" for index in range(count)]
    mixers = {"conv": "convolution", "full_attention": "full", "sliding_attention": "sliding"}
    kinds = layer_kinds(config, "layer_types", mixers, own, count=count)
    if "sliding" in kinds and tokens is None:
        raise config.refusal("sliding_window", "is missing or off, but layers slide")
    slides = {} if tokens is None or tokens >= context else {"sliding_window": tokens}
    share = _lfm3_rotary_share(config)
    rotated = {} if share == 1 else {"rotary_dim": int(full["head_dim"] * share)}
    has_bias = {"conv_bias": True} if config.flag("conv_bias", False) else {}
    blocks = {
        "convolution": {
            "kind": "short_convolution",
            "conv_kernel": config.count("conv_L_cache", 7),
            **has_bias,
        },
        "full": {**full, **rotated},
        "sliding": {**full, **slides},
        "mlp": {"kind": "mlp", "intermediate_size": config.count("intermediate_size")},
    }
    placement = "sandwich" if config.flag("use_sandwich_norm", True) else "pre"
    return {
        **frame(config, tied=True, context=128000),
        "norm": {"placement": placement},
        **stack(blocks, [(kind, "mlp") for kind in kinds]),
    }


_LFM3_KINDS: Final = {0: "sliding_attention", 2: "full_attention"}
"""The class's own mixers by the layer's number modulo 4; the rest, and the first, convolve."""


def _lfm3_rotary_share(config: ConfigView) -> float:
    """The rotated part of a head in full layers; sliding ones rotate the whole."""
    if not config.has("rope_parameters"):
        return 0.5
    rope = config.part("rope_parameters")
    rope.ignore_all()  # tables are computed, not stored
    if not rope.has("full_attention"):
        return 1.0
    of_full = rope.part("full_attention")
    of_full.ignore_all()
    return of_full.number("partial_rotary_factor", 1.0)


LFM2_MIXERS: Final = {"conv": "convolution", "full_attention": "attention"}


def _lfm2_frame(config: ConfigView) -> Spec:
    """The class takes ``tie_embedding``, where it is stated, for ``tie_word_embeddings``."""
    tied = config.flag("tie_embedding", config.flag("tie_word_embeddings", True))
    return {**frame(config, tied=True, context=128000), "tie_word_embeddings": tied}


def _lfm2_mixers(config: ConfigView) -> Spec:
    config.require("attention_bias", False, None)
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        config.require(key, config.count("hidden_size"), None)
    config.require("num_heads", config.count("num_attention_heads"), None)
    config.require("block_use_swiglu", True, None)
    config.require("use_pos_enc", True, None)
    config.ignore(
        "block_mlp_init_scale", "block_out_init_scale", "block_norm_eps", "theta",
        "block_use_xavier_init", "conv_use_xavier_init",
    )  # fmt: skip
    has_bias = {"conv_bias": True} if config.flag("conv_bias", False) else {}
    kernel = config.count("conv_L_cache", 3)
    return {
        "convolution": {"kind": "short_convolution", "conv_kernel": kernel, **has_bias},
        "attention": _attention(config, qk_norm="head"),
    }


def _lfm2_layers(config: ConfigView) -> list[str]:
    count = config.count("num_hidden_layers")
    attention_at = config.counts("full_attn_idxs", list(range(count)))
    words = ["full_attention" if index in attention_at else "conv" for index in range(count)]
    return layer_kinds(config, "layer_types", LFM2_MIXERS, words, count=count)


def _lfm2_inner_width(config: ConfigView) -> int:
    """Two thirds of the stated width, scaled and rounded up, unless the config says to keep it."""
    width = config.count("block_ff_dim", config.count("intermediate_size", 12288))
    scale_key = "block_ffn_dim_multiplier"
    scale, multiple = config.number(scale_key, 1.0), config.count("block_multiple_of", 256)
    config.require(scale_key, scale, default=1.0)  # null would skip the rounding
    if not config.flag("block_auto_adjust_ff_dim", True):
        return width
    return ceil(int(scale * int(2 * width / 3)) / multiple) * multiple


READERS = {
    "JambaForCausalLM": jamba,
    "BambaForCausalLM": bamba,
    "GraniteMoeHybridForCausalLM": granite_hybrid,
    "FalconH1ForCausalLM": falcon_h1,
    "Lfm2ForCausalLM": lfm2,
    "Lfm2MoeForCausalLM": lfm2_moe,
    "Lfm3ForCausalLM": lfm3,
}
MODEL_TYPES = {
    "jamba": "JambaForCausalLM",
    "bamba": "BambaForCausalLM",
    "granitemoehybrid": "GraniteMoeHybridForCausalLM",
    "falcon_h1": "FalconH1ForCausalLM",
    "lfm2": "Lfm2ForCausalLM",
    "lfm2_moe": "Lfm2MoeForCausalLM",
    "lfm3": "Lfm3ForCausalLM",
}
