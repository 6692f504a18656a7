"""Llama Nemotron Super and Ultra: a search left every layer its own attention and network, or none.

Sources: block_configs in the config.json of nvidia/Llama-3_1-Nemotron-Ultra-253B-v1, as quoted in
nemo_toolkit 2.3.0 (llama_nemotron_config.py); widths as in llama.cpp, convert_hf_to_gguf.py.
"""

from typing import Final

from llmplan.dtypes import divide_up
from llmplan.model.importing.parts import Spec, activation, frame, head_dim, stack
from llmplan.model.importing.sparse import absent
from llmplan.model.importing.view import ConfigView

WIDTH_STEP: Final = 256
"""Networks are rounded up to a multiple of it."""
MOST_WIDTH: Final = 1000.0
"""Times ``hidden_size``; no network comes near this."""


def deci_lm(config: ConfigView) -> Spec:
    """Layers of a Llama, each with what ``block_configs`` leaves of it."""
    absent(config, "attention_bias", "mlp_bias")
    base = frame(config, tied=False)
    configs = config.parts("block_configs")
    if len(configs) != base["num_hidden_layers"]:
        raise config.refusal(
            "block_configs", f"has {len(configs)} entries, one a layer is expected"
        )
    blocks: Spec = {}
    layers = []
    for layer in configs:
        mixer = _attention(config, layer.part("attention"))
        network = _network(config, layer.part("ffn"))
        blocks |= mixer | network
        layers.append((*mixer, *network))
    return {**base, **stack(blocks, layers)}


def _attention(config: ConfigView, own: ConfigView) -> Spec:
    """The attention of a layer by its name; nothing where it has none."""
    own.require("replace_with_linear", False, default=False)
    own.require("sparsify", None)
    own.require("window_length", None)
    own.require("num_sink_tokens", None)
    own.require("unshifted_sink", False, default=False)
    own.require("use_prefill_window_in_sink_attention", False, default=False)
    if own.flag("no_op", False):
        own.require("n_heads_in_group", None)
        return {}
    heads, group = config.count("num_attention_heads"), own.count("n_heads_in_group")
    if heads % group:
        raise own.refusal("n_heads_in_group", f"does not divide num_attention_heads {heads}")
    groups = heads // group
    block = {
        "kind": "attention",
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "head_dim": head_dim(config),
    }
    return {f"attention_{groups}": block}


def _network(config: ConfigView, own: ConfigView) -> Spec:
    """The network of a layer by its name; nothing where it has none."""
    own.require("replace_with_linear", False, default=False)
    own.require("sparsify", None)
    act = activation(config)
    if own.flag("no_op", False):
        own.require("ffn_mult", None)
        return {}
    factor = own.number("ffn_mult")
    if not 0 < factor < MOST_WIDTH:
        raise own.refusal("ffn_mult", f"must lie between 0 and {MOST_WIDTH:g}")
    width = int(2 * factor * config.count("hidden_size") / 3)
    width = WIDTH_STEP * divide_up(width, WIDTH_STEP)
    block = {"kind": "mlp", "intermediate_size": width}
    return {f"mlp_{width}": block if act == "silu" else {**block, "hidden_act": act}}


READERS: Final = {"DeciLMForCausalLM": deci_lm}
MODEL_TYPES: Final = {"nemotron-nas": "DeciLMForCausalLM"}
