"""How fast a deployment serves its traffic, with the range to expect and what it follows from."""

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np

from llmplan.analyze import steady as serving_model
from llmplan.analyze.ingredients import Ingredients, Work, ingredients
from llmplan.analyze.ranges import Figure, as_it_comes, figure_of, of_request, rate_within
from llmplan.analyze.steady import Constants, Demand, Pools, Steady
from llmplan.analyze.traffic import (
    Deployed,
    Drafts,
    Scenario,
    Traffic,
    format_word,
    worker_group,
)
from llmplan.errors import InputError
from llmplan.model.compiled import Part
from llmplan.ops.base import Array
from llmplan.perf.exchanged import network_rate
from llmplan.perf.overheads import (
    ServingClass,
    ServingProfile,
    leftover_times,
    overheads_of,
    serving_profile,
    spread_of,
)
from llmplan.perf.step import StepModel

MOST_OFFLINE: Final = 2048
"""Requests that engines run at once where memory would hold more."""
UNLIMITED: Final = 1e9
BY_RUN: Final = (Scenario.OFFLINE, Scenario.STATIC_BATCH)
"""Scenarios that are measured by the throughput of a whole run."""
NO_DRAFTS: Final = Drafts()
SENT_FRAC: Final = 0.7
"""Of a link's rate, for caches that are sent between pools."""


@dataclass(frozen=True)
class Estimate:
    """What clients see, and what a step is made of.

    Attributes:
        deployed: What serves.
        traffic: What is served.
        drafts: Speculative decoding.
        steady: Of one worker, arrays of one row.
        found: Step times behind it.
        ttft_s: Time to the first token.
        tpot_s: Time between further tokens.
        e2e_s: Whole request.
        output_tokens_per_s: Of the deployment.
        requests_per_s: Of the deployment.
        is_overloaded: The rate is more than can be served.
        decoding: Requests that decode at once on a worker.
        waiting: Requests beyond the slots of a worker.
    """

    deployed: Deployed
    traffic: Traffic
    drafts: Drafts
    steady: Steady
    found: Ingredients
    ttft_s: Figure
    tpot_s: Figure
    e2e_s: Figure
    output_tokens_per_s: Figure
    requests_per_s: float
    is_overloaded: bool
    decoding: float
    waiting: float


def step_model(
    deployed: Deployed, skew: float | None = None, *, prefill: bool = False
) -> StepModel:
    """Kernels of one worker; experts are as uneven as the profile says unless ``skew`` does."""
    layout = deployed.prefill.layout if prefill and deployed.prefill else deployed.layout
    group = worker_group(deployed.device, layout)
    uneven = serving_profile().skew if skew is None else skew
    return StepModel(deployed.model, layout, group, deployed.engine, uneven, deployed.own)


def in_flight(deployed: Deployed, traffic: Traffic) -> float:
    """Requests on one worker, those that wait included.

    Raises:
        InputError: Neither concurrency, rate nor a limit says how many.
    """
    if traffic.scenario is Scenario.SINGLE_STREAM:
        return 1.0
    if traffic.concurrency is not None:
        return traffic.concurrency / deployed.workers
    slots = float(deployed.slots or MOST_OFFLINE)
    if traffic.scenario in (Scenario.OFFLINE, Scenario.OPEN_LOOP):
        return min(slots, MOST_OFFLINE)
    raise InputError("say how many requests are in flight: --concurrency, or --rate.")


def work_of(deployed: Deployed, traffic: Traffic, drafts: Drafts = NO_DRAFTS) -> Work:
    """What one worker is asked."""
    cached = traffic.isl * traffic.prefix_frac
    running = min(in_flight(deployed, traffic), float(deployed.slots or UNLIMITED))
    return Work(
        prompt_tokens=max(traffic.isl - cached, 1.0),
        cached_tokens=cached,
        output_tokens=traffic.osl,
        requests=max(running, 1.0),
        step_tokens=traffic.step_tokens,
        new_tokens=drafts.tokens + 1.0,
    )


