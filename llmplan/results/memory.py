"""How much memory a model takes, alone and on GPUs."""

from dataclasses import dataclass, field, replace

from llmplan.analyze.explain import Explained, explained_parameters, explained_state
from llmplan.analyze.explain_memory import explained_deployment, explained_totals
from llmplan.analyze.fit import Answer, Deployment, Question, answer
from llmplan.analyze.memory import (
    BATCHED_TOKENS,
    Load,
    ModelMemory,
    model_memory,
    weights_bytes_by_part,
)
from llmplan.analyze.state import RequestState
from llmplan.engines.settings import EngineName
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.hardware.device import Device, GpuGroup
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.results import schema
from llmplan.results.beside import (
    BesideOptions,
    beside_rows,
    beside_warnings,
    host_memory,
    weights_by_role,
)
from llmplan.results.common import (
    SIXTEEN_BITS,
    Formats,
    Said,
    check_roles,
    context_warnings,
    explanations,
    gpu_echo,
    gpu_warnings,
    model_warnings,
)
from llmplan.results.engine_options import (
    EngineOptions,
    LayoutOptions,
    engine_echo,
    engine_states,
    engine_warnings,
)
from llmplan.results.kept_corrections import kept_corrections
from llmplan.units import Provenance, weakest


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
        group = self._group()
        load = Load(self.engine.context(self.context, published), self.batch)
        served = published.served(mtp=self.mtp, vision=not self.text_only)
        check_roles(served, self.formats.dtype)
        profile = self.engine.profile()
        taken, why = engine_states(profile, published) if group else (SIXTEEN_BITS, "")
        states = self.formats.states(taken)
        model = lowered(served, self.formats.dtype, states)
        placed = None
        if group:
            self.beside.check(served)
            settings = self.beside.settings(self.engine.settings())
            placed = answer(
                Question(
                    model=served,
                    weights=self.formats.dtype,
                    states=states,
                    group=group,
                    load=load,
                    wanted=self.layout.wanted(every=False),
                    profile=profile,
                    settings=settings,
                    beside=self.beside.beside(settings, profile, states),
                    corrections=kept_corrections(profile.engine) if self.corrections else (),
                )
            )
            if not placed.best:
                raise LayoutError(_why_not(placed, group))
        memory = model_memory(model, load)
        rows = _explained(model, memory, load, placed) if self.explain else ()
        result = memory_result(model, memory, load.context, placed, rows)
        return self._said(published, load, placed, states, why).answered(result)

    def _group(self) -> GpuGroup | None:
        asked = (
            ("a layout", self.layout.is_given),
            ("an engine", self.engine.is_given),
            ("what is held beside a model", self.beside.is_given),
        )
        what = next((words for words, is_given in asked if is_given), None)
        if self.gpus is None and what:
            raise InputError(f"{what} needs GPUs to run on: add --gpus, as in --gpus 8xH100.")
        return None if self.gpus is None else parse_gpus(self.gpus)

    def _said(
        self, model: Model, load: Load, placed: Answer | None, states: StateFormats, why: str
    ) -> Said:
        inputs = {
            "model": model.identity.name,
            **self.formats.echo(states),
            "context": load.context,
            "batch": load.batch,
            "mtp": self.mtp,
            "text_only": self.text_only,
            "batched_tokens": BATCHED_TOKENS,
        }
        warnings = context_warnings(model, load.context)
        if not placed:
            return Said("memory", inputs, warnings + model_warnings(model, mtp=self.mtp))
        group, profile, best = placed.question.group, placed.question.profile, placed.best
        on_gpus = {
            **inputs,
            **gpu_echo(group),
            **engine_echo(profile, best),
            **self.layout.echo(),
            **self.beside.echo(placed.question.beside),
            "corrections": self.corrections,
        }
        if why and self.formats.kv_dtype is None:
            warnings += (f"{profile.title} keeps {why} ({states.kv.name}).",)
        warnings += model_warnings(
            model, mtp=self.mtp, engine=profile.engine is not EngineName.GENERIC
        )
        next_step = f"`llmplan fit {inputs['model']} --gpus {group}` lists what would fit."
        hint = () if placed.fits else (next_step,)
        warnings += gpu_warnings(group) + engine_warnings(profile, best)
        warnings += beside_warnings(best, placed.question.beside, group) + hint
        return Said("memory", on_gpus, warnings)


