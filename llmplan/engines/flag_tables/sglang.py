"""Flags of ``python -m sglang.launch_server`` and ``sglang serve``.

Sources: docs.sglang.io, Server Arguments; sglang/srt/arg_groups/fields of sglang 0.5.23;
read 2026-11-22.
"""

from typing import Any, Final

from llmplan.engines.flag_kinds import (
    COUNT,
    FRACTION,
    GIB,
    OFF,
    ON,
    RATIO,
    SIZES,
    WHOLE,
    WORD,
    Entry,
    Fixed,
    Flag,
    Ignored,
    Kind,
    Object,
    Refused,
    Unread,
    renamed,
    suffixed,
)
from llmplan.errors import InputError

# human_readable_int: SI suffixes are powers of ten, Ki and Mi powers of two and whole.
_SIZE: Final = suffixed(
    {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    | {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40},
    whole=frozenset({"Ki", "Mi", "Gi", "Ti"}),
)
_ALGORITHMS: Final = {
    "EAGLE": "eagle",
    "EAGLE3": "eagle3",
    "NEXTN": "mtp",
    "STANDALONE": "draft_model",
    "NGRAM": "ngram",
}
_CHUNK: Final = Kind(lambda text: False if text == "-1" else COUNT.read(text))
_LOADERS: Final = "auto safetensors pt npcache dummy layered instanttensor"

TABLE: Final[tuple[Entry, ...]] = (
    Flag("--model-path --model", "model", WORD),
    # memory and cache
    Flag("--mem-fraction-static", "memory_frac", FRACTION),
    Flag("--max-total-tokens", "max_total_tokens", _SIZE),
    Flag("--page-size", "block_size", COUNT),
    Flag("--kv-cache-dtype", "kv_dtype", WORD),
    Flag("--cpu-offload-gb", "cpu_offload_bytes", GIB),
    Flag("--disable-radix-cache", "enable_prefix_caching", OFF),
    Flag("--swa-full-tokens-ratio", "swa_full_tokens_ratio", FRACTION),
    Flag("--disable-hybrid-swa-memory", "full_window_cache", ON),
    Flag("--max-mamba-cache-size", "max_mamba_cache_size", COUNT),
    Flag("--mamba-full-memory-ratio", "mamba_full_memory_ratio", RATIO),
    Flag("--mamba-ssm-dtype", "mamba_ssm_dtype", WORD),
    # work of one step
    Flag("--context-length", "max_model_len", _SIZE),
    Flag(
        "--chunked-prefill-size",
        "chunk",
        _CHUNK,
        "max_num_batched_tokens enable_chunked_prefill",
    ),
    Flag("--max-prefill-tokens", "max_prefill_tokens", _SIZE),
    Flag("--max-running-requests", "max_num_seqs", COUNT),
    # graphs
    Flag("--disable-cuda-graph", "enforce_eager", ON),
    Flag("--cuda-graph-max-bs --cuda-graph-max-bs-decode", "max_capture_batch", COUNT),
    Flag("--cuda-graph-bs --cuda-graph-bs-decode", "captured", SIZES, "num_captures"),
    # formats
    Flag("--dtype", "dtype", WORD),
    Flag("--quantization", "quantization", WORD),
    # parallelism
    Flag("--tp-size --tensor-parallel-size --tp", "tensor_parallel", COUNT),
    Flag("--pp-size --pipeline-parallel-size --pp", "pipeline_parallel", COUNT),
    Flag("--dp-size --data-parallel-size --dp", "data_parallel", COUNT),
    Flag("--enable-dp-attention", "attention_dp", ON),
    Flag("--attn-dp-size --attention-data-parallel-size", "attention_ranks", COUNT),
    Flag("--dcp-size --decode-context-parallel-size", "decode_context_parallel", COUNT),
    Flag(
        "--ep-size --expert-parallel-size --ep",
        "expert_parallel_size",
        COUNT,
        "expert_parallel",
    ),
    Flag("--moe-a2a-backend", "all2all_backend", WORD),
    Flag("--enable-eplb", "enable_eplb", ON),
    Flag("--ep-num-redundant-experts", "redundant_experts", WHOLE),
    # kernels whose workspace differs
    Flag("--attention-backend", "attention_backend", WORD),
    Flag("--moe-runner-backend", "moe_backend", WORD),
    # drafting
    Flag("--speculative-algorithm", "speculative_method", renamed(_ALGORITHMS)),
    Flag("--speculative-draft-model-path --speculative-draft-model", "draft_model", WORD),
    Flag("--speculative-num-steps", "draft_steps", COUNT, "speculative_tokens"),
    Flag("--speculative-eagle-topk", "speculative_topk", COUNT),
    Flag("--speculative-num-draft-tokens", "verified_tokens", COUNT),
    # adapters
    Flag("--enable-lora", "enable_lora", ON),
    Flag("--max-loras-per-batch", "max_loras", COUNT),
    Flag("--max-lora-rank", "max_lora_rank", COUNT),
    # vision and sound
    Flag("--language-model-only", "language_model_only", ON),
    Flag("--mm-enable-dp-encoder", "vision_data_parallel", ON),
    Object("--limit-mm-data-per-request"),
    Flag("--limit-mm-data-per-request.image", "images_per_prompt", WHOLE),
    Flag("--limit-mm-data-per-request.video", "videos_per_prompt", WHOLE),
    Flag("--limit-mm-data-per-request.audio", "audios_per_prompt", WHOLE),
    Unread("--config"),
    # no bearing on memory: the server
    Ignored("--host --port --api-key --admin-api-key --served-model-name --weight-version"),
    Ignored("--ssl-keyfile --ssl-certfile --ssl-ca-certs --ssl-keyfile-password"),
    Ignored("--chat-template --hf-chat-template-name --completion-template --tool-server"),
    Ignored("--tool-call-parser --reasoning-parser --sampling-defaults --file-storage-path"),
    Ignored("--default-chat-template-kwargs --preferred-sampling-params --fastapi-root-path"),
    Ignored("--log-level --log-level-http --log-requests-level --log-requests-format"),
    Ignored("--decode-log-interval --crash-dump-folder --watchdog-timeout --dist-timeout"),
    Ignored("--bucket-time-to-first-token --bucket-inter-token-latency", "many"),
    Ignored("--bucket-e2e-request-latency --warmups", "many"),
    Ignored("--log-requests --enable-metrics --enable-cache-report --skip-server-warmup", "none"),
    Ignored("--show-time-cost --enable-mfu-metrics --enable-ssl-refresh", "none"),
    Ignored("--enable-metrics-for-all-schedulers --enable-request-time-stats-logging", "none"),
    Ignored("--trust-request-chat-template --allow-auto-truncate", "none"),
    # no bearing on memory: loading and names
    Ignored("--tokenizer-path --tokenizer-mode --tokenizer-worker-num --revision"),
    Ignored("--detokenizer-worker-num --download-dir --random-seed --model-loader-extra-config"),
    Ignored("--weight-loader-prefetch-num-threads --quantization-param-path"),
    Ignored("--trust-remote-code --skip-tokenizer-init --weight-loader-disable-mmap", "none"),
    Ignored("--weight-loader-prefetch-checkpoints --enable-multimodal", "none"),
    # no bearing on memory: order of work and where ranks run
    Ignored("--schedule-policy --schedule-conservativeness --stream-interval"),
    Ignored("--max-queued-requests --scheduler-recv-interval --num-continuous-decode-steps"),
    Ignored("--radix-eviction-policy --load-balance-method --grammar-backend"),
    Ignored("--sampling-backend --dist-init-addr --nccl-init-addr --nccl-port --nnodes"),
    Ignored("--node-rank --base-gpu-id --gpu-id-step --max-loaded-loras"),
    Ignored("--speculative-accept-threshold-single --speculative-accept-threshold-acc"),
    Ignored("--lora-backend --lora-eviction-policy"),
    Ignored("--lora-paths --numa-node", "many"),
    Ignored("--enable-priority-scheduling --enable-mixed-chunk --sleep-on-idle", "none"),
    Ignored("--disable-custom-all-reduce --enable-p2p-check --disable-overlap-schedule", "none"),
    Ignored("--disable-chunked-prefix-cache --disable-fast-image-processor", "none"),
    Ignored("--constrained-json-disable-any-whitespace --enable-deterministic-inference", "none"),
    Fixed("--device", "cuda", "only GPUs of the catalogue are described"),
    Fixed("--load-format", _LOADERS, "other loaders may change the format of the weights"),
    Fixed("--model-impl", "auto sglang", "other implementations hold other buffers"),
    Fixed("--disaggregation-mode", "null", "buffers of a transfer are not described"),
    Refused(
        "--json-model-override-args", "it changes the model; write a spec of the changed model"
    ),
    Refused(
        "--enable-hierarchical-cache --enable-hicache", "a cache in host memory is not described"
    ),
    Refused("--hicache-ratio --hicache-size", "a cache in host memory is not described"),
    Refused("--enable-two-batch-overlap", "the second set of buffers is not described"),
    Refused("--enable-torch-compile", "its buffers are not described"),
    Refused("--enable-memory-saver", "its allocator is not described"),
    Refused(
        "--moe-dense-tp-size --moe-dp-size", "a split of its own for dense layers is not described"
    ),
    Refused("--enable-dp-lm-head", "an output head split by itself is not described"),
    Refused("--attn-cp-size --attention-context-parallel-size", "it is not described"),
    Refused("--is-embedding", "a model without a cache is not described"),
)


def settle(said: dict[str, Any]) -> None:
    """From the words of the flags to settings.

    Raises:
        InputError: Two of them contradict each other.
    """
    chunk = said.pop("chunk", None)
    if chunk is not None:
        said["enable_chunked_prefill"] = chunk is not False
        said |= {"max_num_batched_tokens": chunk} if chunk else {}
    sizes = said.pop("captured", None)
    if sizes is not None:
        said["num_captures"] = len(set(sizes))
        said.setdefault("max_capture_batch", max(sizes))
    if "expert_parallel_size" in said:
        said["expert_parallel"] = said["expert_parallel_size"] > 1
    _settle_attention_ranks(said)
    _settle_drafts(said)


def _settle_attention_ranks(said: dict[str, Any]) -> None:
    """``--attn-dp-size N`` is the later spelling of ``--dp-size N --enable-dp-attention``."""
    ranks = said.pop("attention_ranks", None)
    if ranks is None:
        return
    if said.get("data_parallel", ranks) != ranks:
        raise InputError("--attn-dp-size and --dp-size differ; copies of such a group are not read")
    said |= {"data_parallel": ranks, "attention_dp": ranks > 1}


def _settle_drafts(said: dict[str, Any]) -> None:
    """Draft tokens a step: the tokens verified, less the one that needs no draft.

    With one branch the engine verifies steps + 1 tokens whatever else is said
    (sglang/srt/arg_groups/speculative_hook.py). EAGLE without a draft model uses the model's own
    prediction layer.
    """
    steps, verified = said.pop("draft_steps", None), said.pop("verified_tokens", None)
    branches = said.get("speculative_topk", 1)
    if branches > 1 and verified is None and steps is not None:
        raise InputError(
            "--speculative-eagle-topk above 1 needs --speculative-num-draft-tokens: "
            "the size of the draft tree does not follow from its depth"
        )
    if branches == 1 and steps is not None:
        said["speculative_tokens"] = steps
    elif verified is not None:
        if verified < 2:
            raise InputError("--speculative-num-draft-tokens: expected a whole number of 2 or more")
        said["speculative_tokens"] = verified - 1
    if said.get("speculative_method") == "eagle" and "draft_model" not in said:
        said["speculative_method"] = "mtp"
