"""The start that a log is of, as a question: what it says, under what was typed.

A log is a stranger's file. Settings are believed within bounds, and a model's name is looked up in
the catalogue only: no file that a log names is opened.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from llmplan.analyze.fit import Question
from llmplan.analyze.measured import is_low_bit
from llmplan.analyze.memory import Load
from llmplan.engines.logs import Figure, LogFacts
from llmplan.engines.profile import Profile, profile_of
from llmplan.engines.settings import EngineName, Launch, Settings
from llmplan.errors import InputError, UnknownNameError, printable
from llmplan.hardware.catalogue import load_device, parse_gpus
from llmplan.hardware.device import GpuGroup
from llmplan.model.catalogue import CONFIG_SUFFIXES, SPEC_SUFFIXES, is_known, load_model
from llmplan.model.compiled import Model
from llmplan.parallel.precision import NATIVE
from llmplan.results.common import Formats, check_roles
from llmplan.results.engine_options import EngineOptions, LayoutOptions
from llmplan.results.engine_said import engine_states
from llmplan.results.launch import started

LIMITS: Final = {
    "max_model_len": 10**9,
    "max_num_batched_tokens": 10**8,
    "max_num_seqs": 10**7,
    "max_capture_batch": 10**6,
    "block_size": 10**6,
    "speculative_tokens": 64,
    "redundant_experts": 10**5,
    "max_mamba_cache_size": 10**8,
    "tensor_parallel": 4096,
    "pipeline_parallel": 4096,
    "data_parallel": 4096,
    "decode_context_parallel": 4096,
    "prefill_context_parallel": 4096,
    "max_loras": 10**5,
    "max_lora_rank": 10**5,
}
"""The largest settings that are believed."""
_CACHED: Final = re.compile(r"models--([\w.-]+?)--([\w.-]+)")
_COUNTED: Final = re.compile(r"\s*\d+\s*[nx×]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What was typed beside a log; None where the log has to say it.

    Attributes:
        model: A name or path.
        gpus: With or without a count.
        engine: Engine, or engine and version.
        formats: Precision; ``native`` where it was not typed.
        memory_frac: Share of memory.
    """

    model: str | None = None
    gpus: str | None = None
    engine: str | None = None
    formats: Formats = field(default_factory=Formats)
    memory_frac: float | None = None

    def states_version(self) -> bool:
        """Whether a version was typed."""
        return "@" in (self.engine or "")


@dataclass(frozen=True, slots=True)
class Start:
    """A start to be predicted.

    Attributes:
        facts: The log, its settings within bounds.
        question: The same start as a question.
        formats: Precision as it was understood.
        model: The model as published.
        states_version: Whether the version is known, rather than the newest.
        remarks: What was assumed.
    """

    facts: LogFacts
    question: Question
    formats: Formats
    model: Model
    states_version: bool
    remarks: tuple[str, ...]

    @property
    def group(self) -> GpuGroup:
        """The GPUs."""
        return self.question.group

    @property
    def profile(self) -> Profile:
        """The engine at its version."""
        return self.question.profile


def start_of(read: LogFacts, typed: Typed) -> Start:
    """The start that a log is of.

    Raises:
        InputError: The log does not say it, and nobody else did; with the option that does.
        LlmplanError: What was typed cannot be read.
    """
    remarks: list[str] = []
    facts = replace(read, settings=_bounded(read.settings, remarks))
    settings = facts.settings
    engine, states_version = _engine(facts, typed, remarks)
    model = _model(facts, typed, remarks)
    formats = replace(typed.formats, dtype=_dtype(facts, typed, model))
    check_roles(model, formats.dtype)
    if (settings.dtype or "").startswith("float32"):
        remarks.append("the log says float32; weights are predicted in the model's own format.")
    options = EngineOptions(engine=engine, gpu_memory_utilization=typed.memory_frac)
    # the format of weights is settled: a stored one is loaded as it is
    launch = Launch(facts.engine, None, None, replace(settings, quantization=None))
    told = started(launch, options, LayoutOptions(), formats)
    group = _group(facts, typed, told.layout, remarks)
    layout = _layout(facts, told.layout, group, remarks)
    profile = profile_of(engine)
    question = Question(
        model=model.served(mtp=told.mtp, vision=not settings.language_model_only),
        weights=told.formats.dtype,
        states=told.formats.states(engine_states(profile, model)[0]),
        group=group,
        load=Load(_length(facts, remarks) or model.context_length, 1),
        wanted=layout.wanted(every=False),
        profile=profile,
        settings=told.engine.settings(),
    )
    return Start(facts, question, told.formats, model, states_version, tuple(remarks))


def _bounded(settings: Settings, remarks: list[str]) -> Settings:
    """The settings without those that no engine would take."""
    wrong = [name for name, most in LIMITS.items() if (getattr(settings, name) or 0) > most]
    remarks += [f"the log's {name} is out of range and was left out." for name in wrong]
    left = settings.with_values(dict.fromkeys(wrong))
    # logs print how many adapters there may be only where there are any
    return left.with_values({"enable_lora": True}) if left.max_loras else left


