"""TensorRT-LLM: a share of what is free after weights and buffers becomes the cache."""

from llmplan.engines.base import Held, Plan, Term, filled
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.placing import where
from llmplan.engines.profile import Profile
from llmplan.engines.settings import Settings
from llmplan.engines.vllm_groups import Blocks, block_pool
from llmplan.units import Provenance, weakest


def plan(profile: Profile, asked: Settings, rank: RankFacts, gpu: GpuFacts) -> Plan:
    """What TensorRT-LLM holds on this GPU, and its blocks."""
    rules = (
        ("memory_frac", profile.number("memory_frac"), "free_gpu_memory_fraction"),
        ("block_size", int(profile.number("block_tokens")), "tokens_per_block"),
        ("max_num_batched_tokens", int(profile.number("batched_tokens")), "max_num_tokens"),
        ("max_num_seqs", int(profile.number("sequences")), "max_batch_size"),
    )
    settings, defaults = filled(
        asked, ((name, value, f"TensorRT-LLM's default of {flag}") for name, value, flag in rules)
    )
    blocks = Blocks(
        tokens=settings.block_size or 0,
        in_flight=settings.max_num_batched_tokens or 0,
        padding_ratio=1.0,
        has_groups=True,
        recurrent_blocks=1,
        tokens_by_concurrency=False,
        ways=rank.cache_ways,
    )
    held = _held(profile, settings, rank, gpu)
    return Plan(settings, defaults, held, block_pool(rank.caches, blocks))


def _held(profile: Profile, settings: Settings, rank: RankFacts, gpu: GpuFacts) -> Held:
    overhead = profile.term("loading_overhead_bytes")
    weights = Term(
        rank.weights_bytes + int(overhead.value),
        weakest(Provenance.EXACT, overhead.provenance),
        "stored weights, and what loading adds",
    )
    tokens = settings.max_num_batched_tokens or 0
    logits = (settings.max_num_seqs or 0) * rank.vocab_size * 4
    peak = max(tokens * rank.dense_token_bytes, logits) + tokens * rank.expert_token_bytes
    activations = Term(peak, Provenance.ASSUMED, f"a layer on {tokens:,} tokens, or fp32 logits")
    before = profile.term("gone_before_load_bytes", where(rank, gpu))
    non_torch = Term(int(before.value), before.provenance, "libraries and communication buffers")
    free = gpu.capacity_bytes - weights.bytes - activations.bytes - non_torch.bytes
    free -= rank.beside_bytes
    pool = int(free * (settings.memory_frac or 0)) if free > 0 else free
    note = "share of what is free after weights, activations and libraries"
    if settings.kv_cache_memory_bytes is not None:
        pool, note = settings.kv_cache_memory_bytes, "as fixed by hand"
    graphs = Term(0, Provenance.ASSUMED, "in what the share leaves over")
    return Held(gpu.capacity_bytes, weights, activations, non_torch, graphs, True, pool, note)
