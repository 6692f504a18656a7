"""Where a rank runs, as far as terms of a profile depend on it."""

from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.profile import Ranks, Where


def where(rank: RankFacts, gpu: GpuFacts) -> Where:
    """How ranks talk to each other, and on what GPU."""
    if rank.tp > 1 or rank.ranks > rank.pp:
        ranks = Ranks.MANY
    else:
        ranks = Ranks.STAGES if rank.pp > 1 else Ranks.ONE
    capability = None
    if gpu.compute_capability is not None:
        major, minor = gpu.compute_capability
        capability = major + minor / 10
    return Where(ranks, capability, gpu.is_switched)
