"""Decoders from before Llama: other words in the config, multi-head attention, two matrices."""

from collections.abc import Sequence
from typing import Any, Final

from llmplan.dtypes import divide_exactly
from llmplan.errors import InputError
from llmplan.model.importing.parts import Spec, activation, without_defaults
from llmplan.model.importing.view import ConfigView

SUMMARY: Final = (
    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout",
)  # fmt: skip
"""Of the classification head, which a causal model does not have."""


def classic_frame(config: ConfigView, keys: Sequence[str], *, tied: bool) -> Spec:
    """``frame`` for configs with their own words for context, width and depth."""
    context, width, depth = keys
    return {
        "max_position_embeddings": config.count(context),
        "hidden_size": config.count(width),
        "num_hidden_layers": config.count(depth),
        "vocab_size": config.count("vocab_size"),
        "tie_word_embeddings": config.flag("tie_word_embeddings", tied),
    }


def width_of_heads(config: ConfigView, key: str, base: Spec) -> int:
    """The width of the stream over the heads that ``key`` counts."""
    try:
        return divide_exactly(base["hidden_size"], config.count(key))
    except InputError:
        raise config.refusal(key, "does not divide the width") from None


def classic_heads(config: ConfigView, key: str, base: Spec, **more: Any) -> Spec:
    """Multi-head attention as wide as the stream; no width of a head is ever stated."""
    count = config.count(key)
    block = {
        "kind": "attention",
        "num_attention_heads": count,
        "num_key_value_heads": count,
        "head_dim": width_of_heads(config, key, base),
        **more,
    }
    return without_defaults(block)


def classic_network(
    config: ConfigView, key: str, act_key: str, base: Spec, act: str = "gelu_new"
) -> Spec:
    """Two matrices with biases, four times as wide as the stream where nothing is said."""
    width = config.count(key, 4 * base["hidden_size"])
    network = {
        "kind": "mlp",
        "intermediate_size": width,
        "hidden_act": activation(config, act_key, act),
        "gated": False,
        "mlp_bias": True,
    }
    return without_defaults(network)
