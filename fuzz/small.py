"""The smallest models that readers accept, so that whole files stay within a few kilobytes."""

import json

from tests.stored_files import (
    LLAMA_CONFIG,
    LLAMA_METADATA,
    Tensors,
    llama_gguf,
    llama_tensors,
)

_SIZES = ("hidden_size", "intermediate_size", "vocab_size")
_GGUF_SIZES = ("llama.embedding_length", "llama.feed_forward_length", "llama.vocab_size")


def _shrunk(tensors: Tensors, factor: int) -> Tensors:
    return {
        name: (dtype, tuple(max(1, axis // factor) for axis in shape))
        for name, (dtype, shape) in tensors.items()
    }


def small_tensors(dtype: str) -> Tensors:
    """Llama of width 8 under its publisher's names."""
    return _shrunk(llama_tensors(dtype), 32)


CONFIG = json.dumps(
    {**LLAMA_CONFIG, **{key: int(str(LLAMA_CONFIG[key])) // 32 for key in _SIZES}}
).encode()
"""That model's config."""


def small_gguf(kind: str, factor: int) -> tuple[dict[str, object], Tensors]:
    """Metadata and tensors of Llama, its widths divided by ``factor``."""
    sizes = {key: int(str(LLAMA_METADATA[key])) // factor for key in _GGUF_SIZES}
    return {**LLAMA_METADATA, **sizes}, _shrunk(llama_gguf(kind), factor)
