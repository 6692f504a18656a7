"""What a reader of times and rates should know."""

from collections.abc import Iterator
from typing import Final

from llmplan.analyze.estimate import Estimate
from llmplan.analyze.traffic import Generation, Scenario, worker_group
from llmplan.dtypes import BF16
from llmplan.engines.settings import EngineName
from llmplan.hardware.device import GpuGroup
from llmplan.perf.exchanged import network_rate
from llmplan.results.gpus_said import gpu_warnings
from llmplan.results.memory import MemoryQuestion
from llmplan.results.what_serves import Serves
from llmplan.units import format_digits, format_seconds

GBIT_PER_BYTE: Final = 8e-9


def time_warnings(
    asked: MemoryQuestion, serves: Serves, found: Estimate, limits: dict[str, float]
) -> tuple[str, ...]:
    """All of it, what decides the answer first."""
    return (
        *_refusals(found, limits),
        *_waiting(serves, found),
        *_deployment(asked, serves),
        *_meaning(asked, serves, found),
        *_network(serves, found),
        *gpu_warnings(serves.group),
        *serves.profile.remarks,
    )


def _refusals(found: Estimate, limits: dict[str, float]) -> Iterator[str]:
    if found.is_overloaded:
        yield (
            f"{found.traffic.rate:,.10g} requests a second are more than it can serve: at most "
            f"{format_digits(found.requests_per_s)}. Lower --rate, or add GPUs."
        )
        return
    told = {"ttft_s": found.ttft_s, "tpot_s": found.tpot_s}
    for key, limit in limits.items():
        figure, name = told[key], key.removesuffix("_s").upper()
        if figure.value <= limit:
            continue
        ends = "even the low end of the range" if figure.low > limit else "though not the low end"
        yield (
            f"{name} misses {format_seconds(limit)}: {format_seconds(figure.value)} expected, "
            f"{ends} ({format_seconds(figure.low)})."
        )


def _waiting(serves: Serves, found: Estimate) -> Iterator[str]:
    slots = serves.slots * serves.workers
    limited = "the engine's limit" if serves.slots < serves.held else "memory"
    if serves.profile.engine is EngineName.LLAMACPP:
        limited = "the server's slots (--max-num-seqs)"
    if found.waiting > 0:
        asked = f"{found.traffic.concurrency:,.0f}"
        yield (
            f"{limited}: {slots:,} of {asked} requests run at once; the others wait, which is "
            "in the time to the first token."
        )
    if found.traffic.scenario is Scenario.OFFLINE:
        yield "offline: the time to the first token is that of a request that starts at once."


def _deployment(asked: MemoryQuestion, serves: Serves) -> Iterator[str]:
    if not asked.layout.is_given and serves.group.count > 1:
        yield (
            f"layout {serves.layout} is the one that holds most requests; --tp, --pp, --dp and "
            "--ep choose another."
        )
    if idle := sum(each.arrangement.idle for each in serves.pools):
        used = serves.group.count - idle
        yield (
            f"{idle} of {serves.group.count} GPUs stay idle in this layout: figures for each GPU "
            f"are of the {used} that work."
        )
    if serves.kept and asked.formats.kv_dtype is None and serves.states.kv.bits < BF16.bits:
        yield f"{serves.profile.title} keeps {serves.kept} ({serves.states.kv.name})."
    if serves.profile.engine is EngineName.GENERIC:
        yield (
            "no engine was named: host work is that of engines without measurements of their own. "
            "--engine vllm, sglang or trtllm names one."
        )
    if serves.deployed.generation is Generation.EARLY:
        yield f"{serves.profile.title} of that version counts as an early engine."
    if serves.settings.enforce_eager:
        yield "steps without captured graphs take longer than this says."


def _meaning(asked: MemoryQuestion, serves: Serves, found: Estimate) -> Iterator[str]:
    """Where figures say less than they seem to."""
    if not found.drafts.tokens and (asked.mtp or serves.draft):
        yield (
            f"{'MTP modules are' if asked.mtp else 'the draft model is'} held but draft"
            f"{'' if asked.mtp else 's'} nothing: --speculative-tokens says how many a step."
        )
    if serves.deployed.workers > (found.traffic.concurrency or serves.deployed.workers):
        yield (
            f"{found.traffic.concurrency:,.0f} in flight are fewer than the "
            f"{serves.deployed.workers:,} copies: some have nothing to do."
        )
    if found.traffic.osl == 1:
        yield "outputs of one token have no further ones: no client sees the TPOT."


def _network(serves: Serves, found: Estimate) -> Iterator[str]:
    """A rate between nodes that nobody states."""
    deployed = found.deployed
    layouts = [deployed.layout, *([deployed.prefill.layout] if deployed.prefill else [])]
    groups = [worker_group(deployed.device, layout) for layout in layouts]
    reach = serves.group.device.link.domain_size if serves.group.device.link else 1
    across = [group for group in groups if group.nodes > 1 and group.count > reach]
    if deployed.prefill and serves.group.nodes > 1 and serves.group.count > reach:
        across.append(serves.group)
    if across and not _is_published(across[0]):
        rate = network_rate(across[0]) * GBIT_PER_BYTE
        yield (
            f"the network of {serves.group.device.slug} is not known: {rate:,.0f} Gbit/s a GPU "
            "are assumed between nodes."
        )


def _is_published(group: GpuGroup) -> bool:
    node = group.node.scale_out_bytes_per_s if group.node else None
    return bool(node or group.device.scale_out_bytes_per_s)
