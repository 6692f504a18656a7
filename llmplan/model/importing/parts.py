"""Pieces that many families share: attention, networks, norms, layer patterns."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

from llmplan.dtypes import divide_exactly
from llmplan.errors import InputError
from llmplan.model.importing.view import ConfigView

Spec = dict[str, Any]
"""Part of a spec as plain values, checked when the whole is validated."""

LONGEST_PATTERN: Final = 500
"""Layers beyond which no period is looked for; no published model has as many."""

ACTIVATIONS = {
    "silu": "silu", "swish": "silu", "swiglu": "silu",
    "gelu": "gelu", "gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu_fast": "gelu",
    "gelu_pytorch_tanh_fast": "gelu", "gelu_tanh": "gelu", "quick_gelu": "gelu",
    "relu": "relu", "xielu": "xielu", "relu2": "relu2", "sqrelu": "relu2", "relu_squared": "relu2",
    "situ": "situ",
}  # fmt: skip


def frame(
    config: ConfigView, *, tied: bool, context: int | None = None, layers: int | None = None
) -> Spec:
    """Width, depth, vocabulary and context; ``tied`` and ``context`` are the class's defaults.

    ``layers`` is the depth where the config says it with its pattern; a stated one must agree.
    """
    if layers is not None:
        config.require("num_hidden_layers", layers, None)
    return {
        "max_position_embeddings": config.count("max_position_embeddings", context)
        if context
        else config.count("max_position_embeddings"),
        "hidden_size": config.count("hidden_size"),
        "num_hidden_layers": layers or config.count("num_hidden_layers"),
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
    if config.has("rope_parameters"):
        rope = config.part("rope_parameters")
        share = rope.number("partial_rotary_factor", share)
        rope.ignore_all()  # the tables themselves are computed, not stored
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


def layer_kinds(
    config: ConfigView,
    key: str,
    kinds: dict[str, str],
    default: list[str] | None = None,
    *,
    count: int | None = None,
) -> list[str]:
    """A list with one word a layer, each as the block that ``kinds`` names for it.

    ``default`` is the class's own list, ``count`` the layers that there must be.
    """
    stated = config.texts(key) if default is None else config.texts(key, default)
    if count is not None and len(stated) != count:
        raise config.refusal(key, f"names {len(stated)} layers, but there are {count}")
    for word in stated:
        if word not in kinds:
            raise config.refusal(key, f"names a layer '{word}', which cannot be read so far")
    return [kinds[word] for word in stated]


def stack(blocks: Spec, layers: Sequence[tuple[Any, ...]], mtp: Spec | None = None) -> Spec:
    """The blocks that the layers use, and the pattern of the layers."""
    used = {name for names in layers for name in _flat(names)} | set(mtp["blocks"] if mtp else ())
    body = {
        "blocks": {name: block for name, block in blocks.items() if name in used},
        "layers": layer_pattern(layers),
    }
    return {**body, "mtp": mtp} if mtp else body


def _flat(names: Sequence[Any]) -> list[str]:
    """Names of a layer, those side by side included."""
    return [name for item in names for name in ([item] if isinstance(item, str) else item)]


def same_layers(count: int, *blocks: str) -> list[Spec]:
    """One run of equal layers."""
    return [{"count": count, "blocks": list(blocks)}]


def layer_pattern(layers: Sequence[tuple[Any, ...]]) -> list[Spec]:
    """The shortest readable pattern: runs of equal layers, and periods that repeat."""
    if len(layers) > LONGEST_PATTERN:
        return _runs(layers)
    steps, pattern, start = _steps(_letters(layers)), list[Spec](), 0
    while start < len(layers):
        period, repeats = steps[start]
        inner = _runs(layers[start : start + period])
        pattern.append({"count": repeats, "pattern": inner} if period > 1 else
                       {**inner[0], "count": repeats})  # fmt: skip
        start += period * repeats
    return pattern


def _letters(layers: Sequence[tuple[Any, ...]]) -> str:
    """A letter for each layer, the same one for equal layers."""
    distinct: list[tuple[Any, ...]] = []
    for layer in layers:
        if layer not in distinct:
            distinct.append(layer)
    return "".join(chr(ord("a") + distinct.index(layer)) for layer in layers)


def _steps(letters: str) -> list[tuple[int, int]]:
    """Period and repeats to write at each layer; from the last one back, each rest once."""
    lengths = [0] * (len(letters) + 1)
    steps = [(1, 1)] * len(letters)
    for start in reversed(range(len(letters))):
        lengths[start], _, *step = min(_choices(letters, start, lengths))
        steps[start] = (step[0], step[1])
    return steps


def _choices(letters: str, start: int, lengths: list[int]) -> Iterator[tuple[int, int, int, int]]:
    """Lines of each choice and all that follows, minus its layers, its period, its repeats."""
    for period in range(1, (len(letters) - start) // 2 + 1):
        part, end = letters[start : start + period], start + period
        while letters.startswith(part, end):
            end += period
        repeats, _ = divmod(end - start, period)
        inner = 0 if period == 1 else 1 + sum(a != b for a, b in pairwise(part))
        if repeats > 1:
            yield 1 + inner + lengths[end], start - end, period, repeats
    yield 1 + lengths[start + 1], -1, 1, 1


def _runs(layers: Sequence[tuple[Any, ...]]) -> list[Spec]:
    runs: list[Spec] = []
    for blocks in layers:
        if runs and runs[-1]["blocks"] == list(blocks):
            runs[-1]["count"] += 1
        else:
            runs.append({"count": 1, "blocks": list(blocks)})
    return runs