def demand_of(deployed: Deployed, traffic: Traffic, drafts: Drafts = NO_DRAFTS) -> Demand:
    """What the serving model needs to know of it, one row."""

    def row(value: float) -> Array:
        return np.array([float(value)])

    slots = float(deployed.slots or UNLIMITED)
    if traffic.scenario is Scenario.OFFLINE:
        slots = min(slots, MOST_OFFLINE, in_flight(deployed, traffic))
    return Demand(
        requests=row(max(in_flight(deployed, traffic), 1e-9)),
        slots=row(max(slots, 1.0)),
        output_tokens=row(max(traffic.osl, 1.0)),
        spread=row(traffic.spread),
        accepted=row(drafts.accepted),
        draft_s=row(_draft_s(deployed, traffic, drafts)),
    )


def _draft_s(deployed: Deployed, traffic: Traffic, drafts: Drafts) -> float:
    """Drafting all tokens of a step, one after the other.

    A draft model stands on the GPUs of the worker, split alike.
    """
    if not drafts.tokens:
        return 0.0
    work = replace(work_of(deployed, traffic), new_tokens=1.0)
    if drafts.model:
        drafting = StepModel(
            drafts.model,
            deployed.layout,
            worker_group(deployed.device, deployed.layout),
            deployed.engine,
            own=deployed.own,
        )
        found = ingredients(drafting, work)
        return drafts.tokens * float(found.decode_s[0, -1])
    whole = deployed.model
    modules = sum(len(part.layers) for part in whole.parts(Part.MTP))
    layers = len(whole.decoder.layers)
    found = ingredients(step_model(deployed), work)
    return drafts.tokens * float(found.decode_s[0, -1]) * max(modules, 1) / layers


def transfer_s(deployed: Deployed, traffic: Traffic) -> float:
    """Sending a prompt's cache from the worker that filled it; every rank sends its part."""
    if not deployed.prefill:
        return 0.0
    held = round(traffic.isl)
    sent = sum(
        state.bytes_at(held) * repeats
        for operator, repeats in deployed.model.decoder.counted
        for state in operator.states
    )
    group = worker_group(deployed.device, deployed.layout)
    link = deployed.device.link
    beyond = link is not None and link.domain_size > group.per_node
    rate = network_rate(group)
    if beyond and link and link.unidirectional_bytes_per_s:
        rate = link.unidirectional_bytes_per_s
    return sent / (rate * SENT_FRAC * deployed.layout.tp)


def class_of(deployed: Deployed, scenario: str) -> ServingClass:
    """What measurements its range is taken from."""
    return ServingClass(
        engine=deployed.engine,
        generation=deployed.generation.value,
        device=deployed.device.slug,
        kind=deployed.kind,
        format=format_word(deployed.model),
        scenario="disaggregated" if deployed.prefill else scenario,
        model=deployed.model.identity.name,
    )


def constants_of(profile: ServingProfile, found: ServingClass) -> Constants:
    """Fitted constants, one row."""
    taken = overheads_of(profile, found.engine, found.generation)
    names = {each.name for each in fields(Constants)} - {"tpot_times", "ttft_times"}
    rows = {name: np.array([getattr(taken, name)]) for name in names}
    return Constants(
        **rows,
        tpot_times=np.array([leftover_times(profile, "tpot", found)]),
        ttft_times=np.array([leftover_times(profile, "ttft", found)]),
    )


@dataclass(frozen=True, slots=True)
class Problem:
    """What the serving model solves; all rows are of one scenario.

    Attributes:
        scenario: How requests come.
        found: Step times.
        demand: What is asked.
        rate: Requests a second and worker, shape [rows], of an open loop.
        prefill: Step times and counts of workers for prompts; None where all do both.
    """

    scenario: Scenario
    found: Ingredients
    demand: Demand
    rate: Array | None = None
    prefill: tuple[Ingredients, Pools] | None = None


