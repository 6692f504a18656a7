"""Pieces that many families share: attention, networks, norms, layer patterns."""

from collections.abc import Sequence
from typing import Any

from llmplan.dtypes import divide_exactly
from llmplan.errors import InputError
from llmplan.model.importing.view import ConfigView

Spec = dict[str, Any]
"""Part of a spec as plain values, checked when the whole is validated."""

ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "swiglu": "silu",
    "gelu": "gelu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu",
    "gelu_pytorch_tanh_fast": "gelu", "gelu_tanh": "gelu", "quick_gelu": "gelu",
    "relu": "relu", "relu2": "relu2", "sqrelu": "relu2", "relu_squared": "relu2",
}  # fmt: skip


def frame(config: ConfigView, *, tied: bool, context: int | None = None) -> Spec:
    """Width, depth, vocabulary and context; ``tied`` and ``context`` are the class's defaults."""
    return {
        "max_position_embeddings": config.count("max_position_embeddings", context)
        if context
        else config.count("max_position_embeddings"),
        "hidden_size": config.count("hidden_size"),
        "num_hidden_layers": config.count("num_hidden_layers"),
        "vocab_size": config.count("vocab_size"),
        "tie_word_embeddings": config.flag("tie_word_embeddings", tied),
    }


def activation(config: ConfigView, key: str = "hidden_act", default: str = "silu") -> str:
    """The spec's name of an activation."""
    name = config.text(key, default)
    if name not in ACTIVATIONS:
        raise config.refusal(key, f"'{name}' is no activation that can be read")
    return ACTIVATIONS[name]


def head_dim(config: ConfigView, key: str = "head_dim") -> int:
    """The stated head size, or the width over the heads where that comes out even."""
    if config.has(key):
        return config.count(key)
    config.ignore(key)
    try:
        return divide_exactly(config.count("hidden_size"), config.count("num_attention_heads"))
    except InputError:
        raise config.refusal("num_attention_heads", "does not divide hidden_size") from None


def attention(config: ConfigView, *, bias: bool = False, **more: Any) -> Spec:
    """Grouped-query attention; ``bias`` is the class's default of ``attention_bias``."""
    heads = config.count("num_attention_heads")
    has_bias = config.flag("attention_bias", bias)
    block = {
        "kind": "attention",
        "num_attention_heads": heads,
        "num_key_value_heads": config.count("num_key_value_heads", heads),
        "head_dim": head_dim(config),
        "attention_bias": has_bias,
        "o_proj_bias": has_bias,
        **more,
    }
    return without_defaults(block)


def rotary_dim(config: ConfigView, width: int, default: float = 1.0) -> int | None:
    """The rotated part of a head where it is not the whole."""
    share = config.number("partial_rotary_factor", default)
    return None if share == 1 else int(width * share)


def mlp(config: ConfigView, *, width_key: str = "intermediate_size", **more: Any) -> Spec:
    """A gated network of silu; ``more`` replaces what differs."""
    block = {"kind": "mlp", "intermediate_size": config.count(width_key), **more}
    return without_defaults(block)


def without_defaults(block: Spec) -> Spec:
    """A block without the keys that say what the spec's default says."""
    defaults = {"attention_bias": False, "o_proj_bias": False, "mlp_bias": False, "gated": True,
                "hidden_act": "silu", "qk_norm": "none", "output_gate": "none"}  # fmt: skip
    return {
        key: value
        for key, value in block.items()
        if value is not None and not (key in defaults and value == defaults[key])
    }


def same_layers(count: int, *blocks: str) -> list[Spec]:
    """One run of equal layers."""
    return [{"count": count, "blocks": list(blocks)}]


def layer_pattern(layers: Sequence[tuple[str, ...]]) -> list[Spec]:
    """The shortest readable pattern: runs, and a period that repeats where there is one."""
    plain = _runs(layers)
    options = [plain]
    for period in range(2, len(layers) // 2 + 1):
        repeats = 1
        while list(layers[repeats * period : (repeats + 1) * period]) == list(layers[:period]):
            repeats += 1
        if repeats > 1:
            pattern = {"count": repeats, "pattern": _runs(layers[:period])}
            rest = layers[repeats * period :]
            options.append([pattern, *(layer_pattern(rest) if rest else [])])
    return min(options, key=_length)


def _runs(layers: Sequence[tuple[str, ...]]) -> list[Spec]:
    runs: list[Spec] = []
    for blocks in layers:
        if runs and runs[-1]["blocks"] == list(blocks):
            runs[-1]["count"] += 1
        else:
            runs.append({"count": 1, "blocks": list(blocks)})
    return runs


def _length(pattern: list[Spec]) -> int:
    return sum(1 + _length(run["pattern"]) if "pattern" in run else 1 for run in pattern)
