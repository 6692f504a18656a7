"""Dense decoders with one kind of layer: Llama and its relatives."""

from llmplan.model.importing.decoders import (
    LAYERNORM,
    biases,
    heads,
    refuse_switches,
    square,
    uniform,
    window,
    windowed,
)
from llmplan.model.importing.parts import (
    Spec,
    activation,
    frame,
    mlp,
    rotary_dim,
)
from llmplan.model.importing.view import ConfigView


def llama(config: ConfigView) -> Spec:
    """Llama 1 to 3 and models published in its class."""
    base = frame(config, tied=False, context=2048)
    return uniform(base, heads(config, **biases(config)), _network(config))


def _network(config: ConfigView, default: str = "silu") -> Spec:
    """Gated, with ``mlp_bias`` and ``hidden_act``."""
    return mlp(
        config,
        hidden_act=activation(config, default=default),
        mlp_bias=config.flag("mlp_bias", False),
    )


def internlm3(config: ConfigView) -> Spec:
    """InternLM 3, in its publisher's words for biases."""
    base = frame(config, tied=False, context=32768)
    qkv_bias = config.flag("qkv_bias", config.flag("attention_bias", False))
    bias = config.flag("bias", config.flag("mlp_bias", False))
    block = heads(config, kv=2, dim=128, attention_bias=qkv_bias, o_proj_bias=bias)
    return uniform(base, block, mlp(config, hidden_act=activation(config), mlp_bias=bias))


def iquestcoder(config: ConfigView) -> Spec:
    """IQuest-Coder."""
    base = frame(config, tied=False, context=131072)
    return uniform(base, heads(config, kv=8, dim=128, **biases(config)), _network(config))


def mistral(config: ConfigView) -> Spec:
    """Mistral: one window for all layers, or none."""
    return _mistral(config, window(config, 4096), 131072)


def ministral3(config: ConfigView) -> Spec:
    """Ministral 3: Mistral with head_dim 128 and no window of its own."""
    return _mistral(config, window(config), 262144, dim=128)


def _mistral(config: ConfigView, tokens: int | None, context: int, dim: int | None = None) -> Spec:
    refuse_switches(config, "attention_bias", "mlp_bias")
    base = frame(config, tied=False, context=context)
    block = windowed(heads(config, kv=8, dim=dim), tokens, base)
    return uniform(base, block, mlp(config, hidden_act=activation(config)))


def phi3(config: ConfigView) -> Spec:
    """Phi-3 and Phi-4, whose fused matrices are the sum of their parts."""
    refuse_switches(config, "attention_bias", "mlp_bias", "lm_head_bias")
    for key in ("full_attn_mod", "interpolate_factor"):
        config.require(key, 1, None)
    base = frame(config, tied=False, context=4096)
    block = heads(config)
    block = {**block, **_rotary(config, block)}
    network = mlp(config, hidden_act=activation(config))
    return uniform(base, windowed(block, window(config), base), network)


def _rotary(config: ConfigView, block: Spec, default: float = 1.0) -> Spec:
    width = rotary_dim(config, block["head_dim"], default)
    return {} if width is None else {"rotary_dim": width}


def granite(config: ConfigView) -> Spec:
    """Granite 3, which differs from Llama in four multipliers."""
    return llama(config)


def hyperclovax(config: ConfigView) -> Spec:
    """HyperCLOVA X: Granite, with norms after the blocks as well where it says so."""
    placement = "sandwich" if config.flag("use_post_norm", True) else "pre"
    return {**llama(config), "norm": {"placement": placement}}


def helium(config: ConfigView) -> Spec:
    """Helium, whose output projection is square and has no bias."""
    base = frame(config, tied=False, context=4096)
    block = heads(config, kv=20, dim=128, attention_bias=config.flag("attention_bias", False))
    return uniform(base, square(config, block, base), _network(config))


def seed_oss(config: ConfigView) -> Spec:
    """Seed-OSS, with a switch of its own for the output bias."""
    block = heads(
        config,
        kv=8,
        dim=128,
        attention_bias=config.flag("attention_bias", True),
        o_proj_bias=config.flag("attention_out_bias", False),
    )
    config.ignore("residual_dropout")  # training only
    return uniform(frame(config, tied=False, context=524288), block, _network(config))


