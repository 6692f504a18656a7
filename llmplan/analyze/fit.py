"""Does it fit: arrangements of a model on a GPU group, the best of them, and why not the others."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from llmplan.analyze.arrange import Arrangement, Wanted, arrangements, is_usual
from llmplan.analyze.beside import MODEL_ALONE, Beside
from llmplan.analyze.host import Host, host_of
from llmplan.analyze.memory import Load, weights_bytes
from llmplan.analyze.serving import Server, Serving
from llmplan.analyze.starting import why_not
from llmplan.engines.corrections import Correction
from llmplan.engines.profile import Profile
from llmplan.engines.settings import Settings
from llmplan.errors import LayoutError
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.parallel.layout import Layout
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.units import format_gib, format_tokens

SHOWN_CONTEXTS: Final = (8192, 32768, 131072)
"""Contexts at which concurrency is listed."""


class Binding(StrEnum):
    """What stops a deployment, or what would stop it next."""

    WEIGHTS = "weights"
    KV = "kv_cache"
    CONTEXT = "model_context"
    GRAPHS = "graphs"
    LAYOUT = "layout"
    HOST = "host_memory"


@dataclass(frozen=True)
class Deployment:
    """A model on a GPU group in one arrangement.

    Attributes:
        arrangement: How it is split and how often it stands.
        serving: One copy under the engine.
        load: What was asked for.
        context_limit: Longest context that the model is published for.
        host: What the fullest node's host holds; None for nothing.
    """

    arrangement: Arrangement
    serving: Serving
    load: Load
    context_limit: int
    host: Host | None = None

    @property
    def pool_bytes(self) -> int:
        """Cache pool of the rank that ends first; negative where weights leave nothing."""
        return self.serving.worst.plan.held.pool_bytes

    @property
    def weights_bytes(self) -> int:
        """Weights on that rank as the engine holds them."""
        return self.serving.worst.plan.held.weights.bytes

    def request_bytes(self, context: int) -> int:
        """What one request takes of the pool."""
        return self.serving.worst.plan.cache.request_bytes(context)

    @cached_property
    def max_context(self) -> int:
        """Longest context of a single request."""
        return self.serving.longest_context(self.context_limit)

    @cached_property
    def max_concurrency(self) -> int:
        """Requests at the asked context, all replicas."""
        return self.concurrency_at(self.load.context) or 0

    @property
    def kv_tokens(self) -> int:
        """Tokens held in requests of the asked context, all replicas."""
        need = self.request_bytes(self.load.context)
        if self.pool_bytes <= 0 or not need:
            return 0
        copies = self.arrangement.replicas * self.serving.layout.dp
        return self.pool_bytes * self.load.context // need * copies

    def concurrency_at(self, context: int) -> int | None:
        """Requests of ``context`` tokens, all replicas; None beyond the model's own limit."""
        if context > self.context_limit:
            return None
        return self.serving.requests(context) * self.arrangement.replicas

    @cached_property
    def fits(self) -> bool:
        """Whether the engine starts, and the asked requests fit at the asked context.

        Where requests keep nothing, as in a diffusion pipeline, the weights and reserve must.
        """
        if self.load.context > self.context_limit or why_not(self.serving):
            return False
        if self.host and self.host.is_short:
            return False
        if not self.request_bytes(self.load.context):
            return True
        return self.max_concurrency >= self.load.batch

    @property
    def binding(self) -> Binding:
        """The constraint that stops it; when it fits, the one that ends its context."""
        if self.pool_bytes <= 0:
            return Binding.WEIGHTS
        if self.load.context > self.context_limit:
            return Binding.CONTEXT
        if self.host and self.host.is_short:
            return Binding.HOST
        if self.fits:
            return Binding.CONTEXT if self.max_context == self.context_limit else Binding.KV
        stopped = why_not(self.serving) or ""
        return Binding.GRAPHS if stopped.startswith("captured graphs") else Binding.KV

    @property
    def reason(self) -> str:
        """``binding`` in words, with the figures."""
        held, load = self.serving.worst.plan.held, self.load
        match self.binding:
            case Binding.WEIGHTS:
                need = held.budget_bytes - held.pool_bytes
                return (
                    f"weights and reserve need {format_gib(need)} of the "
                    f"{format_gib(held.budget_bytes)} that an engine may fill on each GPU"
                )
            case Binding.HOST | Binding.GRAPHS:
                return (self.host.shortage if self.host else "") or why_not(self.serving) or ""
            case Binding.CONTEXT if not self.fits:
                limit = format_tokens(self.context_limit)
                return f"the model is published for {limit} tokens a request"
            case Binding.CONTEXT:
                return "the whole published context fits"
            case _ if self.fits:
                return f"the cache ends one request at {format_tokens(self.max_context)} tokens"
        per_request = format_gib(self.request_bytes(load.context))
        return (
            f"a request of {format_tokens(load.context)} tokens needs {per_request} a GPU, "
            f"{format_gib(self.pool_bytes)} are free: {self.max_concurrency} of "
            f"{load.batch} requests fit"
        )


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a fit.

    Attributes:
        model: The model as published.
        weights: ``--dtype`` as typed, ``native`` included.
        states: Formats of what requests keep.
        group: The GPUs.
        load: Requests and context.
        wanted: What was asked of the layout.
        profile: The engine.
        settings: How it is started.
        best_only: Arrangements that cannot be the best may be left out: those whose weights do not
            fit beside larger ones, unusual ones where a usual one fits.
        corrections: What local start-up logs say of the engine.
        beside: What is held beside the model.
    """

    model: Model
    weights: str
    states: StateFormats
    group: GpuGroup
    load: Load
    wanted: Wanted
    profile: Profile
    settings: Settings
    best_only: bool = False
    corrections: tuple[Correction, ...] = ()
    beside: Beside = MODEL_ALONE


@dataclass(frozen=True, slots=True)
class Refusal:
    """An arrangement that the model does not split into."""

    arrangement: Arrangement
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Deployments of a question, best first, and why other arrangements are refused."""

    question: Question
    deployments: tuple[Deployment, ...]
    refusals: tuple[Refusal, ...]

    @property
    def best(self) -> Deployment | None:
        """The best deployment; None where no arrangement is legal."""
        return self.deployments[0] if self.deployments else None

    @property
    def fits(self) -> bool:
        """Whether the best deployment fits."""
        return self.best is not None and self.best.fits


