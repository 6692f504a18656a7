"""Weight files as bytes: small safetensors and GGUF files of known models, without any library."""

import json
import struct
from math import prod
from pathlib import Path

from llmplan.dtypes import FORMATS, bytes_for
from llmplan.model.stored.gguf_file import TYPES

BITS = {"F32": 32, "BF16": 16, "F16": 16, "F8_E4M3": 8, "F8_E8M0": 8, "U8": 8, "I32": 32}
Tensors = dict[str, tuple[str, tuple[int, ...]]]
"""Type and shape by name."""


def safetensors_bytes(tensors: Tensors) -> bytes:
    """A safetensors file; all values are zero."""
    entries, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = at + prod(shape) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(at)


def write_repository(folder: Path, config: dict, tensors: Tensors) -> Path:
    """A folder with a config and one file of weights; gives the latter."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "model.safetensors"
    path.write_bytes(safetensors_bytes(tensors))
    return path


def write_shards(folder: Path, tensors: Tensors, count: int = 2) -> Path:
    """The same tensors over several files with an index; gives the index."""
    names = list(tensors)
    where = {}
    for number in range(count):
        shard = f"model-{number + 1:05}-of-{count:05}.safetensors"
        own = {name: tensors[name] for name in names[number::count]}
        (folder / shard).write_bytes(safetensors_bytes(own))
        where |= dict.fromkeys(own, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return index


def text(value: str) -> bytes:
    """A GGUF string."""
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_value(value: object) -> bytes:
    """A GGUF value with its kind."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + text(value)
        case list():
            kind, *_ = struct.unpack("<I", gguf_value(value[0])[:4])
            items = b"".join(gguf_value(item)[4:] for item in value)
            return struct.pack("<IIQ", 9, kind, len(value)) + items
    raise TypeError(value)


NUMBERS = {name: number for number, name in TYPES.items()}


def gguf_bytes(metadata: dict[str, object], tensors: Tensors, version: int = 3) -> bytes:
    """A GGUF file; all weights are zero."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + gguf_value(value) for key, value in metadata.items())
    at = 0
    for name, (kind, shape) in tensors.items():
        axes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += text(name) + axes + struct.pack("<IQ", NUMBERS[kind], at)
        at += -(-bytes_for(shape, FORMATS[kind]) // 32) * 32
    return head + bytes(-len(head) % 32) + bytes(at)


# -- small models, with the names that their publishers use --------------------------------------

D, F, V = 256, 512, 320


def llama_tensors(dtype: str = "BF16", layers: int = 2) -> Tensors:
    """Llama with 4 query heads and 2 key heads of 64."""
    tensors: Tensors = {
        "model.embed_tokens.weight": (dtype, (V, D)),
        "model.norm.weight": (dtype, (D,)),
        "lm_head.weight": (dtype, (V, D)),
    }
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        shapes = {
            "input_layernorm": (D,),
            "post_attention_layernorm": (D,),
            "self_attn.q_proj": (256, D),
            "self_attn.k_proj": (128, D),
            "self_attn.v_proj": (128, D),
            "self_attn.o_proj": (D, 256),
            "mlp.gate_proj": (F, D),
            "mlp.up_proj": (F, D),
            "mlp.down_proj": (D, F),
        }
        tensors |= {f"{prefix}{name}.weight": (dtype, shape) for name, shape in shapes.items()}
    return tensors


LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": D,
    "intermediate_size": F,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": V,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
LLAMA_METADATA = {
    "general.architecture": "llama",
    "general.name": "Small Llama",
    "llama.context_length": 4096,
    "llama.embedding_length": D,
    "llama.block_count": 2,
    "llama.feed_forward_length": F,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 64,
    "llama.rope.freq_base": 500000.0,
    "llama.vocab_size": V,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
}


def llama_gguf(kind: str = "bf16", **special: str) -> Tensors:
    """The same under llama.cpp's names; ``special`` gives tensors of some names another type."""
    shapes = {"token_embd": (V, D), "output_norm": (D,), "output": (V, D)}
    for layer in range(2):
        shapes |= {
            f"blk.{layer}.{name}": shape
            for name, shape in {
                "attn_norm": (D,), "ffn_norm": (D,), "attn_q": (256, D), "attn_k": (128, D),
                "attn_v": (128, D), "attn_output": (D, 256), "ffn_gate": (F, D), "ffn_up": (F, D),
                "ffn_down": (D, F),
            }.items()
        }  # fmt: skip
    tensors: Tensors = {}
    for name, shape in shapes.items():
        own = next((given for part, given in special.items() if part in name), kind)
        tensors[f"{name}.weight"] = ("fp32" if len(shape) == 1 else own, shape)
    return {**tensors, "rope_freqs.weight": ("fp32", (32,))}
