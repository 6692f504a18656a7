"""No engine in particular: medians of what measured engines keep back (decision 0007)."""

from llmplan.engines.base import Held, Plan, Term, filled
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.placing import where
from llmplan.engines.pools import ExactPool
from llmplan.engines.profile import Profile, Value
from llmplan.engines.settings import Settings
from llmplan.units import Provenance


def plan(profile: Profile, asked: Settings, rank: RankFacts, gpu: GpuFacts) -> Plan:
    """A share of the device, less weights and the same reserve for every model."""
    frac = profile.number("memory_frac")
    settings, defaults = filled(asked, (("memory_frac", frac, "what most engines take"),))
    budget = int(gpu.capacity_bytes * (settings.memory_frac or 0))
    offloaded = rank.offloaded_bytes(settings.cpu_offload_bytes or 0)
    note = "stored weights" + (", less what is kept in host memory" if offloaded else "")
    weights = Term(rank.weights_bytes - offloaded, Provenance.EXACT, note)
    activations = _term(profile.term("activations_bytes"), "peak of a step")
    non_torch = _term(profile.term("non_torch_bytes", where(rank, gpu)), "libraries, communication")
    if settings.reserve_bytes is not None:
        libraries = min(settings.reserve_bytes, non_torch.bytes)
        activations = _given(settings.reserve_bytes - libraries)
        non_torch = _given(libraries)
    graphs = _term(profile.term("graphs_bytes"), "captured graphs")
    pool = budget - weights.bytes - activations.bytes - non_torch.bytes - rank.beside_bytes
    note = "budget - weights - activations - non-torch"
    if settings.kv_cache_memory_bytes is not None:
        pool, note = settings.kv_cache_memory_bytes, "as fixed by hand"
    held = Held(budget, weights, activations, non_torch, graphs, False, pool, note)
    return Plan(settings, defaults, held, ExactPool(rank.caches, rank.cache_ways))


def _given(size: int) -> Term:
    return Term(size, Provenance.ASSUMED, "as given by --reserve")


def _term(value: Value, note: str) -> Term:
    return Term(int(value.value), value.provenance, note)
