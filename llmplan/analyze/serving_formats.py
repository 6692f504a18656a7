"""Formats that measured serving rows name: of weights, of keys and values, and what blanks mean."""

from typing import Final

from llmplan.analyze.measured import (
    GGUF_ROLES,
    KEPT_REMARK,
    Skipped,
    keeps_attention,
    with_attention_kept,
)
from llmplan.dtypes import BF16, Format, format_named, state_format_named
from llmplan.engines.kv_default import state_defaults
from llmplan.engines.profile import profile_of
from llmplan.engines.words import kv_words, weight_words
from llmplan.errors import InputError, printable
from llmplan.model.compiled import Model
from llmplan.ops.base import StateKind
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.precision import LINEAR_ROLES
from llmplan.parallel.precision import NATIVE, StateFormats

GPT_FAST: Final = "gpt-fast"
LLAMACPP: Final = "llama.cpp"
TRTLLM: Final = "trtllm"
LOW_BIT_UNITS: Final = ("fp8", "fp4")
BLOCK_PUBLISHERS: Final = ("qwen", "deepseek-ai", "minimaxai", "zai-org", "moonshotai")
"""Who publish fp8 copies of their own models, in blocks of 128x128 (their config.json files)."""
OTHER_WORDS: Final = {"f16": "bf16", "mxfp8": "mxfp8", "fp4": "nvfp4"}
"""Words of serving rows beside those of engines."""
GGUF_MIXES: Final = {"q4_k_m": "4.85_bits"}
"""Average bits of files that mix tensor types.

Of Llama 3 in Q4_K_M they are 4.90 (8B) and 4.82 (70B).
Source: github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference, total VRAM requirements: 4.58 of
14.96 and 39.59 of 131.42 GB in f16.
"""


def weights_of(word: str, engine: str, name: str, published: Model) -> tuple[str, str]:
    """``--dtype`` for the weight format of a row, and how it was read.

    Args:
        word: The row's word.
        engine: Its engine.
        name: Its repository.
        published: That model as ``load_model`` reads it by its name.

    Raises:
        Skipped: A format that is not known, or none.
    """
    said = word.strip().lower()
    if not said:
        raise Skipped("states no weight format")
    words = OTHER_WORDS.get(said) or weight_words(said) or _gguf_words(said, engine)
    if not words:
        raise Skipped(f"weight format '{printable(word)}' is not known")
    is_derived = bool(published.identity.assumptions)
    if not is_derived and (_is_stored(said, published) or _is_stored(words, published)):
        return NATIVE, ""
    if words == "fp8":
        words = _fp8_of(engine, name)
    if keeps_attention(words, published):
        return with_attention_kept(words), KEPT_REMARK
    return (NATIVE if _is_stored(words, published) else words), ""


def _gguf_words(said: str, engine: str) -> str:
    """One tensor type, or an average, for all that GGUF files store in blocks."""
    if engine != LLAMACPP:
        return ""
    try:
        each = format_named(GGUF_MIXES.get(said, said)).name
    except InputError:
        return ""
    return ",".join(f"{role.value}={each}" for role in GGUF_ROLES)


def _fp8_of(engine: str, name: str) -> str:
    """fp8 in blocks where the publisher of a model stores it so, else one scale a tensor."""
    owner, _, repository = name.lower().partition("/")
    is_its_own = owner in BLOCK_PUBLISHERS and (engine != TRTLLM or "fp8" in repository)
    return "fp8" if is_its_own else "fp8_tensor"


def _is_stored(word: str, published: Model) -> bool:
    """Whether linear weights are published in what a word names, in part at least."""
    low = (fmt.name for fmt in linear_formats(published) if fmt.bits < BF16.bits)
    return any(word in name for name in low)


def linear_formats(model: Model) -> frozenset[Format]:
    """Formats that linear weights of the decoder are stored in."""
    return frozenset(
        operator.precision.of(weight.role)
        for operator, _ in model.decoder.counted
        for weight in operator.weights
        if weight.role in LINEAR_ROLES
    )


def states_of(word: str, engine: str, model: Model) -> tuple[StateFormats, str]:
    """Formats of what requests keep, and how a blank was read.

    16 bits are bf16 here, as they are for weights. A blank is 16 bits with vLLM and SGLang, and fp8
    with TensorRT-LLM where weights are fp8 or fp4.

    Args:
        word: The row's word.
        engine: Its engine.
        model: The model with its weights in the row's format.

    Raises:
        Skipped: A format that is not known.
    """
    kinds = {state.kind for operator, _ in model.decoder.counted for state in operator.states}
    stored = linear_formats(model)
    taken = state_defaults(
        profile_of("generic" if engine == GPT_FAST else engine),
        is_low_bit=any(fmt.compute in LOW_BIT_UNITS or fmt.name == "mxfp4" for fmt in stored),
        has_indexer=StateKind.INDEXER in kinds,
        is_compressed=any(
            isinstance(operator, CompressedAttention) for operator, _ in model.decoder.counted
        ),
    )
    said = word.strip()
    words = kv_words(said) if said else taken.kv
    if words is None:
        raise Skipped(f"KV format '{printable(said)}' is not known")
    kv = state_format_named(words)
    formats = StateFormats(
        BF16 if kv.bits_per_weight == BF16.bits else kv,
        state_format_named(taken.recurrent),
        state_format_named(taken.indexer),
        state_format_named(taken.convolution),
    )
    return formats, "" if said else f"KV format is not stated: {formats.kv.name}"
