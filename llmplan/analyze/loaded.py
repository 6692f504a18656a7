"""What engines add to stored weights when they load them: padding, second copies, whole tables."""

from dataclasses import replace
from typing import Final

from llmplan.dtypes import BF16, bytes_for, divide_up, scale_entries
from llmplan.engines.facts import GpuFacts
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName
from llmplan.model.compiled import Model
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator
from llmplan.ops.compressed import Compressor
from llmplan.ops.embedding import Embedding
from llmplan.ops.latent import LatentAttention
from llmplan.ops.moe import Experts
from llmplan.ops.norm import Elementwise
from llmplan.ops.precision import Role
from llmplan.parallel.layout import Layout

ROUTED_KERNELS: Final = (EngineName.VLLM, EngineName.SGLANG)
"""Engines whose kernels want expert matrices of whole tiles and absorb latent projections."""
WHOLE_TABLES: Final = ("Gemma3", "Gemma4")
"""Beginnings of architectures whose input table SGLang holds whole on every rank.

Source: SGLang 0.5.12, models/gemma3_causal.py and gemma4_causal.py.
"""
HOPPER: Final = 9
BLACKWELL: Final = 10
"""Major compute capabilities."""


LATENT_CACHES_SINCE: Final = "0.7.1"
"""Release of vLLM from which latents are cached rather than every head's keys and values."""
EXPANDED_HEAD: Final = 256
"""Width that vLLM padded expanded keys and values to.

Source: vLLM 0.5.4, models/deepseek_v2.py.
"""


def expands_latents(profile: Profile) -> bool:
    """Whether the release keeps expanded keys and values of models with latents."""
    return profile.engine is EngineName.VLLM and not profile.is_since(LATENT_CACHES_SINCE)


def added_by_loading(model: Model, layout: Layout, profile: Profile, gpu: GpuFacts) -> int:
    """Bytes on a rank beside those that the checkpoint stores."""
    if profile.engine not in ROUTED_KERNELS:
        return 0
    added = rotary_table_bytes(model, profile)
    for operator, repeats in model.counted():
        if isinstance(operator, Experts) and operator.precision.experts.name == "mxfp4":
            added += (_padded(operator, profile, gpu) - operator.weights_bytes) * repeats
            if _keeps_wide_scales(model, profile, gpu):
                added += _wide_scales(operator) * repeats
        elif isinstance(operator, LatentAttention):
            added += _absorbed_copy(operator) * repeats
        elif _is_whole(operator, model, profile):
            added += operator.weights_bytes * repeats * (layout.tp - 1)
    return added


def rotary_table_bytes(model: Model, profile: Profile) -> int:
    """Tables of cosines and sines for every position, which engines make while loading.

    One table for each rotary width, and for windowed layers apart: published positions x width, in
    the format of activations in vLLM, in fp32 in SGLang and for latents. A proportional rotary
    part (Gemma 4) has a table as wide as the head.

    Source: vLLM 0.19.0 and SGLang 0.5.12, layers/rotary_embedding.
    """
    is_proportional = model.identity.architecture.startswith("Gemma4")
    tables: dict[tuple[int, bool], float] = {}
    for layer, _ in model.decoder.distinct_layers:
        attention = next((o for o in layer.operators if isinstance(o, Attention)), None)
        keys = next((o for o in layer.operators if o.name == "rotary_k"), None)
        if not isinstance(keys, Elementwise):
            continue
        width = keys.width // keys.split_units
        if attention is not None and is_proportional:
            width = attention.head_dim
        in_fp32 = attention is None or profile.engine is EngineName.SGLANG
        size = FP32_BYTES if in_fp32 else keys.activation_width_bytes
        is_windowed = attention is not None and attention.span > 0
        is_compressed = any(isinstance(o, Compressor) for o in layer.operators)
        tables[width, is_windowed or is_compressed] = width * size
    return int(model.context_length * sum(tables.values()))


FP32_BYTES: Final = 4


def _padded(operator: Experts, profile: Profile, gpu: GpuFacts) -> int:
    """Bytes with hidden size and a rank's expert width padded to the tiles of the kernel.

    Source: vLLM's mxfp4 layers, releases 0.11.0 and 0.19.0. On Hopper the Triton kernel came into
    the images after 0.11.0; before, and on older GPUs, it is Marlin.
    """
    major = (gpu.compute_capability or (BLACKWELL, 0))[0]
    if major >= BLACKWELL:
        columns, rows = 256, 256
    elif major < HOPPER or not profile.is_since("0.11.1"):
        columns, rows = 256, 128
    else:
        columns, rows = 256, 64
    wider = replace(
        operator,
        hidden_size=divide_up(operator.hidden_size, columns) * columns,
        moe_intermediate_size=divide_up(operator.moe_intermediate_size, rows) * rows,
    )
    return wider.weights_bytes


def _keeps_wide_scales(model: Model, profile: Profile, gpu: GpuFacts) -> bool:
    """Whether scales are kept in fp32 beside those of the kernel: DeepSeek-V4 experts on Hopper.

    Source: SGLang 0.5.12, layers/quantization/mxfp4_marlin_moe.py, which loads scales into fp32
    parameters and registers the kernel's under another name.
    """
    major = (gpu.compute_capability or (BLACKWELL, 0))[0]
    is_v4 = model.identity.architecture.startswith("DeepseekV4")
    return profile.engine is EngineName.SGLANG and is_v4 and major == HOPPER


def _wide_scales(operator: Experts) -> int:
    """Four bytes a scale."""
    matrices = (w for w in operator.weights if w.role is Role.EXPERTS)
    entries = sum(scale_entries(w.shape, operator.precision.experts) for w in matrices)
    return FP32_BYTES * entries


def _absorbed_copy(operator: LatentAttention) -> int:
    """Key and value halves of ``kv_b_proj`` in bf16, kept beside the matrix for decoding.

    Source: vLLM's and SGLang's processing of latent attention after loading.
    """
    return sum(
        bytes_for(weight.shape, BF16) for weight in operator.weights if weight.name == "kv_b_proj"
    )


def _is_whole(operator: Operator, model: Model, profile: Profile) -> bool:
    return (
        profile.engine is EngineName.SGLANG
        and isinstance(operator, Embedding)
        and model.identity.architecture.startswith(WHOLE_TABLES)
    )
