"""Gemma 4: heads of other sizes in full layers, experts, inputs of its own for every layer."""

from typing import Final

from llmplan.model.importing.decoders import FULL, SLIDING, every, layer_types
from llmplan.model.importing.parts import Spec, frame, mlp, stack, without_defaults
from llmplan.model.importing.sparse import experts
from llmplan.model.importing.view import ConfigView

FULL_ROTARY_SHARE: Final = 0.25
"""Rotated part of a head in full layers, the class's own."""


def gemma4_text(config: ConfigView) -> Spec:
    """The text model: every layer has a dense network, and experts beside it where they are on."""
    base = frame(config, tied=True, context=131072)
    return _text(config, base, window=512) | _own_inputs(config)


def gemma4_unified_text(config: ConfigView) -> Spec:
    """The text model of the 12B, whose class knows neither experts nor inputs of a layer."""
    config.require("enable_moe_block", False, None)
    config.require("hidden_size_per_layer_input", 0, None)
    # off with the inputs and the experts that they belong to
    config.ignore("vocab_size_per_layer_input", "num_experts", "top_k_experts")
    base = frame(config, tied=True, context=262144)
    return _text(config, base, window=1024)


def _text(config: ConfigView, base: Spec, *, window: int) -> Spec:
    config.require("attention_bias", False, None)
    config.require("hidden_activation", "gelu_pytorch_tanh", None)
    config.require("use_bidirectional_attention", "vision", None)  # of images; all is no decoder
    has_experts = config.flag("enable_moe_block", False)
    layers = [
        (kind, [network, "moe"] if has_experts else network)
        for kind, network in _layers(config, base)
    ]
    dense = mlp(config, hidden_act="gelu")
    blocks = {
        **_attention(config, window),
        "mlp": dense,
        "mlp_wide": {**dense, "intermediate_size": 2 * dense["intermediate_size"]},
    }
    if has_experts:
        blocks["moe"] = _experts(config)
    norm = {"placement": "sandwich", **({"branch_norms": True} if has_experts else {})}
    more = {"norm": norm, "layer_scalar": True, "precision": {"buffer": "bf16"}}
    return {**base, **more, **stack(blocks, layers)}


def _own_inputs(config: ConfigView) -> Spec:
    """Width and rows of the second input table; 0 where there is none."""
    width = config.size("hidden_size_per_layer_input", 256)
    rows = config.size("vocab_size_per_layer_input", 262144)
    if not width:
        return {}
    return {"hidden_size_per_layer_input": width, "vocab_size_per_layer_input": rows}


def _layers(config: ConfigView, base: Spec) -> list[tuple[str, str]]:
    """Attention and dense network of each layer; the last ones may reuse keys and values."""
    kinds = _kinds(config, base["num_hidden_layers"])
    first = len(kinds) - config.size("num_kv_shared_layers", 0)
    if first < len(kinds) and set(kinds[: max(first, 0)]) != set(kinds):
        raise config.refusal("num_kv_shared_layers", "leaves a kind of layer without keys to reuse")
    wide = "mlp_wide" if config.flag("use_double_wide_mlp", False) else "mlp"
    return [
        (kind, "mlp") if index < first else (f"{kind}_shared", wide)
        for index, kind in enumerate(kinds)
    ]


def _kinds(config: ConfigView, count: int) -> list[str]:
    """Global or local for each layer; the class makes the last one global whatever is said."""
    names = {FULL: "global", SLIDING: "local"}
    stated = [names[kind] for kind in layer_types(config, every(6, count))]
    if len(stated) != count:
        raise config.refusal("layer_types", f"names {len(stated)} layers, not {count}")
    return [*stated[:-1], "global"]


def _attention(config: ConfigView, window: int) -> Spec:
    heads, width = config.count("num_attention_heads"), config.count("head_dim", 256)
    kv_heads, shared = config.count("num_key_value_heads"), config.flag("attention_k_eq_v", False)
    full, few = _global_sizes(config, kv_heads)
    same = {"kind": "attention", "num_attention_heads": heads}
    norms = {"qk_norm": "head", "value_norm": True}
    local = {"num_key_value_heads": kv_heads, "head_dim": width, **norms}
    wide = {"num_key_value_heads": few if shared else kv_heads, "head_dim": full, **norms}
    rotary = {"rotary_dim": int(full * _rotary_share(config))}
    only_keys = {"value_is_key": True} if shared else {}
    own = {
        "local": {**same, **local, "sliding_window": config.count("sliding_window", window)},
        "global": without_defaults({**same, **wide, **rotary, **only_keys}),
    }
    reusing = {"shares_keys_and_values": True}
    return own | {f"{name}_shared": {**block, **reusing} for name, block in own.items()}


def _global_sizes(config: ConfigView, kv_heads: int) -> tuple[int, int]:
    """Head size and KV heads of full layers, by name or in transformers' table of exceptions."""
    if not config.has("per_layer_config"):
        full: int = config.count("global_head_dim", 512)
        return full, config.count("num_global_key_value_heads", kv_heads)
    config.require("global_head_dim", None)
    config.require("num_global_key_value_heads", None)
    table = config.part("per_layer_config")
    layers = [table.part(key) for key in table.keys()]  # noqa: SIM118 (a view is no mapping)
    sizes = {(p.count("head_dim"), p.count("num_key_value_heads", kv_heads)) for p in layers}
    kinds = _kinds(config, config.count("num_hidden_layers"))
    if len(sizes) != 1 or {int(key) for key in table.keys()} != {  # noqa: SIM118
        index for index, kind in enumerate(kinds) if kind == "global"
    }:
        raise config.refusal("per_layer_config", "is not one exception for all full layers")
    return sizes.pop()


def _rotary_share(config: ConfigView) -> float:
    if not config.has("rope_parameters"):
        return FULL_ROTARY_SHARE
    kinds = config.part("rope_parameters")
    for kind in (FULL, SLIDING):
        if kinds.has(kind):
            kinds.part(kind).ignore_all()  # tables are computed, not stored
    if not kinds.has(FULL):
        return FULL_ROTARY_SHARE
    return kinds.part(FULL).number("partial_rotary_factor", 1.0)


def _experts(config: ConfigView) -> Spec:
    return experts(
        config,
        count=("num_experts",),
        top_k=("top_k_experts",),
        hidden_act="gelu",
        router_scales=True,
    )


READERS: Final = {
    "Gemma4ForCausalLM": gemma4_text,
    "Gemma4UnifiedForCausalLM": gemma4_unified_text,
}
MODEL_TYPES: Final = {
    "gemma4_text": "Gemma4ForCausalLM",
    "gemma4_unified_text": "Gemma4UnifiedForCausalLM",
}