def ernie(config: ConfigView) -> Spec:
    """ERNIE 4.5, dense: one switch for all biases."""
    bias = config.flag("use_bias", False)
    block = heads(config, kv=2, dim=128, attention_bias=bias, o_proj_bias=bias)
    network = mlp(config, hidden_act=activation(config), mlp_bias=bias)
    return uniform(frame(config, tied=True, context=131072), block, network)


def hunyuan(config: ConfigView) -> Spec:
    """Hunyuan, dense: a norm on every head, which older configs state."""
    for key in ("use_qk_norm", "qk_norm", "use_rotary_pos_emb"):
        config.require(key, True, None)
    refuse_switches(config, "use_cla", "mlp_bias", "add_classification_head")
    config.require("norm_type", "rms", None)
    config.ignore(
        "cla_share_factor", "class_num", "pool_type", "position_embedding_xdrope",
        "enable_lm_head_fp32", "org_vocab_size", "eod_token_id", "im_start_id", "im_end_id",
        "im_newline_id", "text_start_id", "text_end_id", "mask_init_id", "pad_id",
    )  # of what is off, numerics, and token ids  # fmt: skip
    block = heads(config, qk_norm="head", **biases(config))
    config.require("attention_head_dim", block["head_dim"], None)
    network = mlp(config, hidden_act=activation(config))
    return uniform(frame(config, tied=False, context=2048), block, network)


def glm(config: ConfigView) -> Spec:
    """GLM-4 of 2024 and GLM-Edge, in transformers' class."""
    refuse_switches(config, "mlp_bias")
    block = heads(config, kv=2, dim=128, attention_bias=config.flag("attention_bias", True))
    block |= _rotary(config, block, 0.5)
    network = mlp(config, hidden_act=activation(config))
    return uniform(frame(config, tied=False, context=131072), block, network)


def glm4(config: ConfigView) -> Spec:
    """GLM-4 of 2025: GLM with norms after the blocks as well."""
    return {**glm(config), "norm": {"placement": "sandwich"}}


def _two_matrices(config: ConfigView, default: str, *, bias: bool = False) -> Spec:
    return mlp(config, hidden_act=activation(config, default=default), gated=False, mlp_bias=bias)


def arcee(config: ConfigView) -> Spec:
    """AFM: Llama with a network of two matrices."""
    network = _two_matrices(config, "relu2", bias=config.flag("mlp_bias", False))
    base = frame(config, tied=False, context=4096)
    return uniform(base, heads(config, **biases(config)), network)


def diffllama(config: ConfigView) -> Spec:
    """DiffLlama: attention maps are subtracted in pairs."""
    refuse_switches(config, "mlp_bias")
    config.ignore("lambda_std_dev")  # initial values
    base = frame(config, tied=False, context=2048)
    block = heads(config, differential=True, **biases(config))
    if block["num_key_value_heads"] % 2:
        raise config.refusal("num_key_value_heads", "is odd, but heads are subtracted in pairs")
    return uniform(base, block, mlp(config, hidden_act=activation(config)))


def bitnet(config: ConfigView) -> Spec:
    """BitNet b1.58: norms before the last matrix of attention and network."""
    refuse_switches(config, "mlp_bias")
    base = frame(config, tied=False, context=2048)
    block = square(config, heads(config, kv=5, output_norm=True, **biases(config)), base)
    network = mlp(config, hidden_act=activation(config, default="relu2"), inner_norm=True)
    return uniform(base, block, network)


def apertus(config: ConfigView) -> Spec:
    """Apertus: norms on every head and an activation with two learned scalars."""
    refuse_switches(config, "mlp_bias")
    block = heads(config, qk_norm="head", **biases(config))
    config.require("post_norm", False, None)
    config.require("qk_norm", True, None)
    base = frame(config, tied=False, context=65536)
    return uniform(base, block, _two_matrices(config, "xielu"))


def nemotron(config: ConfigView) -> Spec:
    """Nemotron and Minitron: LayerNorm and a network of two matrices."""
    block = heads(config, kv=config.count("num_key_value_heads"), **biases(config))
    block |= _rotary(config, block, 0.5)
    network = _two_matrices(config, "relu2", bias=config.flag("mlp_bias", False))
    base = frame(config, tied=False, context=4096)
    return uniform(base, block, network, norm=dict(LAYERNORM))


def jais2(config: ConfigView) -> Spec:
    """Jais 2: LayerNorm, biases, and a network of two matrices."""
    network = _two_matrices(config, "relu2", bias=config.flag("mlp_bias", True))
    base = frame(config, tied=False, context=8192)
    return uniform(
        base, heads(config, **biases(config, default=True)), network, norm=dict(LAYERNORM)
    )


