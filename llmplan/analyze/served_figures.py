"""What llmplan says of a measured serving run, and what a pure roofline would say.

The pure roofline is work over the peak rates of the device, nothing fitted: its time to the first
token is the bound of one prompt, its time between tokens the bound of a step with all requests in
flight, its throughput the bounds of all their prompts and steps, one after the other.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

import numpy as np

from llmplan.analyze.estimate import (
    Estimate,
    class_of,
    constants_of,
    demand_of,
    estimate,
    in_flight,
    step_model,
    work_of,
)
from llmplan.analyze.ingredients import Ingredients, ingredients
from llmplan.analyze.measured import Skipped
from llmplan.analyze.served_rows import Served
from llmplan.analyze.serving_rows import PREFILL_ONLY
from llmplan.analyze.steady import interpolated, prompt_s, step_s
from llmplan.analyze.traffic import Deployed, PrefillPool, Scenario, Traffic
from llmplan.errors import InputError
from llmplan.perf.overheads import ServingProfile, spread_of

DECODE_ONLY: Final = "decode_only"


@dataclass(frozen=True, slots=True)
class Told:
    """A figure with its range, and the pure roofline beside it."""

    low: float
    value: float
    high: float
    baseline: float


def figures_of(found: Served, profile: ServingProfile) -> dict[str, Told]:
    """What llmplan says of a row.

    Raises:
        Skipped: Nothing says how many requests there are.
        LlmplanError: It cannot be answered.
    """
    if found.row.scenario == PREFILL_ONLY:
        return _prompts_only(found, profile)
    try:
        in_flight(found.deployed, found.traffic)
    except InputError:
        raise Skipped("does not state how many requests are in flight") from None
    if found.row.scenario == DECODE_ONLY:
        return _decode_only(found, profile)
    return _whole(found, profile)


def _whole(found: Served, profile: ServingProfile) -> dict[str, Told]:
    """Prompts and outputs."""
    answer = estimate(found.deployed, found.traffic, profile=profile)
    base = _roofline(answer)
    figures = {
        "ttft": answer.ttft_s,
        "tpot": answer.tpot_s,
        "throughput": answer.output_tokens_per_s,
    }
    told = {name: Told(f.low, f.value, f.high, base[name]) for name, f in figures.items()}
    is_single = found.traffic.scenario is Scenario.SINGLE_STREAM
    if is_single and "ttft" not in found.row.measured:
        # benchmarks of single streams time the output alone and call that their rate
        told["throughput"] = _rate_of(told["tpot"], float(found.deployed.workers))
    return told


def _rate_of(times: Told, tokens: float) -> Told:
    """So many tokens in each of these times."""
    value, base = tokens / times.value, tokens / times.baseline
    return Told(tokens / times.high, value, tokens / times.low, base)


def _roofline(answer: Estimate) -> dict[str, float]:
    """Work over peak rates, with all requests decoding at once and prompts one after the other."""
    traffic, found = answer.traffic, answer.found
    running = _running(answer)
    step = float(interpolated(found.batch, found.decode_bound_s, np.array([running]))[0])
    prompts = 0.0 if answer.deployed.prefill else _prompt_bound_s(found) * running
    served_s = traffic.osl * step + prompts
    most = answer.deployed.workers * running * traffic.osl / served_s if served_s else inf
    arriving = inf if traffic.rate is None else traffic.rate * traffic.osl
    return {
        "ttft": float(_prefill(answer).prompt_bound_s[0]),
        "tpot": step,
        "throughput": min(most, arriving),
    }


def _running(answer: Estimate) -> float:
    """Requests that a worker runs at once; of those that arrive at a rate, those that decode."""
    if answer.traffic.rate is not None:
        return answer.decoding
    deployed = answer.deployed
    return min(in_flight(deployed, answer.traffic), float(deployed.slots or inf))


def _prompt_bound_s(found: Ingredients) -> float:
    """A prompt's share of a worker's time, at peak rates, groups and stages all busy."""
    return float(found.prompt_bound_s[0] / found.groups[0] / found.stages[0])


def _prefill(answer: Estimate) -> Ingredients:
    """Step times of a worker that works on prompts."""
    deployed = answer.deployed
    if deployed.prefill is None or deployed.prefill.layout == deployed.layout:
        return answer.found
    return ingredients(step_model(deployed, prefill=True), work_of(deployed, answer.traffic))


def _prompts_only(found: Served, profile: ServingProfile) -> dict[str, Told]:
    """Prompts without outputs: steps are full of them, as far as there are so many in flight."""
    traffic = found.traffic
    deployed = _apart(found.deployed) if found.row.disaggregated else found.deployed
    together = _together(deployed, traffic)
    work = work_of(deployed, traffic)
    full = min(work.step_tokens, max(together, 1.0) * work.prompt_tokens)
    times = ingredients(step_model(deployed), replace(work, step_tokens=full))
    known = class_of(deployed, traffic.scenario.value)
    constants = constants_of(profile, known)
    alone = float(prompt_s(times, constants)[0])
    share = float((constants.prompt_times * times.burst_s / times.groups)[0])
    spread = spread_of(profile, "ttft", known)
    bound = _prompt_bound_s(times)
    each = alone / float(times.groups[0]) if together <= 1 else max(share, bound)
    told = {"throughput": _rate_of(_ranged(each, spread.low, spread.high, bound),
                                   deployed.workers * traffic.isl)}  # fmt: skip
    if together <= 1:
        alone_bound = float(times.prompt_bound_s[0])
        told["ttft"] = _ranged(alone, spread.low, spread.high, alone_bound)
    return told


def _together(deployed: Deployed, traffic: Traffic) -> float:
    """Prompts in flight on one data-parallel group; no end where nothing says how many."""
    if traffic.concurrency is None:
        return inf
    return traffic.concurrency / deployed.workers / deployed.layout.dp


def _decode_only(found: Served, profile: ServingProfile) -> dict[str, Told]:
    """Outputs without prompts, at the concurrency of the pool."""
    deployed, traffic = _apart(found.deployed), found.traffic
    times = ingredients(step_model(deployed), work_of(deployed, traffic))
    known = class_of(deployed, traffic.scenario.value)
    demand = demand_of(deployed, traffic)
    running = np.minimum(demand.requests, demand.slots)
    step = float(step_s(times, constants_of(profile, known), running, demand)[0])
    bound = float(interpolated(times.batch, times.decode_bound_s, running)[0])
    spread = spread_of(profile, "tpot", known)
    tpot = _ranged(step, spread.low, spread.high, bound)
    return {"tpot": tpot, "throughput": _rate_of(tpot, deployed.workers * float(running[0]))}


def _apart(deployed: Deployed) -> Deployed:
    """A pool of a deployment whose prompts have workers of their own."""
    return replace(deployed, prefill=PrefillPool(layout=deployed.layout, workers=1))


def _ranged(value: float, low: float, high: float, baseline: float) -> Told:
    """A time with its range; the ends are shares of it, less one."""
    return Told(value * (1 + low), value, value * (1 + high), baseline)
