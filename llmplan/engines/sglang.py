"""SGLang: a share of what is free before loading goes to weights and pools; the rest is for steps.

Source: SGLang's server_args and pool configurators; sizes that they do not state are fitted to
start-up logs (``profiles/fitted.yaml``).
"""

from typing import Final

from llmplan.engines.base import Default, Held, Plan, Term, filled
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.placing import where
from llmplan.engines.pools import SplitPool
from llmplan.engines.profile import Profile
from llmplan.engines.settings import Settings
from llmplan.engines.sglang_compressed import compressed_split_pool
from llmplan.units import GIB, MIB, Provenance, weakest

_CHUNKS: Final = ((35, 2048), (60, 4096), (160, 8192))
_GRAPHS: Final = ((20, 8, 8), (35, 24, 80), (60, 32, 160), (160, 256, 512))
"""GiB below which, and the default there: of a step's tokens; of graphs by tp below 4 and above."""
_MOST_CHUNK: Final = 16384
_MOST_GRAPHS: Final = 512


def plan(profile: Profile, asked: Settings, rank: RankFacts, gpu: GpuFacts) -> Plan:
    """What SGLang holds on this GPU, and its pools."""
    settings, defaults = _with_defaults(asked, rank, gpu)
    held = _held(profile, settings, rank, gpu)
    if any(cache.is_compressed_beside_windows for cache, _ in rank.caches):
        return Plan(settings, defaults, held, compressed_split_pool(settings, rank))
    ratio = settings.swa_full_tokens_ratio or profile.number("swa_full_tokens_ratio")
    windows = [(c, n) for c, n in rank.caches if c.window]
    cache = SplitPool(
        full_token_bytes=sum(
            -(-size // tokens) * n for c, n in rank.caches for tokens, size in c.entries
        ),
        window_token_bytes=sum(c.window_token_bytes * n for c, n in windows),
        window_ratio=ratio,
        window=max((c.window for c, _ in windows), default=0),
        slot_bytes=sum(c.fixed_bytes * n for c, n in rank.caches),
        slots=settings.max_mamba_cache_size or 0,
        slot_ratio=profile.number("recurrent_to_attention_ratio"),
        ways=rank.cache_ways,
    )
    return Plan(settings, defaults, held, cache)


def _with_defaults(
    asked: Settings, rank: RankFacts, gpu: GpuFacts
) -> tuple[Settings, tuple[Default, ...]]:
    gib = gpu.capacity_bytes / GIB
    chunk = next((size for below, size in _CHUNKS if gib < below), _MOST_CHUNK)
    few = rank.tp < 4
    graphs = next((a if few else b for below, a, b in _GRAPHS if gib < below), _MOST_GRAPHS)
    batch, batch_defaults = filled(
        asked,
        (
            ("max_num_batched_tokens", chunk, "chunked prefill by the GPU's memory"),
            ("max_capture_batch", graphs, "graphs by the GPU's memory and tp"),
        ),
    )
    frac = _default_frac(batch, rank, gpu)
    why = "SGLang's rule for mem_fraction_static"
    settings, frac_default = filled(batch, (("memory_frac", frac, why),))
    return settings, batch_defaults + frac_default


def _default_frac(settings: Settings, rank: RankFacts, gpu: GpuFacts) -> float:
    """What SGLang leaves to steps and graphs, in MiB, and hence the share of the rest.

    512 + 1.5 per token of a chunk + 2 per graph + 128 per GPU of a copy; 10 GiB at least on GPUs
    above 60 GiB; 4 GiB more with a drafter.
    """
    total = gpu.capacity_bytes / MIB
    left = 512 + 1.5 * max(settings.max_num_batched_tokens or 0, 2048)
    left += 2 * (settings.max_capture_batch or 0) + 128 * rank.tp * rank.pp
    if total > 60 * 1024:
        left = max(left, 10 * 1024)
    if settings.speculative_method:
        left += 4 * 1024
    return round((total - left) / total, 3)


def _held(profile: Profile, settings: Settings, rank: RankFacts, gpu: GpuFacts) -> Held:
    before = profile.term("gone_before_load_bytes", where(rank, gpu))
    free = gpu.capacity_bytes - int(before.value)
    budget = int(free * (settings.memory_frac or 0))
    overhead = profile.term("loading_overhead_bytes")
    offloaded = rank.offloaded_bytes(settings.cpu_offload_bytes or 0)
    kept = ", less what is kept in host memory" if offloaded else ""
    weights = Term(
        rank.weights_bytes - offloaded + int(overhead.value),
        weakest(Provenance.EXACT, overhead.provenance),
        f"stored weights, and what loading adds{kept}",
    )
    draft = settings.speculative_tokens or 0
    states = sum(cache.fixed_bytes * layers for cache, layers in rank.caches)
    drafted = states * draft * (settings.max_num_seqs or 0)
    note = "share of what was free before loading - weights"
    note += " - recurrent state of draft tokens" if drafted else ""
    pool = budget - weights.bytes - drafted - rank.beside_bytes
    if settings.kv_cache_memory_bytes is not None:
        pool, note = settings.kv_cache_memory_bytes, "as fixed by hand"
    return Held(
        budget_bytes=budget,
        weights=weights,
        activations=Term(0, Provenance.EXACT, "in what the share leaves over"),
        non_torch=Term(int(before.value), before.provenance, "gone before the weights are loaded"),
        graphs=_graphs(profile, settings, rank),
        graphs_in_budget=False,
        pool_bytes=pool,
        pool_note=note,
    )


def _graphs(profile: Profile, settings: Settings, rank: RankFacts) -> Term:
    if settings.enforce_eager:
        return Term(0, Provenance.EXACT, "none: graphs are off")
    base, each = profile.term("graphs_base_bytes"), profile.term("graphs_layer_bytes")
    size = int(base.value + each.value * rank.num_layers)
    return Term(size, weakest(base.provenance, each.provenance), "captured graphs")
