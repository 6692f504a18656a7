"""What an engine keeps state in where nobody says: formats by engine and kind of model."""

from dataclasses import dataclass

from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName


@dataclass(frozen=True, slots=True)
class StateDefaults:
    """Names of state formats, and why.

    Attributes:
        kv: Keys and values.
        recurrent: Recurrent state.
        convolution: Convolution columns.
        indexer: Keys of a sparse-attention indexer.
        why: The rule, for a reader; empty where it is 16 bits throughout.
    """

    kv: str = "bf16"
    recurrent: str = "bf16"
    convolution: str = "bf16"
    indexer: str = "bf16"
    why: str = ""


def state_defaults(
    profile: Profile, *, is_low_bit: bool, has_indexer: bool, is_compressed: bool
) -> StateDefaults:
    """What the engine takes for a model.

    Args:
        profile: The engine.
        is_low_bit: Linear weights are published in 8 bits or fewer.
        has_indexer: Latent attention chooses keys by an indexer.
        is_compressed: Entries of the cache stand for several tokens (DeepSeek-V4).

    Source: vLLM's and SGLang's cache settings (kv_cache_dtype auto follows the model; recurrent
    state of linear attention in fp32), TensorRT-LLM's quantised checkpoints.
    """
    match profile.engine:
        case EngineName.VLLM | EngineName.SGLANG:
            if is_compressed:
                why = "kv in fp8, the only cache of this model"
                return StateDefaults("fp8", "fp32", "bf16", "fp8_indexer", why)
            indexer = "fp8_indexer" if has_indexer else "bf16"
            return StateDefaults("bf16", "fp32", "bf16", indexer, "kv as the model computes")
        case EngineName.TRTLLM if is_low_bit:
            why = "kv in fp8 with checkpoints of 8 bits and fewer"
            return StateDefaults("fp8", "fp32", "bf16", "fp8_indexer", why)
        case EngineName.LLAMACPP:
            return StateDefaults("fp16", "fp32", "fp32", "fp16", "kv in f16")
        case _:
            return StateDefaults()
