"""xLSTM: mLSTM layers and gated networks."""

from typing import Final

from llmplan.dtypes import divide_exactly
from llmplan.model.importing.parts import Spec, same_layers
from llmplan.model.importing.sparse import same_count
from llmplan.model.importing.view import ConfigView

XLSTM_CONTEXT: Final = 8192
"""Training length of xLSTM 7B (Beck et al. 2025); the configs state none."""


def xlstm(config: ConfigView) -> Spec:
    """The xLSTM of transformers: norms and matrices without biases."""
    # its modules are not named as those that lists of quantised files speak about
    config.require("quantization_config", None)
    config.require("use_bias", False, None)
    config.require("add_out_norm", True, None)
    config.require("weight_mode", "single", None)
    config.require("tie_word_embeddings", False, None)  # the class has a head of its own always
    config.ignore(
        "norm_reduction_force_float32", "chunkwise_kernel", "sequence_kernel", "step_kernel",
        "mode", "chunk_size", "return_last_states", "autocast_kernel_dtype", "eps",
        "inference_state_dtype", "gate_soft_cap", "output_logit_soft_cap",
        "max_inference_chunksize",
    )  # kernels and numerics  # fmt: skip
    width = same_count(config, "hidden_size", "embedding_dim")
    depth = same_count(config, "num_hidden_layers", "num_blocks")
    heads = config.count("num_heads", 8)
    blocks = {
        "mlstm": {
            "kind": "mlstm",
            "num_heads": heads,
            "qk_head_dim": _head(config, "qk_dim_factor", 0.5, width),
            "v_head_dim": _head(config, "v_dim_factor", 1.0, width),
        },
        "mlp": {"kind": "mlp", "intermediate_size": _inner_width(config, width)},
    }
    note = f"The config states no length; {XLSTM_CONTEXT} is that of the training sequences."
    return {
        "max_position_embeddings": config.count("max_position_embeddings", XLSTM_CONTEXT),
        "hidden_size": width,
        "num_hidden_layers": depth,
        "vocab_size": config.count("vocab_size"),
        "tie_word_embeddings": False,
        **({} if config.has("max_position_embeddings") else {"notes": [note]}),
        "blocks": blocks,
        "layers": same_layers(depth, "mlstm", "mlp"),
    }


def _head(config: ConfigView, key: str, default: float, width: int) -> int:
    """The width of a head: a share of the stream over the heads."""
    whole, heads = int(width * config.number(key, default)), config.count("num_heads", 8)
    if not whole or whole % heads:
        raise config.refusal(key, f"gives {whole} features, which {heads} heads do not divide")
    return divide_exactly(whole, heads)


def _inner_width(config: ConfigView, width: int) -> int:
    """A multiple of the stream, rounded up."""
    multiple = config.count("ffn_round_up_to_multiple_of", 64)
    wanted = width * config.number("ffn_proj_factor", 2.667)
    return int((wanted + multiple - 1) // multiple) * multiple


READERS: Final = {"xLSTMForCausalLM": xlstm}
MODEL_TYPES: Final = {"xlstm": "xLSTMForCausalLM"}
