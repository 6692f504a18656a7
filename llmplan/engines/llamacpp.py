"""llama.cpp: the cache follows from the context asked for, not from what is free.

Source: llama.cpp's start-up logs; K and V rows of every layer at their types. Compute buffers are
assumed: between 0.3 and 11 GiB were seen.
"""

from llmplan.engines.base import Held, Plan, Term, filled
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.placing import where
from llmplan.engines.pools import ExactPool
from llmplan.engines.profile import Profile
from llmplan.engines.settings import Settings
from llmplan.units import Provenance

SCORE_BYTES = 4
"""A score of a query and a key, held in fp32 while flash attention is off."""


def plan(profile: Profile, asked: Settings, rank: RankFacts, gpu: GpuFacts) -> Plan:
    """What llama.cpp holds on this GPU."""
    rules = (
        ("max_model_len", int(profile.number("context")), "n_ctx; -c 0 takes the model's own"),
        ("max_num_batched_tokens", int(profile.number("batched_tokens")), "n_ubatch"),
        ("max_num_seqs", 1, "one slot"),
    )
    settings, defaults = filled(asked, rules)
    cache = ExactPool(rank.caches)
    weights = Term(
        rank.weights_bytes - rank.input_table_bytes,
        Provenance.EXACT,
        "tensors as the file stores them; the input table stays in host memory",
    )
    tokens = settings.max_num_batched_tokens or 0
    compute = Term(
        tokens * (rank.dense_token_bytes + rank.expert_token_bytes + rank.vocab_size * 4),
        Provenance.ASSUMED,
        f"compute buffer for {tokens:,} tokens",
    )
    before = profile.term("gone_before_load_bytes", where(rank, gpu))
    context = Term(int(before.value), before.provenance, "context of the driver")
    slots = settings.max_num_seqs or 1
    asked_bytes = slots * cache.request_bytes(settings.max_model_len or 0)
    return Plan(
        settings,
        defaults,
        Held(
            budget_bytes=gpu.capacity_bytes,
            weights=weights,
            activations=compute,
            non_torch=context,
            graphs=Term(0, Provenance.ASSUMED, "none counted"),
            graphs_in_budget=True,
            pool_bytes=asked_bytes,
            pool_note=f"{slots} slots of {settings.max_model_len:,} tokens",
        ),
        cache,
    )
