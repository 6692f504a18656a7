"""From an engine's name to what it does."""

from collections.abc import Callable
from typing import Final

from llmplan.engines import generic, llamacpp, sglang, trtllm, vllm
from llmplan.engines.base import Plan
from llmplan.engines.facts import GpuFacts, RankFacts
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName, Settings

_PLANS: Final[dict[EngineName, Callable[[Profile, Settings, RankFacts, GpuFacts], Plan]]] = {
    EngineName.GENERIC: generic.plan,
    EngineName.VLLM: vllm.plan,
    EngineName.SGLANG: sglang.plan,
    EngineName.TRTLLM: trtllm.plan,
    EngineName.LLAMACPP: llamacpp.plan,
}


def engine_plan(profile: Profile, settings: Settings, rank: RankFacts, gpu: GpuFacts) -> Plan:
    """What the engine holds on a GPU that runs ``rank``, and how it hands out its cache."""
    return _PLANS[profile.engine](profile, settings, rank, gpu)
