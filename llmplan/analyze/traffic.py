"""What is served, and by what: the two halves of a serving estimate."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from llmplan.analyze.ingredients import FULL_STEP_TOKENS
from llmplan.dtypes import divide_up
from llmplan.hardware.catalogue import default_node
from llmplan.hardware.device import Device, GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.base import StateKind
from llmplan.ops.latent import LatentAttention
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout
from llmplan.perf.own_kernels import OwnKernels

USUAL_NODE: Final = 8
"""GPUs of a node where the catalogue has none for the device."""


class Scenario(StrEnum):
    """How requests come."""

    CLOSED_LOOP = "closed_loop"
    """So many in flight, a new one as soon as one ends."""
    OPEN_LOOP = "open_loop"
    """At random, at a rate."""
    STATIC_BATCH = "static_batch"
    """All at once; the run ends with the last."""
    OFFLINE = "offline"
    """As many as the engine takes, always."""
    SINGLE_STREAM = "single_stream"
    """One after the other."""


class Generation(StrEnum):
    """Engines before and after they moved scheduling off the critical path, in spring 2025."""

    EARLY = "early"
    CURRENT = "current"


EARLY_UNTIL: Final = "2025-04"
"""Measurements before this month are of early engines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests of a whole deployment.

    Attributes:
        isl: Prompt tokens, the mean where lengths differ.
        osl: Output tokens, likewise.
        concurrency: Requests in flight; None where a rate or the engine decides.
        rate: Requests a second; None where concurrency decides.
        scenario: How they come.
        spread: Whether lengths differ between requests.
        prefix_frac: Part of a prompt that the cache holds already.
        step_tokens: Most tokens of a step: the engine's chunk of a prompt.
    """

    isl: float
    osl: float
    concurrency: float | None = None
    rate: float | None = None
    scenario: Scenario = Scenario.CLOSED_LOOP
    spread: bool = False
    prefix_frac: float = 0.0
    step_tokens: float = FULL_STEP_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """Speculative decoding: tokens that are proposed cheaply and checked together.

    Attributes:
        tokens: Drafts of a step; 0 for none.
        acceptance: Chance that a draft is right, if all before it were.
        model: Who drafts; None for the model's own MTP modules.
    """

    tokens: int = 0
    acceptance: float = 0.0
    model: Model | None = None

    @property
    def accepted(self) -> float:
        """Tokens that a step makes: 1 + a + a² + … + aᵏ.

        Source: Leviathan et al. 2023 (speculative decoding), eq. 1.
        """
        return float(sum(self.acceptance**i for i in range(self.tokens + 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillPool:
    """Workers that do prompts only.

    Attributes:
        layout: Of one of them.
        workers: How many.
    """

    layout: Layout
    workers: int


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """Copies of a model on GPUs under an engine.

    Attributes:
        model: In the formats it is served in, its decoder only.
        layout: Of one worker, of a decode worker where prompts have workers of their own.
        workers: How many.
        device: The GPU.
        engine: As in ``EngineName``, or another word for an engine without measurements.
        generation: Whether it is an early release.
        slots: Requests that one worker holds at once; None where nothing limits them.
        prefill: Workers for prompts; None where every worker does both.
        own: Kernels that were measured on the device; None where it was not calibrated.
    """

    model: Model
    layout: Layout
    workers: int
    device: Device
    engine: str
    generation: Generation = Generation.CURRENT
    slots: int | None = None
    prefill: PrefillPool | None = None
    own: OwnKernels | None = None

    @property
    def gpus(self) -> int:
        """GPUs of the whole deployment."""
        prompts = self.prefill.layout.gpus * self.prefill.workers if self.prefill else 0
        return self.layout.gpus * self.workers + prompts

    @property
    def kind(self) -> str:
        """What its model is made of, as ``perf.overheads.ServingClass`` calls it."""
        return model_kind(self.model)


def model_kind(model: Model) -> str:
    """latent, recurrent, experts or dense: the first that holds."""
    operators = [operator for operator, _ in model.decoder.counted]
    if any(isinstance(operator, LatentAttention) for operator in operators):
        return "latent"
    if any(s.kind is StateKind.RECURRENT for o in operators for s in o.states):
        return "recurrent"
    return "experts" if any(isinstance(o, Experts) for o in operators) else "dense"


def format_word(model: Model) -> str:
    """The format of most weights in one word: bf16, fp8, nvfp4, mxfp4, int4, int8."""
    sizes: dict[str, int] = {}
    for operator, repeats in model.decoder.counted:
        for weight in operator.weights:
            name = operator.precision.of(weight.role).name
            sizes[name] = sizes.get(name, 0) + weight.elements * repeats
    name = max(sizes, key=lambda each: sizes[each])
    for word in ("nvfp4", "mxfp4", "fp8", "int8", "int4"):
        if name.startswith(word):
            return word
    return "bf16" if name in ("bf16", "fp16", "fp32") else "int4"


def worker_group(device: Device, layout: Layout) -> GpuGroup:
    """The GPUs of one worker: within a node where it fits, else whole nodes."""
    node = default_node(device)
    per_node = node.devices if node else USUAL_NODE
    gpus = layout.gpus
    return GpuGroup(divide_up(gpus, per_node), min(gpus, per_node), device, node)
