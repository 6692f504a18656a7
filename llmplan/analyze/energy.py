"""What a deployment draws while it serves, and joules for an output token."""

from dataclasses import dataclass

import numpy as np

from llmplan.analyze.estimate import Estimate, step_model, work_of
from llmplan.analyze.flops import absorbed
from llmplan.analyze.ingredients import decode_steps, prompt_steps
from llmplan.analyze.ranges import Figure
from llmplan.hardware.device import Device
from llmplan.model.compiled import Model
from llmplan.ops.base import Step
from llmplan.perf.power import Busy, Draw, busy, gpu_draw
from llmplan.units import weakest


@dataclass(frozen=True, slots=True)
class Energy:
    """Of a deployment while it serves.

    Attributes:
        gpu_w: Of one GPU, the mean where prompts have workers of their own.
        token_j: Of all GPUs for one output token; without hosts, network and cooling.
    """

    gpu_w: Figure
    token_j: Figure


def energy(found: Estimate) -> Energy | None:
    """Draw and joules a token; None where the power of the device is not known.

    The GPU is as busy as its decode steps and its prompts make it, over time that includes what
    lies between kernels.
    """
    deployed = found.deployed
    if deployed.device.tdp_w is None or found.is_overloaded:
        return None
    decoding = _drawn(found, with_prompts=not deployed.prefill)
    pools = [(decoding, deployed.layout.gpus * deployed.workers)]
    if deployed.prefill:
        gpus = deployed.prefill.layout.gpus * deployed.prefill.workers
        pools.append((_drawn_by_prompts(found), gpus))
    low, value, high = (
        sum(float(getattr(draw, end)) * gpus for draw, gpus in pools)
        for end in ("low_w", "value_w", "high_w")
    )
    provenance = weakest(*(draw.provenance for draw, _ in pools))
    note, gpus, rate = pools[0][0].note, deployed.gpus, found.output_tokens_per_s
    each = Figure(low / gpus, value / gpus, high / gpus, provenance, note)
    whole = weakest(provenance, rate.provenance)
    token = Figure(low / rate.high, value / rate.value, high / rate.low, whole, "draw over rate")
    return Energy(each, token)


def _drawn(found: Estimate, *, with_prompts: bool) -> Draw:
    """Of a GPU of a worker that decodes."""
    deployed, work = found.deployed, work_of(found.deployed, found.traffic, found.drafts)
    model, layout = step_model(deployed), deployed.layout
    step = decode_steps(work, np.array([found.decoding / layout.dp]), layout.pp)
    prompts_per_s = found.requests_per_s / deployed.workers / layout.dp
    tokens_per_step = float(step.sequences[0]) * found.drafts.accepted
    steps_per_s = prompts_per_s * found.traffic.osl / tokens_per_step
    ranks = [rank.model.rewritten(absorbed) for rank in model.ranks]
    reached = [_reached(ranks, step, steps_per_s, deployed.device)]
    if with_prompts:
        ranks = [rank.model for rank in model.ranks]
        reached.append(_reached(ranks, prompt_steps(work, 1.0), prompts_per_s, deployed.device))
    return _draw_of(found, reached)


def _drawn_by_prompts(found: Estimate) -> Draw:
    """Of a GPU of a worker for prompts."""
    deployed, work = found.deployed, work_of(found.deployed, found.traffic, found.drafts)
    model = step_model(deployed, prefill=True)
    copies = model.layout.dp * (deployed.prefill.workers if deployed.prefill else 1)
    per_s = found.requests_per_s / copies
    ranks = [rank.model for rank in model.ranks]
    return _draw_of(found, [_reached(ranks, prompt_steps(work, 1.0), per_s, deployed.device)])


def _reached(ranks: list[Model], step: Step, per_s: float, device: Device) -> Busy:
    """Shares of the peaks that such steps take, mean over the stages; rows are done in turn."""
    shares = [busy(rank, step, 1.0, device) for rank in ranks]
    flops = float(np.mean([np.sum(share.flops_frac) for share in shares]))
    moved = float(np.mean([np.sum(share.bytes_frac) for share in shares]))
    return Busy(flops * per_s, moved * per_s)


def _draw_of(found: Estimate, reached: list[Busy]) -> Draw:
    flops = sum(float(each.flops_frac) for each in reached)
    moved = sum(float(each.bytes_frac) for each in reached)
    return gpu_draw(found.deployed.device, flops, moved)
