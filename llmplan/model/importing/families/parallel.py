"""Dense decoders whose attention and network may run side by side."""

from typing import Final

from llmplan.model.importing.classic import (
    SUMMARY,
    classic_frame,
    classic_heads,
    classic_network,
)
from llmplan.model.importing.decoders import (
    LAYERNORM,
    alternating,
    biases,
    every,
    heads,
    layer_types,
    refuse_switches,
    sliding_layers,
    square,
    uniform,
    window,
)
from llmplan.model.importing.parts import (
    Spec,
    activation,
    frame,
    mlp,
    rotary_dim,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

_COHERE_NORM: Final = {"kind": "layernorm", "placement": "parallel"}
_PARALLEL: Final = {**LAYERNORM, "placement": "parallel"}


def _rotated(config: ConfigView, block: Spec, default: float) -> Spec:
    return without_defaults({**block, "rotary_dim": rotary_dim(config, block["head_dim"], default)})


def cohere(config: ConfigView) -> Spec:
    """Command R: LayerNorm without bias; Command R+ norms every head with a weight of its own."""
    refuse_switches(config, "mlp_bias")
    qk_norm = "each_head" if config.flag("use_qk_norm", False) else "none"
    block = heads(config, qk_norm=qk_norm, **biases(config))
    network = mlp(config, hidden_act=activation(config))
    base = frame(config, tied=True, context=8192)
    # engines serve what the publisher's own word says, which is more in Command R v01
    base["max_position_embeddings"] = config.count(
        "model_max_length", base["max_position_embeddings"]
    )
    return uniform(base, block, network, norm=dict(_COHERE_NORM))


def cohere2(config: ConfigView) -> Spec:
    """Command R7B and later: full layers have no positions."""
    _cohere2_switches(config)
    base, tokens = frame(config, tied=True, context=8192), window(config, 4096)
    kinds = layer_types(config, every(_cohere2_period(config), base["num_hidden_layers"]))
    return alternating(
        sliding_layers(config, base, kinds, tokens),
        square(config, heads(config, **biases(config)), base),
        mlp(config, hidden_act=activation(config)),
        full={"rotary_dim": 0},
        norm=dict(_COHERE_NORM),
    )


def _cohere2_period(config: ConfigView) -> int:
    """``sliding_window_pattern``; other words for it stand beside the list of layers."""
    config.ignore("_sliding_window_pattern", "layer_switch")
    return config.count("sliding_window_pattern", 4)


def _cohere2_switches(config: ConfigView) -> None:
    """What the publisher's configs say of the architecture and the class takes for granted."""
    refuse_switches(config, "use_qk_norm", "mlp_bias", "use_parallel_embedding")
    for key, only in (
        ("norm_type", "layer_norm"),
        ("order_of_interleaved_layers", "local_attn_first"),
        ("position_embedding_type", "rope_gptj"),
        ("rotary_pct", 1.0),
        ("transformer_block_type", "parallel"),
        ("use_embedding_sharing", True),
        ("use_gated_activation", True),
    ):
        config.require(key, only, None)


def phi(config: ConfigView) -> Spec:
    """Phi-1 to Phi-2: biases everywhere, the output head included."""
    refuse_switches(config, "alibi")
    norms = {"qk_norm": "head", "qk_norm_bias": True}
    block = heads(config, attention_bias=True, o_proj_bias=True)
    if config.flag("qk_layernorm", False):
        block |= norms
    network = mlp(
        config, hidden_act=activation(config, default="gelu_new"), gated=False, mlp_bias=True
    )
    base = frame(config, tied=False, context=2048)
    return uniform(
        base, _rotated(config, block, 0.5), network, norm=dict(_PARALLEL), lm_head_bias=True
    )


def gpt_neox(config: ConfigView) -> Spec:
    """GPT-NeoX and Pythia: side by side or in turn, with two norms either way."""
    config.ignore("rotary_emb_base")  # a theta
    base = frame(config, tied=False, context=2048)
    bias = {"attention_bias": config.flag("attention_bias", True)}
    bias["o_proj_bias"] = bias["attention_bias"]
    block = classic_heads(config, "num_attention_heads", base, **bias)
    block = _rotated(config, block, config.number("rotary_pct", 0.25))
    network = mlp(config, hidden_act=activation(config, default="gelu"), gated=False, mlp_bias=True)
    placement = "parallel_pre" if config.flag("use_parallel_residual", True) else "pre"
    return uniform(base, block, network, norm={**LAYERNORM, "placement": placement})


def gpt_neox_japanese(config: ConfigView) -> Spec:
    """GPT-NeoX Japanese: norms in turn, and one bias alone, on the last layer's attention."""
    config.ignore("rotary_emb_base")  # a theta
    base = frame(config, tied=True, context=2048)
    block = classic_heads(config, "num_attention_heads", base)
    block = _rotated(config, block, config.number("rotary_pct", 1.0))
    network = {
        "kind": "mlp",
        "intermediate_size": config.count("intermediate_multiple_size", 4) * base["hidden_size"],
        "hidden_act": activation(config, default="gelu"),
        "gated": False,
    }
    blocks = {"attention": block, "last": {**block, "o_proj_bias": True}, "mlp": network}
    depth = base["num_hidden_layers"]
    layers = [("last" if index == depth - 1 else "attention", "mlp") for index in range(depth)]
    return {**base, "norm": dict(LAYERNORM), **stack(blocks, layers)}


def stablelm(config: ConfigView) -> Spec:
    """StableLM: its parallel form has one norm; heads may have norms of their own."""
    refuse_switches(config, "attention_bias", "mlp_bias")
    qk_norm = "each_head" if config.flag("qk_layernorm", False) else "none"
    block = heads(config, kv=32, attention_bias=config.flag("use_qkv_bias", False), qk_norm=qk_norm)
    placement = "parallel" if config.flag("use_parallel_residual", False) else "pre"
    base = frame(config, tied=False, context=4096)
    return uniform(
        base,
        _rotated(config, square(config, block, base), 0.25),
        mlp(config, hidden_act=activation(config)),
        norm={**LAYERNORM, "placement": placement},
    )


def gptj(config: ConfigView) -> Spec:
    """GPT-J and CodeGen: no biases in attention, but in the network and on the output head."""
    config.require("rotary", True, None)
    config.ignore("n_ctx", "attn_pdrop", "scale_attn_weights",
                  *SUMMARY)  # the context again, training, numerics  # fmt: skip
    base = classic_frame(config, ("n_positions", "n_embd", "n_layer"), tied=False)
    return uniform(
        base,
        classic_heads(config, "n_head", base, rotary_dim=config.count("rotary_dim", 64)),
        classic_network(config, "n_inner", "activation_function", base),
        norm=dict(_PARALLEL),
        lm_head_bias=True,
    )


def falcon(config: ConfigView) -> Spec:
    """Falcon: one KV head, a head each, or (in the new architecture) any number."""
    refuse_switches(config, "apply_residual_connection_post_layernorm")
    base = frame(config, tied=True, context=2048)
    bias = config.flag("bias", False)
    alibi = {"rotary_dim": 0} if config.flag("alibi", False) else {}
    block = classic_heads(
        config, "num_attention_heads", base, attention_bias=bias, o_proj_bias=bias, **alibi
    )
    block["num_key_value_heads"] = _falcon_kv_heads(config, block["num_attention_heads"])
    network = classic_network(config, "ffn_hidden_size", "activation", base, "gelu")
    network["mlp_bias"] = bias
    norm = {**LAYERNORM, "placement": _falcon_placement(config)}
    return uniform(base, block, network, norm=norm)


def _falcon_kv_heads(config: ConfigView, count: int) -> int:
    """Without the new architecture, ``num_kv_heads`` is not looked at."""
    stated = config.count("num_kv_heads", count)
    if config.flag("new_decoder_architecture", False):
        config.ignore("multi_query")
        return stated
    return 1 if config.flag("multi_query", True) else count


def _falcon_placement(config: ConfigView) -> str:
    """In turn, side by side on one norm, or side by side on a norm each."""
    is_new = config.flag("new_decoder_architecture", False)
    norms = config.count("num_ln_in_parallel_attn", 2 if is_new else 1)
    if not config.flag("parallel_attn", True):
        config.require("new_decoder_architecture", False, None)
        return "pre"
    if norms > (2 if is_new else 1):
        raise config.refusal("num_ln_in_parallel_attn", f"is {norms}, which the class cannot run")
    return "parallel_pre" if norms == 2 else "parallel"


READERS = {
    "CohereForCausalLM": cohere,
    "Cohere2ForCausalLM": cohere2,
    "PhiForCausalLM": phi,
    "GPTNeoXForCausalLM": gpt_neox,
    "GPTNeoXJapaneseForCausalLM": gpt_neox_japanese,
    "StableLmForCausalLM": stablelm,
    "GPTJForCausalLM": gptj,
    "CodeGenForCausalLM": gptj,
    "FalconForCausalLM": falcon,
}
MODEL_TYPES = {
    "cohere": "CohereForCausalLM",
    "cohere2": "Cohere2ForCausalLM",
    "phi": "PhiForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "gpt_neox_japanese": "GPTNeoXJapaneseForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "gptj": "GPTJForCausalLM",
    "codegen": "CodeGenForCausalLM",
    "falcon": "FalconForCausalLM",
}
