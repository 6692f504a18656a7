"""How an engine is started: its settings under one set of names, blank where nothing was said."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Final


class EngineName(StrEnum):
    """The engines that have a profile."""

    GENERIC = "generic"
    VLLM = "vllm"
    SGLANG = "sglang"
    TRTLLM = "trtllm"
    LLAMACPP = "llama.cpp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Start-up settings; None means that the engine's own default is in force.

    Names are vLLM's where it has one. ``llmplan.engines.flags`` says what each engine calls them.

    Attributes:
        memory_frac: vLLM's gpu_memory_utilization, SGLang's mem_fraction_static, TensorRT-LLM's
            free_gpu_memory_fraction; each engine takes it of something else.
        kv_cache_memory_bytes: The pool fixed by hand.
        reserve_bytes: generic: kept for activations and libraries, in place of the usual.
        max_model_len: Longest request in tokens; llama.cpp's n_ctx over its slots.
        max_num_batched_tokens: Tokens of one step; SGLang's chunked prefill, llama.cpp's n_ubatch.
        max_num_seqs: Requests that run at once; llama.cpp's parallel slots.
        block_size: Tokens of a cache block.
        enforce_eager: No captured graphs.
        max_capture_batch: Largest batch that graphs are captured for.
        kv_dtype: Format of keys and values, in the engine's word.
        dtype: Format of weights that are not quantised, and of activations.
        quantization: Format of linear weights, in the engine's word.
        tensor_parallel: GPUs that split each layer.
        pipeline_parallel: Stages.
        data_parallel: Copies of the attention (with experts shared) or of the whole model.
        decode_context_parallel: Ranks of a tensor-parallel group that share out the cache's tokens.
        prefill_context_parallel: Ranks that share out the tokens of a prompt.
        expert_parallel: Whole experts on ranks rather than slices of all.
        attention_dp: Attention runs data-parallel over ranks that split the experts (SGLang's
            enable-dp-attention, TensorRT-LLM's enable_attention_dp).
        redundant_experts: Copies of experts beside the originals, over all ranks.
        enable_prefix_caching: Whether blocks are kept for later requests.
        enable_chunked_prefill: Whether long prompts are cut into steps.
        speculative_tokens: Draft tokens a step.
        speculative_method: How they are drafted: mtp, eagle3, draft_model, ngram.
        draft_model: Name of the draft model.
        max_loras: Adapters held on the GPU at once.
        max_lora_rank: Rank that their slots are made for.
        cpu_offload_bytes: Weights kept in host memory, bytes per GPU.
        swap_space_bytes: Cache blocks in host memory, bytes per GPU.
        language_model_only: The vision tower is left out.
        swa_full_tokens_ratio: SGLang: tokens of the window pool by tokens of the full pool.
        max_mamba_cache_size: SGLang: recurrent-state slots.
        mamba_cache_dtype: Format of recurrent state.
        n_gpu_layers: llama.cpp: layers on the GPU.
        experts_on_cpu: llama.cpp: routed experts stay in host memory (--cpu-moe, -ot exps=CPU).
        fused_sampler: vLLM: FlashInfer's sampler rather than PyTorch's.
        mla: llama.cpp forks: DeepSeek's latent cache rather than full keys and values.
        num_gpu_blocks: vLLM: the pool in cache blocks, fixed by hand.
        max_total_tokens: SGLang: the pool in tokens, fixed by hand.
        max_prefill_tokens: SGLang: prompt tokens of one batch.
        expert_parallel_size: Ranks that share out whole experts, where it is stated apart.
        enable_eplb: Experts are moved between ranks by load.
        enable_lora: Slots for adapters are made.
        images_per_prompt: Images that a prompt may hold.
        videos_per_prompt: Videos that a prompt may hold.
        audios_per_prompt: Audio clips that a prompt may hold.
        vision_data_parallel: Each rank holds the whole vision tower.
        full_window_cache: Sliding-window layers keep every token.
        num_captures: Batch sizes that graphs are captured for.
        cudagraph_mode: vLLM: which graphs are captured, in its word.
        compilation_mode: vLLM: level of compilation.
        optimization_level: vLLM: its -O.
        attention_backend: Attention kernels, in the engine's word.
        moe_backend: Kernels of the experts, in the engine's word.
        all2all_backend: Exchange of tokens between experts, in the engine's word.
        speculative_topk: SGLang: branches of the draft tree at each step.
        mamba_ssm_dtype: Format of the state-space part of recurrent state, where stated apart.
        mamba_full_memory_ratio: SGLang: memory of recurrent state by memory of the token pool.
        devices: GPUs that the engine may use.
        total_context: llama.cpp: n_ctx, the tokens of all slots together.
        kv_unified: llama.cpp: one pool for all slots rather than a share for each.
        max_logical_batch: llama.cpp: n_batch, which caps max_num_batched_tokens.
        flash_attention: llama.cpp: on, off or auto.
        attention_buffer_bytes: llama.cpp forks: bound of the buffer of attention scores.
        cache_on_host: llama.cpp: keys and values stay in host memory.
        experts_on_cpu_layers: llama.cpp: first layers whose routed experts stay in host memory.
        split_mode: llama.cpp: none, layer, row, tensor or graph.
        tensor_split: llama.cpp: shares of the GPUs, separated by commas.
        main_gpu: llama.cpp: the GPU that is not split.
        fit_to_memory: llama.cpp: what was not stated is shrunk until it fits.
    """

    memory_frac: float | None = None
    kv_cache_memory_bytes: int | None = None
    reserve_bytes: int | None = None
    max_model_len: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    block_size: int | None = None
    enforce_eager: bool | None = None
    max_capture_batch: int | None = None
    kv_dtype: str | None = None
    dtype: str | None = None
    quantization: str | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    data_parallel: int | None = None
    decode_context_parallel: int | None = None
    prefill_context_parallel: int | None = None
    expert_parallel: bool | None = None
    attention_dp: bool | None = None
    redundant_experts: int | None = None
    enable_prefix_caching: bool | None = None
    enable_chunked_prefill: bool | None = None
    speculative_tokens: int | None = None
    speculative_method: str | None = None
    draft_model: str | None = None
    max_loras: int | None = None
    max_lora_rank: int | None = None
    cpu_offload_bytes: int | None = None
    swap_space_bytes: int | None = None
    language_model_only: bool | None = None
    swa_full_tokens_ratio: float | None = None
    max_mamba_cache_size: int | None = None
    mamba_cache_dtype: str | None = None
    n_gpu_layers: int | None = None
    experts_on_cpu: bool | None = None
    fused_sampler: bool | None = None
    mla: bool | None = None
    num_gpu_blocks: int | None = None
    max_total_tokens: int | None = None
    max_prefill_tokens: int | None = None
    expert_parallel_size: int | None = None
    enable_eplb: bool | None = None
    enable_lora: bool | None = None
    images_per_prompt: int | None = None
    videos_per_prompt: int | None = None
    audios_per_prompt: int | None = None
    vision_data_parallel: bool | None = None
    full_window_cache: bool | None = None
    num_captures: int | None = None
    cudagraph_mode: str | None = None
    compilation_mode: int | None = None
    optimization_level: int | None = None
    attention_backend: str | None = None
    moe_backend: str | None = None
    all2all_backend: str | None = None
    speculative_topk: int | None = None
    mamba_ssm_dtype: str | None = None
    mamba_full_memory_ratio: float | None = None
    devices: int | None = None
    total_context: int | None = None
    kv_unified: bool | None = None
    max_logical_batch: int | None = None
    flash_attention: str | None = None
    attention_buffer_bytes: int | None = None
    cache_on_host: bool | None = None
    experts_on_cpu_layers: int | None = None
    split_mode: str | None = None
    tensor_split: str | None = None
    main_gpu: int | None = None
    fit_to_memory: bool | None = None

    def over(self, other: "Settings") -> "Settings":
        """These settings, with those of ``other`` where these say nothing."""
        own = {name: getattr(self, name) for name in SETTING_NAMES}
        return replace(other, **{name: value for name, value in own.items() if value is not None})

    def with_values(self, values: Mapping[str, Any]) -> "Settings":
        """These settings with some of them set."""
        return replace(self, **values)

    @property
    def stated(self) -> dict[str, object]:
        """What was said, by name."""
        values = {name: getattr(self, name) for name in SETTING_NAMES}
        return {name: value for name, value in values.items() if value is not None}


SETTING_NAMES: Final = tuple(item.name for item in fields(Settings))


@dataclass(frozen=True, slots=True)
class Launch:
    """An engine start as somebody typed it or a log printed it.

    Attributes:
        engine: The engine.
        version: As written; None where it was not said.
        model: The model argument; None where it was not said.
        settings: Everything that bears on memory.
        ignored: Flags that do not, as typed and without their values, which may be secrets.
        unread: Files that the command names and that may hold settings; they were not read.
    """

    engine: EngineName
    version: str | None
    model: str | None
    settings: Settings
    ignored: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
