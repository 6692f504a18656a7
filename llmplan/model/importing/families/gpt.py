"""GPT-2 and its generation: learned positions, ALiBi or sinusoids, LayerNorm, biases."""

from typing import Final

from llmplan.model.importing.classic import (
    SUMMARY,
    classic_frame,
    classic_heads,
    classic_network,
)
from llmplan.model.importing.decoders import (
    LAYERNORM,
    mixed,
    refuse_switches,
    uniform,
    windowed,
)
from llmplan.model.importing.parts import Spec, activation, frame, mlp, rotary_dim, without_defaults
from llmplan.model.importing.view import ConfigView

_BIASED = {"attention_bias": True, "o_proj_bias": True}
_STILL = {"rotary_dim": 0}
"""Positions are not rotated into queries and keys."""
BLOOM_CONTEXT: Final = 2048
"""Training length of all BLOOM models (BigScience 2022, model cards)."""
_PADDING_ROWS = 2
"""Rows before the first position in tables of OPT and BioGPT."""


def gpt2(config: ConfigView) -> Spec:
    """GPT-2."""
    base = _gpt2_frame(config)
    block = classic_heads(config, "n_head", base, **_BIASED, **_STILL)
    return _gpt2(config, base, block, "gelu_new")


def gpt_bigcode(config: ConfigView) -> Spec:
    """StarCoder 1: GPT-2 with one KV head."""
    config.ignore(
        "attention_softmax_in_fp32", "scale_attention_softmax_in_fp32", "inference_runner",
        "max_batch_size", "max_sequence_length", "pad_key_length", "pre_allocate_kv_cache",
        "validate_runner_input", "num_key_value_heads",
    )  # numerics and one runtime; KV heads follow multi_query  # fmt: skip
    base = _gpt2_frame(config)
    block = classic_heads(config, "n_head", base, **_BIASED, **_STILL)
    if config.flag("multi_query", True):
        block["num_key_value_heads"] = 1
    return _gpt2(config, base, block, "gelu_pytorch_tanh")


def _gpt2_frame(config: ConfigView) -> Spec:
    return classic_frame(config, ("n_positions", "n_embd", "n_layer"), tied=True)


def _gpt2(config: ConfigView, base: Spec, block: Spec, act: str) -> Spec:
    refuse_switches(config, "add_cross_attention")
    config.ignore(
        "n_ctx", "attn_pdrop", "scale_attn_weights", "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn", *SUMMARY,
    )  # the context again, training, numerics  # fmt: skip
    network = classic_network(config, "n_inner", "activation_function", base, act)
    positions = base["max_position_embeddings"]
    return uniform(base, block, network, norm=dict(LAYERNORM), num_positions=positions)


def gpt_neo(config: ConfigView) -> Spec:
    """GPT-Neo: global and local layers, a bias on the output projection alone."""
    config.ignore("attention_types", "embed_dropout", *SUMMARY)  # attention_layers says the same
    keys = ("max_position_embeddings", "hidden_size", "num_layers")
    base = classic_frame(config, keys, tied=True)
    block = classic_heads(config, "num_heads", base, o_proj_bias=True, **_STILL)
    kinds = config.texts("attention_layers")
    for kind in kinds:
        if kind not in ("global", "local"):
            raise config.refusal("attention_layers", f"names a layer '{kind}'")
    return mixed(
        base,
        kinds,
        {"global": block, "local": windowed(block, config.count("window_size", 256), base)},
        classic_network(config, "intermediate_size", "activation_function", base),
        norm=dict(LAYERNORM),
        num_positions=base["max_position_embeddings"],
    )


def opt(config: ConfigView) -> Spec:
    """OPT; its smallest but one, with norms after the sums and narrow tables, is refused."""
    config.require("do_layer_norm_before", True, None)
    refuse_switches(config, "_remove_final_layer_norm")
    config.ignore("activation_dropout", "dropout", "init_std", "layerdrop")  # training
    base = frame(config, tied=True, context=2048)
    config.require("word_embed_proj_dim", base["hidden_size"], None)
    bias = config.flag("enable_bias", True)
    has_weights = config.flag("layer_norm_elementwise_affine", True)
    block = classic_heads(
        config, "num_attention_heads", base, attention_bias=bias, o_proj_bias=bias, **_STILL
    )
    network = mlp(
        config,
        width_key="ffn_dim",
        hidden_act=activation(config, "activation_function", "relu"),
        gated=False,
        mlp_bias=bias,
    )
    norm = {**LAYERNORM} if has_weights else {"kind": "layernorm", "weight": False}
    positions = base["max_position_embeddings"] + _PADDING_ROWS
    return uniform(base, block, network, norm=norm, num_positions=positions)


def biogpt(config: ConfigView) -> Spec:
    """BioGPT."""
    config.ignore("activation_dropout", "layerdrop", "scale_embedding")  # training, numerics
    base = frame(config, tied=True, context=1024)
    block = classic_heads(config, "num_attention_heads", base, **_BIASED, **_STILL)
    network = classic_network(config, "intermediate_size", "hidden_act", base, "gelu")
    config.count("intermediate_size")
    positions = base["max_position_embeddings"] + _PADDING_ROWS
    return uniform(base, block, network, norm=dict(LAYERNORM), num_positions=positions)


