"""Does it fit: layouts of a GPU group, the best of them, and the nearest changes that would fit."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from llmplan.analyze.memory import GENERIC_RESERVE, EngineReserve, GpuMemory, Load, gpu_memory
from llmplan.errors import LayoutError
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model

SHOWN_CONTEXTS: Final = (8192, 32768, 131072)
"""Contexts at which concurrency is listed."""


class Binding(StrEnum):
    """What stops a deployment, or what would stop it next."""

    NOTHING = "none"
    WEIGHTS = "weights"
    KV = "kv_cache"
    CONTEXT = "model_context"
    LAYOUT = "layout"


@dataclass(frozen=True, slots=True)
class Layout:
    """``replicas`` copies of a model, each over ``tp`` GPUs."""

    tp: int
    replicas: int

    def __str__(self) -> str:
        return f"tp{self.tp}" if self.replicas == 1 else f"tp{self.tp} dp{self.replicas}"


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
        return self.concurrency_at(self.load.context)

    @property
    def kv_tokens(self) -> int:
        """Tokens held at the asked context, all replicas."""
        return self.gpu.kv_tokens(self.load.context) * self.layout.replicas

    def concurrency_at(self, context: int) -> int:
        """Requests of ``context`` tokens, all replicas; 0 beyond the model's own limit."""
        if context > self.context_limit:
            return 0
        return self.gpu.concurrency(context) * self.layout.replicas

    @property
    def fits(self) -> bool:
        """Whether the asked requests fit at the asked context."""
        return self.max_concurrency >= self.load.batch

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


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a model has no legal layout on a group."""

    reason: str


def legal_layouts(group: GpuGroup) -> Iterator[Layout]:
    """Every tensor-parallel size that divides the group, with replicas on the rest.

    A size beyond one node stands only where it takes whole nodes.
    """
    for tp in range(1, group.count + 1):
        inside = tp <= group.per_node and group.per_node % tp == 0
        across = tp > group.per_node and tp % group.per_node == 0 and group.count % tp == 0
        if inside or across:
            yield Layout(tp, group.count // tp)


def deployments(
    model: Model, group: GpuGroup, load: Load, reserve: EngineReserve = GENERIC_RESERVE
) -> tuple[list[Deployment], list[Refusal]]:
    """A deployment for each legal layout, and the reasons against the others."""
    good, refused = [], []
    for layout in legal_layouts(group):
        try:
            gpu = gpu_memory(model, group.device, layout.tp, reserve)
        except LayoutError as error:
            refused.append(Refusal(str(error)))
            continue
        good.append(Deployment(layout, gpu, load, model.context_length))
    return good, refused


def best_deployment(candidates: list[Deployment]) -> Deployment:
    """The one that fits and holds most requests; of equals, that of the longest context, least tp.

    Where none fits, the one with the most memory left for state.
    """
    return max(
        candidates,
        key=lambda d: (
            d.fits,
            d.max_concurrency,
            d.max_context,
            d.gpu.kv_available_bytes,
            -d.layout.tp,
        ),
    )
