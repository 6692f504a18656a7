"""From the metadata of a GGUF file to the config that its publisher would have shipped.

llama.cpp keeps sizes under names of its own, ``llama.embedding_length`` for ``hidden_size``. Each
architecture here says them in the words of ``config.json``, and the readers of configs do the rest.
Keys that no architecture reads are refused unless they change no size.

Source: gguf-py/gguf/constants.py and src/llama-model.cpp of the ggml project.
"""

from collections.abc import Callable
from typing import Any, Final

from llmplan.errors import DocumentError, nearest_names, printable
from llmplan.model.importing.view import MAX_LAYERS, ConfigView
from llmplan.model.stored.gguf_file import GgufHeader

_NO_SIZE: Final = frozenset(
    [
        "vocab_size",
        "attention.layer_norm_rms_epsilon",
        "attention.layer_norm_epsilon",
        "attention.scale",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "embedding_scale",
        "residual_scale",
        "logit_scale",
        "attention.temperature_length",
        "attention.temperature_scale",
        "expert_weights_scale",
        "expert_weights_norm",
        "expert_gating_func",
        "expert_group_count",
        "expert_group_used_count",
        "tensor_data_layout",
    ]
)
"""Numerics, routing, and the vocabulary, whose rows are those of the input table."""

Config = dict[str, Any]
_FULL, _SLIDING = "full_attention", "sliding_attention"


class GgufSource:
    """A header as its architecture sees it: sizes by key, and which tensors there are."""

    def __init__(self, header: GgufHeader, arch: str, name: str) -> None:
        prefix = f"{arch}."
        own = {key.removeprefix(prefix): _once(value) for key, value in header.metadata.items()
               if key.startswith(prefix)}  # fmt: skip
        self.keys = ConfigView(own, name)
        self.tensors = {tensor.name: tensor.shape for tensor in header.tensors}

    def has(self, tensor: str) -> bool:
        """Whether a layer has the tensor."""
        return any(f"blk.{layer}.{tensor}" in self.tensors for layer in range(8))

    def width(self, key: str, tensor: str) -> int:
        """A width by its key, or by the rows of each matrix where old files lack the key."""
        if self.keys.has(key):
            return self.keys.count(key)
        shapes = [shape for name, shape in self.tensors.items() if name.endswith(f".{tensor}")]
        if not shapes or len(shapes[0]) < 2:
            raise self.keys.refusal(key, "is missing")
        return shapes[0][-2]

    def tokens(self, key: str) -> int | None:
        """A window, where zero means none."""
        return self.keys.size(key, 0) or None


def _once(value: Any) -> Any:
    """A list that says the same for every layer, as one value."""
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        return value[0] if len(set(value)) == 1 else value
    return value


def config_of_gguf(header: GgufHeader, name: str) -> Config:
    """The config in the words of the publisher's own.

    Raises:
        DocumentError: An architecture or a key that is not known, or a size that is missing.
    """
    arch = header.metadata.get("general.architecture")
    if not isinstance(arch, str) or arch not in ARCHITECTURES:
        shown = printable(arch) if isinstance(arch, str) else "none"
        nearest = nearest_names(shown, ARCHITECTURES, most=1)
        hint = f"; the nearest known one is {nearest[0]}" if nearest else ""
        why = f"architecture '{shown}' is not known{hint}. docs/add-a-model.md lists what is read."
        raise DocumentError(why, name, key="general.architecture")
    source = GgufSource(header, arch, name)
    config = {**_frame(source), **ARCHITECTURES[arch](source)}
    for view, key in source.keys.unread():
        if key not in _NO_SIZE and not key.startswith("rope."):
            raise view.refusal(printable(key), "is not known, and may change sizes")
    return config


def _frame(source: GgufSource) -> Config:
    """Width, depth, vocabulary, context and heads, which all architectures say alike."""
    keys = source.keys
    table = source.tensors.get("token_embd.weight")
    if table is None or len(table) != 2:
        raise keys.refusal("token_embd.weight", "is missing, so that the vocabulary is not known")
    heads, layers = keys.count("attention.head_count"), keys.count("block_count")
    if layers > MAX_LAYERS:
        raise keys.refusal("block_count", f"is {layers:,}, and {MAX_LAYERS:,} layers is the most")
    return {
        "max_position_embeddings": keys.count("context_length"),
        "hidden_size": keys.count("embedding_length"),
        "num_hidden_layers": layers,
        "vocab_size": table[0],
        "tie_word_embeddings": "output.weight" not in source.tensors,
        "num_attention_heads": heads,
        "num_key_value_heads": keys.count("attention.head_count_kv", heads),
    }