def xglm(config: ConfigView) -> Spec:
    """XGLM, whose positions are computed sinusoids."""
    refuse_switches(config, "add_cross_attention")
    config.ignore("activation_dropout", "dropout", "init_std", "layerdrop",
                  "scale_embedding")  # training, numerics  # fmt: skip
    base = classic_frame(config, ("max_position_embeddings", "d_model", "num_layers"), tied=True)
    block = classic_heads(config, "attention_heads", base, **_BIASED, **_STILL)
    config.count("ffn_dim")
    network = classic_network(config, "ffn_dim", "activation_function", base, "gelu")
    return uniform(base, block, network, norm=dict(LAYERNORM))


def bloom(config: ConfigView) -> Spec:
    """BLOOM, with ALiBi and a norm after the input table."""
    config.ignore(
        "attention_softmax_in_fp32", "masked_softmax_fusion", "offset_alibi", "skip_bias_add",
        "skip_bias_add_qkv", "slow_but_exact", "apply_residual_connection_post_layernorm",
    )  # numerics; which sum the residual takes  # fmt: skip
    width = "n_embed" if config.has("n_embed") else "hidden_size"
    depth = "num_hidden_layers" if config.has("num_hidden_layers") else "n_layer"
    base = {
        "max_position_embeddings": config.count("seq_length", BLOOM_CONTEXT),
        "hidden_size": config.count(width),
        "num_hidden_layers": config.count(depth),
        "vocab_size": config.count("vocab_size"),
        "tie_word_embeddings": config.flag("tie_word_embeddings", True),
    }
    key = "num_attention_heads" if config.has("num_attention_heads") else "n_head"
    block = classic_heads(config, key, base, **_BIASED, **_STILL)
    four = 4 * base["hidden_size"]
    config.require("n_inner", four, None)
    network = {"kind": "mlp", "intermediate_size": four, "hidden_act": "gelu", "gated": False,
               "mlp_bias": True}  # fmt: skip
    note = f"The config states no length; {BLOOM_CONTEXT} is that of the training sequences."
    notes = {} if config.has("seq_length") else {"notes": [note]}
    return uniform(base, block, network, norm=dict(LAYERNORM), embedding_norm=True, **notes)


def mpt(config: ConfigView) -> Spec:
    """MPT with ALiBi, which leaves its table of positions out; no biases."""
    for key, only in (
        ("expansion_ratio", 4),
        ("no_bias", True),
        ("norm_type", "low_precision_layernorm"),
        ("embedding_fraction", 1.0),
    ):
        config.require(key, only, None)
    config.ignore("learned_pos_emb", "init_device", "init_config", "verbose",
                  "tokenizer_name")  # see above; bookkeeping  # fmt: skip
    if config.has("attn_config"):
        _mpt_attention(config.part("attn_config"))
    base = classic_frame(config, ("max_seq_len", "d_model", "n_layers"), tied=True)
    network = {"kind": "mlp", "intermediate_size": 4 * base["hidden_size"], "hidden_act": "gelu",
               "gated": False}  # fmt: skip
    block = classic_heads(config, "n_heads", base, **_STILL)
    return uniform(base, block, network, norm={"kind": "layernorm"})


def _mpt_attention(config: ConfigView) -> None:
    """The one form that transformers' class builds."""
    config.require("attn_type", "multihead_attention", None)
    config.require("alibi", True, None)
    refuse_switches(config, "qk_ln", "prefix_lm")
    config.ignore("alibi_bias_max", "attn_impl", "attn_pdrop", "attn_uses_sequence_id",
                  "clip_qkv", "softmax_scale")  # numerics, training, kernels  # fmt: skip


def persimmon(config: ConfigView) -> Spec:
    """Persimmon: rotary, biases, LayerNorm on every head."""
    base = frame(config, tied=False, context=16384)
    has_norms = config.flag("qk_layernorm", True)
    norms = {"qk_norm": "head", "qk_norm_bias": True} if has_norms else {}
    block = classic_heads(config, "num_attention_heads", base, **_BIASED, **norms)
    block["rotary_dim"] = rotary_dim(config, block["head_dim"], 0.5)
    network = mlp(
        config, hidden_act=activation(config, default="relu2"), gated=False, mlp_bias=True
    )
    return uniform(base, without_defaults(block), network, norm=dict(LAYERNORM))


READERS = {
    "GPT2LMHeadModel": gpt2,
    "GPTBigCodeForCausalLM": gpt_bigcode,
    "GPTNeoForCausalLM": gpt_neo,
    "OPTForCausalLM": opt,
    "BioGptForCausalLM": biogpt,
    "XGLMForCausalLM": xglm,
    "BloomForCausalLM": bloom,
    "MptForCausalLM": mpt,
    "MPTForCausalLM": mpt,
    "PersimmonForCausalLM": persimmon,
}
MODEL_TYPES = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_bigcode": "GPTBigCodeForCausalLM",
    "gpt_neo": "GPTNeoForCausalLM",
    "opt": "OPTForCausalLM",
    "biogpt": "BioGptForCausalLM",
    "xglm": "XGLMForCausalLM",
    "bloom": "BloomForCausalLM",
    "mpt": "MptForCausalLM",
    "persimmon": "PersimmonForCausalLM",
}
