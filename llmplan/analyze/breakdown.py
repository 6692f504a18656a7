"""Where the time of a step goes: an estimate taken apart, operator by operator.

The time of a decode step is that of its kernels and collectives, what lies between and around them
(host work), and what like deployments were measured to take beyond both:

    step = times x (kernels + host) + drafts, and no less than the same at peak rates

A prompt by itself is its kernels times one fitted factor. Both are shown for the fullest rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isclose
from typing import Final

import numpy as np

from llmplan.analyze import steady as serving_model
from llmplan.analyze.estimate import (
    Estimate,
    class_of,
    constants_of,
    demand_of,
    step_model,
    work_of,
)
from llmplan.analyze.ingredients import decode_steps, ingredients, prompt_steps
from llmplan.analyze.steady import Constants
from llmplan.hardware.device import Device, UnitRate
from llmplan.ops.base import Step
from llmplan.perf.overheads import ServingProfile, serving_profile
from llmplan.perf.parts import Part
from llmplan.perf.step import StepModel
from llmplan.units import Provenance

US: Final = 1e-6
LAUNCH_S: Final = 20e-6
"""A call that takes longer waits for more than its launch."""
NEGLIGIBLE_S: Final = 1e-9
LAUNCHED_FRAC: Final = 0.5
"""Share of its time that a kernel's bounds take at the least where its launch does not decide."""
SAME_RATE: Final = 1e-6
HOST: Final = "host"
LEFTOVER: Final = "measured factor of like deployments"
PROMPT_HOST: Final = "host work and what kernels leave, measured factor"
FACTORS: Final = (LEFTOVER, PROMPT_HOST)
"""Rows that only a measured factor explains."""


class Bound(StrEnum):
    """What decides the time of an operator."""

    COMPUTE = "compute"
    MEMORY = "memory"
    NETWORK = "network"
    LAUNCH = "launch"


@dataclass(frozen=True, slots=True)
class Row:
    """Calls of one operator in a step, or host work; times are those of all calls.

    Attributes:
        name: Its operators.
        kind: gemm, attention, experts, vector, collective …; ``host`` for what is no kernel.
        count: Calls.
        seconds: Their time.
        bound: What decides it.
        compute_s: Their arithmetic at the peak of its format.
        memory_s: Their weights and state at the memory bandwidth.
        network_s: Their messages at the rate of the link.
        flops: Matmuls, attention and convolutions.
        moved_bytes: Between memory and chip.
        provenance: Of the time.
        note: What stands for what, where it is assumed.
    """

    name: str
    kind: str
    count: int
    seconds: float
    bound: Bound
    compute_s: float = 0.0
    memory_s: float = 0.0
    network_s: float = 0.0
    flops: float = 0.0
    moved_bytes: float = 0.0
    provenance: Provenance = Provenance.FITTED
    note: str = ""

    @property
    def bound_s(self) -> float:
        """The largest of its three bounds."""
        return max(self.compute_s, self.memory_s, self.network_s)

    @property
    def efficiency_frac(self) -> float | None:
        """Its largest bound over its time; None where no bound is counted."""
        return self.bound_s / self.seconds if self.bound_s and self.seconds else None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A step, or a prompt, of one worker.

    Attributes:
        rows: Kernels, collectives and host work; their seconds add up to ``seconds``.
        requests: In the step, of the worker.
        tokens: New tokens, of the worker.
        context: Tokens in state of each request: at the end of a prompt, else in the mean.
        leftover_times: Factor that like deployments were measured to take.
        at_once: Stages that work at the same time.
        stages: Pipeline stages.
    """

    rows: tuple[Row, ...]
    requests: float
    tokens: float
    context: float
    leftover_times: float
    at_once: int = 1
    stages: int = 1

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return sum(row.seconds for row in self.rows)

    @property
    def roofline_s(self) -> float:
        """Each kernel at its bound, one after the other."""
        return sum(row.bound_s for row in self.rows)

    @property
    def host_s(self) -> float:
        """What is no kernel."""
        return sum(row.seconds for row in self.rows if row.kind == HOST)

    @property
    def mfu_frac(self) -> float:
        """Share of the peak arithmetic of the worker's GPUs that the step uses."""
        return self._used(sum(row.compute_s for row in self.rows))

    @property
    def mbu_frac(self) -> float:
        """Share of their memory bandwidth, weights and state alone."""
        return self._used(sum(row.memory_s for row in self.rows))

    def _used(self, at_peak_s: float) -> float:
        return at_peak_s / self.seconds * self.at_once / self.stages

    def bound_share(self) -> dict[Bound, float]:
        """Share of the time by what decides it; what only a measured factor explains is left out.

        Factors below 1 make that part negative.
        """
        known = [row for row in self.rows if row.name not in FACTORS]
        whole = sum(row.seconds for row in known)
        return {b: sum(r.seconds for r in known if r.bound is b) / whole for b in Bound}


