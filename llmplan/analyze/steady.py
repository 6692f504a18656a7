"""From step times to what a client sees: the serving model, one function a scenario.

A worker runs steps. Each request takes part in as many decode steps as it has tokens, and its
prompt joins some of them. With B of N requests decoding, a step without prompts takes t(B), and in
the time of one request's output the others start, each adding p:

    TPOT = t(B) + p·(B / osl)·(1 - 1/N)
    B = N·(1 - share of its life that a request waits for its first token)

Equations are in docs/math/serving.md. Arrays have shape [rows].
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from llmplan.analyze.ingredients import Ingredients
from llmplan.ops.base import Array

ROUNDS: Final = 24
"""Of the fixed point, each halving the distance."""
US: Final = 1e-6
LEAST_DECODING: Final = 0.02
"""Part of the requests that decode at least, however long first tokens take."""
MOST_BUSY: Final = 0.98
"""Share of its time that a pool works, at most: queues beyond it have no steady state."""


@dataclass(frozen=True, slots=True)
class Constants:
    """Fitted constants as arrays of shape [rows]; names as in ``perf.overheads.Overheads``.

    Attributes:
        tpot_times: Factor of the class on decode.
        ttft_times: Factor of the class on the time to the first token.
    """

    layer_us: Array
    experts_us: Array
    latent_us: Array
    recurrent_us: Array
    step_us: Array
    sequence_us: Array
    prompt_times: Array
    first_token_us: Array
    waited_steps: Array
    burst_frac: Array
    spread_burst_frac: Array
    tpot_times: Array
    ttft_times: Array


@dataclass(frozen=True, slots=True)
class Demand:
    """What a worker serves, each of shape [rows].

    Attributes:
        requests: In flight: running, and waiting for a place.
        slots: Most that run at once: memory and the engine's limit.
        output_tokens: Of a request.
        spread: Whether lengths differ between requests, 1 or 0.
        accepted: Tokens of a request that a decode step makes: 1, or more with drafts.
        draft_s: Time of the drafts of a step.
    """

    requests: Array
    slots: Array
    output_tokens: Array
    spread: Array
    accepted: Array
    draft_s: Array


@dataclass(frozen=True, slots=True)
class Steady:
    """What comes out, each of shape [rows].

    Attributes:
        ttft_s: Time to the first token.
        tpot_s: Time between further tokens of a request.
        decoding: Requests that decode at once (B).
        step_s: A decode step without prompts.
        host_s: The part of it that is not kernels.
        prompt_s: A prompt by itself, host work included.
        requests_per_s: Of the worker.
    """

    ttft_s: Array
    tpot_s: Array
    decoding: Array
    step_s: Array
    host_s: Array
    prompt_s: Array
    requests_per_s: Array


@dataclass(frozen=True, slots=True)
class Pools:
    """Workers of a disaggregated deployment, each of shape [rows].

    Attributes:
        prefill_workers: How many work on prompts.
        decode_workers: How many decode.
        transfer_s: Sending a prompt's cache from one to the other.
    """

    prefill_workers: Array
    decode_workers: Array
    transfer_s: Array


def interpolated(batch: Array, seconds: Array, at: Array) -> Array:
    """Between points of a rising grid, [rows, grid] and [rows] to [rows]; beyond it the last."""
    grid = batch.shape[-1]
    inside = np.clip(at, batch[:, 0], batch[:, -1])
    left = np.clip((batch <= inside[:, None]).sum(axis=-1) - 1, 0, grid - 2)
    rows = np.arange(len(at))
    low, high = batch[rows, left], batch[rows, left + 1]
    share = (inside - low) / np.maximum(high - low, 1e-12)
    result: Array = seconds[rows, left] * (1 - share) + seconds[rows, left + 1] * share
    return result


def host_s(found: Ingredients, c: Constants, decoding: Array) -> Array:
    """What a decode step takes beside its kernels.

    Data-parallel groups run side by side, each with its own requests.
    """
    layers = (
        c.layer_us * found.layers
        + c.experts_us * found.expert_layers
        + c.latent_us * found.latent_layers
        + c.recurrent_us * found.recurrent_layers
    )
    result: Array = (layers + c.step_us + c.sequence_us * decoding / found.groups) * US
    return result


def step_s(found: Ingredients, c: Constants, decoding: Array, demand: Demand) -> Array:
    """A decode step with so many requests."""
    kernels = interpolated(found.batch, found.decode_s, decoding)
    host = host_s(found, c, decoding)
    bound = interpolated(found.batch, found.decode_bound_s, decoding)
    result: Array = np.maximum(c.tpot_times * (kernels + host), bound) + demand.draft_s
    return result


def prompt_s(found: Ingredients, c: Constants) -> Array:
    """A prompt that nothing stands before."""
    result: Array = np.maximum(c.prompt_times * found.prompt_s, found.prompt_bound_s)
    return result


def _steady(
    found: Ingredients, c: Constants, demand: Demand, decoding: Array, ttft: Array
) -> Steady:
    step = step_s(found, c, decoding, demand)
    steps = demand.output_tokens / demand.accepted
    running = np.minimum(demand.requests, demand.slots) / found.groups
    others = decoding / found.groups * np.maximum(1 - 1 / running, 0)
    added = c.tpot_times * c.prompt_times * found.mixed_s * others
    between = (step + added / steps) / demand.accepted
    # a single token without a first one yet, where the fixed point begins, has no life
    life = np.maximum(ttft + np.maximum(demand.output_tokens - 1, 0) * between, US)
    return Steady(
        ttft_s=ttft,
        tpot_s=between,
        decoding=decoding,
        step_s=step,
        host_s=host_s(found, c, decoding),
        prompt_s=prompt_s(found, c),
        requests_per_s=np.minimum(demand.requests, demand.slots) / life,
    )


def _first_token(
    found: Ingredients, c: Constants, step: Array, running: Array, spread: Array
) -> Array:
    """Of a request that finds a place: host, the running step, prompts before it, its own."""
    before = np.where(spread > 0, c.spread_burst_frac, c.burst_frac)
    waiting = before * np.maximum(running / found.groups - 1, 0) / 2
    own = prompt_s(found, c) + c.first_token_us * US + c.waited_steps * step
    result: Array = c.ttft_times * (own + waiting * c.prompt_times * found.burst_s)
    return np.maximum(result, found.prompt_bound_s)


def closed_loop(found: Ingredients, c: Constants, demand: Demand) -> Steady:
    """So many requests always in flight; those beyond the slots wait for a place."""
    running = np.minimum(demand.requests, demand.slots)
    decoding = running.copy()
    steady = _steady(found, c, demand, decoding, np.zeros_like(decoding))
    for _ in range(ROUNDS):
        ttft = _first_token(found, c, steady.step_s, running, demand.spread)
        steady = _steady(found, c, demand, decoding, ttft)
        life = ttft + demand.output_tokens * steady.tpot_s
        decoding = (decoding + running * np.maximum(1 - ttft / life, LEAST_DECODING)) / 2
    life = steady.ttft_s + demand.output_tokens * steady.tpot_s
    queued = np.maximum(demand.requests / running - 1, 0) * life
    return Steady(
        steady.ttft_s + queued,
        steady.tpot_s,
        steady.decoding,
        steady.step_s,
        steady.host_s,
        steady.prompt_s,
        running / life,
    )


def static_batch(found: Ingredients, c: Constants, demand: Demand) -> Steady:
    """All requests start together: all prompts first, then all outputs; in turns beyond the slots.

    ``requests_per_s`` is over the whole run.
    """
    running = np.minimum(demand.requests, demand.slots)
    step = step_s(found, c, running, demand)
    prompts = running / found.groups * c.prompt_times * found.burst_s
    ttft = c.ttft_times * (prompts + c.first_token_us * US)
    between = step / demand.accepted
    life = ttft + np.maximum(demand.output_tokens - 1, 0) * between
    return Steady(
        ttft,
        between,
        running,
        step,
        host_s(found, c, running),
        prompt_s(found, c),
        running / life,
    )


def offline(found: Ingredients, c: Constants, demand: Demand) -> Steady:
    """As many requests as there are slots, always; prompts fill whole steps.

    The time to the first token says nothing here: it is that of a request that starts at once.
    """
    running = demand.slots
    step = step_s(found, c, running, demand)
    steps = demand.output_tokens / demand.accepted
    added = c.tpot_times * c.prompt_times * found.burst_s * running / found.groups
    between = (step + added / steps) / demand.accepted
    ttft = _first_token(found, c, step, np.ones_like(running), demand.spread)
    return Steady(
        ttft,
        between,
        running,
        step,
        host_s(found, c, running),
        prompt_s(found, c),
        running / (demand.output_tokens * between),
    )


def open_loop(found: Ingredients, c: Constants, demand: Demand, rate: Array) -> Steady:
    """Requests arrive at random at a rate that does not depend on how fast they are served.

    The work of prompts is a queue with one server (M/D/1). Where decode or prompts cannot keep up
    the queue has no end: times are infinite and ``requests_per_s`` is the most that is served.
    """
    steps = demand.output_tokens / demand.accepted
    p = c.tpot_times * c.prompt_times * found.mixed_s / found.groups
    free = np.maximum(1 - rate * p, 1e-9)
    decoding = np.full_like(rate, 1.0)
    for _ in range(4 * ROUNDS):
        wanted = rate * steps * step_s(found, c, decoding, demand) / free
        decoding = (decoding + np.minimum(wanted, demand.slots)) / 2
    step = step_s(found, c, decoding, demand)
    needed = rate * steps * step / free
    overloaded = (rate * p >= 1) | (needed > demand.slots * (1 + 1e-6))
    busy = np.minimum(rate * p, 1 - 1e-9)
    queue = busy * p / (2 * (1 - busy))
    alone = np.ones_like(rate)
    ttft = _first_token(found, c, step, alone, demand.spread) + c.ttft_times * queue
    steady = _steady(found, c, demand, decoding, ttft)
    most = offline(found, c, demand).requests_per_s
    return Steady(
        np.where(overloaded, np.inf, ttft),
        steady.tpot_s,
        decoding,
        step,
        steady.host_s,
        steady.prompt_s,
        np.where(overloaded, most, rate),
    )


def disaggregated(
    prefill: Ingredients,
    decode: Ingredients,
    c: Constants,
    demand: Demand,
    pools: Pools,
) -> Steady:
    """Prompts on workers of their own, whose caches are then sent to workers that decode.

    ``demand`` is of one decode worker. Prefill workers work on one full step after another.
    """
    p = c.prompt_times * prefill.burst_s / prefill.groups
    own = prompt_s(prefill, c) + c.first_token_us * US + pools.transfer_s
    before = np.where(demand.spread > 0, c.spread_burst_frac, c.burst_frac)
    in_flight = demand.requests * pools.decode_workers / pools.prefill_workers
    decoding, ttft = np.minimum(demand.requests, demand.slots), own
    for _ in range(ROUNDS):
        between = step_s(decode, c, decoding, demand) / demand.accepted
        life = ttft + demand.output_tokens * between
        busy = np.minimum(in_flight / life * p, MOST_BUSY)
        waiting = before * np.maximum(in_flight - 1, 0) / 2 * p * busy
        queue = np.maximum(waiting, busy * p / (2 * (1 - busy)))
        ttft = (ttft + c.ttft_times * (own + queue)) / 2
        running = np.minimum(demand.requests * (1 - ttft / life), demand.slots)
        decoding = (decoding + np.maximum(running, LEAST_DECODING * demand.requests)) / 2
    step = step_s(decode, c, decoding, demand)
    between = step / demand.accepted
    return Steady(
        ttft,
        between,
        decoding,
        step,
        host_s(decode, c, decoding),
        prompt_s(prefill, c),
        decoding / (demand.output_tokens * between),
    )
