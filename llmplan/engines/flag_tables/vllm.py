"""Flags of ``vllm serve``.

Sources: docs.vllm.ai, Engine Arguments (0.5 to 0.16) and vllm serve (0.30); vllm/config,
vllm/engine/arg_utils.py and vllm/entrypoints/openai/cli_args.py as of 0.23; read 2026-11-22.
"""

from typing import Any, Final

from llmplan.engines.flag_kinds import (
    COUNT,
    FRACTION,
    GIB,
    SIZES,
    SWITCH,
    WHOLE,
    WORD,
    Entry,
    Fixed,
    Flag,
    Ignored,
    Object,
    Refused,
    Unread,
    renamed,
    suffixed,
)

# human_readable_int: small letters are powers of ten, capitals powers of two and whole.
_SIZE: Final = suffixed(
    {suffix: 10 ** (3 * n) for n, suffix in enumerate("kmgt", 1)}
    | {suffix: 2 ** (10 * n) for n, suffix in enumerate("KMGT", 1)},
    whole=frozenset("KMGT"),
)
# MTPModelTypes of vllm/config/speculative.py, but for gemma4_mtp, which is a model of its own.
_OWN_LAYERS: Final = """
    mtp deepseek_mtp dots3_note_mtp mimo_mtp mimo_v2_mtp glm4_moe_mtp glm4_moe_lite_mtp glm_ocr_mtp
    glm5_next_mtp ernie_mtp nemotron_h_mtp exaone_moe_mtp exaone4_5_mtp qwen3_next_mtp qwen3_5_mtp
    longcat_flash_mtp bailing_hybrid_mtp bailing_hybrid_v3_mtp minimax_m3_mtp kimi_k3_mtp
    pangu_ultra_moe_mtp step3p5_mtp hy_v3_mtp hy_v4_mtp inkling_mtp
"""
_METHODS: Final = {
    **dict.fromkeys(_OWN_LAYERS.split(), "mtp"),
    **{name: name for name in ("eagle", "eagle3", "draft_model", "ngram", "medusa")},
    "[ngram]": "ngram",
}
_GRAPH_MODES: Final = {
    name: name for name in ("NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE")
}
_LOADERS: Final = "auto hf safetensors pt npcache dummy mistral runai_streamer fastsafetensors"

