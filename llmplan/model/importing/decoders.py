"""Whole softmax decoders: equal layers, or layers whose attention differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llmplan.model.importing.parts import (
    Spec,
    head_dim,
    layer_kinds,
    same_layers,
    stack,
    without_defaults,
)
from llmplan.model.importing.view import ConfigView

LAYERNORM: Final = {"kind": "layernorm", "bias": True}
"""The norm of torch's own LayerNorm."""
FULL, SLIDING = "full_attention", "sliding_attention"
"""The words of ``layer_types``."""


def heads(
    config: ConfigView, *, kv: int | None = None, dim: int | None = None, **more: Any
) -> Spec:
    """Softmax attention; ``kv`` and ``dim`` are the class's own numbers, None where it has none.

    Biases are off unless ``more`` says so: classes read them from different keys.
    """
    count = config.count("num_attention_heads")
    kv_default = count if kv is None or config.stated("num_key_value_heads") else kv
    derives = dim is None or config.stated("head_dim")
    block = {
        "kind": "attention",
        "num_attention_heads": count,
        "num_key_value_heads": config.count("num_key_value_heads", kv_default),
        "head_dim": head_dim(config) if derives else dim,
        **more,
    }
    return without_defaults(block)


def square(config: ConfigView, block: Spec, base: Spec) -> Spec:
    """The block, where its heads are together as wide as the stream; the class takes no other."""
    if block["num_attention_heads"] * block["head_dim"] != base["hidden_size"]:
        raise config.refusal("head_dim", "times num_attention_heads is not hidden_size")
    return block


def biases(config: ConfigView, *, default: bool = False) -> Spec:
    """``attention_bias`` on all four projections."""
    has_bias = config.flag("attention_bias", default)
    return {"attention_bias": has_bias, "o_proj_bias": has_bias}


def refuse_switches(config: ConfigView, *keys: str) -> None:
    """Refuse what a class does not know, but a fork of it may, unless it is off."""
    for key in keys:
        config.require(key, False, None)


def window(config: ConfigView, default: int | None = None) -> int | None:
    """``sliding_window`` in tokens; null is full attention, ``default`` the class's own."""
    stated = None if config.stated("sliding_window") else default
    tokens: int | None = config.count("sliding_window", stated)
    return tokens


def windowed(block: Spec, tokens: int | None, base: Spec) -> Spec:
    """The block with a window, left out where it reaches over the whole context."""
    reaches = tokens is None or tokens >= base["max_position_embeddings"]
    return block if reaches else {**block, "sliding_window": tokens}


def layer_types(config: ConfigView, default: Sequence[str]) -> list[str]:
    """Full or sliding for each layer; refuses other kinds."""
    return layer_kinds(config, "layer_types", {FULL: FULL, SLIDING: SLIDING}, list(default))


def every(period: int, count: int, rare: str = FULL, common: str = SLIDING) -> list[str]:
    """``count`` layers of which the last of each ``period`` is ``rare``."""
    return [common if (index + 1) % period else rare for index in range(count)]


def uniform(base: Spec, attention: Spec, network: Spec, **more: Any) -> Spec:
    """A decoder of equal layers."""
    return {
        **base,
        **more,
        "blocks": {"attention": attention, "mlp": network},
        "layers": same_layers(base["num_hidden_layers"], "attention", "mlp"),
    }


def mixed(
    base: Spec, kinds: Sequence[str], blocks: Mapping[str, Spec], network: Spec, **more: Any
) -> Spec:
    """A decoder whose attention differs by layer; kinds that come to the same are one."""
    used = {kind: blocks[kind] for kind in dict.fromkeys(kinds)}
    first = {kind: next(k for k in used if used[k] == used[kind]) for kind in used}
    if len(set(first.values())) == 1:
        return uniform(base, used[kinds[0]], network, **more)
    layers = [(first[kind], "mlp") for kind in kinds]
    return {**base, **more, **stack({**used, "mlp": network}, layers)}


@dataclass(frozen=True, slots=True)
class Layers:
    """A decoder's frame, and which of its layers slide.

    Attributes:
        base: Width, depth, vocabulary and context.
        kinds: Full or sliding, for each layer.
        tokens: The window.
    """

    base: Spec
    kinds: Sequence[str]
    tokens: int | None

    def sliding(self, block: Spec) -> Spec:
        """The block as sliding layers have it."""
        return windowed(block, self.tokens, self.base)


def sliding_layers(
    config: ConfigView, base: Spec, kinds: Sequence[str], tokens: int | None
) -> Layers:
    """The layers of a decoder; refuses layers that slide over an unknown window."""
    if SLIDING in kinds and tokens is None:
        raise config.refusal("sliding_window", "is missing or off, but layers slide")
    return Layers(base, kinds, tokens)


def alternating(
    layers: Layers, attention: Spec, network: Spec, *, full: Spec | None = None, **more: Any
) -> Spec:
    """Full and sliding layers; ``full`` is what full layers have besides."""
    blocks = {FULL: {**attention, **(full or {})}, SLIDING: layers.sliding(attention)}
    return mixed(layers.base, layers.kinds, blocks, network, **more)
