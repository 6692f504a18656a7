"""The text model of Llama 4: chunked and full attention, dense networks and experts."""

from llmplan.model.importing.parts import Spec, activation, frame, stack, without_defaults
from llmplan.model.importing.view import ConfigView


def llama4_text(config: ConfigView) -> Spec:
    """Llama 4; layers without positions see the whole context unless ``layer_types`` says."""
    # scaling of queries, and a switch of one quantiser
    config.ignore("attn_temperature_tuning", "floor_scale", "attn_scale", "for_llm_compressor")
    count = config.count("num_hidden_layers")
    rotates, chunked = _rotates(config, count), _chunked(config, count)
    experts_at = _experts_at(config, count)
    kinds = list(zip(rotates, chunked, strict=True))
    mixers = {_name(kind): _attention(config, kind) for kind in kinds}
    layers = [
        (_name(kind), "moe" if index in experts_at else "dense") for index, kind in enumerate(kinds)
    ]
    return {
        **frame(config, tied=False, context=131072),
        **stack({**mixers, **_networks(config)}, layers),
    }


def _name(kind: tuple[bool, bool]) -> str:
    """The block of a layer; only chunked layers rotate in the published models."""
    rotates, chunked = kind
    return ("chunked" if chunked else "full") + ("" if rotates == chunked else "_other")


def _rotates(config: ConfigView, count: int) -> list[bool]:
    """1 stands for a layer with positions, in spite of the key's name."""
    interval = config.count("no_rope_layer_interval", 4)
    default = [int((index + 1) % interval != 0) for index in range(count)]
    stated = config.counts("no_rope_layers", default) or default
    if len(stated) != count:
        raise config.refusal("no_rope_layers", f"names {len(stated)} layers, not {count}")
    return [bool(flag) for flag in stated]


def _chunked(config: ConfigView, count: int) -> list[bool]:
    rotates = _rotates(config, count)
    words = ["chunked_attention" if r else "full_attention" for r in rotates]
    stated = config.texts("layer_types", words)
    if len(stated) != count or not set(stated) <= {"chunked_attention", "full_attention"}:
        raise config.refusal("layer_types", f"must name {count} chunked or full layers")
    return [word == "chunked_attention" for word in stated]


def _experts_at(config: ConfigView, count: int) -> list[int]:
    step = config.count("interleave_moe_layer_step", 1)
    return config.counts("moe_layers", list(range(step - 1, count, step)))


def _attention(config: ConfigView, kind: tuple[bool, bool]) -> Spec:
    rotates, chunked = kind
    has_bias = config.flag("attention_bias", False)
    block = {
        "kind": "attention",
        "num_attention_heads": config.count("num_attention_heads"),
        "num_key_value_heads": config.count("num_key_value_heads"),
        "head_dim": config.count("head_dim", 128),
        "attention_bias": has_bias,
        "o_proj_bias": has_bias,
        "qk_norm": "l2" if rotates and config.flag("use_qk_norm", True) else "none",
        "rotary_dim": None if rotates else 0,
        "attention_chunk_size": config.count("attention_chunk_size", 8192) if chunked else None,
    }
    return without_defaults(block)


def _networks(config: ConfigView) -> Spec:
    act, expert = activation(config), config.count("intermediate_size")
    dense = {"kind": "mlp", "intermediate_size": config.count("intermediate_size_mlp", 16384)}
    moe = {
        "kind": "moe",
        "num_experts": config.count("num_local_experts", 16),
        "num_experts_per_tok": config.count("num_experts_per_tok", 1),
        "moe_intermediate_size": expert,
        "n_shared_experts": 1,
        "hidden_act": act,
    }
    return {"dense": without_defaults({**dense, "hidden_act": act}), "moe": without_defaults(moe)}
