"""Nemotron-H and Nemotron 3: one block a layer."""

from typing import Final

from llmplan.model.importing.families.recurrent import biases
from llmplan.model.importing.parts import (
    Spec,
    activation,
    frame,
    layer_kinds,
    mlp,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

WORDS: Final = {
    "linear_attention": "mamba", "mamba": "mamba", "moe": "moe", "mlp": "mlp",
    "full_attention": "attention", "attention": "attention",
}  # fmt: skip
LETTERS: Final = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}


def nemotron_h(config: ConfigView) -> Spec:
    """Nemotron-H and Nemotron 3: each layer holds one block."""
    layers = _layers(config, "hybrid_override_pattern", "layers_block_type")
    config.require("tie_word_embeddings", False, default=False)  # the class cannot tie
    config.require("sliding_window", None)
    for key in ("attention_bias", "mamba_proj_bias"):  # no part of the class
        config.require(key, False, default=False)
    config.ignore(
        "expand", "chunk_size", "use_mamba_kernels", "mamba_hidden_act", "mamba_ssm_cache_dtype",
        "time_step_floor", "time_step_limit", "time_step_max", "time_step_min",
        "moe_shared_expert_overlap", "partial_rotary_factor",
    )  # fmt: skip
    if "moe" in layers:
        config.require("mlp_bias", False, default=False)  # it would reach the latent projections
    blocks = _blocks(config)
    mtp = _mtp(config, blocks)
    return {
        **frame(config, tied=False, context=4096, layers=len(layers)),
        **stack(blocks, [(name,) for name in layers], mtp),
    }


def _layers(
    config: ConfigView, letters_key: str, words_key: str, default: list[str] | None = None
) -> list[str]:
    """The explicit list, or the pattern of one letter a layer."""
    stated = config.text(letters_key, "")
    if config.has(words_key) or not stated:
        return layer_kinds(config, words_key, WORDS, default)
    if not set(stated) <= set(LETTERS):
        raise config.refusal(letters_key, "has a letter other than M, E, * and -")
    return [LETTERS[letter] for letter in stated]


def _blocks(config: ConfigView) -> Spec:
    act = activation(config, "mlp_hidden_act", "relu2")
    network: Spec = {"hidden_act": act, "gated": False}
    return {
        "mamba": {
            "kind": "mamba2",
            "num_heads": config.count("mamba_num_heads", 128),
            "head_dim": config.count("mamba_head_dim", 64),
            "n_groups": config.count("n_groups", 8),
            "state_size": config.count("ssm_state_size", 128),
            "conv_kernel": config.count("conv_kernel", 4),
            **biases(config),
        },
        "attention": {
            "kind": "attention",
            "num_attention_heads": config.count("num_attention_heads", 32),
            "num_key_value_heads": config.count("num_key_value_heads", 8),
            "head_dim": config.count("head_dim", 128),
            "rotary_dim": 0,
        },
        "mlp": mlp(config, mlp_bias=config.flag("mlp_bias", False), **network),
        "moe": _moe(config, network),
    }


def _moe(config: ConfigView, network: Spec) -> Spec:
    config.require("n_shared_experts", 1, default=1)
    shared = config.count("moe_shared_expert_intermediate_size", 7688)
    latent = config.count("moe_latent_size", 1) if config.has("moe_latent_size") else None
    return without_defaults({
        "kind": "moe",
        "num_experts": config.count("n_routed_experts", 8),
        "num_experts_per_tok": config.count("num_experts_per_tok", 2),
        "moe_intermediate_size": config.count("moe_intermediate_size", 7688),
        "moe_latent_size": latent,
        "shared_expert_intermediate_size": shared,
        **network,
        "e_score_correction_bias": True,
    })  # fmt: skip


def _mtp(config: ConfigView, blocks: Spec) -> Spec | None:
    """The modules' own block kinds; their router stores no selection bias."""
    keys = ("mtp_hybrid_override_pattern", "mtp_layers_block_type")
    names = _layers(config, *keys, ["full_attention", "moe"])
    count = config.size("num_nextn_predict_layers", 0)
    if not count:
        return None
    if count > 1:
        raise config.refusal("num_nextn_predict_layers", f"is {count}; only 1 can be read so far")
    blocks["mtp_moe"] = {k: v for k, v in blocks["moe"].items() if k != "e_score_correction_bias"}
    renamed = ["mtp_moe" if name == "moe" else name for name in names]
    return {"num_nextn_predict_layers": count, "blocks": renamed}


READERS = {"NemotronHForCausalLM": nemotron_h}
MODEL_TYPES = {"nemotron_h": "NemotronHForCausalLM"}
