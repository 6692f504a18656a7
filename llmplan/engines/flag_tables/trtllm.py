"""Flags of ``trtllm-serve``.

Source: NVIDIA/TensorRT-LLM tensorrt_llm/commands/serve.py (1.2) and the page trtllm-serve of its
documentation; read 2026-11-22. Formats of the cache, attention data parallelism and drafting have
no flags: they stand in the file of ``--extra_llm_api_options``.
"""

from typing import Any, Final

from llmplan.engines.flag_kinds import (
    COUNT,
    FRACTION,
    ON,
    Entry,
    Fixed,
    Flag,
    Ignored,
    Refused,
    Unread,
)

TABLE: Final[tuple[Entry, ...]] = (
    Flag("--kv_cache_free_gpu_memory_fraction --free_gpu_memory_fraction", "memory_frac", FRACTION),
    Flag("--max_seq_len", "max_model_len", COUNT),
    Flag("--max_num_tokens", "max_num_batched_tokens", COUNT),
    Flag("--max_batch_size", "max_num_seqs", COUNT),
    Flag("--enable_chunked_prefill", "enable_chunked_prefill", ON),
    Flag("--tp_size --tensor_parallel_size", "tensor_parallel", COUNT),
    Flag("--pp_size --pipeline_parallel_size", "pipeline_parallel", COUNT),
    Flag("--ep_size --moe_expert_parallel_size", "expert_parallel_size", COUNT, "expert_parallel"),
    Unread("--extra_llm_api_options --config"),
    Ignored("--host --port --log_level --tokenizer --custom_tokenizer --revision"),
    Ignored("--reasoning_parser --tool_parser --chat_template --num_postprocess_workers"),
    Ignored("--otlp_traces_endpoint --media_io_kwargs --gpus_per_node --served_model_name"),
    Ignored("--custom_module_dirs"),
    Ignored("--trust_remote_code --fail_fast_on_attention_window_too_large", "none"),
    Fixed("--backend", "pytorch", "only the pytorch backend is described"),
    Fixed("--max_beam_width", "1", "a cache of several beams is not described"),
    Fixed("--context_parallel_size --cp_size", "1", "context parallelism is not described"),
    Fixed(
        "--moe_cluster_parallel_size --cluster_size", "1", "clusters of experts are not described"
    ),
    Refused(
        "--metadata_server_config_file --server_role --disagg_cluster_uri",
        "buffers of a transfer between engines are not described",
    ),
)


def settle(said: dict[str, Any]) -> None:
    """From the words of the flags to settings."""
    if "expert_parallel_size" in said:
        said["expert_parallel"] = said["expert_parallel_size"] > 1
