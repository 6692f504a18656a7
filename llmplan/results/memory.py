"""How much memory a model takes, alone and on GPUs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmplan.analyze.memory import (
    BATCHED_TOKENS,
    Load,
    ModelMemory,
    model_memory,
    weights_bytes_by_part,
)
from llmplan.errors import InputError
from llmplan.model.catalogue import load_model
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.results import schema
from llmplan.results.beside_options import BesideOptions
from llmplan.results.common import (
    SIXTEEN_BITS,
    Formats,
    Said,
    check_roles,
    context_warnings,
    explanations,
    model_warnings,
)
from llmplan.results.engine_options import EngineOptions, LayoutOptions
from llmplan.units import Provenance, weakest

if TYPE_CHECKING:
    from llmplan.analyze.explain import Explained
    from llmplan.analyze.state import RequestState
    from llmplan.model.compiled import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuestion:
    """Memory of one model, on the GPUs where these are given.

    Attributes:
        model: The model; None for the one of ``from_command``.
        formats: Precision.
        context: Tokens per request.
        batch: Requests held at once.
        mtp: Count multi-token-prediction modules.
        text_only: Leave vision towers out.
        gpus: The GPU group.
        layout: How the model is split.
        engine: The engine and how it is started.
        explain: Derive each figure.
        beside: What is held beside the model, and what stays in host memory.
        from_command: A start command as pasted; what is typed beside it goes before it.
        corrections: Use what ``llmplan reconcile --save`` kept.
    """

    model: str | None
    formats: Formats = field(default_factory=Formats)
    context: str | None = None
    batch: int = 1
    mtp: bool = False
    text_only: bool = False
    gpus: str | None = None
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    beside: BesideOptions = field(default_factory=BesideOptions)
    explain: bool = False
    from_command: str | None = None
    corrections: bool = True

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            InputError: Options that do not go together.
            LayoutError: The model does not split as asked.
        """
        if self.from_command is not None:
            return pasted(self).ask()
        if self.model is None:
            raise InputError("name a model, or paste a start command with --from-command.")
        published = load_model(self.model)
        self._check_gpus()
        load = Load(self.engine.context(self.context, published), self.batch)
        served = published.served(mtp=self.mtp, vision=not self.text_only)
        check_roles(served, self.formats.dtype)
        if self.gpus is not None:
            from llmplan.results.memory_on_gpus import on_gpus  # noqa: PLC0415 (engines, devices)

            return on_gpus(self, published, served, load)
        states = self.formats.states(SIXTEEN_BITS)
        model = lowered(served, self.formats.dtype, states)
        memory = model_memory(model, load)
        rows = explained(model, memory, load) if self.explain else ()
        warnings = context_warnings(published, load.context)
        said = Said(
            "memory",
            self.echo(published, load, states),
            warnings + model_warnings(published, mtp=self.mtp),
        )
        return said.answered(memory_result(model, memory, load.context, rows))

    def _check_gpus(self) -> None:
        asked = (
            ("a layout", self.layout.is_given),
            ("an engine", self.engine.is_given),
            ("what is held beside a model", self.beside.is_given),
        )
        what = next((words for words, is_given in asked if is_given), None)
        if self.gpus is None and what:
            raise InputError(f"{what} needs GPUs to run on: add --gpus, as in --gpus 8xH100.")

    def echo(self, model: Model, load: Load, states: StateFormats) -> dict[str, Any]:
        """As inputs of a result."""
        return {
            "model": model.identity.name,
            **self.formats.echo(states),
            "context": load.context,
            "batch": load.batch,
            "mtp": self.mtp,
            "text_only": self.text_only,
            "batched_tokens": BATCHED_TOKENS,
        }


def pasted(question: MemoryQuestion) -> MemoryQuestion:
    """The question with the settings of its pasted command, which what was typed goes before.

    Raises:
        InputError: The command cannot be read, or is of another model or engine than was typed.
    """
    from llmplan.engines.flags import parse_command  # noqa: PLC0415 (large tables, rarely needed)
    from llmplan.results.launch import check_gguf, started  # noqa: PLC0415 (the same)

    launch = parse_command(question.from_command or "")
    model = question.model or launch.model
    if model:
        check_gguf(launch, model, question.formats.dtype)
    told = started(launch, question.engine, question.layout, question.formats)
    return replace(
        question,
        from_command=None,
        model=model,
        engine=told.engine,
        layout=told.layout,
        formats=told.formats,
        mtp=question.mtp or told.mtp,
        text_only=question.text_only or bool(launch.settings.language_model_only),
    )


def explained(model: Model, memory: ModelMemory, load: Load) -> tuple[Explained, ...]:
    """How figures of the model alone come about."""
    from llmplan.analyze.explain import (  # noqa: PLC0415 (rarely needed)
        explained_parameters,
        explained_state,
    )
    from llmplan.analyze.explain_memory import explained_totals  # noqa: PLC0415 (the same)

    return (*explained_parameters(model), *explained_state(model), *explained_totals(memory, load))


def kv_cache(state: RequestState, context: int, total_bytes: int) -> schema.KvCache:
    """What requests keep."""
    return schema.KvCache(
        bytes_per_token=state.growing_bytes_per_token,
        indexer_bytes_per_token=state.indexer_bytes_per_token,
        bytes_per_request_fixed=state.fixed_bytes,
        recurrent_bytes=state.recurrent_bytes,
        convolution_bytes=state.convolution_bytes,
        cross_bytes=state.cross_bytes,
        window_bytes=state.full_window_bytes,
        bytes_per_request=state.bytes_at(context),
        bytes_per_request_reserved_as_full=state.bytes_reserved_as_full(context),
        total_bytes=total_bytes,
    )


def memory_result(
    model: Model, memory: ModelMemory, context: int, explained: tuple[Explained, ...]
) -> schema.MemoryResult:
    """``llmplan memory`` of the model alone."""
    return schema.MemoryResult(
        model=model.identity.name,
        weights_bytes=memory.weights_bytes,
        weights_by_component=weights_bytes_by_part(model),
        kv_cache=kv_cache(memory.state, context, memory.kv_bytes),
        activations_bytes=memory.activations_bytes,
        total_bytes=memory.total_bytes,
        provenance={
            "weights_bytes": Provenance.EXACT,
            "kv_cache": Provenance.EXACT,
            "activations_bytes": Provenance.ASSUMED,
            "total_bytes": weakest(Provenance.EXACT, Provenance.ASSUMED),
        },
        explain=explanations(explained),
    )
