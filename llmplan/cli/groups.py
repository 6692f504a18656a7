"""Options that go together, each group declared once: a command names the group as one argument.

A group is a dataclass whose fields are options, named as the fields of the question that takes
them. ``grouped`` spells them out for typer and gathers what was typed.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from functools import wraps
from typing import Any, get_type_hints

from llmplan.cli import beside_options, options, serving_options, traffic_options


@dataclass(frozen=True, kw_only=True)
class Group:
    """Base of all groups."""

    def values(self) -> dict[str, Any]:
        """What was typed, by the name of the field."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FormatGroup(Group):
    """Formats of weights and of what requests keep."""

    dtype: options.Dtype = "native"
    kv_dtype: options.KvDtype = None
    state_dtype: options.StateDtype = None
    indexer_dtype: options.IndexerDtype = None


@dataclass(frozen=True, kw_only=True)
class EngineGroup(Group):
    """The engine and its flags."""

    engine: serving_options.Engine = None
    gpu_memory_utilization: serving_options.Utilization = None
    max_model_len: serving_options.MaxModelLen = None
    max_num_batched_tokens: serving_options.BatchedTokens = None
    max_num_seqs: serving_options.Sequences = None
    block_size: serving_options.BlockSize = None
    enforce_eager: serving_options.EnforceEager = False
    kv_cache_memory: serving_options.KvCacheMemory = None
    cpu_offload: serving_options.CpuOffload = None
    speculative_tokens: serving_options.SpeculativeTokens = None
    reserve: serving_options.Reserve = None


@dataclass(frozen=True, kw_only=True)
class TimedEngineGroup(Group):
    """Those of its flags that times are known with."""

    engine: serving_options.Engine = None
    gpu_memory_utilization: serving_options.Utilization = None
    max_model_len: traffic_options.MaxModelLen = None
    max_num_batched_tokens: traffic_options.Chunk = None
    max_num_seqs: serving_options.Sequences = None
    block_size: serving_options.BlockSize = None
    kv_cache_memory: serving_options.KvCacheMemory = None
    reserve: serving_options.Reserve = None


@dataclass(frozen=True, kw_only=True)
class LayoutGroup(Group):
    """How a model is split over GPUs."""

    tp: serving_options.Tp = None
    pp: serving_options.Pp = None
    pp_layers: serving_options.PpLayers = None
    dp: serving_options.Dp = None
    ep: serving_options.Ep = None
    cp: serving_options.Cp = None
    prefill_cp: serving_options.PrefillCp = None
    redundant_experts: serving_options.RedundantExperts = None


@dataclass(frozen=True, kw_only=True)
class BesideGroup(Group):
    """What is held beside a model."""

    lora: beside_options.Lora = None
    lora_rank: beside_options.LoraRank = None
    lora_targets: beside_options.LoraTargets = None
    draft: beside_options.Draft = None
    draft_dtype: beside_options.DraftDtype = None
    prompt_logits: beside_options.PromptLogits = False
    experts_on_cpu: beside_options.ExpertsOnCpu = False
    gpu_layers: beside_options.GpuLayers = None
    host_memory: beside_options.HostMemory = None
    kv_offload: beside_options.KvOffload = None


@dataclass(frozen=True, kw_only=True)
class TrafficGroup(Group):
    """What is served, and the bounds on its latencies."""

    isl: traffic_options.Isl = None
    osl: traffic_options.Osl = None
    concurrency: traffic_options.Concurrency = None
    rate: traffic_options.Rate = None
    scenario: traffic_options.ScenarioWord = None
    spread: traffic_options.Spread = False
    prefix_cache: traffic_options.PrefixCache = 0.0
    ttft: traffic_options.Ttft = None
    tpot: traffic_options.Tpot = None


@dataclass(frozen=True, kw_only=True)
class PoolGroup(Group):
    """Workers of prompts."""

    disaggregate: traffic_options.Disaggregate = None
    prefill_tp: traffic_options.PrefillTp = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose groups are spelled out as the options they are of."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, type[Group]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if _is_group(parameter.annotation)
    }
    spelled = tuple(_spelled(signature))

    @wraps(command)
    def run(**typed: Any) -> None:
        gathered = {
            name: group(**{field.name: typed.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**typed, **gathered)

    run.__signature__ = inspect.Signature(spelled)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in spelled}
    return run


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Group)


def _spelled(signature: inspect.Signature) -> Iterator[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    for parameter in signature.parameters.values():
        group = parameter.annotation
        if not _is_group(group):
            yield parameter.replace(kind=keyword)
            continue
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name, keyword, default=default, annotation=hints[field.name]
            )
