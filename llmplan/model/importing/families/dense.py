"""Dense decoders: Llama and its relatives."""

from llmplan.model.importing.parts import (
    Spec,
    activation,
    attention,
    frame,
    mlp,
    same_layers,
)
from llmplan.model.importing.view import ConfigView


def llama(config: ConfigView) -> Spec:
    """Llama 1 to 3 and models published in its class."""
    network = mlp(config, hidden_act=activation(config), mlp_bias=config.flag("mlp_bias", False))
    return {
        **frame(config, tied=False, context=2048),
        "blocks": {"attention": attention(config), "mlp": network},
        "layers": same_layers(config.count("num_hidden_layers"), "attention", "mlp"),
    }


READERS = {"LlamaForCausalLM": llama}
MODEL_TYPES = {"llama": "LlamaForCausalLM"}