def _head_dim(source: GgufSource) -> int | None:
    """The stated width of a head; keys and values must agree."""
    keys = source.keys
    width = keys.count("attention.key_length", None)
    keys.require("attention.value_length", width)
    return width


def _dense(source: GgufSource, architecture: str) -> Config:
    return {
        "architectures": [architecture],
        "head_dim": _head_dim(source),
        "intermediate_size": source.keys.count("feed_forward_length"),
    }


def _llama_of(architecture: str) -> Callable[[GgufSource], Config]:
    """Llama and classes with its switches for biases."""

    def read(source: GgufSource) -> Config:
        return {
            **_dense(source, architecture),
            "attention_bias": source.has("attn_q.bias"),
            "mlp_bias": source.has("ffn_up.bias"),
        }

    return read


def _llama(source: GgufSource) -> Config:
    """Llama, Mistral and Mixtral, which llama.cpp holds for one; none of them slides there."""
    if not source.keys.size("expert_count", 0):
        source.keys.require("expert_used_count", 0, None)
        return _llama_of("LlamaForCausalLM")(source)
    return {**_dense(source, "MixtralForCausalLM"), **_routed(source, "num_local_experts")}


def _routed(source: GgufSource, count: str = "num_experts") -> Config:
    return {
        count: source.keys.count("expert_count"),
        "num_experts_per_tok": source.keys.count("expert_used_count"),
    }


def _expert_width(source: GgufSource) -> int:
    return source.width("expert_feed_forward_length", "ffn_up_exps.weight")


def _dense_of(architecture: str) -> Callable[[GgufSource], Config]:
    """Classes without further sizes."""
    return lambda source: _dense(source, architecture)


def _qwen2_moe(source: GgufSource) -> Config:
    key, tensor = "expert_shared_feed_forward_length", "ffn_up_shexp.weight"
    return {
        **_dense(source, "Qwen2MoeForCausalLM"),
        **_routed(source),
        "moe_intermediate_size": _expert_width(source),
        "shared_expert_intermediate_size": source.width(key, tensor),
    }


def _qwen3_moe(source: GgufSource) -> Config:
    return {
        **_dense(source, "Qwen3MoeForCausalLM"),
        **_routed(source),
        "moe_intermediate_size": _expert_width(source),
    }


def _olmoe(source: GgufSource) -> Config:
    return {**_dense(source, "OlmoeForCausalLM"), **_routed(source)}


def _granite_moe(source: GgufSource) -> Config:
    shared = source.tokens("expert_shared_feed_forward_length")
    return {
        **_dense(source, "GraniteMoeSharedForCausalLM"),
        **_routed(source, "num_local_experts"),
        "shared_intermediate_size": shared,
    }


def _pattern(source: GgufSource, period: int) -> Config:
    """The layers that slide: as stated for each layer, or each but every so many."""
    keys, key = source.keys, "attention.sliding_window_pattern"
    layers = range(keys.count("block_count"))
    try:
        slides = keys.flags(key, [])
    except DocumentError:
        slides, period = [], keys.count(key)
    slides = slides or [(layer + 1) % period != 0 for layer in layers]
    if len(slides) != len(layers):
        raise keys.refusal(key, "has another number of layers than block_count")
    return {
        "sliding_window": keys.count("attention.sliding_window"),
        "layer_types": [_SLIDING if slide else _FULL for slide in slides],
    }


def _gemma_of(architecture: str, period: int) -> Callable[[GgufSource], Config]:
    """Gemma 2 and 3: windows in all but each so many layers."""
    return lambda source: {**_dense(source, architecture), **_pattern(source, period)}


def _olmo2(source: GgufSource) -> Config:
    """OLMo 2; with a window it is OLMo 3."""
    if not source.tokens("attention.sliding_window"):
        source.keys.require("attention.sliding_window_pattern", None)
        return _dense(source, "Olmo2ForCausalLM")
    return {**_dense(source, "Olmo3ForCausalLM"), **_pattern(source, 4)}


