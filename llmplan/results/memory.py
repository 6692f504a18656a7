"""How much memory a model takes, alone and on GPUs."""

from dataclasses import dataclass, field

from llmplan.analyze.explain import Explained, explained_parameters, explained_state
from llmplan.analyze.explain_memory import explained_deployment, explained_totals
from llmplan.analyze.fit import Answer, Question, answer
from llmplan.analyze.memory import (
    BATCHED_TOKENS,
    GpuMemory,
    Load,
    ModelMemory,
    model_memory,
    weights_bytes_by_part,
)
from llmplan.analyze.state import RequestState
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.hardware.device import Device, GpuGroup
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.parallel.precision import lowered
from llmplan.results import schema
from llmplan.results.common import (
    Formats,
    ReserveOptions,
    Said,
    check_roles,
    context_tokens,
    context_warnings,
    explanations,
    gpu_echo,
    gpu_warnings,
    model_warnings,
)
from llmplan.units import Provenance, weakest


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryQuestion:
    """Memory of one model, on the GPUs where these are given."""

    model: str
    formats: Formats = field(default_factory=Formats)
    context: str | None = None
    batch: int = 1
    mtp: bool = False
    text_only: bool = False
    gpus: str | None = None
    tp: int | None = None
    reserve: ReserveOptions = field(default_factory=ReserveOptions)
    explain: bool = False

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            InputError: Options that do not go together.
            LayoutError: The model does not split as asked.
        """
        published = load_model(self.model)
        group = self._group()
        load = Load(context_tokens(self.context, published.context_length), self.batch)
        served = published.served(mtp=self.mtp, vision=not self.text_only)
        check_roles(served, self.formats.dtype)
        states = self.formats.states()
        model = lowered(served, self.formats.dtype, states)
        placed = None
        if group:
            tp = (self.tp,) if self.tp else ()
            reserve = self.reserve.chosen()
            placed = answer(Question(served, self.formats.dtype, states, group, load, tp, reserve))
            if not placed.best:
                raise LayoutError(_why_not(placed, group))
        memory = model_memory(model, load)
        rows = _explained(model, memory, load, placed) if self.explain else ()
        result = memory_result(model, memory, load.context, placed, rows)
        return self._said(published, load, placed).answered(result)

    def _group(self) -> GpuGroup | None:
        if self.gpus is None and (self.tp or self.reserve.is_given):
            what = "--tp" if self.tp else "an engine reserve"
            raise InputError(f"{what} needs GPUs to apply to: add --gpus, as in --gpus 8xH100.")
        return None if self.gpus is None else parse_gpus(self.gpus)

    def _said(self, model: Model, load: Load, placed: Answer | None) -> Said:
        inputs = {
            "model": model.identity.name,
            **self.formats.echo(),
            "context": load.context,
            "batch": load.batch,
            "mtp": self.mtp,
            "text_only": self.text_only,
            "batched_tokens": BATCHED_TOKENS,
        }
        warnings = context_warnings(model, load.context) + model_warnings(model, mtp=self.mtp)
        if not placed:
            return Said("memory", inputs, warnings)
        group, reserve = placed.question.group, placed.question.reserve
        on_gpus = {**inputs, **gpu_echo(group, reserve), "tp": self.tp}
        next_step = f"`llmplan fit {inputs['model']} --gpus {group}` lists what would fit."
        hint = () if placed.fits else (next_step,)
        return Said("memory", on_gpus, warnings + gpu_warnings(group, reserve) + hint)


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
    return (
        f"{group} cannot be divided so: --tp must divide the {group.per_node} GPUs of a node, "
        "or take whole nodes."
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
        layout=str(best.layout) if best else None,
        per_gpu=per_gpu(best.gpu, device) if best and device else None,
        kv_tokens=best.kv_tokens if best else None,
        max_concurrency=best.max_concurrency if best else None,
        fits=best.fits if best else None,
        explain=explanations(explained),
    )


def per_gpu(gpu: GpuMemory, device: Device) -> schema.PerGpu:
    """Memory of each GPU."""
    assumed = Provenance.ASSUMED
    return schema.PerGpu(
        capacity_bytes=gpu.capacity_bytes,
        budget_bytes=gpu.budget_bytes,
        weights_bytes=gpu.weights_bytes,
        activations_bytes=gpu.reserve.activations_bytes,
        non_torch_bytes=gpu.reserve.non_torch_bytes,
        graphs_bytes=gpu.reserve.graphs_bytes,
        kv_available_bytes=gpu.kv_available_bytes,
        headroom_bytes=gpu.headroom_bytes,
        provenance={
            "capacity_bytes": device.capacity_provenance,
            "budget_bytes": weakest(device.capacity_provenance, assumed),
            "activations_bytes": assumed,
            "non_torch_bytes": assumed,
            "graphs_bytes": assumed,
            "kv_available_bytes": assumed,
            "headroom_bytes": assumed,
        },
    )