def answer(question: Question) -> Answer:
    """A deployment for each legal arrangement, best first, and the reasons against the others."""
    model = lowered(question.model, question.weights, question.states)
    group, profile, load = question.group, question.profile, question.load
    settings = question.settings.over(Settings(max_model_len=load.context))
    good: list[Deployment] = []
    refused: list[Refusal] = []
    served: dict[object, Serving] = {}
    wanted = question.beside
    try:
        server = Server(model, group.device, profile, settings, question.corrections, wanted)
    except LayoutError as error:
        if not question.best_only:
            raise
        return Answer(question, (), (Refusal(Arrangement(Layout(), 1), str(error)),))
    whole = weights_bytes(server.halves.on_gpu) if question.best_only else 0
    found = arrangements(server.halves.on_gpu, group, question.wanted, profile.engine)
    per_node = group.per_node
    for arrangement in sorted(found, key=lambda each: _first(each, per_node)):
        layout = arrangement.layout
        if question.best_only and good:
            if whole > layout.gpus * group.device.capacity_bytes:
                continue
            if not is_usual(layout, per_node) and any(each.fits for each in good):
                break
        try:
            if layout not in served:
                served[layout] = server.serve(layout)
            host = host_of(served[layout], arrangement.replicas, group, load, wanted)
        except LayoutError as error:
            refused.append(Refusal(arrangement, str(error)))
            continue
        good.append(Deployment(arrangement, served[layout], load, model.context_length, host))
    ordered = sorted(good, key=lambda each: _rank(each, per_node), reverse=True)
    return Answer(question, tuple(ordered), tuple(refused))


def _first(arrangement: Arrangement, per_node: int) -> tuple[bool, int]:
    """Usual arrangements before others, large copies before small ones."""
    return not is_usual(arrangement.layout, per_node), -arrangement.layout.gpus


def _rank(deployment: Deployment, per_node: int) -> tuple[bool, bool, int, int, int, int, int]:
    """Fits, is usual, then most requests, longest context, most memory, least stages and tp."""
    layout = deployment.arrangement.layout
    return (
        deployment.fits,
        is_usual(layout, per_node),
        deployment.max_concurrency,
        deployment.max_context,
        deployment.pool_bytes,
        -layout.pp,
        -layout.tp,
    )
