"""What a serving estimate is made of: step times of one worker, without any fitted constant.

All arrays have shape [rows] or [rows, grid], so that many deployments are solved at once.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from llmplan.dtypes import divide_up
from llmplan.ops.base import Array, StateKind, Step
from llmplan.ops.latent import LatentAttention
from llmplan.ops.moe import Experts
from llmplan.perf.step import StepModel

GRID: Final = 9
"""Batches at which decode is timed, in equal ratios from one request to the largest batch."""
FULL_STEP_TOKENS: Final = 8192
"""Tokens of a step that is full of prompts, where an engine states no other bound."""
BUSY_FRAC: Final = 0.8
"""Part of the requests that decode while another's prompt is worked on."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one worker is asked.

    Attributes:
        prompt_tokens: Tokens of a prompt that are computed (isl less what the cache holds).
        cached_tokens: Tokens of a prompt that the cache holds.
        output_tokens: Tokens that are made (osl).
        requests: Most requests that run at once on the worker.
        step_tokens: Most tokens of a step.
        new_tokens: Tokens of a request in a decode step: 1, or drafts and one more.
    """

    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    requests: float
    step_tokens: float = FULL_STEP_TOKENS
    new_tokens: float = 1.0


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Times of kernels and collectives, seconds, and what constants are counted by.

    Attributes:
        batch: Requests of the worker, [rows, grid], rising.
        decode_s: A decode step with so many, [rows, grid].
        decode_bound_s: The same at peak rates, [rows, grid].
        mixed_s: What a prompt adds to the decode steps that it joins, [rows].
        prompt_s: A prompt by itself, [rows].
        prompt_bound_s: The same at peak rates, [rows].
        burst_s: A prompt's share of steps that are full of prompts, [rows].
        groups: Data-parallel groups of the worker, [rows].
        layers: Decoder layers, [rows].
        expert_layers: Those with experts, [rows].
        latent_layers: Those with latent attention, [rows].
        recurrent_layers: Those with recurrent state, [rows].
        stages: Pipeline stages, [rows].
    """

    batch: Array
    decode_s: Array
    decode_bound_s: Array
    mixed_s: Array
    prompt_s: Array
    prompt_bound_s: Array
    burst_s: Array
    groups: Array
    layers: Array
    expert_layers: Array
    latent_layers: Array
    recurrent_layers: Array
    stages: Array

    @classmethod
    def stacked(cls, several: list["Ingredients"]) -> "Ingredients":
        """Many deployments as rows of one."""
        return cls(
            *(np.concatenate([getattr(one, part.name) for one in several]) for part in fields(cls))
        )

    def of(self, chosen: Array) -> "Ingredients":
        """Only the chosen rows."""
        return Ingredients(*(getattr(self, part.name)[chosen] for part in fields(self)))


def ingredients(model: StepModel, work: Work) -> Ingredients:
    """The times of a worker; requests are spread evenly over its data-parallel groups."""
    groups, stages = model.layout.dp, model.layout.pp
    most = max(work.requests / groups, 1.0)
    batch = np.geomspace(1.0, max(most, 1.0 + 1e-6), GRID)
    decode, decode_bound = _seconds(model, decode_steps(work, batch, stages))
    counted = _layers(model)
    prompt, prompt_bound = _seconds(model, prompt_steps(work, 1.0))
    rows = {name: np.array([float(count)]) for name, count in counted.items()}
    return Ingredients(
        batch=(batch * groups)[None, :],
        decode_s=decode[None, :],
        decode_bound_s=decode_bound[None, :],
        mixed_s=np.array([_mixed(model, work, most)]),
        prompt_s=np.array([prompt.sum()]),
        prompt_bound_s=np.array([prompt_bound.sum()]),
        burst_s=np.array([_burst(model, work)]),
        groups=np.array([float(groups)]),
        stages=np.array([float(stages)]),
        **rows,
    )


def _seconds(model: StepModel, step: Step) -> tuple[Array, Array]:
    """Seconds of all stages one after the other, and the same at peak rates, shape [rows]."""
    rows = np.zeros(np.shape(step.tokens))
    total, bound = rows, rows
    for stage in range(model.layout.pp):
        for part in model.parts(step, stage):
            total = total + part.count * part.seconds
            bound = bound + part.count * part.bound_s
    return total, bound


def decode_steps(work: Work, requests: Array, stages: int) -> Step:
    """Decode steps of a data-parallel group with so many requests, one row each.

    They are spread over the stages, and each holds half of its output on average.
    """
    held = work.prompt_tokens + work.cached_tokens + work.output_tokens / 2
    return Step.of(np.maximum(requests / stages, 1.0), work.new_tokens, held)


def prompt_steps(work: Work, requests: float, decoding: float = 0.0) -> Step:
    """The steps of a prompt, one row each, beside so many requests that decode."""
    count = divide_up(round(work.prompt_tokens), max(round(work.step_tokens), 1)) or 1
    size = work.prompt_tokens / count
    before = work.cached_tokens + size * np.arange(count)
    held = work.prompt_tokens + work.cached_tokens + work.output_tokens / 2
    ones = np.ones(count)
    return Step(
        np.stack([ones * requests, ones * decoding], axis=-1),
        np.stack([ones * size, ones * work.new_tokens], axis=-1),
        np.stack([before, ones * held], axis=-1),
    )


def _mixed(model: StepModel, work: Work, most: float) -> float:
    """What a prompt adds to steps in which most requests decode; stages work at once."""
    decoding = max(BUSY_FRAC * most / model.layout.pp, 1.0)
    mixed = prompt_steps(work, 1.0, decoding)
    alone = prompt_steps(work, 0.0, decoding)
    with_prompt, _ = _seconds(model, mixed)
    without, _ = _seconds(model, alone)
    return float((with_prompt - without).sum()) / model.layout.pp


def _burst(model: StepModel, work: Work) -> float:
    """A prompt's share of steps as full as the engine lets them be."""
    together = max(1.0, work.step_tokens / work.prompt_tokens)
    seconds, _ = _seconds(model, prompt_steps(work, together))
    return float(seconds.sum()) / together / model.layout.pp


def _layers(model: StepModel) -> dict[str, int]:
    counted = {"layers": 0, "expert_layers": 0, "latent_layers": 0, "recurrent_layers": 0}
    for layer, repeats in model.model.decoder.distinct_layers:
        kinds = {state.kind for operator in layer.operators for state in operator.states}
        counted["layers"] += repeats
        counted["expert_layers"] += repeats * any(isinstance(o, Experts) for o in layer.operators)
        counted["latent_layers"] += repeats * any(
            isinstance(o, LatentAttention) for o in layer.operators
        )
        counted["recurrent_layers"] += repeats * (StateKind.RECURRENT in kinds)
    return counted
