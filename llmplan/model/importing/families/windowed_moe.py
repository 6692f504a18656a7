"""Mixtures of experts with sliding windows in some layers."""

from typing import Final

from llmplan.errors import DocumentError
from llmplan.model.importing.families.moe import LAYER_NORM, all_sparse, granite_experts
from llmplan.model.importing.families.shared_moe import deepseek_experts
from llmplan.model.importing.parts import Spec, frame, stack
from llmplan.model.importing.sparse import (
    absent,
    dense,
    dense_first,
    every,
    experts,
    grouped_query,
    key_value_heads,
    local_and_global,
    networks,
    shared,
    sparse_steps,
    unknown_mtp,
    windows,
)
from llmplan.model.importing.view import ConfigView

SANDWICH: Final = {"norm": {"placement": "sandwich"}}


def rows(mixers: list[str], feed_forward: list[str]) -> list[tuple[str, ...]]:
    """One mixer and one network a layer."""
    return list(zip(mixers, feed_forward, strict=True))


def gpt_oss(config: ConfigView) -> Spec:
    """gpt-oss: sinks, and biases on every matrix."""
    bias = config.flag("attention_bias", True)
    config.require("experts_per_token", config.count("num_experts_per_tok"), None)
    config.ignore("initial_context_length", "swiglu_alpha")  # rotary tables, numerics
    attention = grouped_query(config, bias=bias, head=64, attention_sinks=True)
    blocks = {
        **local_and_global(config, attention),
        "moe": experts(config, width="intermediate_size", expert_bias=True, router_bias=True),
    }
    mixers = windows(config, every(config, 2))
    return {**frame(config, tied=False), **stack(blocks, rows(mixers, all_sparse(config)))}


def granite_moe_swa(config: ConfigView) -> Spec:
    """Granite with experts, windows and sinks."""
    if 0 in config.numbers("layer_rope_theta", []):
        raise config.refusal("layer_rope_theta", "is 0 for a layer, which cannot be read so far")
    attention = grouped_query(
        config,
        bias=config.flag("attention_bias", False),
        num_key_value_heads=key_value_heads(config),
        attention_sinks=True,
    )
    mixers = windows(config, every(config, 4, offset=0))
    blocks = {**local_and_global(config, attention), "moe": granite_experts(config)}
    return {**frame(config, tied=False), **stack(blocks, rows(mixers, all_sparse(config)))}


def dots1(config: ConfigView) -> Spec:
    """dots.llm1: windows from ``max_window_layers`` on."""
    bias = config.flag("attention_bias", False)
    attention = grouped_query(
        config, bias=bias, num_key_value_heads=key_value_heads(config), qk_norm="head"
    )
    blocks = {
        **local_and_global(config, attention),
        "dense": dense(config),
        "moe": deepseek_experts(config),
    }
    first = config.size("max_window_layers", 62) if config.has("sliding_window") else 10**9
    layers = range(config.count("num_hidden_layers"))
    mixers = windows(config, ["local" if i >= first else "global" for i in layers])
    return {**frame(config, tied=False), **stack(blocks, rows(mixers, dense_first(config)))}


def exaone_moe(config: ConfigView) -> Spec:
    """EXAONE with experts: global layers have no positions where there are windows."""
    absent(config, "attention_bias")
    blocks = {
        **local_and_global(config, grouped_query(config, qk_norm="head"), rotary_dim=0),
        "dense": dense(config),
        "moe": experts(
            config,
            n_shared_experts=shared(config, "num_shared_experts", 1),
            e_score_correction_bias=True,
        ),
    }
    if config.has("layer_types"):
        config.ignore("sliding_window_pattern")  # the list holds
        mixers = windows(config, [])
    else:
        mixers = every(config, config.count("sliding_window_pattern", 4))
    body = stack(blocks, rows(mixers, networks(config, first=1)))
    return {**frame(config, tied=False), **unknown_mtp(config), **body}


