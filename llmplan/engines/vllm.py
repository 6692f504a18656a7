"""vLLM: a share of the device, less weights, the peak of a profiling run, libraries and graphs.

Source: vLLM's determine_available_memory and its defaults by device; sizes that its source does
not state are fitted to start-up logs (``profiles/fitted.yaml``).
"""

from typing import Final

from llmplan.engines.base import Default, Held, Plan, Term, filled
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.placing import where
from llmplan.engines.profile import Profile, Ranks
from llmplan.engines.settings import Settings
from llmplan.engines.vllm_compressed import CompressedLayout
from llmplan.engines.vllm_groups import Blocks, block_pool
from llmplan.units import GIB, Provenance, weakest

LARGE_GPU_BYTES: Final = 70 * GIB
HUGE_GPU_BYTES: Final = 160 * GIB
NO_A100_SINCE: Final = "0.9.1"
"""Release from which the A100 counts as a small GPU for default batch sizes."""
GB10_CAPABILITY: Final = (12, 1)
NO_GB10_SINCE: Final = "0.33"
"""First release looked at in which the GB10 counts as a small GPU; 0.28 has it among the large."""
WORKSPACE_SINCE: Final = "0.17"
"""Release from which routed experts keep their workspace beside the sampler's peak."""


def plan(profile: Profile, asked: Settings, rank: RankFacts, gpu: GpuFacts) -> Plan:
    """What vLLM holds on this GPU, and its blocks."""
    settings, defaults = _with_defaults(profile, asked, gpu)
    held = _held(profile, settings, rank, gpu)
    blocks = Blocks(
        tokens=settings.block_size or 0,
        in_flight=(settings.max_num_batched_tokens or 0) * _steps_under_way(profile, rank),
        padding_ratio=profile.number("group_padding_ratio") if profile.is_since("0.10") else 1.0,
        has_groups=bool(profile.number("hybrid_groups")),
        recurrent_blocks=_recurrent_blocks(profile, settings),
        tokens_by_concurrency=bool(profile.number("tokens_by_concurrency")),
        ways=rank.cache_ways,
        compressed=CompressedLayout(int(profile.number("compressed_layout"))),
    )
    return Plan(settings, defaults, held, block_pool(rank.caches, blocks))


def _with_defaults(
    profile: Profile, asked: Settings, gpu: GpuFacts
) -> tuple[Settings, tuple[Default, ...]]:
    size, tokens, sequences = _default_batch(profile, gpu)
    rules = (
        ("memory_frac", profile.number("memory_frac"), f"vLLM {profile.version_said}"),
        ("block_size", int(profile.number("block_tokens")), "vLLM's default"),
        ("max_num_batched_tokens", tokens, f"server default for {size}"),
        ("max_num_seqs", sequences, f"server default for {size}"),
        ("enforce_eager", False, "vLLM's default"),
    )
    return filled(asked, rules)


def _default_batch(profile: Profile, gpu: GpuFacts) -> tuple[str, int, int]:
    """The class of the GPU, batched tokens and sequences of the server."""
    is_a100 = gpu.name.startswith("a100") and profile.is_since(NO_A100_SINCE)
    is_gb10 = gpu.compute_capability == GB10_CAPABILITY and profile.is_since(NO_GB10_SINCE)
    if gpu.capacity_bytes >= HUGE_GPU_BYTES:
        size, kind = "GPUs of 160 GiB and more", "huge"
    elif gpu.capacity_bytes >= LARGE_GPU_BYTES and not is_a100 and not is_gb10:
        size, kind = "GPUs of 70 GiB and more", "large"
    else:
        size, kind = "smaller GPUs", "small"
    sequences = "small" if kind == "small" else "large"
    return (
        size,
        int(profile.number(f"{kind}_gpu_batched_tokens")),
        int(profile.number(f"{sequences}_gpu_sequences")),
    )


def _steps_under_way(profile: Profile, rank: RankFacts) -> int:
    """Steps whose tokens keep their blocks: one of every stage, and one scheduled ahead.

    With several stages, the older model runner schedules none ahead: there this is one too many.
    """
    ahead = int(profile.number("steps_ahead"))
    return rank.pp + ahead if ahead else 1


def _recurrent_blocks(profile: Profile, settings: Settings) -> int:
    """Blocks of recurrent state that a request takes, one more for each draft token."""
    kept = settings.enable_prefix_caching is not False
    each = int(profile.number("recurrent_blocks")) if kept else 1
    return each + (settings.speculative_tokens or 0)


