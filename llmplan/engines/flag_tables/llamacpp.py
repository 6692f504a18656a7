"""Flags of ``llama-server`` and ``llama-cli``, and of the fork ik_llama.cpp.

Sources: ggml-org/llama.cpp tools/server/README.md and src/llama-context.cpp; ikawrakow/ik_llama.cpp
docs/parameters.md and pull request 235 (``-mla``); read 2026-11-22.
"""

from typing import Any, Final

from llmplan.engines.flag_kinds import (
    COUNT,
    DEVICES,
    MIB,
    OFF,
    ON,
    ON_OFF,
    WHOLE,
    WORD,
    Entry,
    Flag,
    Ignored,
    Kind,
    Refused,
    Unread,
    Value,
    one_of,
    renamed,
)
from llmplan.errors import InputError

ALL_LAYERS: Final = 999
"""What ``-ngl all`` becomes: more layers than any model has."""

_CACHE: Final = one_of("f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1 q6_0 q8_KV")
_SPLITS: Final = one_of("none layer row tensor graph")
_CONTEXT: Final = Kind(lambda text: None if text == "0" else COUNT.read(text))
_SLOTS: Final = Kind(lambda text: None if text == "-1" else COUNT.read(text))
_FLASH: Final = Kind(one_of("on off auto").read, "maybe")
_SPEC_TYPES: Final = {
    "none": "",
    "draft-simple": "draft_model",
    "draft-eagle3": "eagle3",
    "draft-mtp": "mtp",
    **dict.fromkeys(
        ("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"), "ngram"
    ),
}
# Patterns that match the three expert tensors of every layer, blk.N.ffn_{gate,up,down}_exps.weight.
_ALL_EXPERTS: Final = frozenset(
    {
        *("exps", "_exps", "_exps.", "exps.", ".*exps.*", ".*_exps.*"),
        *("ffn_.*_exps", "ffn_.*_exps.", ".ffn_.*_exps", ".ffn_.*_exps.", "ffn_.*_exps.weight"),
        *(".ffn_.*_exps.weight", ".ffn_(up|down|gate)_exps.", "ffn_(up|down|gate)_exps"),
        *(".ffn_(gate|up|down)_exps.", "ffn_(gate|up|down)_exps", ".*ffn_.*_exps.*"),
    }
)


def _layers(text: str) -> Value:
    named = {"auto": None, "all": ALL_LAYERS}
    return named[text] if text in named else WHOLE.read(text)


def _experts(text: str) -> bool:
    pattern, _, buffer = text.replace("\\", "").rpartition("=")
    if buffer != "CPU" or pattern not in _ALL_EXPERTS:
        raise ValueError(
            "a pattern that keeps all routed experts on the CPU, such as exps=CPU; which tensors "
            "another one moves is not worked out"
        )
    return True


