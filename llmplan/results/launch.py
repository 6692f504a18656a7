"""A start command or a log as the options it stands for."""

from dataclasses import dataclass, replace

from llmplan.engines.settings import EngineName, Launch, Settings
from llmplan.engines.words import kv_words, weight_words
from llmplan.errors import InputError, printable
from llmplan.results.common import Formats
from llmplan.results.engine_options import EngineOptions, LayoutOptions


@dataclass(frozen=True, slots=True)
class Told:
    """Options as a launch states them, under those that were typed."""

    engine: EngineOptions
    layout: LayoutOptions
    formats: Formats
    mtp: bool


def started(launch: Launch, engine: EngineOptions, layout: LayoutOptions, formats: Formats) -> Told:
    """The options that a launch stands for; what was typed goes before it.

    Raises:
        InputError: Another engine was typed, or a format that is not known.
    """
    named = launch.engine.value
    if launch.version:
        named += f"@{launch.version}"
    if engine.engine and not engine.engine.startswith(launch.engine.value):
        raise InputError(
            f"the command starts {launch.engine.value}, --engine says {printable(engine.engine)}: "
            "leave one out."
        )
    settings = launch.settings
    return Told(
        replace(engine, engine=engine.engine or named, launch=settings),
        _layout(settings, layout),
        _formats(settings, formats, launch.engine),
        mtp=settings.speculative_method == "mtp",
    )


def check_gguf(launch: Launch, model: str, dtype: str) -> None:
    """Refuse published weights where the command loads a GGUF file that is not read.

    Raises:
        InputError: With what says the formats of that file.
    """
    is_read = model.endswith(".gguf")
    if launch.engine is not EngineName.LLAMACPP or is_read or dtype != Formats().dtype:
        return
    kind = printable(launch.settings.quantization or "formats that it does not name")
    raise InputError(
        f"the command loads a GGUF in {kind}: give the .gguf file in place of the model, and its "
        "tensors are read; or say --dtype, as in --dtype q8_0, or --dtype 4.85_bits for an average."
    )


def _layout(settings: Settings, typed: LayoutOptions) -> LayoutOptions:
    """Ranks; an engine without a word on tensor parallelism runs on one GPU a copy."""
    tp = settings.tensor_parallel or 1
    dp, ep = settings.data_parallel, settings.expert_parallel
    if settings.attention_dp and dp:
        # SGLang and TensorRT-LLM count the ranks of attention groups within tp
        tp, ep = max(tp // dp, 1), True
    spread = tp * (dp or 1) * (settings.prefill_context_parallel or 1)
    return LayoutOptions(
        tp=typed.tp or tp,
        pp=typed.pp or settings.pipeline_parallel,
        dp=typed.dp or dp,
        ep=typed.ep or (spread if ep and spread > 1 else None),
        cp=typed.cp or settings.decode_context_parallel,
        prefill_cp=typed.prefill_cp or settings.prefill_context_parallel,
        redundant_experts=typed.redundant_experts or settings.redundant_experts,
        pp_layers=typed.pp_layers,
    )


def _formats(settings: Settings, typed: Formats, engine: EngineName) -> Formats:
    """Formats of weights and cache, where the command names any but the engine's own."""
    dtype = typed.dtype
    if dtype == "native" and settings.quantization and engine is not EngineName.LLAMACPP:
        words = weight_words(settings.quantization)
        if words is None:
            said = printable(settings.quantization)
            raise InputError(f"quantization '{said}' is not known: say it with --dtype.")
        # fp8 and the like on an unquantised checkpoint; a quantised one is loaded as it is
        dtype = words if words in ONLINE else dtype
    kv = typed.kv_dtype
    if kv is None and settings.kv_dtype and not settings.kv_dtype.startswith("auto"):
        kv = kv_words(settings.kv_dtype) or settings.kv_dtype
    return replace(typed, dtype=dtype, kv_dtype=kv)


ONLINE = ("fp8",)
"""Formats that engines convert to while loading; others need a checkpoint in that format."""