def _held(profile: Profile, settings: Settings, rank: RankFacts, gpu: GpuFacts) -> Held:
    budget = int(gpu.capacity_bytes * (settings.memory_frac or 0))
    weights = _weights(profile, settings, rank)
    activations = _activations(profile, settings, rank)
    non_torch = _non_torch(profile, rank, gpu)
    graphs = _graphs(profile, settings, rank)
    in_budget = bool(profile.number("graphs_in_budget"))
    if settings.kv_cache_memory_bytes is not None:
        note = "fixed by kv_cache_memory_bytes; the share of the device is not looked at"
        pool = settings.kv_cache_memory_bytes
    else:
        note = "budget - weights - activations - non-torch"
        pool = budget - weights.bytes - activations.bytes - non_torch.bytes - rank.beside_bytes
        if in_budget:
            note += " - graphs"
            pool -= graphs.bytes
    return Held(budget, weights, activations, non_torch, graphs, in_budget, pool, note)


def _weights(profile: Profile, settings: Settings, rank: RankFacts) -> Term:
    overhead = profile.term("loading_overhead_bytes")
    offloaded = rank.offloaded_bytes(settings.cpu_offload_bytes or 0)
    note = "stored weights, and what loading adds"
    note += ", less what is kept in host memory" if offloaded else ""
    size = rank.weights_bytes - offloaded + int(overhead.value)
    return Term(size, weakest(Provenance.EXACT, overhead.provenance), note)


def _activations(profile: Profile, settings: Settings, rank: RankFacts) -> Term:
    """The larger of a layer's peak and the sampler's, with the experts' workspace beside it."""
    tokens = settings.max_num_batched_tokens or 0
    if not profile.is_since("0.8") and settings.max_model_len:
        # without chunked prefill the profiling run is one prompt of the full length
        tokens = max(tokens, min(settings.max_model_len, LONGEST_UNCHUNKED))
    fused = "fused_" if settings.fused_sampler else ""
    state = profile.term(f"{fused}logit_state_bytes")
    live = profile.term("dense_live_frac")
    layer = int(tokens * rank.dense_token_bytes * live.value)
    logits = (settings.max_num_seqs or 0) * rank.vocab_size
    sampler = int(tokens * rank.hidden_token_bytes + logits * (state.value + rank.logit_bytes))
    workspace = tokens * rank.expert_token_bytes
    if rank.vocab_size and sampler > layer:
        what = f"sampler over {settings.max_num_seqs:,} x {rank.vocab_size:,} logits"
    else:
        what = f"a layer on {tokens:,} batched tokens"
    if profile.is_since(WORKSPACE_SINCE):
        peak = max(layer, sampler) + workspace
        what += " and the experts' workspace" if workspace else ""
    else:
        peak = max(layer + workspace, sampler)
    if rank.has_vision:
        peak += tokens * rank.hidden_token_bytes + int(profile.number("vision_peak_bytes"))
        what += ", the encoder's cache and its peak"
    return Term(peak, weakest(state.provenance, live.provenance), what)


LONGEST_UNCHUNKED: Final = 32768
"""Context beyond which prompts were cut into steps by default before 0.8."""


def _non_torch(profile: Profile, rank: RankFacts, gpu: GpuFacts) -> Term:
    place = where(rank, gpu)
    term = profile.term("non_torch_bytes", place)
    what = {
        Ranks.ONE: "libraries of a single GPU",
        Ranks.STAGES: "pipeline stages only",
        Ranks.MANY: "communication buffers of several GPUs",
    }
    return Term(int(term.value), term.provenance, what.get(place.ranks, ""))


def _graphs(profile: Profile, settings: Settings, rank: RankFacts) -> Term:
    """Graphs of so many batch sizes over so many layers."""
    if settings.enforce_eager:
        return Term(0, Provenance.EXACT, "none: eager execution")
    largest = settings.max_capture_batch or min(2 * (settings.max_num_seqs or 0), MOST_CAPTURED)
    sizes = capture_sizes(largest)
    base, each = profile.term("graphs_base_bytes"), profile.term("graphs_layer_bytes")
    full = base.value + each.value * rank.num_layers
    size = int(full * sizes / capture_sizes(MOST_CAPTURED))
    note = f"graphs of {sizes} batch sizes up to {largest}, {rank.num_layers} layers"
    return Term(size, weakest(base.provenance, each.provenance), note)


MOST_CAPTURED: Final = 512
"""Largest batch that vLLM captures by default; smaller where fewer sequences run."""


def capture_sizes(largest: int) -> int:
    """Batch sizes that vLLM captures: 1, 2, 4, every 8 below 256, every 16 from there on."""
    sizes = (1, 2, 4, *range(8, 256, 8), *range(256, largest + 1, 16))
    return sum(1 for size in sizes if size <= largest)
