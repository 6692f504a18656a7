"""Zamba 1 and 2: state-space layers, some of which a shared transformer feeds."""

from math import ceil
from typing import Final

from llmplan.dtypes import divide_exactly
from llmplan.model.importing.families.recurrent import LOW_RANK_SHARE, biases
from llmplan.model.importing.parts import (
    Spec,
    activation,
    frame,
    layer_kinds,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

_KINDS: Final = {
    "linear_attention": "mamba", "mamba": "mamba", "hybrid": "hybrid",
}  # fmt: skip
"""Layer words of transformers 5 and of older configs."""
_FIRST: Final = ("linear_attention", "linear_attention", "hybrid")
"""The first layers of Zamba, before its period."""
_ZAMBA2_LAYERS: Final = (
    "linear_attention",
    *(("linear_attention",) * 5 + ("hybrid",)) * 7,
    *("linear_attention",) * 4,
    "hybrid",
    *("linear_attention",) * 3,
    "hybrid",
    *("linear_attention",) * 2,
)
"""The layers of the class of Zamba2 where the config names none."""


def zamba(config: ConfigView) -> Spec:
    """Zamba: one shared transformer, and Mamba with several heads."""
    config.ignore(
        "attn_layer_period", "attn_layer_offset", "use_mamba_kernels", "use_associative_scan",
        "time_step_min", "time_step_max", "time_step_floor",
    )  # of use only where no layers are named; kernels; initial values  # fmt: skip
    config.require("hidden_mamba_act", "silu", None)
    D = config.count("hidden_size")
    mamba = {
        "kind": "mamba",
        "intermediate_size": config.count("mamba_expand", 2) * D,
        "state_size": config.count("mamba_d_state", 16),
        "conv_kernel": config.count("mamba_d_conv", 4),
        "time_step_rank": config.count_or_auto("mamba_dt_rank", ceil(D / LOW_RANK_SHARE)),
        **biases(config, "mamba_proj_bias", "mamba_conv_bias"),
        "num_heads": config.count("n_mamba_heads", 2),
    }
    shared = _shared(config, kv=16, intermediate=14848, positions=False)
    shared["mlp"] = without_defaults(shared["mlp"])
    kinds = layer_kinds(config, _layers_key(config), _KINDS, _zamba_layers(config))
    base = frame(config, tied=True, context=4096)
    return _decoder(config, base, kinds, {"mamba": mamba, "shared_0": shared})


def _zamba_layers(config: ConfigView) -> list[str]:
    period, offset = config.count("attn_layer_period", 6), config.size("attn_layer_offset", 4)
    rest = range(config.count("num_hidden_layers") - len(_FIRST))
    later = ["hybrid" if i % period == offset else "linear_attention" for i in rest]
    return [*_FIRST, *later]


def zamba2(config: ConfigView) -> Spec:
    """Zamba2: shared transformers in turn, an adapter a layer, and Mamba-2."""
    config.ignore(
        "time_step_min", "time_step_max", "time_step_floor", "time_step_limit", "chunk_size",
        "use_mamba_kernels", "use_mem_eff_path", "use_long_context", "use_conv_bias",
    )  # initial values and kernels; the class's convolution is biased whatever it says  # fmt: skip
    D = config.count("hidden_size")
    inner = config.count("mamba_expand", 2) * D
    heads = config.count("n_mamba_heads", 8)
    if inner % heads:
        raise config.refusal("n_mamba_heads", f"does not divide the inner width {inner}")
    config.require("mamba_headdim", divide_exactly(inner, heads), None)
    has_bias = config.flag("add_bias_linear", False)
    mamba = {
        "kind": "mamba2",
        "num_heads": heads,
        "head_dim": divide_exactly(inner, heads),
        "n_groups": config.count("mamba_ngroups", 1),
        "state_size": config.count("mamba_d_state", 64),
        "conv_kernel": config.count("mamba_d_conv", 4),
        **({"use_bias": True} if has_bias else {}),
    }
    positions = config.flag("use_mem_rope", False)
    # the class computes this width whatever the config says
    config.require("attention_head_dim", 2 * D // config.count("num_attention_heads"), None)
    shared = _shared(config, kv=None, intermediate=4 * D, positions=positions)
    shared["mlp"] = without_defaults({**shared["mlp"], "mlp_bias": has_bias})
    shared["adapter_rank"] = config.count("adapter_rank", 128)
    if config.flag("use_shared_attention_adapter", False):
        _refuse_uneven_adapters(config, shared["attention"])
        shared["attention_adapters"] = True
    kinds = layer_kinds(config, _layers_key(config), _KINDS, list(_ZAMBA2_LAYERS))
    hybrid = [index for index, kind in enumerate(kinds) if kind == "hybrid"]
    config.require("hybrid_layer_ids", hybrid, None)
    base = frame(config, tied=True, context=4096)
    if config.flag("use_long_context", False):
        base["max_position_embeddings"] = 16384
    count = config.count("num_mem_blocks", 1)
    blocks = {f"shared_{index}": dict(shared) for index in range(count)}
    return _decoder(config, base, kinds, {"mamba": mamba, **blocks})


def _layers_key(config: ConfigView) -> str:
    if config.has("layers_block_type") and config.has("layer_types"):
        raise config.refusal("layer_types", "stands beside layers_block_type")
    return "layer_types" if config.has("layer_types") else "layers_block_type"


def _refuse_uneven_adapters(config: ConfigView, attention: Spec) -> None:
    """Each adapter gives as many features as it takes, and its matrix must give the same."""
    width = 2 * config.count("hidden_size")
    for key in ("num_attention_heads", "num_key_value_heads"):
        if attention[key] * attention["head_dim"] != width:
            raise config.refusal(key, f"times {attention['head_dim']} is not {width}")


def _shared(config: ConfigView, *, kv: int | None, intermediate: int, positions: bool) -> Spec:
    """Attention that reads twice the width of the stream, and a gated network."""
    D, heads = config.count("hidden_size"), config.count("num_attention_heads")
    # its modules are not named as those that lists of quantised files speak about
    config.require("quantization_config", None)
    # transformers ties all of it or nothing: without the head, no layers share weights either
    config.require("tie_word_embeddings", True, None)
    config.require("attention_hidden_size", 2 * D, None)
    config.require("kv_channels", D // heads, None)
    config.require("num_query_groups", heads, None)
    return {
        "kind": "shared_transformer",
        "attention": without_defaults({
            "kind": "attention",
            "num_attention_heads": heads,
            "num_key_value_heads": config.count("num_key_value_heads", kv or heads),
            "head_dim": config.count("attention_head_dim", 2 * D // heads),
            "rotary_dim": None if positions else 0,
        }),
        "mlp": {
            "kind": "mlp",
            "intermediate_size": config.count("intermediate_size", intermediate),
            "hidden_act": activation(config, default="gelu"),
        },
    }  # fmt: skip


def _decoder(config: ConfigView, base: Spec, kinds: list[str], blocks: Spec) -> Spec:
    """Layers of Mamba, fed by the shared blocks in turn where they are hybrid."""
    if len(kinds) != base["num_hidden_layers"]:
        count = base["num_hidden_layers"]
        raise config.refusal(_layers_key(config), f"names {len(kinds)} layers of {count}")
    shared = [name for name in blocks if name != "mamba"]
    turn = 0
    layers: list[tuple[str, ...]] = []
    for kind in kinds:
        if kind == "mamba":
            layers.append(("mamba",))
        else:
            layers.append((shared[turn % len(shared)], "mamba"))
            turn += 1
    return {**base, **stack(blocks, layers)}


READERS = {
    "ZambaForCausalLM": zamba,
    "Zamba2ForCausalLM": zamba2,
}
MODEL_TYPES = {
    "zamba": "ZambaForCausalLM",
    "zamba2": "Zamba2ForCausalLM",
}