def afmoe(config: ConfigView) -> Spec:
    """AFMoE: gated attention, four norms, a selection bias that is a parameter."""
    config.ignore("mup_enabled", "num_expert_groups", "num_limited_groups", "use_grouped_mm")
    attention = grouped_query(
        config,
        bias=config.flag("attention_bias", False),
        head=128,
        num_key_value_heads=key_value_heads(config),
        qk_norm="head",
        output_gate="elementwise",
    )
    blocks = {
        **local_and_global(config, attention, rotary_dim=0),
        "dense": dense(config),
        "moe": experts(
            config, n_shared_experts=shared(config, "num_shared_experts", 2), router_bias=True
        ),
    }
    mixers = windows(config, every(config, config.count("global_attn_every_n_layers", 4)))
    body = stack(blocks, rows(mixers, dense_first(config, "num_dense_layers", 1)))
    return {**frame(config, tied=False), **SANDWICH, **body}


def laguna(config: ConfigView) -> Spec:
    """Laguna: as many query heads as each layer states, gated; a bias that is a parameter."""
    config.require("moe_apply_router_weight_on_input", False, None)
    config.require("first_k_dense_replace", 1, None)
    config.ignore("moe_routed_scaling_factor", "moe_router_logit_softcapping")  # numerics
    config.ignore("sliding_window")  # read below where a layer has one
    kinds = windows(config, ["global"] * config.count("num_hidden_layers"))
    stated = [config.count("num_attention_heads")] * len(kinds)
    heads = config.counts("num_attention_heads_per_layer", stated)
    if len(heads) != len(kinds):
        raise config.refusal("num_attention_heads_per_layer", "must have one entry a layer")
    blocks = {
        f"{kind}_{count}": _laguna_heads(config, kind, count)
        for kind, count in sorted(set(zip(kinds, heads, strict=True)))
    }
    blocks["dense"] = dense(config)
    blocks["moe"] = experts(
        config,
        shared_expert_intermediate_size=config.count("shared_expert_intermediate_size"),
        router_bias=True,
    )
    mixers = [f"{kind}_{count}" for kind, count in zip(kinds, heads, strict=True)]
    return {**frame(config, tied=False), **stack(blocks, rows(mixers, networks(config, first=1)))}


def _laguna_heads(config: ConfigView, kind: str, heads: int) -> Spec:
    local = kind == "local"
    width = config.count("head_dim", 128)
    return grouped_query(
        config,
        bias=config.flag("attention_bias", False),
        head=width,
        num_attention_heads=heads,
        qk_norm="head",
        output_gate=_laguna_gate(config),
        rotary_dim=_rotary_of(config, kind, width, 1.0 if local else 0.5),
        sliding_window=config.count("sliding_window", 512) if local else None,
    )


def _laguna_gate(config: ConfigView) -> str:
    """``gating``: true and per-head say the same."""
    config.require("gating", True, "per-head", "per-element", default=True)
    try:
        return "elementwise" if config.text("gating", "") == "per-element" else "head"
    except DocumentError:
        return "head"


def _rotary_of(config: ConfigView, kind: str, width: int, default: float) -> int | None:
    """The rotated part of a head of one kind of layer, from rotary settings by layer type."""
    share = default
    if config.has("rope_parameters"):
        rope = config.part("rope_parameters")
        word = {"local": "sliding_attention", "global": "full_attention"}[kind]
        share = rope.part(word).number("partial_rotary_factor", 1.0)
        rope.part(word).ignore_all()  # the tables themselves are computed
        rope.ignore_all()
    return None if share == 1 else int(width * share)


def cohere2_moe(config: ConfigView) -> Spec:
    """Command with experts: both blocks of a layer side by side, on one LayerNorm or RMSNorm."""
    config.ignore("shared_expert_combination_strategy", "expert_selection_fn")  # routing
    first = config.size("first_k_dense_replace", 0)
    prefix = config.count("prefix_dense_sliding_window_pattern", 1)
    feed_forward = networks(config, first=0)
    mixers = _cohere_mixers(config, first, prefix)
    if prefix == 1:  # dense layers are rotated even where they have no window
        mixers = ["rotated" if pair == ("global", "dense") else pair[0]
                  for pair in zip(mixers, feed_forward, strict=True)]  # fmt: skip
    attention = grouped_query(
        config,
        bias=config.flag("attention_bias", False),
        head=128,
        num_key_value_heads=key_value_heads(config),
    )
    width = "prefix_dense_intermediate_size"
    blocks = {
        **local_and_global(config, attention, rotary_dim=0),
        "rotated": attention,
        "dense": dense(config, width_key=width if config.has(width) else "intermediate_size"),
        "moe": experts(
            config,
            width="intermediate_size",
            n_shared_experts=shared(config, "num_shared_experts", 0),
        ),
    }
    norm = {} if config.has("rms_norm_eps") else LAYER_NORM
    body = stack(blocks, rows(mixers, feed_forward))
    return {**frame(config, tied=True), "norm": {**norm, "placement": "parallel"}, **body}