TABLE: Final[tuple[Entry, ...]] = (
    Flag("--model -m", "model", WORD),
    Flag("--hf-repo -hf -hfr", "repository", WORD),
    Flag("--hf-file -hff", "file_of_repository", WORD),
    # memory and cache
    Flag("--ctx-size -c", "total_context", _CONTEXT, "max_model_len"),
    Flag("--parallel -np", "max_num_seqs", _SLOTS),
    Flag("--kv-unified -kvu", "kv_unified", ON),
    Flag("--no-kv-unified -no-kvu", "kv_unified", OFF),
    Flag("--cache-type-k -ctk", "cache_k", _CACHE, "kv_dtype"),
    Flag("--cache-type-v -ctv", "cache_v", _CACHE),
    Flag("--swa-full", "full_window_cache", ON),
    Flag("--no-kv-offload -nkvo", "cache_on_host", ON),
    Flag("--kv-offload -kvo", "cache_on_host", OFF),
    Flag("--flash-attn -fa", "flash_attention", _FLASH),
    Flag("--mla-use -mla", "mla_form", one_of("0 1 2 3"), "mla"),
    Flag("--attention-max-batch -amb", "attention_buffer_bytes", MIB),
    # work of one step
    Flag("--ubatch-size -ub", "max_num_batched_tokens", COUNT),
    Flag("--batch-size -b", "max_logical_batch", COUNT),
    # where weights are
    Flag("--gpu-layers -ngl --n-gpu-layers", "n_gpu_layers", Kind(_layers)),
    Flag("--cpu-moe -cmoe", "experts_on_cpu", ON),
    Flag("--override-tensor -ot", "experts_on_cpu", Kind(_experts)),
    Flag("--n-cpu-moe -ncmoe", "experts_on_cpu_layers", WHOLE),
    Flag("--split-mode -sm", "split_mode", _SPLITS),
    Flag("--tensor-split -ts", "tensor_split", WORD),
    Flag("--main-gpu -mg", "main_gpu", WHOLE),
    Flag("--device -dev", "devices", DEVICES),
    Flag("--fit -fit", "fit_to_memory", ON_OFF),
    # drafting
    Flag("--model-draft -md --spec-draft-model", "draft_model", WORD),
    Flag("--spec-type", "speculative_method", renamed(_SPEC_TYPES)),
    Flag("--spec-draft-n-max --draft-max --draft --draft-n", "speculative_tokens", COUNT),
    # vision
    Flag("--no-mmproj --no-mmproj-auto", "language_model_only", ON),
    Flag("--mmproj -mm", "projector", WORD),
    Unread("--models-preset --models-dir"),
    # no bearing on GPU memory: processors, host memory and loading
    Ignored("--threads -t --threads-batch -tb --threads-http --threads-draft -td --numa --prio"),
    Ignored("--threads-batch-draft -tbd --poll --cpu-mask -C --cpu-range -Cr --load-mode -lm"),
    Ignored("--cache-ram -cram --ctx-checkpoints -ctxcp --swa-checkpoints --slot-save-path"),
    Ignored("--mlock --no-mmap --mmap --check-tensors --offline --warmup --no-warmup", "none"),
    Ignored("--no-host --repack --no-repack -nr --run-time-repack -rtr --direct-io -dio", "none"),
    Ignored("--hf-token -hft --seed -s"),
    # no bearing on memory: the server
    Ignored("--host --port --path --api-prefix --api-key --api-key-file --alias -a --timeout -to"),
    Ignored("--ssl-key-file --ssl-cert-file --chat-template --chat-template-file"),
    Ignored("--chat-template-kwargs --reasoning-format --reasoning-budget --reasoning -rea"),
    Ignored("--reasoning-effort --log-file --log-verbosity --verbosity -lv --tags"),
    Ignored("--slot-prompt-similarity -sps --cache-reuse --sleep-idle-seconds --media-path"),
    Ignored("--metrics --props --slots --no-slots --jinja --no-jinja --webui --no-webui", "none"),
    Ignored("--ui --no-ui --verbose -v --log-disable --log-prefix --log-timestamps", "none"),
    Ignored("--cont-batching -cb --no-cont-batching -nocb --context-shift", "none"),
    Ignored("--no-context-shift --cache-prompt --no-cache-prompt --perf --no-perf", "none"),
    Ignored("--prefill-assistant --no-prefill-assistant --special -sp", "none"),
    # no bearing on memory: sampling and prompts
    Ignored("--temp --temperature --top-k --top-p --min-p --typical --repeat-penalty --samplers"),
    Ignored("--repeat-last-n --presence-penalty --frequency-penalty --dry-multiplier --dry-base"),
    Ignored("--dry-allowed-length --dry-penalty-last-n --mirostat --mirostat-lr --mirostat-ent"),
    Ignored("--xtc-probability --xtc-threshold --top-n-sigma --logit-bias -l --grammar"),
    Ignored(
        "--grammar-file --json-schema -j --predict -n --n-predict --keep --prompt -p --file -f"
    ),
    Ignored("--system-prompt -sys --reverse-prompt -r --draft-min --spec-draft-n-min"),
    Ignored("--draft-p-min --spec-draft-p-min"),
    Ignored("--ignore-eos --escape -e --no-escape --conversation -cnv --interactive -i", "none"),
    Ignored("--no-conversation -no-cnv --interactive-first --color --single-turn -st", "none"),
    # no bearing on memory: the fork's kernels
    Ignored("--smart-expert-reduction -ser"),
    Ignored("--fused-moe -fmoe --no-fused-moe --no-fmoe --grouped-expert-routing -ger", "none"),
    Ignored("--graph-reuse -gr --no-graph-reuse --no-gr --k-cache-hadamard -khad", "none"),
    Refused("--lora --lora-scaled", "adapters of llama.cpp are not described"),
    Refused("--rpc", "GPUs of other hosts are not described"),
    Refused("--fit-target -fitt --fit-ctx -fitc", "the search of --fit is not described"),
    Refused("--n-cpu-ffn -ncffn --moe-cache-mib", "this placement of weights is not described"),
    Refused("--no-mmproj-offload", "a vision tower in host memory is not described"),
    Refused("--override-kv", "it changes the model; write a spec of the changed model"),
    Refused(
        "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx",
        "it changes the model's positions; leave it out and state --ctx-size",
    ),
    Refused(
        "--gpu-layers-draft -ngld --n-gpu-layers-draft --ctx-size-draft -cd --cache-type-k-draft "
        "-ctkd --cache-type-v-draft -ctvd --override-tensor-draft -otd --device-draft -devd",
        "a draft model placed in its own way is not described",
    ),
    Refused("--embedding --embeddings --rerank --reranking", "only text generation is described"),
)


