"""Step 3.5 and MiMo-V2: window layers with heads of their own."""

from typing import Any, Final

from llmplan.model.importing.families.windowed_moe import rows
from llmplan.model.importing.parts import Spec, frame, stack
from llmplan.model.importing.sparse import (
    WINDOWS,
    absent,
    dense,
    experts,
    grouped_query,
    networks,
    same_count,
    shared,
    windows,
)
from llmplan.model.importing.view import ConfigView


def mimo_v2_flash(config: ConfigView) -> Spec:
    """MiMo-V2-Flash, as published or as the class writes it; only window layers have sinks."""
    config.ignore("attention_value_scale")  # scales values
    published = config.has("hybrid_layer_pattern")
    local = _mimo_published(config) if published else _mimo_class(config)
    blocks = {
        "local": _mimo_heads(config, **local),
        "global": _mimo_heads(config),
        "dense": dense(config),
        "moe": experts(
            config,
            count=("n_routed_experts", "num_local_experts"),
            n_shared_experts=shared(config, default=0),
            e_score_correction_bias=True,
        ),
    }
    body = stack(blocks, rows(*(_published_layers if published else _class_layers)(config)))
    return {**frame(config, tied=False), **body}


def _mimo_heads(config: ConfigView, **more: Any) -> Spec:
    bias, width = config.flag("attention_bias", False), config.count("head_dim", 192)
    return grouped_query(
        config,
        bias=bias,
        o_proj_bias=False,
        head=width,
        v_head_dim=config.count("v_head_dim", 128),
        rotary_dim=_mimo_rotary(config, width),
        **more,
    )


def _mimo_rotary(config: ConfigView, width: int) -> int:
    share = config.number("partial_rotary_factor", 0.334)
    if config.has("rope_parameters"):
        rope = config.part("rope_parameters")
        shares = {rope.part(word).number("partial_rotary_factor", 0.334) for word in WINDOWS}
        if len(shares) != 1:
            raise config.refusal("rope_parameters", "rotates layers by different shares")
        share = shares.pop()
        for word in WINDOWS:
            rope.part(word).ignore_all()  # the tables themselves are computed
        rope.ignore_all()
    return int(width * share)


def _mimo_published(config: ConfigView) -> dict[str, int | bool]:
    """What window layers have of their own, under the keys of the published file."""
    window = same_count(config, "sliding_window", "sliding_window_size", "attention_chunk_size")
    config.require("swa_num_attention_heads", config.count("num_attention_heads"), None)
    config.require("swa_head_dim", config.count("head_dim"), None)
    config.require("swa_v_head_dim", config.count("v_head_dim"), None)
    config.require("add_swa_attention_sink_bias", True)
    config.require("add_full_attention_sink_bias", False, None)
    config.ignore("swa_rope_theta")  # rotary tables
    return {
        "num_key_value_heads": config.count("swa_num_key_value_heads"),
        "sliding_window": window,
        "attention_sinks": True,
    }


def _mimo_class(config: ConfigView) -> dict[str, int | bool]:
    """The class doubles the key and value heads of window layers."""
    heads = 2 * config.count("num_key_value_heads")
    window = config.count("sliding_window", 129)
    return {"num_key_value_heads": heads, "sliding_window": window, "attention_sinks": True}


def _published_layers(config: ConfigView) -> tuple[list[str], list[str]]:
    config.require("first_k_dense_replace", None)
    layers = config.count("num_hidden_layers")
    lists = []
    for key in ("hybrid_layer_pattern", "moe_layer_freq"):
        values = config.counts(key)
        if len(values) != layers or not set(values) <= {0, 1}:
            raise config.refusal(key, "must be a list of 0 and 1, one a layer")
        lists.append(values)
    local, sparse = lists
    return (
        ["local" if value else "global" for value in local],
        ["moe" if value else "dense" for value in sparse],
    )


def _class_layers(config: ConfigView) -> tuple[list[str], list[str]]:
    layers = range(config.count("num_hidden_layers"))
    default = ["global" if i == 0 or not (i + 1) % 6 else "local" for i in layers]
    config.require("first_k_dense_replace", 1, None)
    return windows(config, default), networks(config, first=1)