def starcoder2(config: ConfigView) -> Spec:
    """StarCoder2: one switch for all biases, a window in all layers."""
    config.require("mlp_type", "default", None)
    config.require("norm_type", "layer_norm", None)
    config.ignore("norm_epsilon", "activation_function", "attention_softmax_in_fp32",
                  "scale_attention_softmax_in_fp32", "scale_attn_weights",
                  "residual_dropout")  # numerics, and a second word for hidden_act  # fmt: skip
    bias = config.flag("use_bias", True)
    base = frame(config, tied=True, context=4096)
    block = heads(config, kv=2, attention_bias=bias, o_proj_bias=bias)
    network = _two_matrices(config, "gelu_pytorch_tanh", bias=bias)
    return uniform(base, windowed(block, window(config), base), network, norm=dict(LAYERNORM))


def nanochat(config: ConfigView) -> Spec:
    """nanochat: no norm has a weight, and one more stands after the input table."""
    block = heads(config, qk_norm="l2", **biases(config))
    return uniform(
        frame(config, tied=False, context=2048),
        block,
        _two_matrices(config, "relu2"),
        norm={"weight": False},
        embedding_norm=True,
    )


def olmo(config: ConfigView) -> Spec:
    """OLMo 1, whose LayerNorm has no parameters."""
    config.ignore("clip_qkv")  # numerics
    refuse_switches(config, "mlp_bias")
    block = heads(config, **biases(config))
    network = mlp(config, hidden_act=activation(config))
    norm = {"kind": "layernorm", "weight": False}
    return uniform(frame(config, tied=False, context=2048), block, network, norm=norm)


def olmo2(config: ConfigView) -> Spec:
    """OLMo 2: norms after the blocks and over the full width of queries and keys."""
    refuse_switches(config, "mlp_bias")
    block = heads(config, qk_norm="full", **biases(config))
    network = mlp(config, hidden_act=activation(config))
    base = frame(config, tied=False, context=2048)
    return uniform(base, block, network, norm={"placement": "post"})


READERS = {
    "LlamaForCausalLM": llama,
    "InternLM3ForCausalLM": internlm3,
    "IQuestCoderForCausalLM": iquestcoder,
    "MistralForCausalLM": mistral,
    "Ministral3ForCausalLM": ministral3,
    "Phi3ForCausalLM": phi3,
    "GraniteForCausalLM": granite,
    "HyperCLOVAXForCausalLM": hyperclovax,
    "HeliumForCausalLM": helium,
    "SeedOssForCausalLM": seed_oss,
    "Ernie4_5ForCausalLM": ernie,
    "HunYuanDenseV1ForCausalLM": hunyuan,
    "GlmForCausalLM": glm,
    "Glm4ForCausalLM": glm4,
    "ArceeForCausalLM": arcee,
    "BitNetForCausalLM": bitnet,
    "DiffLlamaForCausalLM": diffllama,
    "ApertusForCausalLM": apertus,
    "NemotronForCausalLM": nemotron,
    "Jais2ForCausalLM": jais2,
    "Starcoder2ForCausalLM": starcoder2,
    "NanoChatForCausalLM": nanochat,
    "OlmoForCausalLM": olmo,
    "Olmo2ForCausalLM": olmo2,
}
MODEL_TYPES = {
    "llama": "LlamaForCausalLM",
    "internlm3": "InternLM3ForCausalLM",
    "iquestcoder": "IQuestCoderForCausalLM",
    "mistral": "MistralForCausalLM",
    "ministral3": "Ministral3ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "granite": "GraniteForCausalLM",
    "hyperclovax": "HyperCLOVAXForCausalLM",
    "helium": "HeliumForCausalLM",
    "seed_oss": "SeedOssForCausalLM",
    "ernie4_5": "Ernie4_5ForCausalLM",
    "hunyuan_v1_dense": "HunYuanDenseV1ForCausalLM",
    "glm": "GlmForCausalLM",
    "glm4": "Glm4ForCausalLM",
    "arcee": "ArceeForCausalLM",
    "bitnet": "BitNetForCausalLM",
    "diffllama": "DiffLlamaForCausalLM",
    "apertus": "ApertusForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "jais2": "Jais2ForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
    "nanochat": "NanoChatForCausalLM",
    "olmo": "OlmoForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
}
