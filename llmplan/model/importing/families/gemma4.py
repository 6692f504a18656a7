"""Gemma 4: heads of other sizes in full layers, and experts beside the dense network."""

from typing import Final

from llmplan.model.importing.decoders import FULL, SLIDING, every, layer_types
from llmplan.model.importing.parts import Spec, frame, mlp, stack, without_defaults
from llmplan.model.importing.sparse import experts
from llmplan.model.importing.view import ConfigView

FULL_ROTARY_SHARE: Final = 0.25
"""Rotated part of a head in full layers, the class's own."""


def gemma4_text(config: ConfigView) -> Spec:
    """The text model: every layer has a dense network, and experts beside it where they are on."""
    config.require("use_double_wide_mlp", False, None)
    config.require("num_kv_shared_layers", 0, None)  # layers that reuse another layer's keys
    config.require("hidden_size_per_layer_input", 0)  # an input table a layer
    config.require("attention_bias", False, None)
    config.require("hidden_activation", "gelu_pytorch_tanh", None)
    # of images; and a table that is not there without an input a layer
    config.ignore("use_bidirectional_attention", "vocab_size_per_layer_input")
    base = frame(config, tied=True, context=131072)
    has_experts = config.flag("enable_moe_block", False)
    network = ["mlp", "moe"] if has_experts else "mlp"
    layers = [(kind, network) for kind in _kinds(config)]
    blocks = {**_attention(config), "mlp": mlp(config, hidden_act="gelu")}
    if has_experts:
        blocks["moe"] = _experts(config)
    norm = {"placement": "sandwich", **({"branch_norms": True} if has_experts else {})}
    more = {"norm": norm, "layer_scalar": True, "precision": {"buffer": "bf16"}}
    return {**base, **more, **stack(blocks, layers)}


def _kinds(config: ConfigView) -> list[str]:
    names = {FULL: "global", SLIDING: "local"}
    return [
        names[kind] for kind in layer_types(config, every(6, config.count("num_hidden_layers")))
    ]


def _attention(config: ConfigView) -> Spec:
    heads, width = config.count("num_attention_heads"), config.count("head_dim", 256)
    kv_heads, full = config.count("num_key_value_heads"), config.count("global_head_dim", 512)
    shared = config.flag("attention_k_eq_v", False)
    same = {"kind": "attention", "num_attention_heads": heads}
    norms = {"qk_norm": "head", "value_norm": True}
    local = {"num_key_value_heads": kv_heads, "head_dim": width, **norms}
    few = config.count("num_global_key_value_heads", kv_heads)
    wide = {"num_key_value_heads": few if shared else kv_heads, "head_dim": full, **norms}
    rotary = {"rotary_dim": int(full * _rotary_share(config))}
    only_keys = {"value_is_key": True} if shared else {}
    return {
        "local": {**same, **local, "sliding_window": config.count("sliding_window", 512)},
        "global": without_defaults({**same, **wide, **rotary, **only_keys}),
    }


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


READERS: Final = {"Gemma4ForCausalLM": gemma4_text}
MODEL_TYPES: Final = {"gemma4_text": "Gemma4ForCausalLM"}
