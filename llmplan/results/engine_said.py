"""What an answer says of the engine: its settings, its formats, and remarks."""

from typing import Any, Final

from llmplan.analyze.fit import Deployment
from llmplan.dtypes import state_format_named
from llmplan.engines.kv_default import state_defaults
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName
from llmplan.model.compiled import Model
from llmplan.ops.base import StateKind
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.precision import LINEAR_ROLES
from llmplan.parallel.precision import StateFormats
from llmplan.units import format_gib

SAID: Final = {
    "memory_frac": "memory share",
    "max_num_batched_tokens": "batched tokens",
    "max_num_seqs": "sequences at once",
}
"""Defaults that decide the answer and are said aloud; all are in the inputs."""


def engine_states(profile: Profile, model: Model) -> tuple[StateFormats, str]:
    """What requests keep under this engine where nobody says, and why."""
    kinds = {s.kind for o, _ in model.decoder.counted for s in o.states}
    several = any(isinstance(o, CompressedAttention) for o, _ in model.decoder.counted)
    bits = [
        operator.precision.of(weight.role).bits
        for operator, _ in model.decoder.counted
        for weight in operator.weights
        if weight.role in LINEAR_ROLES
    ]
    taken = state_defaults(
        profile,
        is_low_bit=min(bits, default=16) <= 8,
        has_indexer=StateKind.INDEXER in kinds,
        is_compressed=several,
    )
    names = (taken.kv, taken.recurrent, taken.indexer, taken.convolution)
    return StateFormats(*map(state_format_named, names)), taken.why


def engine_echo(profile: Profile, deployment: Deployment | None) -> dict[str, Any]:
    """The engine and every setting it was answered for, as inputs of a result."""
    echo: dict[str, Any] = {
        "engine": profile.engine.value,
        "engine_version": profile.version_said or None,
    }
    if deployment is None:
        return echo
    plan = deployment.serving.worst.plan
    echo["gpu_memory_utilization"] = plan.settings.memory_frac
    echo["settings"] = plan.settings.stated
    echo["defaults"] = {d.setting: d.why for d in plan.defaults}
    return echo


def engine_warnings(profile: Profile, deployment: Deployment | None) -> tuple[str, ...]:
    """What a reader of an engine's answer should know."""
    remarks = list(profile.remarks)
    if deployment is None:
        return tuple(remarks)
    worst = deployment.serving.worst
    held = worst.plan.held
    if profile.engine is EngineName.GENERIC:
        kept = format_gib(held.activations.bytes + held.non_torch.bytes)
        share = f"{worst.plan.settings.memory_frac:.0%}"
        remarks.append(
            f"no engine was named: {share} of a GPU is filled, {kept} of it with activations and "
            "libraries (medians of public vLLM start-up logs). --engine vllm, sglang, trtllm or "
            "llama.cpp counts what that engine holds."
        )
    else:
        said = [d for d in worst.plan.defaults if d.setting in SAID]
        remarks += [f"{SAID[d.setting]} {d.value}: {d.why}." for d in said]
    if error := profile.errors.get("kv_bytes"):
        remarks.append(
            f"in {error.rows} measured {profile.title} starts the cache was within "
            f"{error.median:.1%} at the median and {error.p90:.1%} in nine of ten."
        )
    remarks.extend(worst.plan.remarks)
    if len(deployment.serving.ranks) > 1:
        first = worst.rank.first_layer
        last = first + worst.rank.num_layers - 1
        remarks.append(
            f"figures are those of stage {worst.rank.stage + 1} of {len(deployment.serving.ranks)} "
            f"(layers {first} to {last}), which ends first."
        )
    return tuple(remarks)
