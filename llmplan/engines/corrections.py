"""What a local start-up log says of an engine's terms, put over what its profile says."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from llmplan.engines.base import Held, Plan, Term
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.placing import where
from llmplan.engines.profile import Profile, Ranks
from llmplan.engines.settings import EngineName, Settings
from llmplan.engines.versions import Version
from llmplan.units import Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Measured less predicted of one start; None where its log does not print the figure.

    Attributes:
        engine: The engine.
        version: Its version line, (major, minor).
        device: Catalogue name of the GPU.
        ranks: How ranks were joined.
        source: The log and its day, as answers name it.
        weights_bytes: What loading adds beyond the profile.
        activations_scale: Measured over predicted.
        non_torch_bytes: Libraries and communication buffers beyond the profile.
        graphs_bytes: Captured graphs beyond the profile.
    """

    engine: EngineName
    version: Version
    device: str
    ranks: Ranks
    source: str
    weights_bytes: int | None = None
    activations_scale: float | None = None
    non_torch_bytes: int | None = None
    graphs_bytes: int | None = None

    def is_for(self, profile: Profile, ranks: Ranks, device: str) -> bool:
        """Whether it was measured with this engine and version line, on such ranks and GPUs."""
        line = profile.version[:2]
        here = (profile.engine, line, device, ranks)
        return here == (self.engine, self.version, self.device, self.ranks)


def correction_for(
    corrections: Iterable[Correction], profile: Profile, rank: RankFacts, gpu: GpuFacts
) -> Correction | None:
    """The correction that was measured on such a rank."""
    ranks = where(rank, gpu).ranks
    return next((each for each in corrections if each.is_for(profile, ranks, gpu.name)), None)


def corrected(plan: Plan, correction: Correction) -> Plan:
    """The plan with its terms as measured, and the pool that they leave."""
    held, said = plan.held, f"corrected by local log {correction.source}"
    weights = _plus(held.weights, correction.weights_bytes, said)
    non_torch = _plus(held.non_torch, correction.non_torch_bytes, said)
    captures = None if plan.settings.enforce_eager else correction.graphs_bytes
    new = replace(
        held,
        weights=weights,
        activations=_times(held.activations, correction.activations_scale, said),
        non_torch=non_torch,
        graphs=_plus(held.graphs, captures, said),
        pool_note=f"{held.pool_note}; {said}",
    )
    pooled = _with_pool(held, new, plan.settings, correction.engine)
    return replace(plan, held=pooled, remarks=(*plan.remarks, f"{said}; {LEFT_OUT_BY}."))


LEFT_OUT_BY: Final = "--no-corrections leaves it out"


def _plus(term: Term, more: int | None, said: str) -> Term:
    if more is None:
        return term
    return Term(max(term.bytes + more, 0), Provenance.MEASURED, f"{term.note}; {said}")


def _times(term: Term, scale: float | None, said: str) -> Term:
    """A ratio of one start carries over to other steps as a fit does."""
    if scale is None:
        return term
    return Term(round(term.bytes * scale), Provenance.FITTED, f"{term.note}; {said}")


def _with_pool(old: Held, new: Held, settings: Settings, engine: EngineName) -> Held:
    """The budget and pool after terms have grown, as each engine takes them of the device."""
    weights = new.weights.bytes - old.weights.bytes
    activations = new.activations.bytes - old.activations.bytes
    non_torch = new.non_torch.bytes - old.non_torch.bytes
    graphs = new.graphs.bytes - old.graphs.bytes if old.graphs_in_budget else 0
    share = 1.0 if settings.memory_frac is None else settings.memory_frac
    budget, pool = old.budget_bytes, old.pool_bytes
    match engine:
        case EngineName.VLLM:
            pool -= weights + activations + non_torch + graphs
        case EngineName.SGLANG:  # a share of what is free before the weights are loaded
            budget -= round(non_torch * share)
            pool -= weights + round(non_torch * share)
        case EngineName.TRTLLM:  # a share of what is free after the dry run, if anything is
            free = (pool / share if pool > 0 else pool) - weights - activations - non_torch
            pool = int(free * share if free > 0 else free)
        case _:  # llama.cpp's cache has the size that was asked for
            pass
    if settings.kv_cache_memory_bytes is not None:
        pool = old.pool_bytes
    return replace(new, budget_bytes=budget, pool_bytes=pool)