def solved(problem: Problem, constants: Constants) -> Steady:
    """The serving model of the scenario."""
    found, demand = problem.found, problem.demand
    if problem.prefill:
        prompts, pools = problem.prefill
        return serving_model.disaggregated(prompts, found, constants, demand, pools)
    match problem.scenario:
        case Scenario.STATIC_BATCH:
            return serving_model.static_batch(found, constants, demand)
        case Scenario.OFFLINE:
            return serving_model.offline(found, constants, demand)
        case Scenario.OPEN_LOOP if problem.rate is not None:
            return serving_model.open_loop(found, constants, demand, problem.rate)
        case _:
            return serving_model.closed_loop(found, constants, demand)


def pools_of(deployed: Deployed, traffic: Traffic) -> Pools:
    """Workers of a disaggregated deployment, one row."""
    workers = deployed.prefill.workers if deployed.prefill else 1
    return Pools(
        np.array([float(workers)]),
        np.array([float(deployed.workers)]),
        np.array([transfer_s(deployed, traffic)]),
    )


def estimate(
    deployed: Deployed,
    traffic: Traffic,
    drafts: Drafts = NO_DRAFTS,
    profile: ServingProfile | None = None,
) -> Estimate:
    """How fast it is.

    Raises:
        InputError: Nothing says how many requests there are.
    """
    fitted = profile or serving_profile()
    problem = problem_of(deployed, traffic, drafts, fitted.skew)
    known = class_of(deployed, traffic.scenario.value)
    constants = constants_of(fitted, known)
    steady = solved(problem, constants)
    first = figure_of(float(steady.ttft_s[0]), spread_of(fitted, "ttft", known))
    between = figure_of(float(steady.tpot_s[0]), spread_of(fitted, "tpot", known))
    whole = of_request(first, between, max(traffic.osl - 1, 0.0))
    requests = float(steady.requests_per_s[0]) * deployed.workers
    tokens = requests * traffic.osl
    is_overloaded = not np.isfinite(first.value)
    if traffic.scenario in BY_RUN or is_overloaded:
        rate = figure_of(tokens, spread_of(fitted, "throughput", known))
    else:
        rate = rate_within(tokens, between if deployed.prefill else whole)
    if traffic.rate is not None and not is_overloaded:
        most = serving_model.offline(problem.found, constants, problem.demand).requests_per_s
        served = float(most[0]) * deployed.workers * traffic.osl
        capacity = figure_of(served, spread_of(fitted, "throughput", known))
        rate = as_it_comes(traffic.rate * traffic.osl, capacity)
    beyond = max(in_flight(deployed, traffic) - float(deployed.slots or UNLIMITED), 0.0)
    return Estimate(
        deployed=deployed,
        traffic=traffic,
        drafts=drafts,
        steady=steady,
        found=problem.found,
        ttft_s=first,
        tpot_s=between,
        e2e_s=whole,
        output_tokens_per_s=rate,
        requests_per_s=requests,
        is_overloaded=is_overloaded,
        decoding=float(steady.decoding[0]),
        waiting=0.0 if traffic.scenario is Scenario.OPEN_LOOP else beyond,
    )


def problem_of(deployed: Deployed, traffic: Traffic, drafts: Drafts, skew: float) -> Problem:
    """Step times of a deployment, and what is asked of it, one row."""
    work = work_of(deployed, traffic, drafts)
    prefill = None
    if deployed.prefill:
        prompts = ingredients(step_model(deployed, skew, prefill=True), work)
        prefill = (prompts, pools_of(deployed, traffic))
    return Problem(
        traffic.scenario,
        ingredients(step_model(deployed, skew), work),
        demand_of(deployed, traffic, drafts),
        None if traffic.rate is None else np.array([traffic.rate / deployed.workers]),
        prefill,
    )
