"""JetMoE: experts of attention, chosen by a router of their own, and experts of the network."""

from typing import Final

from llmplan.model.importing.parts import Spec, activation, frame, stack, without_defaults
from llmplan.model.importing.view import ConfigView


def jetmoe(config: ConfigView) -> Spec:
    """JetMoE; as many experts of attention as of the network, and as many for a token."""
    # some attention projections are matrices of experts, which are not converted with the others
    config.require("quantization_config", None)
    config.ignore("aux_loss_coef")  # training
    chosen, count = config.count("num_experts_per_tok", 2), config.count("num_local_experts", 8)
    kv_heads = config.count("num_key_value_heads", 16)
    config.require("num_attention_heads", chosen * kv_heads, None)
    if config.has("head_dim") and config.has("kv_channels"):
        raise config.refusal("head_dim", "stands beside kv_channels")
    key = "head_dim" if config.has("head_dim") else "kv_channels"
    blocks = {
        "attention": {
            "kind": "attention",
            "num_attention_heads": chosen * kv_heads,
            "num_key_value_heads": kv_heads,
            "head_dim": config.count(key, 128),
            "attention_experts": count,
            "o_proj_bias": True,
        },
        "moe": without_defaults(
            {
                "kind": "moe",
                "num_experts": count,
                "num_experts_per_tok": chosen,
                "moe_intermediate_size": config.count("intermediate_size"),
                "hidden_act": activation(config, "activation_function"),
                "output_bias": True,
            }
        ),
    }
    layers = [("attention", "moe")] * config.count("num_hidden_layers")
    return {**frame(config, tied=True, context=4096), **stack(blocks, layers)}


READERS: Final = {"JetMoeForCausalLM": jetmoe}
MODEL_TYPES: Final = {"jetmoe": "JetMoeForCausalLM"}