TABLE: Final[tuple[Entry, ...]] = (
    Flag("--model", "model", WORD),
    # memory and cache
    Flag("--gpu-memory-utilization", "memory_frac", FRACTION),
    Flag("--kv-cache-memory-bytes --kv-cache-memory", "kv_cache_memory_bytes", _SIZE),
    Flag("--num-gpu-blocks-override", "num_gpu_blocks", COUNT),
    Flag("--block-size", "block_size", COUNT),
    Flag("--kv-cache-dtype", "kv_dtype", WORD),
    Flag("--swap-space", "swap_space_bytes", GIB),
    Flag("--cpu-offload-gb", "cpu_offload_bytes", GIB),
    Flag("--enable-prefix-caching", "enable_prefix_caching", SWITCH),
    Flag("--disable-hybrid-kv-cache-manager", "full_window_cache", SWITCH),
    Flag("--mamba-cache-dtype", "mamba_cache_dtype", WORD),
    Flag("--mamba-ssm-cache-dtype", "mamba_ssm_dtype", WORD),
    # work of one step
    Flag("--max-model-len", "max_model_len", _SIZE),
    Flag("--max-num-batched-tokens", "max_num_batched_tokens", _SIZE),
    Flag("--max-num-seqs", "max_num_seqs", COUNT),
    Flag("--enable-chunked-prefill", "enable_chunked_prefill", SWITCH),
    # graphs and compilation
    Flag("--enforce-eager", "enforce_eager", SWITCH),
    Flag("--max-cudagraph-capture-size", "max_capture_batch", COUNT),
    Flag("--cudagraph-capture-sizes --cuda-graph-sizes", "captured", SIZES, "num_captures"),
    Flag("--optimization-level -O", "optimization_level", WHOLE),
    Object("--compilation-config -cc"),
    Flag("--compilation-config.cudagraph-mode", "cudagraph_mode", renamed(_GRAPH_MODES)),
    Flag("--compilation-config.cudagraph-capture-sizes", "captured", SIZES),
    Flag("--compilation-config.max-cudagraph-capture-size", "max_capture_batch", COUNT),
    Flag("--compilation-config.mode --compilation-config.level", "compilation_mode", WHOLE),
    # formats
    Flag("--dtype", "dtype", WORD),
    Flag("--quantization -q", "quantization", WORD),
    # parallelism
    Flag("--tensor-parallel-size -tp", "tensor_parallel", COUNT),
    Flag("--pipeline-parallel-size -pp", "pipeline_parallel", COUNT),
    Flag("--data-parallel-size -dp", "data_parallel", COUNT),
    Flag("--decode-context-parallel-size -dcp", "decode_context_parallel", COUNT),
    Flag("--prefill-context-parallel-size -pcp", "prefill_context_parallel", COUNT),
    Flag("--enable-expert-parallel -ep", "expert_parallel", SWITCH),
    Flag("--all2all-backend", "all2all_backend", WORD),
    Flag("--enable-eplb", "enable_eplb", SWITCH),
    Flag("--num-redundant-experts", "redundant_experts", WHOLE),
    Object("--eplb-config"),
    Flag("--eplb-config.num-redundant-experts", "redundant_experts", WHOLE),
    # kernels whose workspace differs
    Flag("--attention-backend", "attention_backend", WORD),
    Flag("--moe-backend", "moe_backend", WORD),
    # drafting
    Object("--speculative-config -sc"),
    Flag("--speculative-config.method --spec-method", "speculative_method", renamed(_METHODS)),
    Flag(
        "--speculative-config.num-speculative-tokens --spec-tokens --num-speculative-tokens",
        "speculative_tokens",
        COUNT,
    ),
    Flag("--speculative-config.model --spec-model --speculative-model", "draft_model", WORD),
    # adapters
    Flag("--enable-lora", "enable_lora", SWITCH),
    Flag("--max-loras", "max_loras", COUNT),
    Flag("--max-lora-rank", "max_lora_rank", COUNT),
    # vision and sound
    Flag("--language-model-only", "language_model_only", SWITCH),
    Flag("--mm-encoder-tp-mode", "vision_mode", renamed({"weights": "weights", "data": "data"})),
    Object("--limit-mm-per-prompt"),
    Flag("--limit-mm-per-prompt.image", "images_per_prompt", WHOLE),
    Flag("--limit-mm-per-prompt.video", "videos_per_prompt", WHOLE),
    Flag("--limit-mm-per-prompt.audio", "audios_per_prompt", WHOLE),
    Unread("--config"),
    # no bearing on memory: the server
    Ignored("--host --port --uds --root-path --h11-max-incomplete-event-size"),
    Ignored("--api-key --served-model-name --lora-modules", "many"),
    Ignored("--ssl-keyfile --ssl-certfile --ssl-ca-certs --ssl-cert-reqs --ssl-ciphers"),
    Ignored("--allowed-origins --allowed-methods --allowed-headers --middleware"),
    Ignored("--uvicorn-log-level --log-config-file --max-log-len --otlp-traces-endpoint"),
    Ignored("--disable-access-log-for-endpoints --show-hidden-metrics-for-version"),
    Ignored("--chat-template --chat-template-content-format --default-chat-template-kwargs"),
    Ignored("--response-role --tool-call-parser --tool-parser-plugin --tool-server"),
    Ignored("--reasoning-parser --reasoning-parser-plugin --api-server-count -asc"),
    Ignored("--shutdown-timeout"),
    Ignored("--fail-on-environ-validation", "switch"),
    Ignored("--max-cpu-loras"),
    Ignored("--headless", "none"),
    Ignored("--allow-credentials --disable-uvicorn-access-log --enable-ssl-refresh", "switch"),
    Ignored("--enable-auto-tool-choice --enable-log-requests --disable-log-requests", "switch"),
    Ignored(
        "--disable-log-stats --enable-prompt-tokens-details --enable-request-id-headers", "switch"
    ),
    Ignored("--enable-server-load-tracking --enable-force-include-usage", "switch"),
    Ignored(
        "--enable-log-outputs --disable-fastapi-docs --enable-tokenizer-info-endpoint", "switch"
    ),
    Ignored("--trust-request-chat-template --return-tokens-as-token-ids", "switch"),
    Ignored("--exclude-tools-when-tool-choice-none --log-error-stack", "switch"),
    # no bearing on memory: loading and names
    Ignored("--tokenizer --tokenizer-mode --tokenizer-revision --revision --code-revision"),
    Ignored("--hf-token --download-dir --seed --config-format --hf-config-path"),
    Ignored("--generation-config --override-generation-config --logits-processors"),
    Ignored("--safetensors-load-strategy --max-parallel-loading-workers"),
    Ignored("--allowed-local-media-path --allowed-media-domains --media-io-kwargs"),
    Ignored("--trust-remote-code --use-tqdm-on-load --skip-tokenizer-init", "switch"),
    # no bearing on memory: order of work and where ranks run
    Ignored("--scheduling-policy --stream-interval --prefix-caching-hash-algo"),
    Ignored("--max-num-partial-prefills --max-long-partial-prefills"),
    Ignored("--long-prefill-token-threshold --max-logprobs --logprobs-mode"),
    Ignored("--guided-decoding-backend --structured-outputs-config --kv-events-config"),
    Ignored("--distributed-executor-backend --master-addr --master-port --nnodes -n"),
    Ignored("--node-rank -r --data-parallel-rank -dpn --data-parallel-start-rank -dpr"),
    Ignored("--data-parallel-size-local -dpl --data-parallel-address -dpa"),
    Ignored("--data-parallel-rpc-port -dpp --data-parallel-backend -dpb"),
    Ignored("--distributed-timeout-seconds --expert-placement-strategy --dcp-comm-backend"),
    Ignored("--mm-processor-cache-gb --mm-processor-cache-type --mm-shm-cache-max-object-size-mb"),
    Ignored("--async-scheduling --disable-custom-all-reduce --disable-cascade-attn", "switch"),
    Ignored("--data-parallel-hybrid-lb -dph --data-parallel-external-lb -dpe", "switch"),
    Ignored("--calculate-kv-scales --disable-chunked-mm-input --interleave-mm-strings", "switch"),
    Ignored("--aggregate-engine-logging --cudagraph-metrics --kv-cache-metrics", "switch"),
    Ignored("--speculative-config.prompt-lookup-max --speculative-config.prompt-lookup-min"),
    Ignored("--compilation-config.custom-ops --compilation-config.compile-sizes", "many"),
    Ignored("--compilation-config.use-inductor --compilation-config.cache-dir"),
    Ignored("--eplb-config.window-size --eplb-config.step-interval"),
    Ignored("--eplb-config.log-balancedness"),
    Fixed("--load-format", _LOADERS, "other loaders may change the format of the weights"),
    Fixed("--device", "auto cuda", "only GPUs of the catalogue are described"),
    Fixed("--model-impl", "auto vllm", "other implementations hold other buffers"),
    Fixed("--task --runner", "auto generate", "other tasks hold no cache or other heads"),
    Refused("--hf-overrides", "it changes the model; write a spec of the changed model"),
    Refused(
        "--rope-scaling --rope-theta",
        "it changes the longest request; leave it out and state --max-model-len",
    ),
    Refused("--kv-transfer-config", "buffers of a transfer between engines are not described"),
    Refused("--kv-cache-dtype-skip-layers", "a cache of mixed formats is not described"),
    Refused("--enable-sleep-mode", "its allocator is not described"),
    Refused("--enable-dbo", "the second set of buffers of split batches is not described"),
    Refused("--disable-sliding-window", "it changes the longest request; state --max-model-len"),
    Refused(
        "--fully-sharded-loras --lora-dtype", "only the default layout of adapters is described"
    ),
    Refused(
        "--speculative-config.draft-tensor-parallel-size --speculative-config.quantization",
        "a draft model split or stored in its own way is not described",
    ),
)


def settle(said: dict[str, Any]) -> None:
    """From the words of the flags to settings."""
    sizes = said.pop("captured", None)
    if sizes is not None:
        said["num_captures"] = len(set(sizes))
        said.setdefault("max_capture_batch", max(sizes))
    mode = said.pop("vision_mode", None)
    if mode is not None:
        said["vision_data_parallel"] = mode == "data"
