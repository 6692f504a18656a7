"""Does it fit: layouts of a GPU group, the best of them, and the nearest changes that would fit."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from llmplan.analyze.memory import GENERIC_RESERVE, EngineReserve, GpuMemory, Load, gpu_memory
from llmplan.errors import LayoutError
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.units import format_gib, format_tokens

SHOWN_CONTEXTS: Final = (8192, 32768, 131072)
"""Contexts at which concurrency is listed."""


class Binding(StrEnum):
    """What stops a deployment, or what would stop it next."""

    WEIGHTS = "weights"
    KV = "kv_cache"
    CONTEXT = "model_context"
    LAYOUT = "layout"


@dataclass(frozen=True, slots=True)
class Layout:
    """``replicas`` copies of a model, each over ``tp`` GPUs, with ``idle`` GPUs left over."""

    tp: int
    replicas: int
    idle: int = 0

    def __str__(self) -> str:
        copies = f"tp{self.tp}" if self.replicas == 1 else f"tp{self.tp} dp{self.replicas}"
        return f"{copies} ({self.idle} idle)" if self.idle else copies


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on a GPU group in one layout.

    Attributes:
        layout: How it is split.
        gpu: Memory of each GPU.
        load: What was asked for.
        context_limit: Longest context that the model is published for.
    """

    layout: Layout
    gpu: GpuMemory
    load: Load
    context_limit: int

    @property
    def max_context(self) -> int:
        """Longest context of a single request."""
        return self.gpu.longest_context(self.context_limit)

    @property
    def max_concurrency(self) -> int:
        """Requests at the asked context, all replicas."""
        return self.concurrency_at(self.load.context) or 0

    @property
    def kv_tokens(self) -> int:
        """Tokens held at the asked context, all replicas."""
        return self.gpu.kv_tokens(self.load.context) * self.layout.replicas

    def concurrency_at(self, context: int) -> int | None:
        """Requests of ``context`` tokens, all replicas; None beyond the model's own limit."""
        if context > self.context_limit:
            return None
        return self.gpu.concurrency(context) * self.layout.replicas

    @property
    def fits(self) -> bool:
        """Whether the asked requests fit at the asked context.

        Where requests keep nothing, as in a diffusion pipeline, the weights and reserve must.
        """
        within = self.load.context <= self.context_limit
        if not self.gpu.state.bytes_at(self.load.context):
            return within and self.gpu.kv_available_bytes > 0
        return within and self.max_concurrency >= self.load.batch

    @property
    def binding(self) -> Binding:
        """The constraint that stops it; when it fits, the one that ends its context."""
        if self.gpu.kv_available_bytes <= 0:
            return Binding.WEIGHTS
        if self.load.context > self.context_limit:
            return Binding.CONTEXT
        if not self.fits:
            return Binding.KV
        return Binding.CONTEXT if self.max_context == self.context_limit else Binding.KV

    @property
    def reason(self) -> str:
        """``binding`` in words, with the figures."""
        gpu, load = self.gpu, self.load
        match self.binding:
            case Binding.WEIGHTS:
                need = gpu.budget_bytes - gpu.kv_available_bytes
                return (
                    f"weights and reserve need {format_gib(need)} of the "
                    f"{format_gib(gpu.budget_bytes)} that an engine may fill on each GPU"
                )
            case Binding.CONTEXT if not self.fits:
                limit = format_tokens(self.context_limit)
                return f"the model is published for {limit} tokens a request"
            case Binding.CONTEXT:
                return "the whole published context fits"
            case _ if self.fits:
                return f"the cache ends one request at {format_tokens(self.max_context)} tokens"
        per_request = format_gib(gpu.state.bytes_at(load.context))
        return (
            f"a request of {format_tokens(load.context)} tokens needs {per_request} a GPU, "
            f"{format_gib(gpu.kv_available_bytes)} are free: {self.max_concurrency} of "
            f"{load.batch} requests fit"
        )


def legal_layouts(group: GpuGroup) -> Iterator[Layout]:
    """Tensor-parallel sizes to look at, with as many copies as the group has room for.

    Inside a node: powers of two and the divisors of a node's GPUs, where some may stay idle. Beyond
    one node: whole nodes only.
    """
    for tp in range(1, group.per_node + 1):
        if group.per_node % tp == 0 or tp & (tp - 1) == 0:
            copies = group.per_node // tp * group.nodes
            yield Layout(tp, copies, group.count - copies * tp)
    for nodes in range(2, group.nodes + 1):
        if group.nodes % nodes == 0:
            yield Layout(nodes * group.per_node, group.nodes // nodes)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a fit.

    Attributes:
        model: The model as published.
        weights: ``--dtype`` as typed, ``native`` included.
        states: Formats of what requests keep.
        group: The GPUs.
        load: Requests and context.
        tp: Tensor-parallel sizes to look at; empty for every legal one.
        reserve: What the engine keeps back.
    """

    model: Model
    weights: str
    states: StateFormats
    group: GpuGroup
    load: Load
    tp: tuple[int, ...] = ()
    reserve: EngineReserve = GENERIC_RESERVE


@dataclass(frozen=True, slots=True)
class Refusal:
    """A layout that the model does not split into."""

    layout: Layout
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Deployments of a question, best first, and why other layouts are refused."""

    question: Question
    deployments: tuple[Deployment, ...]
    refusals: tuple[Refusal, ...]

    @property
    def best(self) -> Deployment | None:
        """The best deployment; None where no layout is legal."""
        return self.deployments[0] if self.deployments else None

    @property
    def fits(self) -> bool:
        """Whether the best deployment fits."""
        return self.best is not None and self.best.fits


def answer(question: Question) -> Answer:
    """A deployment for each legal layout, best first, and the reasons against the others."""
    model = lowered(question.model, question.weights, question.states)
    good: list[Deployment] = []
    refused: list[Refusal] = []
    for layout in legal_layouts(question.group):
        if question.tp and layout.tp not in question.tp:
            continue
        try:
            gpu = gpu_memory(model, question.group.device, layout.tp, question.reserve)
        except LayoutError as error:
            refused.append(Refusal(layout, str(error)))
            continue
        good.append(Deployment(layout, gpu, question.load, model.context_length))
    return Answer(question, tuple(sorted(good, key=_rank, reverse=True)), tuple(refused))


def _rank(deployment: Deployment) -> tuple[bool, int, int, int, int]:
    """Fits, then most requests, longest context, most memory left for state, least tp."""
    return (
        deployment.fits,
        deployment.max_concurrency,
        deployment.max_context,
        deployment.gpu.kv_available_bytes,
        -deployment.layout.tp,
    )