def decode_breakdown(found: Estimate, profile: ServingProfile | None = None) -> Breakdown:
    """A decode step with as many requests as decode at once, without prompts."""
    deployed, constants = found.deployed, _constants(found, profile or serving_profile())
    model, groups = step_model(deployed), deployed.layout.dp
    work = work_of(deployed, found.traffic, found.drafts)
    requests = max(found.decoding, float(groups))
    step = decode_steps(work, np.array([requests / groups]), deployed.layout.pp)
    kernels = _kernels(model, step)
    rows = (*kernels, *_host(found, constants, found.decoding))
    times = float(constants.tpot_times[0])
    before = sum(row.seconds for row in rows)
    bound = sum(row.bound_s for row in rows)
    left = max(times * before, bound) - before
    drafting = float(demand_of(deployed, found.traffic, found.drafts).draft_s[0])
    rows += _host_row(LEFTOVER, 1, left)
    rows += _host_row(f"{found.drafts.tokens} drafts", found.drafts.tokens, drafting)
    pp = deployed.layout.pp
    context = float(np.ravel(step.context)[0])
    tokens = requests * work.new_tokens
    return Breakdown(rows, requests, tokens, context, times, at_once=pp, stages=pp)


def prompt_breakdown(found: Estimate, profile: ServingProfile | None = None) -> Breakdown:
    """A prompt that nothing stands before, in as many steps as it takes."""
    deployed, constants = found.deployed, _constants(found, profile or serving_profile())
    model = step_model(deployed, prefill=True)
    work = work_of(deployed, found.traffic, found.drafts)
    kernels = _kernels(model, prompt_steps(work, 1.0))
    before = sum(row.seconds for row in kernels)
    bound = sum(row.bound_s for row in kernels)
    times = float(constants.prompt_times[0])
    rows = (*kernels, *_host_row(PROMPT_HOST, 1, max(times * before, bound) - before))
    held = work.prompt_tokens + work.cached_tokens
    return Breakdown(rows, 1.0, work.prompt_tokens, held, times, stages=model.layout.pp)


def _constants(found: Estimate, profile: ServingProfile) -> Constants:
    return constants_of(profile, class_of(found.deployed, found.traffic.scenario.value))


def _kernels(model: StepModel, step: Step) -> tuple[Row, ...]:
    """Rows of all stages, the longest first; calls of one name are one row."""
    rows: dict[tuple[str, str], Row] = {}
    for stage in range(model.layout.pp):
        for part in model.parts(step, stage):
            row = _row(part)
            key = (row.name, row.kind)
            rows[key] = _added(rows[key], row) if key in rows else row
    found = (row for row in rows.values() if row.seconds)
    return tuple(sorted(found, key=lambda row: row.seconds, reverse=True))


def _row(part: Part) -> Row:
    calls = part.count * np.size(part.seconds)

    def total(column: object) -> float:
        return float(np.sum(np.broadcast_to(np.asarray(column), np.shape(part.seconds))))

    def summed(column: object) -> float:
        return part.count * total(column)

    return Row(
        part.name,
        part.kind,
        calls,
        summed(part.seconds),
        _bound_of(total(part.seconds) / max(np.size(part.seconds), 1), part),
        summed(part.compute_s),
        summed(part.memory_s),
        summed(part.network_s),
        summed(part.cost.model_flops),
        summed(part.cost.moved_bytes),
        part.provenance,
        part.reason,
    )


