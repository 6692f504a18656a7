"""Options that say which engine runs and how it is started."""

from dataclasses import dataclass, field
from typing import Any, Final

from llmplan.analyze.arrange import Wanted
from llmplan.analyze.fit import Deployment
from llmplan.dtypes import state_format_named
from llmplan.engines.kv_default import state_defaults
from llmplan.engines.profile import Profile, profile_of
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import InputError
from llmplan.model.compiled import Model
from llmplan.ops.base import StateKind
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.precision import LINEAR_ROLES
from llmplan.parallel.layout import Layout
from llmplan.parallel.precision import StateFormats
from llmplan.results.common import context_tokens
from llmplan.units import format_gib, parse_bytes, parse_tokens

GENERIC: Final = EngineName.GENERIC.value


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The engine and its flags as typed; None where nothing was said.

    Attributes:
        engine: ``vllm@0.19``, ``sglang``, ``generic``.
        launch: Settings of a pasted command; the options here go before them.
    """

    engine: str | None = None
    gpu_memory_utilization: float | None = None
    reserve: str | None = None
    max_model_len: str | None = None
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    block_size: int | None = None
    enforce_eager: bool = False
    kv_cache_memory: str | None = None
    cpu_offload: str | None = None
    speculative_tokens: int | None = None
    launch: Settings = field(default_factory=Settings)

    @property
    def is_given(self) -> bool:
        """Whether anything was typed."""
        return self != EngineOptions()

    def context(self, typed: str | None, model: Model) -> int:
        """Tokens per request: as typed, else the engine's longest request where that is stated."""
        if typed is None and self.max_model_len:
            return parse_tokens(self.max_model_len)
        if typed is None and self.launch.max_model_len:
            return self.launch.max_model_len
        return context_tokens(typed, model.context_length)

    def profile(self) -> Profile:
        """The engine at its version.

        Raises:
            UnknownNameError: No such engine.
            InputError: A version that cannot be read.
        """
        return profile_of(self.engine or GENERIC)

    def settings(self) -> Settings:
        """What was typed, over what a pasted command says.

        Raises:
            InputError: A share outside (0, 1], a size that cannot be read, or an option of
                another engine.
        """
        frac = self.gpu_memory_utilization
        if frac is not None and not 0 < frac <= 1:
            raise InputError("--gpu-memory-utilization is a share above 0 and at most 1.")
        if self.reserve is not None and self.profile().engine is not EngineName.GENERIC:
            raise InputError(
                f"--reserve is for the generic engine: {self.engine} has its own figures. Leave "
                "it out, or set --kv-cache-memory."
            )
        typed = Settings(
            memory_frac=frac,
            reserve_bytes=_size(self.reserve),
            max_model_len=parse_tokens(self.max_model_len) if self.max_model_len else None,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_seqs=self.max_num_seqs,
            block_size=self.block_size,
            enforce_eager=True if self.enforce_eager else None,
            kv_cache_memory_bytes=_size(self.kv_cache_memory),
            cpu_offload_bytes=_size(self.cpu_offload),
            speculative_tokens=self.speculative_tokens,
        )
        return typed.over(self.launch)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions:
    """The layout as typed; None where nothing was said."""

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    cp: int | None = None
    prefill_cp: int | None = None
    redundant_experts: int | None = None
    pp_layers: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything was typed."""
        return self != LayoutOptions()

    def wanted(self, *, every: bool) -> Wanted:
        """What to look at.

        Raises:
            InputError: Stages that cannot be read, or ranks that do not go together.
        """
        stages = _stages(self.pp_layers)
        fixed = Layout(
            decode_cp=self.cp or 1,
            prefill_cp=self.prefill_cp or 1,
            redundant_experts=self.redundant_experts or 0,
            stage_layers=stages,
        )
        pp = self.pp or (len(stages) if stages else None)
        tp, dp = self.tp, self.dp
        if self.ep and self.ep > 1:
            if self.ep % fixed.prefill_cp:
                raise InputError(
                    f"--prefill-cp {fixed.prefill_cp} does not divide the {self.ep} ranks of --ep."
                )
            if tp and dp is None:
                dp = self._other(tp, "--tp")
            elif dp and tp is None:
                tp = self._other(dp, "--dp")
            elif tp and dp and tp * dp * fixed.prefill_cp != self.ep:
                raise InputError(
                    f"--ep {self.ep} spreads experts over all ranks of a stage, which are "
                    f"tp x dp = {tp * dp * fixed.prefill_cp}."
                )
            elif tp is None:
                tp, dp = self.ep // fixed.prefill_cp, 1
        ep = None if self.ep is None else self.ep > 1
        return Wanted(tp=tp, pp=pp, dp=dp, ep=ep, fixed=fixed, every=every)

    def _other(self, given: int, name: str) -> int:
        """The other factor of the ranks that experts are spread over."""
        ranks = (self.ep or 1) // (self.prefill_cp or 1)
        if ranks % given:
            raise InputError(f"{name} {given} does not divide the {self.ep} ranks of --ep.")
        return ranks // given

    def echo(self) -> dict[str, Any]:
        """As inputs of a result."""
        return {
            "tp": self.tp,
            "pp": self.pp,
            "dp": self.dp,
            "ep": self.ep,
            "cp": self.cp,
            "prefill_cp": self.prefill_cp,
            "redundant_experts": self.redundant_experts,
        }


def _size(text: str | None) -> int | None:
    return None if text is None else parse_bytes(text)


def _stages(text: str | None) -> tuple[int, ...]:
    if not text:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise InputError("--pp-layers lists the layers of each stage, as in 20,21,20.")
    return tuple(map(int, parts))


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


SAID: Final = {
    "memory_frac": "memory share",
    "max_num_batched_tokens": "batched tokens",
    "max_num_seqs": "sequences at once",
}
"""Defaults that decide the answer and are said aloud; all are in the inputs."""