def settle(said: dict[str, Any]) -> None:
    """From the words of the flags to settings.

    Raises:
        InputError: Something needed is not said.
    """
    keys, values = said.pop("cache_k", None), said.pop("cache_v", None)
    if keys or values:
        said["kv_dtype"] = f"{keys or 'f16'}/{values or 'f16'}"
    if said.pop("projector", None) is not None:
        if said.get("language_model_only"):
            raise InputError("--mmproj and --no-mmproj contradict each other")
        said["language_model_only"] = False
    _settle_model(said)
    _settle_latent_cache(said)
    _settle_context(said)


def _settle_model(said: dict[str, Any]) -> None:
    """A file, or a repository, or a file of a repository: ``user/model/file.gguf``.

    After a colon stands which of a repository's files is loaded: ``user/model:Q4_K_M``.
    """
    repository, file = said.pop("repository", None), said.pop("file_of_repository", None)
    if "model" in said and (repository or file):
        raise InputError("--model and --hf-repo name two models; leave one out")
    if file and not repository:
        raise InputError("--hf-file needs --hf-repo")
    if repository:
        repository, _, kind = repository.partition(":")
        if kind:
            said["quantization"] = kind
        said["model"] = f"{repository}/{file}" if file else repository


def _settle_latent_cache(said: dict[str, Any]) -> None:
    """-mla 1 keeps a transposed copy of the latents beside them, unless flash attention is on."""
    form = said.pop("mla_form", None)
    if form is None:
        return
    if form == "1" and said.get("flash_attention") != "on":
        raise InputError("-mla 1 without -fa keeps a second cache, which is not described")
    said["mla"] = form != "0"


def _settle_context(said: dict[str, Any]) -> None:
    """The longest request: all of n_ctx with one pool, else its share of the slots.

    The number of slots, where it is not said, comes with one pool. The engine pads the share to
    256 tokens; that is for the profile to say.
    """
    total, slots = said.get("total_context"), said.get("max_num_seqs")
    if said.get("kv_unified") is False and slots is None:
        raise InputError("--no-kv-unified needs --parallel: the number of shares is not said")
    if total is None:
        return
    shares = 1 if said.get("kv_unified") or slots is None else slots
    if shares > total:
        raise InputError("--parallel is larger than --ctx-size")
    said["max_model_len"] = total // shares
