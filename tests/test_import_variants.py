"""Configs beside a class's defaults: imported as transformers builds them, to the parameter.

Each variant is imported twice: as its publisher might write it, with most keys left to the class,
and as transformers writes it out in full. Small models then run, and their caches are measured.
"""

import os
import warnings
from collections import Counter
from typing import Final

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from llmplan.errors import DocumentError
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.importing.config import spec_of_config
from llmplan.ops.base import StateKind

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle

PROMPT: Final = 20
"""Tokens: above the small windows, below the contexts."""

OWN_KEY: Final = 1
"""A window of W is W - 1 kept keys there, because the query brings its own; engines reserve W."""

IDS: Final = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES: Final = {
    **IDS,
    "vocab_size": 160,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
"""A small decoder in the words of most configs."""
MULTI_HEAD: Final = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
NETWORK_APART: Final = {k: v for k, v in MULTI_HEAD.items() if k != "intermediate_size"}
OPT: Final = {**NETWORK_APART, "ffn_dim": 80}
GPT2: Final = {**IDS, "vocab_size": 160, "n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": 64}
LAYERS: Final = ["sliding_attention", "full_attention", "full_attention"] * 2
WIDE: Final = {"head_dim": 24}
BIASED: Final = {"attention_bias": True}
ALL_BIASED: Final = {**BIASED, "mlp_bias": True}
TIED: Final = {"tie_word_embeddings": True}
UNTIED: Final = {"tie_word_embeddings": False}

VARIANTS: Final = {
    "llama-biased": ("llama", {**SIZES, **ALL_BIASED}),
    "llama-wide-heads": ("llama", {**SIZES, **WIDE}),
    "llama-null-heads": ("llama", {**SIZES, "head_dim": None, "num_key_value_heads": None}),
    "llama-tied": ("llama", {**SIZES, **TIED}),
    "internlm3": ("internlm3", {**SIZES, **ALL_BIASED, **WIDE}),
    "iquestcoder": ("iquestcoder", {**SIZES, **ALL_BIASED}),
    "mistral-window": ("mistral", {**SIZES, "sliding_window": 8}),
    "mistral-full": ("mistral", {**SIZES, "sliding_window": None, **WIDE}),
    "mistral-window-of-the-class": ("mistral", SIZES),
    "ministral": ("ministral", {**SIZES, **WIDE, "sliding_window": 8, "layer_types": LAYERS}),
    "ministral-all-slide": ("ministral", {**SIZES, **WIDE, "sliding_window": 8}),
    "ministral3": ("ministral3", {**SIZES, "sliding_window": 8}),
    "qwen2-window-off": ("qwen2", {**SIZES, "sliding_window": 8, "max_window_layers": 2}),
    "qwen2-window-on": (
        "qwen2",
        {**SIZES, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
    ),
    "qwen2-no-layer-slides": (
        "qwen2",
        {**SIZES, "use_sliding_window": True, "sliding_window": 8, **TIED},
    ),
    "qwen3-window-on": (
        "qwen3",
        {**SIZES, "use_sliding_window": True, "sliding_window": 8, "layer_types": LAYERS},
    ),
    "qwen3-biased": ("qwen3", {**SIZES, **BIASED, **WIDE, **TIED}),
    "smollm3-window": (
        "smollm3",
        {**SIZES, "use_sliding_window": True, "sliding_window": 8, "no_rope_layer_interval": 3},
    ),
    "smollm3-biased": ("smollm3", {**SIZES, **ALL_BIASED, **UNTIED}),
    "cwm": ("cwm", {**SIZES, "sliding_window": 8, "mlp_bias": True}),
    "granite": ("granite", {**SIZES, **ALL_BIASED, **TIED}),
    "granite-swa": ("granite_swa", {**SIZES, **ALL_BIASED, "sliding_window": 8}),
    "granite-swa-still": (
        "granite_swa",
        {**SIZES, "sliding_window": 8, "layer_rope_theta": [0, 1e4, 1e4, 0, 0, 1e4]},
    ),
    "hyperclovax": ("hyperclovax", {**SIZES, **ALL_BIASED, **WIDE}),
    "hyperclovax-pre": ("hyperclovax", {**SIZES, "use_post_norm": False}),
    "helium": ("helium", {**SIZES, **ALL_BIASED, "head_dim": 12}),
    "seed-oss": ("seed_oss", {**SIZES, "attention_out_bias": True, "mlp_bias": True}),
    "seed-oss-unbiased": ("seed_oss", {**SIZES, "attention_bias": False, **WIDE}),
    "ernie": ("ernie4_5", {**SIZES, "use_bias": True, **UNTIED}),
    "ernie-derived": ("ernie4_5", {**SIZES, "head_dim": None}),
    "hunyuan": ("hunyuan_v1_dense", {**SIZES, **BIASED, **WIDE, **TIED}),
    "glm": ("glm", {**SIZES, **WIDE}),
    "glm-unbiased": ("glm", {**SIZES, "attention_bias": False, **TIED}),
    "glm4": ("glm4", {**SIZES, **WIDE}),
    "arcee": ("arcee", {**SIZES, **ALL_BIASED, **WIDE}),
    "apertus": ("apertus", {**SIZES, **BIASED}),
    "nemotron": ("nemotron", {**SIZES, **ALL_BIASED, **WIDE}),
    "nemotron-plain": ("nemotron", {**SIZES, **TIED}),
    "jais2": ("jais2", {**SIZES, **WIDE}),
    "jais2-unbiased": ("jais2", {**SIZES, "attention_bias": False, "mlp_bias": False}),
    "starcoder2": ("starcoder2", {**SIZES, "sliding_window": 8}),
    "starcoder2-unbiased": ("starcoder2", {**SIZES, "use_bias": False, **UNTIED}),
    "nanochat": ("nanochat", {**SIZES, **BIASED, **TIED}),
    "olmo": ("olmo", {**SIZES, **BIASED}),
    "olmo2": ("olmo2", {**SIZES, **BIASED, **TIED}),
    "olmo3": ("olmo3", {**SIZES, "sliding_window": 8}),
    "olmo3-listed": ("olmo3", {**SIZES, **BIASED, "sliding_window": 8, "layer_types": LAYERS}),
    "exaone4": ("exaone4", {**SIZES, "sliding_window": 8, "sliding_window_pattern": 3}),
    "exaone4-lettered": (
        "exaone4",
        {**SIZES, "sliding_window": 8, "sliding_window_pattern": "LLG", "layer_types": LAYERS},
    ),
    "exaone4-full": (
        "exaone4",
        {**SIZES, "sliding_window": None, "layer_types": ["full_attention"] * 6, **TIED},
    ),
    "phi3": ("phi3", {**SIZES, "sliding_window": 8, **WIDE}),
    "phi3-window-beyond": ("phi3", {**SIZES, "sliding_window": 128, **TIED}),
    "phi3-partial": ("phi3", {**SIZES, "partial_rotary_factor": 0.5}),
    "gemma": ("gemma", {**SIZES, **BIASED}),
    "gemma-untied": ("gemma", {**SIZES, **UNTIED, **WIDE}),
    "gemma2": ("gemma2", {**SIZES, **BIASED, "sliding_window": 8}),
    "gemma2-listed": ("gemma2", {**SIZES, **WIDE, "sliding_window": 8, "layer_types": LAYERS}),
    "gemma3": ("gemma3_text", {**SIZES, **WIDE, "sliding_window": 8}),
    "gemma3-pattern": (
        "gemma3_text",
        {**SIZES, **BIASED, "sliding_window": 8, "sliding_window_pattern": 2},
    ),
    "gemma3-window-beyond": ("gemma3_text", {**SIZES, "sliding_window": 64, **UNTIED}),
    "vaultgemma": ("vaultgemma", {**SIZES, **WIDE, "sliding_window": 8}),
    "cohere": ("cohere", {**SIZES, **BIASED}),
    "cohere-normed": ("cohere", {**SIZES, "use_qk_norm": True, **UNTIED}),
    "cohere2": ("cohere2", {**SIZES, **BIASED, "sliding_window": 8}),
    "cohere2-pattern": (
        "cohere2",
        {**SIZES, "sliding_window": 8, "sliding_window_pattern": 2, **UNTIED},
    ),
    "phi": ("phi", {**SIZES, "partial_rotary_factor": 0.4}),
    "phi-normed": ("phi", {**SIZES, "qk_layernorm": True}),
    "gpt-neox": ("gpt_neox", MULTI_HEAD),
    "gpt-neox-in-turn": (
        "gpt_neox",
        {**MULTI_HEAD, "use_parallel_residual": False, "attention_bias": False, **TIED},
    ),
    "stablelm": ("stablelm", {**SIZES, "use_qkv_bias": True, "partial_rotary_factor": 0.5}),
    "stablelm-parallel": (
        "stablelm",
        {
            **SIZES,
            **TIED,
            "use_parallel_residual": True,
            "qk_layernorm": True,
            "partial_rotary_factor": 1.0,
        },
    ),
    "gptj": ("gptj", {**GPT2, "rotary_dim": 8, "n_inner": 80}),
    "codegen": ("codegen", {**GPT2, "rotary_dim": 4}),
    "falcon-7b": ("falcon", NETWORK_APART),
    "falcon-multi-head": ("falcon", {**NETWORK_APART, "multi_query": False, "bias": True}),
    "falcon-rw": (
        "falcon",
        {
            **NETWORK_APART,
            "alibi": True,
            "multi_query": False,
            "parallel_attn": False,
            "bias": True,
        },
    ),
    "falcon-40b": (
        "falcon",
        {**NETWORK_APART, "new_decoder_architecture": True, "num_kv_heads": 2, **UNTIED},
    ),
    "falcon-11b": (
        "falcon",
        {
            **NETWORK_APART,
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "ffn_hidden_size": 80,
        },
    ),
    "gpt2": ("gpt2", {**GPT2, "n_inner": 80}),
    "gpt2-untied": ("gpt2", {**GPT2, **UNTIED}),
    "gpt-bigcode": ("gpt_bigcode", GPT2),
    "gpt-bigcode-multi-head": ("gpt_bigcode", {**GPT2, "multi_query": False, "n_inner": 80}),
    "gpt-neo": (
        "gpt_neo",
        {
            **IDS,
            "vocab_size": 160,
            "hidden_size": 48,
            "num_layers": 4,
            "num_heads": 4,
            "max_position_embeddings": 64,
            "window_size": 8,
            "attention_types": [[["global", "local"], 2]],
            "attention_layers": ["global", "local"] * 2,
        },
    ),
    "opt": ("opt", {**NETWORK_APART, "ffn_dim": 80}),
    "opt-bare": (
        "opt",
        {
            **NETWORK_APART,
            "ffn_dim": 80,
            "enable_bias": False,
            "layer_norm_elementwise_affine": False,
            **UNTIED,
        },
    ),
    "biogpt": ("biogpt", {**MULTI_HEAD, **UNTIED}),
    "xglm": (
        "xglm",
        {
            **IDS,
            "vocab_size": 160,
            "d_model": 48,
            "num_layers": 3,
            "attention_heads": 4,
            "ffn_dim": 80,
            "max_position_embeddings": 64,
        },
    ),
    "bloom": (
        "bloom",
        {**IDS, "vocab_size": 160, "n_embed": 48, "n_layer": 3, "n_head": 4, "seq_length": 64},
    ),
    "bloom-named": (
        "bloom",
        {
            **IDS,
            "vocab_size": 160,
            "hidden_size": 48,
            "n_layer": 3,
            "num_attention_heads": 4,
            "seq_length": 64,
            **UNTIED,
        },
    ),
    "mpt": (
        "mpt",
        {**IDS, "vocab_size": 160, "d_model": 48, "n_layers": 3, "n_heads": 4, "max_seq_len": 64},
    ),
    "persimmon": ("persimmon", MULTI_HEAD),
    "persimmon-bare": ("persimmon", {**MULTI_HEAD, "qk_layernorm": False, **TIED}),
    "minicpm3": (
        "minicpm3",
        {**SIZES, "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 8, **UNTIED},
    ),
    "minicpm3-direct": ("minicpm3", {**SIZES, "q_lora_rank": None, "mlp_bias": True}),
    "youtu": ("youtu", {**SIZES, "q_lora_rank": 20, "kv_lora_rank": 16, "v_head_dim": 12}),
}
"""Name, model type, and the keys that differ from the class's defaults."""

OTHER_CACHES: Final = {
    "falcon-40b": "keys and values are cached there once for every query head",
    "falcon-11b": "keys and values are cached there once for every query head",
    "gpt-neo": "local layers are cached there in full and masked",
    "minicpm3": "latents are cached there after their expansion to heads",
    "minicpm3-direct": "latents are cached there after their expansion to heads",
    "youtu": "latents are cached there after their expansion to heads",
}
"""Variants whose cache in transformers is another one than in serving engines, with the reason."""


WINDOW_BEYOND: Final = {"mistral-window-of-the-class", "phi3-window-beyond", "gemma3-window-beyond"}
"""Windows as long as the context, which count as full attention here."""


def class_config(model_type: str, overrides: dict) -> "transformers.PretrainedConfig":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoConfig.for_model(model_type, **overrides)


def built(model_type: str, overrides: dict, device: str) -> "torch.nn.Module":
    config = class_config(model_type, overrides)
    with warnings.catch_warnings(), torch.device(device):
        warnings.simplefilter("ignore")
        network = transformers.AutoModelForCausalLM.from_config(config)
        network.tie_weights()
    return network.eval()


def imported(config: dict) -> Model:
    return compile_spec(*spec_of_config(config, "config.json"))


def parameters(model: Model) -> int:
    return sum(operator.parameters * n for operator, n in model.served().counted())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_parameters_of_its_class(name):
    model_type, overrides = VARIANTS[name]
    expected = sum(p.numel() for p in built(model_type, overrides, "meta").parameters())

    published = parameters(imported({"model_type": model_type, **overrides}))
    written = {**class_config(model_type, overrides).to_dict(), "model_type": model_type}
    context = {key: overrides[key] for key in ("seq_length",) if key in overrides}

    assert published == expected
    assert parameters(imported({**written, **context})) == expected


def held(model_type: str, overrides: dict) -> Counter[str]:
    """Bytes of keys and values that a small model holds after its prompt."""
    network = built(model_type, overrides, "cpu").to(torch.bfloat16)
    with torch.no_grad():
        cache = network(torch.ones(1, PROMPT, dtype=torch.long), use_cache=True).past_key_values
    sizes: Counter[str] = Counter()
    for layer in cache.layers:
        kind = "window" if getattr(layer, "is_sliding", False) else "kv"
        sizes[kind] += layer.keys.nbytes + layer.values.nbytes
    return sizes


def stated(model: Model) -> Counter[str]:
    """The same by llmplan, with windows one key shorter."""
    sizes: Counter[str] = Counter()
    for operator, repeats in model.decoder.counted:
        for state in operator.states:
            tokens = min(PROMPT, state.window - OWN_KEY) if state.window else PROMPT
            kind = "window" if state.kind is StateKind.WINDOW else "kv"
            sizes[kind] += state.width_bytes * tokens * repeats
    return sizes


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in OTHER_CACHES])
def test_a_variant_keeps_the_keys_and_values_of_its_class(name):
    model_type, overrides = VARIANTS[name]
    model = imported({"model_type": model_type, **overrides})

    found, expected = held(model_type, overrides), stated(model)

    assert found.total() == expected.total()
    assert found == expected or name in WINDOW_BEYOND


ROTATED: Final = {
    "llama-wide-heads": {24},
    "phi3-partial": {6},
    "phi": {4},
    "glm": {12},
    "gpt-neox": {3},
    "gptj": {8},
    "falcon-rw": {0},
    "gpt2": {0},
    "mpt": {0},
    "cohere2": {0, 12},
    "exaone4": {0, 12},
    "exaone4-full": {12},
    "smollm3-window": {0, 12},
    "granite-swa-still": {0, 12},
}
"""Rotated elements of a head, by layer: int(head_dim x partial_rotary_factor), or none."""


@pytest.mark.parametrize("name", ROTATED)
def test_a_variant_rotates_what_its_class_rotates(name):
    model_type, overrides = VARIANTS[name]
    spec, _ = spec_of_config({"model_type": model_type, **overrides}, "config.json")

    rotated = {
        block.head_dim if block.rotary_dim is None else block.rotary_dim
        for block in spec.blocks.values()
        if block.kind == "attention"
    }

    assert rotated == ROTATED[name]


REFUSED: Final = {
    "sliding_window": ("qwen2", {**SIZES, "layer_types": LAYERS}),
    "attention_bias": ("mistral", {**SIZES, **BIASED}),
    "add_cross_attention": ("gpt2", {**GPT2, "add_cross_attention": True}),
    "do_layer_norm_before": ("opt", {**OPT, "do_layer_norm_before": False}),
    "word_embed_proj_dim": ("opt", {**OPT, "word_embed_proj_dim": 32}),
    "head_dim": ("cohere2", {**SIZES, **WIDE}),
    "layer_types": ("gemma2", {**SIZES, "layer_types": ["linear_attention"] * 6}),
    "hidden_act": ("llama", {**SIZES, "hidden_act": "maxout"}),
    "lm_head_bias": ("gptj", {**GPT2, "rotary_dim": 8, **TIED}),
    "num_attention_heads": ("llama", {**SIZES, "hidden_size": 50}),
    "num_ln_in_parallel_attn": ("falcon", {**NETWORK_APART, "num_ln_in_parallel_attn": 2}),
    "use_bidirectional_attention": ("gemma", {**SIZES, "use_bidirectional_attention": True}),
    "attention_layers": ("gpt_neo", {**SIZES, "num_layers": 4, "num_heads": 4}),
    "num_hidden_layers": ("qwen2", {**SIZES, "num_hidden_layers": 10**9}),
    "norm_type": ("starcoder2", {**SIZES, "norm_type": "rms_norm"}),
    "expansion_ratio": (
        "mpt",
        {"vocab_size": 160, "d_model": 48, "n_layers": 3, "n_heads": 4, "expansion_ratio": 2},
    ),
}
"""What a class builds otherwise than the spec can say, or does not build at all."""


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_be_said_is_refused_with_its_key(key):
    model_type, overrides = REFUSED[key]

    with pytest.raises(DocumentError) as refusal:
        imported({"model_type": model_type, **overrides})

    assert key in str(refusal.value.key)


def test_a_long_pattern_without_a_period_is_read_in_time():
    words, following = LAYERS[:1], LAYERS[:2]
    while len(following) < 400:
        words, following = following, following + words
    sizes = {**SIZES, "num_hidden_layers": len(following), "layer_types": following}

    model = imported({"model_type": "gemma2", **sizes, "sliding_window": 8})

    sliding = [layer.name for layer in model.decoder.layers].count("sliding_attention+mlp")
    assert sliding == following.count("sliding_attention")