def _phi3(source: GgufSource) -> Config:
    config = _dense(source, "Phi3ForCausalLM")
    width, rest = divmod(
        source.keys.count("embedding_length"), source.keys.count("attention.head_count")
    )
    if rest:
        raise source.keys.refusal("attention.head_count", "does not divide embedding_length")
    rotated = source.keys.count("rope.dimension_count", width)
    return {
        **config,
        "sliding_window": source.tokens("attention.sliding_window"),
        "partial_rotary_factor": rotated / width,
    }


def _gpt_oss(source: GgufSource) -> Config:
    config = _dense_width(source, "GptOssForCausalLM")
    return {
        **config,
        **_routed(source, "num_local_experts"),
        **_pattern(source, 2),
        "intermediate_size": _expert_width(source),
    }


def _dense_width(source: GgufSource, architecture: str) -> Config:
    """As ``_dense`` where no layer is dense, so that its width may be left out."""
    source.keys.size("feed_forward_length", 0)
    return {"architectures": [architecture], "head_dim": _head_dim(source)}


def _shared_experts(source: GgufSource) -> Config:
    return {
        **_routed(source, "n_routed_experts"),
        "moe_intermediate_size": _expert_width(source),
        "n_shared_experts": source.keys.count("expert_shared_count"),
        "first_k_dense_replace": source.keys.size("leading_dense_block_count"),
        "intermediate_size": source.keys.count("feed_forward_length"),
    }


def _deepseek2(source: GgufSource) -> Config:
    """DeepSeek V2, V3 and Kimi K2; a selection bias makes the difference.

    New files keep the widths of a head apart, since their keys and values are those of the latent.
    """
    keys = source.keys
    key, value = keys.count("attention.key_length"), keys.count("attention.value_length")
    key, value = (
        keys.count("attention.key_length_mla", key),
        keys.count("attention.value_length_mla", value),
    )
    rotated = keys.count("rope.dimension_count")
    if rotated >= key:
        raise keys.refusal("rope.dimension_count", "leaves no width without positions")
    is_v3 = any("exp_probs_b" in name for name in source.tensors)
    config = {
        "architectures": ["DeepseekV3ForCausalLM" if is_v3 else "DeepseekV2ForCausalLM"],
        **_shared_experts(source),
        "kv_lora_rank": keys.count("attention.kv_lora_rank"),
        "qk_nope_head_dim": key - rotated,
        "qk_rope_head_dim": rotated,
        "v_head_dim": value,
    }
    return {**config, "q_lora_rank": keys.count("attention.q_lora_rank", None)}


def _glm4_moe(source: GgufSource) -> Config:
    keys = source.keys
    width, modules = keys.count("attention.key_length"), keys.size("nextn_predict_layers", 0)
    return {
        "architectures": ["Glm4MoeForCausalLM"],
        **_shared_experts(source),
        "head_dim": _head_dim(source),
        "num_hidden_layers": max(keys.count("block_count") - modules, 1),
        "num_nextn_predict_layers": modules or None,
        "partial_rotary_factor": keys.count("rope.dimension_count", width) / width,
        "attention_bias": source.has("attn_q.bias"),
        "use_qk_norm": source.has("attn_q_norm.weight"),
    }


ARCHITECTURES: Final[dict[str, Callable[[GgufSource], Config]]] = {
    "arcee": _llama_of("ArceeForCausalLM"),
    "deepseek2": _deepseek2,
    "gemma": _dense_of("GemmaForCausalLM"),
    "gemma2": _gemma_of("Gemma2ForCausalLM", 2),
    "gemma3": _gemma_of("Gemma3ForCausalLM", 6),
    "glm4moe": _glm4_moe,
    "gpt-oss": _gpt_oss,
    "granite": _llama_of("GraniteForCausalLM"),
    "granitemoe": _granite_moe,
    "llama": _llama,
    "olmo2": _olmo2,
    "olmoe": _olmoe,
    "phi3": _phi3,
    "qwen2": _dense_of("Qwen2ForCausalLM"),
    "qwen2moe": _qwen2_moe,
    "qwen3": _dense_of("Qwen3ForCausalLM"),
    "qwen3moe": _qwen3_moe,
}
"""Config by ``general.architecture``."""
