"""How much memory a model takes on GPUs, as an engine serves it."""

from typing import Any

from llmplan.analyze.explain_memory import explained_deployment
from llmplan.analyze.fit import Answer, Deployment, Question, answer
from llmplan.analyze.memory import Load, model_memory
from llmplan.engines.settings import EngineName
from llmplan.errors import LayoutError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.hardware.device import Device, GpuGroup
from llmplan.model.compiled import Model
from llmplan.parallel.precision import lowered
from llmplan.results import schema
from llmplan.results.beside import beside_rows, beside_warnings, host_memory, weights_by_role
from llmplan.results.common import Said, context_warnings, model_warnings
from llmplan.results.engine_said import engine_echo, engine_states, engine_warnings
from llmplan.results.gpus_said import gpu_echo, gpu_warnings
from llmplan.results.kept_corrections import kept_corrections
from llmplan.results.memory import MemoryQuestion, explained, memory_result
from llmplan.units import Provenance, weakest


def on_gpus(asked: MemoryQuestion, published: Model, served: Model, load: Load) -> schema.Envelope:
    """The answer for the GPUs of the question.

    Raises:
        InputError: Options that do not go together.
        LayoutError: The model does not split as asked.
    """
    group = parse_gpus(asked.gpus or "")
    question = question_of(asked, published, served, load, group)
    profile, states = question.profile, question.states
    model = lowered(served, asked.formats.dtype, states)
    placed = answer(question)
    best = placed.best
    if not best:
        raise LayoutError(why_not(placed, group))
    memory = model_memory(model, load)
    rows = (
        (*explained(model, memory, load), *explained_deployment(best, group.device))
        if asked.explain
        else ()
    )
    inputs = {
        **asked.echo(published, load, states),
        **gpu_echo(group),
        **engine_echo(profile, best),
        **asked.layout.echo(),
        **asked.beside.echo(placed.question.beside),
        "corrections": asked.corrections,
    }
    _, why = engine_states(profile, published)
    kept = why and asked.formats.kv_dtype is None
    step = f"`llmplan fit {inputs['model']} --gpus {group}` lists what would fit."
    warnings = (
        *context_warnings(published, load.context),
        *([f"{profile.title} keeps {why} ({states.kv.name})."] if kept else []),
        *model_warnings(published, mtp=asked.mtp, engine=profile.engine is not EngineName.GENERIC),
        *gpu_warnings(group),
        *engine_warnings(profile, best),
        *beside_warnings(best, placed.question.beside, group),
        *(() if placed.fits else (step,)),
    )
    result = memory_result(model, memory, load.context, rows)
    return Said("memory", inputs, warnings).answered(
        result.model_copy(update=_on_gpus(best, group.device))
    )


def question_of(
    asked: MemoryQuestion, published: Model, served: Model, load: Load, group: GpuGroup
) -> Question:
    """What is asked of these GPUs, in the formats that the engine keeps.

    Raises:
        InputError: Options that do not go together.
    """
    profile = asked.engine.profile()
    states = asked.formats.states(engine_states(profile, published)[0])
    asked.beside.check(served)
    settings = asked.beside.settings(asked.engine.settings())
    return Question(
        model=served,
        weights=asked.formats.dtype,
        states=states,
        group=group,
        load=load,
        wanted=asked.layout.wanted(every=False),
        profile=profile,
        settings=settings,
        beside=asked.beside.beside(settings, profile, states),
        corrections=kept_corrections(profile.engine) if asked.corrections else (),
    )


def _on_gpus(best: Deployment, device: Device) -> dict[str, Any]:
    """The part of the result that is of GPUs."""
    return {
        "layout": str(best.arrangement),
        "per_gpu": per_gpu(best, device),
        "kv_tokens": best.kv_tokens,
        "max_concurrency": best.max_concurrency,
        "fits": best.fits,
        "engine_tokens": best.serving.printed_tokens,
        "engine_concurrency": round(best.serving.printed_concurrency, 4),
        "cache_unit": best.serving.worst.plan.cache.unit,
        "beside": beside_rows(best),
        "host": host_memory(best),
    }


def why_not(placed: Answer, group: GpuGroup) -> str:
    """Why no layout can be looked at."""
    if placed.refusals:
        return placed.refusals[0].reason
    asked = placed.question.wanted.options or "the layout"
    return (
        f"{asked} does not go on {group}: a copy takes tp x pp x dp GPUs, which must be within the "
        f"{group.per_node} of a node or be whole nodes."
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
