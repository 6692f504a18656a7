"""Dense decoders with latent attention."""

from llmplan.model.importing.classic import width_of_heads
from llmplan.model.importing.decoders import refuse_switches, uniform
from llmplan.model.importing.parts import Spec, activation, frame, mlp
from llmplan.model.importing.view import ConfigView


def minicpm3(config: ConfigView) -> Spec:
    """MiniCPM 3."""
    config.ignore("scale_emb", "scale_depth", "dim_model_base")  # multipliers
    base = frame(config, tied=True, context=32768)
    block = _latent(config, (768, 256, 64, 32))
    if not config.has("v_head_dim"):
        block["v_head_dim"] = width_of_heads(config, "num_attention_heads", base)
    else:
        block["v_head_dim"] = config.count("v_head_dim")
    network = mlp(config, hidden_act=activation(config), mlp_bias=config.flag("mlp_bias", False))
    return uniform(base, block, network)


def youtu(config: ConfigView) -> Spec:
    """Youtu-LLM."""
    config.ignore("embedding_initializer_range")
    refuse_switches(config, "mlp_bias")
    block = {**_latent(config, (1536, 512, 128, 64)), "v_head_dim": config.count("v_head_dim", 128)}
    base = frame(config, tied=True, context=131072)
    return uniform(base, block, mlp(config, hidden_act=activation(config)))


def _latent(config: ConfigView, defaults: tuple[int, int, int, int]) -> Spec:
    """Latent attention but for its value heads; ``defaults`` are the class's ranks and widths."""
    refuse_switches(config, "attention_bias")
    # of these, the first belongs to the grouped-query form and the others are sums
    config.ignore("num_key_value_heads", "head_dim", "qk_head_dim")
    q_rank, kv_rank, nope, rope = defaults
    q_default = None if config.stated("q_lora_rank") else q_rank
    return {
        "kind": "mla",
        "num_attention_heads": config.count("num_attention_heads"),
        "q_lora_rank": config.count("q_lora_rank", q_default),
        "kv_lora_rank": config.count("kv_lora_rank", kv_rank),
        "qk_nope_head_dim": config.count("qk_nope_head_dim", nope),
        "qk_rope_head_dim": config.count("qk_rope_head_dim", rope),
    }


READERS = {"MiniCPM3ForCausalLM": minicpm3, "YoutuForCausalLM": youtu}
MODEL_TYPES = {"minicpm3": "MiniCPM3ForCausalLM", "youtu": "YoutuForCausalLM"}