def _cohere_mixers(config: ConfigView, first: int, prefix: int) -> list[str]:
    """``layer_types``, or a period of its own for the dense layers in front."""
    period = config.count("sliding_window_pattern", 4)
    rest = config.count("num_hidden_layers") - first
    own = ["local" if (i + 1) % prefix else "global" for i in range(first)]
    return windows(config, own + ["local" if (i + 1) % period else "global" for i in range(rest)])


def mellum(config: ConfigView) -> Spec:
    """Mellum."""
    bias = config.flag("attention_bias", False)
    blocks = {
        **local_and_global(config, grouped_query(config, bias=bias, head=128, qk_norm="head")),
        "dense": dense(config),
        "moe": experts(config),
    }
    config.ignore("mtp_layer_types", "mtp_mlp_layer_types")  # of modules that are left out
    mixers = windows(config, ["global"] * config.count("num_hidden_layers"))
    body = stack(blocks, rows(mixers, networks(config, first=0)))
    return {**frame(config, tied=False), **unknown_mtp(config), **body}


def kolibri1(config: ConfigView) -> Spec:
    """Kolibri 1: four norms; global layers have no positions."""
    config.ignore("intermediate_size")  # no layer is dense
    attention = grouped_query(config, head=128, qk_norm="head")
    absent(config, "attention_bias")
    blocks = {
        **local_and_global(config, attention, rotary_dim=0),
        "moe": experts(
            config,
            shared_expert_intermediate_size=config.count("shared_expert_intermediate_size"),
            e_score_correction_bias=True,
        ),
    }
    mixers = windows(config, every(config, 5))
    body = stack(blocks, rows(mixers, all_sparse(config)))
    return {**frame(config, tied=False), **SANDWICH, **body}


def flint(config: ConfigView) -> Spec:
    """Flint: sinks; global layers have no positions."""
    bias = config.flag("attention_bias", False)
    attention = grouped_query(config, bias=bias, head=128, qk_norm="head", attention_sinks=True)
    blocks = {
        **local_and_global(config, attention, rotary_dim=0),
        "dense": dense(config),
        "moe": experts(
            config,
            shared_expert_intermediate_size=config.count("shared_expert_intermediate_size"),
        ),
    }
    layers = config.count("num_hidden_layers")
    default = ["global" if i < 2 or i % 4 == 1 or i == layers - 1 else "local"
               for i in range(layers)]  # fmt: skip
    mixers = windows(config, default)
    body = stack(blocks, rows(mixers, sparse_steps(config, (0, 1))))
    return {**frame(config, tied=False), **body}


READERS: Final = {
    "AfmoeForCausalLM": afmoe,
    "Cohere2MoeForCausalLM": cohere2_moe,
    "Dots1ForCausalLM": dots1,
    "ExaoneMoeForCausalLM": exaone_moe,
    "FlintForCausalLM": flint,
    "GptOssForCausalLM": gpt_oss,
    "GraniteMoeSWAForCausalLM": granite_moe_swa,
    "Kolibri1ForCausalLM": kolibri1,
    "LagunaForCausalLM": laguna,
    "MellumForCausalLM": mellum,
}
MODEL_TYPES: Final = {
    "afmoe": "AfmoeForCausalLM",
    "cohere2_moe": "Cohere2MoeForCausalLM",
    "dots1": "Dots1ForCausalLM",
    "exaone_moe": "ExaoneMoeForCausalLM",
    "flint": "FlintForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "granitemoe_swa": "GraniteMoeSWAForCausalLM",
    "kolibri1": "Kolibri1ForCausalLM",
    "laguna": "LagunaForCausalLM",
    "mellum": "MellumForCausalLM",
}
