"""Recurrent decoders without softmax attention, or with it in a window only."""

from math import ceil
from typing import Any, Final

from llmplan.dtypes import divide_exactly
from llmplan.model.importing.parts import (
    Spec,
    activation,
    frame,
    layer_kinds,
    rotary_dim,
    same_layers,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

MAMBA_CONTEXT: Final = 2048
"""Training length of the Mamba papers (Gu & Dao 2023); the configs state none."""
RECURRENT_GEMMA_CONTEXT: Final = 8192
"""Training length of RecurrentGemma (Botev et al. 2024, table 1); the configs state none."""
LOW_RANK_SHARE: Final = 16
"""Mamba's automatic rank of the step size is the width over 16, rounded up."""
RWKV_MULTIPLE: Final = 32
"""RWKV-6 rounds its inner width up to a multiple of 32."""


def mamba(config: ConfigView) -> Spec:
    """Mamba."""
    return _mamba_decoder(config)


def falcon_mamba(config: ConfigView) -> Spec:
    """Mamba with norms without weights on step size, B and C."""
    config.ignore("mixer_rms_eps", "use_falcon_mambapy")  # numerics and choice of kernel
    return _mamba_decoder(config, inner_norms=True, inner_norm_weights=False)


def _mamba_decoder(config: ConfigView, **more: Any) -> Spec:
    D = config.count("hidden_size")
    inner = config.count("expand", 2) * D
    _refuse_other_sizes(config, intermediate_size=inner, d_inner=inner)
    _ignore_mamba_settings(config)
    block = {
        "kind": "mamba",
        "intermediate_size": inner,
        "state_size": config.count("state_size", 16),
        "conv_kernel": config.count("conv_kernel", 4),
        "time_step_rank": config.count_or_auto("time_step_rank", ceil(D / LOW_RANK_SHARE)),
        **biases(config),
        **more,
    }
    return _without_length(config, {
        **frame(config, tied=True, context=MAMBA_CONTEXT),
        "blocks": {"mamba": block},
        "layers": same_layers(config.count("num_hidden_layers"), "mamba"),
    }, MAMBA_CONTEXT)  # fmt: skip


def mamba2(config: ConfigView) -> Spec:
    """Mamba-2."""
    heads, head_dim = config.count("num_heads", 128), config.count("head_dim", 64)
    if heads * head_dim != config.count("expand", 2) * config.count("hidden_size"):
        raise config.refusal("num_heads", "times head_dim is not expand times hidden_size")
    _refuse_other_sizes(config, intermediate_size=heads * head_dim)
    _ignore_mamba_settings(config)
    config.ignore("time_step_rank")  # of Mamba; Mamba-2 has one step size a head
    block = {
        "kind": "mamba2",
        "num_heads": heads,
        "head_dim": head_dim,
        "n_groups": config.count("n_groups", 8),
        "state_size": config.count("state_size", 128),
        "conv_kernel": config.count("conv_kernel", 4),
        **biases(config),
    }
    return _without_length(config, {
        **frame(config, tied=False, context=MAMBA_CONTEXT),
        "blocks": {"mamba": block},
        "layers": same_layers(config.count("num_hidden_layers"), "mamba"),
    }, MAMBA_CONTEXT)  # fmt: skip


def biases(
    config: ConfigView, projections: str = "use_bias", convolution: str = "use_conv_bias"
) -> Spec:
    """Biases of a state-space block where they differ from the spec's defaults."""
    has_bias, has_conv_bias = config.flag(projections, False), config.flag(convolution, True)
    stated = {"use_bias": True} if has_bias else {}
    return stated if has_conv_bias else {**stated, "use_conv_bias": False}


def _refuse_other_sizes(config: ConfigView, **expected: int) -> None:
    """Refuse sizes that the class computes itself and the config states otherwise."""
    for key, size in expected.items():
        config.require(key, size, None)


def _ignore_mamba_settings(config: ConfigView) -> None:
    """Second names of sizes, kernels, initial values, and the source of a converted config."""
    _refuse_other_sizes(
        config, d_model=config.count("hidden_size"), n_layer=config.count("num_hidden_layers")
    )
    config.require("rms_norm", True, default=True)
    config.require("ssm_cfg", {}, None)
    config.ignore(
        "hidden_act", "time_step_scale", "time_step_min", "time_step_max", "time_step_limit",
        "time_step_init_scheme", "time_step_floor", "chunk_size", "use_mambapy",
        "use_associative_scan", "pad_vocab_size_multiple", "_original",
    )  # fmt: skip


def _without_length(config: ConfigView, body: Spec, length: int) -> Spec:
    if config.has("max_position_embeddings"):
        return body
    note = f"The config states no length; {length} is that of the training sequences."
    return {**body, "notes": [note]}


def recurrent_gemma(config: ConfigView) -> Spec:
    """RecurrentGemma: the config's intermediate_size is that of two branches together."""
    heads, D = config.count("num_attention_heads"), config.count("hidden_size")
    if D % heads:
        raise config.refusal("num_attention_heads", "does not divide hidden_size")
    head_dim = divide_exactly(D, heads)
    config.require("head_dim", head_dim, None)
    config.require("embeddings_scale_by_sqrt_dim", True, default=True)
    config.ignore("logits_soft_cap", "w_init_variance_scale", "final_w_init_variance_scale")
    layers = _recurrent_gemma_layers(config)
    blocks = {
        "recurrent": {
            "kind": "rg_lru",
            "lru_width": config.count("lru_width", D),
            "num_attention_heads": heads,
            "conv1d_width": config.count("conv1d_width", 4),
        },
        "local": without_defaults({
            "kind": "attention",
            "num_attention_heads": heads,
            "num_key_value_heads": config.count("num_key_value_heads", heads),
            "head_dim": head_dim,
            "attention_bias": config.flag("attention_bias", False),
            "o_proj_bias": True,
            "rotary_dim": rotary_dim(config, head_dim, 0.5),
            "sliding_window": config.count("attention_window_size", 2048),
        }),
        "mlp": {
            "kind": "mlp",
            "intermediate_size": _one_branch(config),
            "hidden_act": activation(config, "hidden_activation", "gelu_pytorch_tanh"),
            "mlp_bias": True,
        },
    }  # fmt: skip
    body = {
        **frame(config, tied=True, context=RECURRENT_GEMMA_CONTEXT),
        **stack(blocks, [(mixer, "mlp") for mixer in layers]),
    }
    return _without_length(config, body, RECURRENT_GEMMA_CONTEXT)


def _recurrent_gemma_layers(config: ConfigView) -> list[str]:
    """The period of mixers, repeated over the depth; its key was once written with a dash."""
    if config.has("block_types") and config.has("_block_types"):
        raise config.refusal("_block_types", "stands beside block_types")
    key = "_block_types" if config.has("_block_types") else "block_types"
    config.ignore("_block_types", "block_types")
    kinds = {"recurrent": "recurrent", "attention": "local"}
    period = layer_kinds(config, key, kinds, ["recurrent", "recurrent", "attention"])
    if not period:
        raise config.refusal(key, "is empty")
    return [period[index % len(period)] for index in range(config.count("num_hidden_layers"))]


def _one_branch(config: ConfigView) -> int:
    both = config.count("intermediate_size")
    if both % 2:
        raise config.refusal("intermediate_size", "is odd, but stands for two equal branches")
    return divide_exactly(both, 2)


def rwkv6(config: ConfigView) -> Spec:
    """RWKV-6 as flash-linear-attention publishes it."""
    D, heads = config.count("hidden_size"), config.count("num_heads")
    if D % heads:
        raise config.refusal("num_heads", "does not divide hidden_size")
    config.require("expand_k", 1)
    config.require("expand_v", 1)
    config.require("use_glu", False, default=False)
    config.require("hidden_act", "sqrelu", default="sqrelu")
    config.require("attn", None)
    # a choice of kernel, numerics, and settings of other mixers of the same library
    config.ignore("attn_mode", "clamp_min", "fuse_cross_entropy", "fuse_norm", "conv_size",
                  "share_conv_kernel")  # fmt: skip
    blocks = {
        "time_mix": {
            "kind": "rwkv6",
            "num_heads": heads,
            "head_dim": divide_exactly(D, heads),
            "proj_low_rank_dim": config.count("proj_low_rank_dim", 32),
            "gate_low_rank_dim": config.count("gate_low_rank_dim", 64),
        },
        "channel_mix": {
            "kind": "rwkv6_channel_mix",
            "intermediate_size": _rwkv_inner_width(config, D),
        },
    }
    return {
        **frame(config, tied=False, context=2048),
        "embedding_norm": config.flag("norm_first", True),
        "norm": {"kind": "layernorm", "bias": config.flag("norm_bias", True)},
        "blocks": blocks,
        "layers": same_layers(config.count("num_hidden_layers"), "time_mix", "channel_mix"),
    }


def _rwkv_inner_width(config: ConfigView, D: int) -> int:
    ratio = config.number("hidden_ratio", 3.5)
    width = ceil(int(D * ratio) / RWKV_MULTIPLE) * RWKV_MULTIPLE
    return config.count("intermediate_size", width)


READERS = {
    "MambaForCausalLM": mamba,
    "Mamba2ForCausalLM": mamba2,
    "FalconMambaForCausalLM": falcon_mamba,
    "RecurrentGemmaForCausalLM": recurrent_gemma,
    "RWKV6ForCausalLM": rwkv6,
}
MODEL_TYPES = {
    "mamba": "MambaForCausalLM",
    "mamba2": "Mamba2ForCausalLM",
    "falcon_mamba": "FalconMambaForCausalLM",
    "recurrent_gemma": "RecurrentGemmaForCausalLM",
    "rwkv6": "RWKV6ForCausalLM",
}
