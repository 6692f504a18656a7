"""Pieces of mixtures of experts: heads, expert blocks, dense layers between sparse ones."""

from collections.abc import Iterable
from typing import Any, Final

from llmplan.errors import DocumentError
from llmplan.model.importing.parts import Spec, activation, head_dim, mlp, without_defaults
from llmplan.model.importing.view import ConfigView

_FALSE_BY_DEFAULT: Final = (
    "attention_sinks", "expert_bias", "router_bias", "e_score_correction_bias",
    "shared_expert_gate",
)  # fmt: skip
NETWORKS: Final = {"dense": "dense", "sparse": "moe"}
"""Block by word of ``mlp_layer_types``."""
WINDOWS: Final = {"sliding_attention": "local", "full_attention": "global"}
"""Block by word of ``layer_types``."""


def tidy(block: Spec) -> Spec:
    """A block without the keys that say what the spec's default says."""
    kept = without_defaults(block)
    return {key: value for key, value in kept.items()
            if value is not False or key not in _FALSE_BY_DEFAULT}  # fmt: skip


def absent(config: ConfigView, *keys: str) -> bool:
    """False, once it is sure that the config does not ask for what the block cannot say."""
    for key in keys:
        config.require(key, False, None)
    return False


def same_count(config: ConfigView, *keys: str) -> int:
    """A count that configs name in several ways; those that are stated must agree."""
    stated = [config.count(key) for key in keys if config.has(key)]
    if len(set(stated)) > 1:
        raise config.refusal(keys[0], f"does not agree with {' and '.join(keys[1:])}")
    return stated[0] if stated else config.count(keys[0])


def equal_count(config: ConfigView, key: str, default: int | None = None) -> int:
    """A count, stated once or for every layer; layers that differ cannot be said."""
    try:
        return config.count(key) if default is None else config.count(key, default)
    except DocumentError:
        values = set(config.counts(key))
    if len(values) != 1 or 0 in values:
        raise config.refusal(key, "differs between layers, which cannot be read so far")
    return values.pop()


def grouped_query(
    config: ConfigView, *, bias: bool = False, head: int | None = None, **more: Any
) -> Spec:
    """Softmax attention; ``head`` is the class's own head size, ``more`` replaces what differs."""
    block = {
        "kind": "attention",
        "num_attention_heads": config.count("num_attention_heads"),
        "num_key_value_heads": 0,
        "head_dim": config.count("head_dim", head) if head else head_dim(config),
        "attention_bias": bias,
        "o_proj_bias": bias,
        **more,
    }
    if "num_key_value_heads" not in more:
        block["num_key_value_heads"] = config.count("num_key_value_heads")
    return tidy(block)


def key_value_heads(config: ConfigView) -> int:
    """Key and value heads of classes that take as many as query heads where none are stated."""
    return config.count("num_key_value_heads", config.count("num_attention_heads"))


def experts(
    config: ConfigView,
    *,
    count: Iterable[str] = ("num_experts", "num_local_experts"),
    top_k: Iterable[str] = ("num_experts_per_tok",),
    width: str = "moe_intermediate_size",
    **more: Any,
) -> Spec:
    """Routed experts; ``more`` says shared experts and biases."""
    block = {
        "kind": "moe",
        "num_experts": same_count(config, *count),
        "num_experts_per_tok": 0,
        "moe_intermediate_size": config.count(width),
        "hidden_act": activation(config),
        **more,
    }
    if "num_experts_per_tok" not in more:
        block["num_experts_per_tok"] = same_count(config, *top_k)
    return tidy(block)


def shared(config: ConfigView, key: str = "n_shared_experts", default: int | None = None) -> Any:
    """The number of shared experts, None where there are none."""
    return (config.size(key) if default is None else config.size(key, default)) or None


def dense(config: ConfigView, **more: Any) -> Spec:
    """The network of layers without experts."""
    return mlp(config, hidden_act=activation(config), **more)


def dense_first(
    config: ConfigView, key: str = "first_k_dense_replace", default: int = 0
) -> list[str]:
    """Dense layers up to a stated number, then experts."""
    first = config.size(key, default)
    return ["dense" if i < first else "moe" for i in range(config.count("num_hidden_layers"))]


def networks(config: ConfigView, *, first: int) -> list[str]:
    """``mlp_layer_types``; where that is missing, ``first_k_dense_replace`` or the class's own."""
    if not config.has("mlp_layer_types"):
        return dense_first(config, default=first)
    config.ignore("first_k_dense_replace")  # the list holds in the class
    return words(config, "mlp_layer_types", NETWORKS)


def sparse_steps(config: ConfigView, default_dense: Iterable[int] = ()) -> list[str]:
    """Experts in every ``decoder_sparse_step``-th layer but the ``mlp_only_layers``."""
    step = config.count("decoder_sparse_step", 1)
    dense_layers = set(config.counts("mlp_only_layers", list(default_dense)))
    layers = range(config.count("num_hidden_layers"))
    return ["dense" if i in dense_layers or (i + 1) % step else "moe" for i in layers]


def words(config: ConfigView, key: str, blocks: dict[str, str]) -> list[str]:
    """A list with one word a layer as names of blocks."""
    stated = config.texts(key)
    for word in stated:
        if word not in blocks:
            raise config.refusal(key, f"names a layer '{word}', which cannot be read so far")
    if len(stated) != config.count("num_hidden_layers"):
        raise config.refusal(key, f"has {len(stated)} entries, one a layer is expected")
    return [blocks[word] for word in stated]


def windows(config: ConfigView, default: list[str]) -> list[str]:
    """``layer_types`` as blocks ``local`` and ``global``, or the class's own pattern."""
    return words(config, "layer_types", WINDOWS) if config.has("layer_types") else default


def every(config: ConfigView, period: int, *, offset: int = 1) -> list[str]:
    """Windows but for a global layer each ``period`` layers."""
    layers = range(config.count("num_hidden_layers"))
    return ["local" if (i + offset) % period else "global" for i in layers]


def local_and_global(config: ConfigView, block: Spec, **of_global: Any) -> Spec:
    """The same heads with a window and without; ``of_global`` is what global layers add."""
    if not config.has("sliding_window"):
        return {"local": block, "global": block}
    window = config.count("sliding_window")
    return {"local": {**block, "sliding_window": window}, "global": {**block, **of_global}}


def known_mtp(config: ConfigView, *blocks: str, **own: bool) -> Spec | None:
    """Multi-token-prediction modules of families whose published totals they close."""
    if not config.size("num_nextn_predict_layers", 0):
        return None
    modules = config.count("num_nextn_predict_layers")
    return {"num_nextn_predict_layers": modules, "blocks": list(blocks), **own}


def unknown_mtp(config: ConfigView) -> Spec:
    """A note where modules are stated whose make-up is not known."""
    modules = config.size("num_nextn_predict_layers", 0)
    note = "num_nextn_predict_layers is {}; their make-up is not known, so they are left out."
    return {"notes": [note.format(modules)]} if modules else {}