def pasted(question: MemoryQuestion) -> MemoryQuestion:
    """The question with the settings of its pasted command, which what was typed goes before.

    Raises:
        InputError: The command cannot be read, or is of another model or engine than was typed.
    """
    from llmplan.engines.flags import parse_command  # noqa: PLC0415 (large tables, rarely needed)
    from llmplan.results.launch import started  # noqa: PLC0415 (the same)

    launch = parse_command(question.from_command or "")
    told = started(launch, question.engine, question.layout, question.formats)
    return replace(
        question,
        from_command=None,
        model=question.model or launch.model,
        engine=told.engine,
        layout=told.layout,
        formats=told.formats,
        mtp=question.mtp or told.mtp,
        text_only=question.text_only or bool(launch.settings.language_model_only),
    )


def _explained(
    model: Model, memory: ModelMemory, load: Load, placed: Answer | None
) -> tuple[Explained, ...]:
    rows = (*explained_parameters(model), *explained_state(model), *explained_totals(memory, load))
    if placed and placed.best:
        rows += explained_deployment(placed.best, placed.question.group.device)
    return rows


def _why_not(placed: Answer, group: GpuGroup) -> str:
    if placed.refusals:
        return placed.refusals[0].reason
    asked = placed.question.wanted.options or "the layout"
    return (
        f"{asked} does not go on {group}: a copy takes tp x pp x dp GPUs, which must be within the "
        f"{group.per_node} of a node or be whole nodes."
    )


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
    model: Model,
    memory: ModelMemory,
    context: int,
    answer: Answer | None,
    explained: tuple[Explained, ...],
) -> schema.MemoryResult:
    """``llmplan memory``; ``answer`` where GPUs were given."""
    best = answer.best if answer else None
    device = answer.question.group.device if answer else None
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
        layout=str(best.arrangement) if best else None,
        per_gpu=per_gpu(best, device) if best and device else None,
        kv_tokens=best.kv_tokens if best else None,
        max_concurrency=best.max_concurrency if best else None,
        fits=best.fits if best else None,
        engine_tokens=best.serving.printed_tokens if best else None,
        engine_concurrency=round(best.serving.printed_concurrency, 4) if best else None,
        cache_unit=best.serving.worst.plan.cache.unit if best else None,
        beside=beside_rows(best) if best else [],
        host=host_memory(best) if best else None,
        explain=explanations(explained),
    )


def per_gpu(deployment: Deployment, device: Device) -> schema.PerGpu:
    """Memory of the GPU whose cache ends first."""
    worst, capacity = deployment.serving.worst, deployment.serving.gpu.capacity_bytes
    held = worst.plan.held
    terms = {
        "weights_bytes": held.weights,
        "activations_bytes": held.activations,
        "non_torch_bytes": held.non_torch,
        "graphs_bytes": held.graphs,
    }
    if held.beside.bytes:
        terms["beside_bytes"] = held.beside
    budget = weakest(device.capacity_provenance, Provenance.ASSUMED)
    pool = weakest(budget, *(term.provenance for term in terms.values()))
    outside = 0 if held.graphs_in_budget else held.graphs.bytes
    return schema.PerGpu(
        capacity_bytes=capacity,
        budget_bytes=held.budget_bytes,
        kv_available_bytes=held.pool_bytes,
        headroom_bytes=capacity - held.budget_bytes - outside,
        provenance={
            "capacity_bytes": device.capacity_provenance,
            "budget_bytes": budget,
            **{name: term.provenance for name, term in terms.items()},
            "kv_available_bytes": pool,
            "headroom_bytes": pool,
        },
        weights_by_role=weights_by_role(worst.rank.model),
        stage=worst.rank.stage,
        graphs_in_budget=held.graphs_in_budget,
        notes={
            **{name: term.note for name, term in terms.items()},
            "kv_available_bytes": held.pool_note,
        },
        **{name: term.bytes for name, term in terms.items()},
    )