def _engine(facts: LogFacts, typed: Typed, remarks: list[str]) -> tuple[str, bool]:
    """The engine with its version, and whether that is known."""
    name = facts.engine.value
    if typed.engine is not None and profile_of(typed.engine).engine is not facts.engine:
        raise InputError(
            f"the log is of {name}, --engine says {printable(typed.engine)}: leave it out, or "
            f"write --engine {name}@VERSION."
        )
    if typed.engine is not None and typed.states_version():
        return typed.engine, True
    newest = profile_of(name)
    if not newest.version:
        return name, False
    if facts.version:
        try:
            profile_of(f"{name}@{facts.version}")
        except InputError:
            remarks.append(f"the log's version, {printable(facts.version)}, cannot be read.")
        else:
            return f"{name}@{facts.version}", True
    remarks.append(
        f"the log states no version that is known: {newest.version_said}, is taken; --engine "
        f"{name}@VERSION says another."
    )
    return name, False


def _model(facts: LogFacts, typed: Typed, remarks: list[str]) -> Model:
    if typed.model is not None:
        return load_model(typed.model)
    if not facts.model:
        raise InputError("the log names no model: state it with --model.")
    found = next(filter(is_known, _names(facts.model)), None)
    if found is None:
        raise InputError(
            f"the log's model, '{printable(facts.model)}', is in no catalogue: state it with "
            "--model, as a catalogue name or the path of a spec, config.json or weight file."
        )
    if found != facts.model:
        remarks.append(f"the log's model, '{printable(facts.model)}', is read as {found}.")
    return load_model(found)


def _names(said: str) -> Iterator[str]:
    """Names of the catalogue that a log may mean: an id, or the end of a path of a copy."""
    cached = _CACHED.search(said)
    parts = [part for part in said.split("/") if part]
    names = [f"{cached[1]}/{cached[2]}"] if cached else []
    names += ["/".join(parts[-2:]), *parts[-1:]]
    for name in names:
        if not name.endswith((*SPEC_SUFFIXES, *CONFIG_SUFFIXES)):
            yield name


def _dtype(facts: LogFacts, typed: Typed, model: Model) -> str:
    """``--dtype``: as typed, or what the log says of a model that is published in 16 bits.

    Raises:
        InputError: It says a format that does not say all.
    """
    said = facts.settings.quantization
    given = typed.formats.dtype
    is_file = (typed.model or "").endswith(CONFIG_SUFFIXES)
    if given != NATIVE or said is None or is_file or is_low_bit(model):
        return given
    if said == "fp8":
        return said
    raise InputError(
        f"the log loads weights as '{printable(said)}', which does not say how they are stored: "
        f"state --dtype, or the file as --model; {model.identity.name} is published in 16 bits."
    )


def _world(facts: LogFacts, layout: LayoutOptions) -> int | None:
    """GPUs of the start; None where the log does not say."""
    if facts.engine is EngineName.LLAMACPP:
        return sum(1 for rank in facts.ranks if rank.weights_bytes) or None
    if facts.settings.tensor_parallel is None:
        return None
    sizes = (layout.tp, layout.pp, layout.dp, layout.prefill_cp)
    count = 1
    for size in sizes:
        count *= size or 1
    return count


def _group(facts: LogFacts, typed: Typed, layout: LayoutOptions, remarks: list[str]) -> GpuGroup:
    """The GPUs: as typed, else those of the log; as many as its ranks where no count was typed."""
    count = _world(facts, layout)
    if typed.gpus is not None:
        counted = count is None or _COUNTED.match(typed.gpus)
        return parse_gpus(typed.gpus if counted else f"{count}x{typed.gpus.strip()}")
    if not facts.gpus:
        raise InputError("the log names no GPU: state it with --gpus, as in --gpus 8xH100.")
    if count is None:
        raise InputError("the log does not say how many GPUs there are: state --gpus.")
    slugs = sorted({_device(name) for name in facts.gpus})
    if len(slugs) > 1:
        raise InputError(f"the log names several GPUs ({', '.join(slugs)}): state --gpus.")
    remarks.append(f"GPUs as the log says: {count} x {slugs[0]}.")
    return parse_gpus(f"{count}x{slugs[0]}")


def _device(name: str) -> str:
    try:
        return load_device(name).slug
    except UnknownNameError as error:
        raise InputError(f"the log's GPU: {error} Or state it with --gpus.") from None


def _layout(
    facts: LogFacts, layout: LayoutOptions, group: GpuGroup, remarks: list[str]
) -> LayoutOptions:
    """The layout; every GPU splits each layer where the log does not say it."""
    if facts.engine is EngineName.LLAMACPP or facts.settings.tensor_parallel is not None:
        return layout
    others = (layout.pp or 1) * (layout.dp or 1) * (layout.prefill_cp or 1)
    if group.count % others:
        raise InputError(f"{group} are no multiple of the {others} ranks that the log states.")
    if group.count > others:
        remarks.append("the log states no tensor parallelism: all GPUs are taken to split layers.")
    return replace(layout, tp=group.count // others)


def _length(facts: LogFacts, remarks: list[str]) -> int | None:
    """Longest request, as set or as the concurrency is printed for; llama.cpp's by its cache."""
    printed = facts.least_concurrency()
    length = facts.settings.max_model_len or (printed.length_tokens if printed else None)
    cells = facts.least(Figure.KV_TOKENS)
    if length is None and facts.engine is EngineName.LLAMACPP and cells:
        length = max(cells[1].value // (facts.settings.max_num_seqs or 1), 1)
        remarks.append(f"requests of {length:,} tokens, as the log's cache has room for.")
    return length
