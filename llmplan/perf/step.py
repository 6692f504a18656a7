"""Time of one forward step of a model on its GPUs: the sum over the kernels of each stage."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.parallel.collectives import Phase, PlacedCollective, collectives
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import Rank, stage_ranks
from llmplan.perf.choice import KernelShelf
from llmplan.perf.exchanged import exchange_part
from llmplan.perf.kernels import Column
from llmplan.perf.merged import Launch, launches
from llmplan.perf.own_kernels import OwnKernels
from llmplan.perf.parts import Part, part_of


@dataclass(frozen=True)
class StepModel:
    """A model in one layout on one group of GPUs under one engine.

    Attributes:
        model: The whole model in the formats it is served in, its decoder only.
        layout: How one copy is split.
        group: The GPUs of one copy.
        engine: Whose kernels run: ``vllm``, ``sglang``, ``trtllm``; another word for any.
        skew: Spread of the popularity of experts, as in ``perf.routing``.
        own: Kernels that were measured on the device; None where it was not calibrated.
    """

    model: Model
    layout: Layout
    group: GpuGroup
    engine: str
    skew: float = 0.0
    own: OwnKernels | None = None

    @cached_property
    def shelf(self) -> KernelShelf:
        """Kernels of the device."""
        return KernelShelf(self.group.device, self.engine, self.skew, self.own)

    @cached_property
    def ranks(self) -> tuple[Rank, ...]:
        """The fullest rank of each stage."""
        return stage_ranks(self.model, self.layout)

    @cached_property
    def kernels(self) -> tuple[tuple[tuple[Launch, int], ...], ...]:
        """Kernels of each stage, each with how often a step runs it."""
        return tuple(_kernels(rank) for rank in self.ranks)

    @cached_property
    def exchanges(self) -> tuple[PlacedCollective, ...]:
        """Collectives of all stages."""
        return collectives(self.model, self.layout)

    def parts(self, step: Step, stage: int = 0) -> tuple[Part, ...]:
        """What a stage spends a step's time on; fields of the step of shape [rows, groups]."""
        timed = [
            replace(part_of(launch, step, self.shelf), count=count)
            for launch, count in self.kernels[stage]
        ]
        exchanged = [
            exchange_part(placed, self.model, step, self.group, self.shelf)
            for placed in self.exchanges
            if placed.stage == stage
        ]
        return (*timed, *exchanged)

    def seconds(self, step: Step, stage: int = 0) -> Column:
        """Kernels and collectives of a stage one after the other, shape [rows].

        What does not look at the context is timed once for each number of tokens: in a sweep over
        batch, context and chunk most points share theirs.
        """
        few, where = _distinct(step)
        total = np.zeros(np.shape(step.tokens))
        shared = np.zeros(np.shape(few.tokens))
        for launch, count in self.kernels[stage]:
            if launch.looks_at_context:
                total = total + count * part_of(launch, step, self.shelf).seconds
            else:
                shared = shared + count * part_of(launch, few, self.shelf).seconds
        for placed in self.exchanges:
            if placed.stage != stage:
                continue
            is_same = placed.exchange.phase is Phase.EVERY
            at = few if is_same else step
            part = exchange_part(placed, self.model, at, self.group, self.shelf)
            if is_same:
                shared = shared + part.count * part.seconds
            else:
                total = total + part.count * part.seconds
        result: Column = total + shared[where]
        return result


def _distinct(step: Step) -> tuple[Step, NDArray[np.int64]]:
    """A step with each pair of tokens and requests once, and where each row finds its own."""
    tokens, sequences = np.broadcast_arrays(step.tokens, step.sequences)
    pairs, where = np.unique((tokens + 1j * sequences).ravel(), return_inverse=True)
    requests = np.maximum(pairs.imag, np.finfo(np.float64).tiny)
    return Step.of(requests, pairs.real / requests, 0), where.reshape(tokens.shape)


def _kernels(rank: Rank) -> tuple[tuple[Launch, int], ...]:
    decoder = rank.model.decoder
    counted: Counter[Launch] = Counter()
    for launch in (*launches(decoder.before), *launches(decoder.after)):
        counted[launch] += 1
    for layer, repeats in decoder.distinct_layers:
        for launch in launches(layer.operators):
            counted[launch] += repeats
    return tuple(counted.items())