def _bound_of(call_s: float, part: Part) -> Bound:
    """The largest bound, or the launch of a short call that none of them explains."""
    terms = {
        Bound.COMPUTE: float(np.sum(part.compute_s)),
        Bound.MEMORY: float(np.sum(part.memory_s)),
        Bound.NETWORK: float(np.sum(part.network_s)),
    }
    largest = max(terms, key=lambda bound: terms[bound])
    if terms[largest] < LAUNCHED_FRAC * float(np.sum(part.seconds)) and call_s < LAUNCH_S:
        return Bound.LAUNCH
    # vector work moves activations, which bounds leave out since caches may hold them
    return largest if terms[largest] else Bound.MEMORY


def _added(one: Row, other: Row) -> Row:
    longer = max(one, other, key=lambda row: row.seconds)
    return replace(
        longer,
        count=one.count + other.count,
        seconds=one.seconds + other.seconds,
        compute_s=one.compute_s + other.compute_s,
        memory_s=one.memory_s + other.memory_s,
        network_s=one.network_s + other.network_s,
        flops=one.flops + other.flops,
        moved_bytes=one.moved_bytes + other.moved_bytes,
    )


def _host(found: Estimate, c: Constants, decoding: float) -> tuple[Row, ...]:
    """Terms of ``steady.host_s``, each a row."""
    layers = found.found
    between = (
        c.layer_us * layers.layers
        + c.experts_us * layers.expert_layers
        + c.latent_us * layers.latent_layers
        + c.recurrent_us * layers.recurrent_layers
    )
    return (
        *_host_row("between kernels", int(layers.layers[0]), float(between[0]) * US),
        *_host_row("host work of a step", 1, float(c.step_us[0]) * US),
        *_host_row(
            "host work of its requests",
            max(round(decoding), 1),
            float((c.sequence_us * decoding / layers.groups)[0]) * US,
        ),
    )


def _host_row(name: str, count: int, seconds: float) -> tuple[Row, ...]:
    note = "fitted to measured deployments"
    is_something = abs(seconds) > NEGLIGIBLE_S
    return (Row(name, HOST, count, seconds, Bound.LAUNCH, note=note),) if is_something else ()


def peaks_used(rows: tuple[Row, ...], device: Device) -> tuple[UnitRate, ...]:
    """Dense peaks that the rows' arithmetic is set against; formats of one rate share an entry."""
    used = [row.flops / row.compute_s for row in rows if row.compute_s]
    units: dict[float, list[str]] = {}
    for peak in device.peaks:
        if any(isclose(peak.flops_per_s, rate, rel_tol=SAME_RATE) for rate in used):
            units.setdefault(peak.flops_per_s, []).append(peak.unit)
    return tuple(UnitRate("/".join(names), rate) for rate, names in units.items())


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the time to the first token."""

    name: str
    seconds: float


def first_token_terms(found: Estimate, profile: ServingProfile | None = None) -> tuple[Term, ...]:
    """What the time to the first token is made of; nothing where the queue has no end."""
    if found.is_overloaded:
        return ()
    return tuple(term for term in _first_token_terms(found, profile) if term.seconds)


def _first_token_terms(found: Estimate, profile: ServingProfile | None) -> Iterator[Term]:
    c = _constants(found, profile or serving_profile())
    deployed = found.deployed
    prompts = found.found
    if deployed.prefill:
        work = work_of(deployed, found.traffic, found.drafts)
        prompts = ingredients(step_model(deployed, prefill=True), work)
    own = float(serving_model.prompt_s(prompts, c)[0])
    host = float(c.first_token_us[0]) * US
    running = 0.0 if deployed.prefill else float((c.waited_steps * found.steady.step_s)[0])
    rest = found.ttft_s.value - own - host - running
    yield Term("its prompt, alone", own)
    yield Term("arrival to first step, last step to client", host)
    yield Term("the running step", running)
    yield Term("other prompts, a place, and the measured factor", rest)