def step_35(config: ConfigView) -> Spec:
    """Step 3.5: window layers with heads of their own, one gate a head; MTP heads of their own."""
    config.require("att_impl_type", "GQA", None)
    config.require("use_moe", True, None)
    absent(config, "attention_bias", "mlp_bias")
    config.ignore(
        "need_fp32_gate", "moe_router_activation", "moe_router_scaling_factor",
        "norm_expert_weight", "swiglu_limits", "swiglu_limits_shared",
    )  # fmt: skip  # routing and numerics
    modules = config.size("num_nextn_predict_layers", 0)
    mixers = _step_mixers(config, modules)
    depth = len(mixers) - modules
    blocks = {
        "global": _step_heads(config, mixers),
        "local": _step_heads(config, mixers, **_step_local(config)),
        "dense": dense(config),
        "moe": experts(
            config,
            count=("moe_num_experts", "n_routed_experts"),
            top_k=("moe_top_k", "num_experts_per_tok"),
            shared_expert_intermediate_size=config.count("share_expert_dim"),
            e_score_correction_bias=config.flag("use_moe_router_bias"),
        ),
    }
    body = stack(blocks, rows(mixers[:depth], _step_networks(config)), _step_mtp(config, mixers))
    return {**frame(config, tied=False, context=128_000), **body}


def _step_mixers(config: ConfigView, modules: int) -> list[str]:
    """Layers and, behind them, MTP modules."""
    stated = config.texts("layer_types")
    if len(stated) != config.count("num_hidden_layers") + modules or set(stated) - set(WINDOWS):
        raise config.refusal("layer_types", "must name a known kind for each layer and MTP module")
    return [WINDOWS[word] for word in stated]


def _step_heads(config: ConfigView, mixers: list[str], **of_local: Any) -> Spec:
    width = config.count("head_dim", 128)
    gate = "head" if config.flag("use_head_wise_attn_gate") else "none"
    kind = "local" if of_local else "global"
    groups = same_count(config, "num_attention_groups", "num_key_value_heads")
    own = {"num_key_value_heads": groups, **of_local}
    rotated = _step_rotary(config, mixers, kind, width)
    return grouped_query(
        config, head=width, qk_norm="head", output_gate=gate, rotary_dim=rotated, **own
    )


def _step_local(config: ConfigView) -> dict[str, int]:
    other = config.part("attention_other_setting")
    other.require("attention_type", "sliding_attention")
    other.require("head_dim", config.count("head_dim"), None)
    other.require("true_head_dim", config.count("head_dim"), None)
    return {
        "num_attention_heads": other.count("num_attention_heads"),
        "num_key_value_heads": other.count("num_attention_groups"),
        "sliding_window": config.count("sliding_window"),
    }


def _step_rotary(config: ConfigView, mixers: list[str], kind: str, width: int) -> int | None:
    shares = config.numbers("partial_rotary_factors", [1.0] * len(mixers))
    if len(shares) < len(mixers):
        raise config.refusal("partial_rotary_factors", "must have one entry a layer and module")
    of_kind = {share for share, mixer in zip(shares, mixers, strict=False) if mixer == kind}
    if len(of_kind) > 1:
        raise config.refusal("partial_rotary_factors", "differs between layers of one kind")
    share = of_kind.pop() if of_kind else 1.0
    return None if share == 1 else int(width * share)


def _step_networks(config: ConfigView) -> list[str]:
    """The layers that ``moe_layers_enum`` lists, as text, have experts."""
    layers = range(config.count("num_hidden_layers"))
    listed = config.text("moe_layers_enum").split(",")
    if not set(listed) <= set(map(str, layers)):
        raise config.refusal("moe_layers_enum", "must list layers of the model")
    return ["moe" if str(i) in listed else "dense" for i in layers]


def _step_mtp(config: ConfigView, mixers: list[str]) -> Spec | None:
    modules = config.size("num_nextn_predict_layers", 0)
    if not modules:
        return None
    if set(mixers[-modules:]) != {"local"}:
        raise config.refusal("layer_types", "names MTP modules without a window")
    return {"num_nextn_predict_layers": modules, "blocks": ["local", "dense"], "own_head": True}


def step_37_flash(config: ConfigView) -> Spec:
    """Step 3.7 Flash, of which only copies without the heads of window layers are known."""
    if not config.has("attention_other_setting"):
        why = "is missing; without it the heads of window layers, which differ, are not known"
        raise config.refusal("attention_other_setting", why)
    why = "names a class whose whole config was not seen; its tower cannot be read so far"
    raise config.refusal("architectures", why)


READERS: Final = {
    "MiMoV2FlashForCausalLM": mimo_v2_flash,
    "Step3p5ForCausalLM": step_35,
    "Step3p7FlashForCausalLM": step_37_flash,
}
MODEL_TYPES: Final = {
    "mimo_v2_flash": "MiMoV2FlashForCausalLM",
    "step3p5": "Step3p5ForCausalLM",
}
