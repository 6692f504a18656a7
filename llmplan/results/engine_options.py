"""Options that say which engine runs and how it is started.

What engines are is loaded where an option needs it: a question without GPUs needs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmplan.errors import InputError
from llmplan.results.common import context_tokens
from llmplan.units import parse_bytes, parse_tokens

if TYPE_CHECKING:
    from llmplan.analyze.arrange import Wanted
    from llmplan.engines.profile import Profile
    from llmplan.engines.settings import Settings
    from llmplan.model.compiled import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The engine and its flags as typed; None where nothing was said.

    Attributes:
        engine: ``vllm@0.19``, ``sglang``, ``generic``.
        launch: Settings of a pasted command, where there is one; the options here go before them.
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
    launch: Settings | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything was typed."""
        return self != EngineOptions()

    def context(self, typed: str | None, model: Model) -> int:
        """Tokens per request: as typed, else the engine's longest request where that is stated."""
        if typed is None and self.max_model_len:
            return parse_tokens(self.max_model_len)
        if typed is None and self.launch and self.launch.max_model_len:
            return self.launch.max_model_len
        return context_tokens(typed, model.context_length)

    def profile(self) -> Profile:
        """The engine at its version.

        Raises:
            UnknownNameError: No such engine.
            InputError: A version that cannot be read.
        """
        from llmplan.engines.profile import profile_of  # noqa: PLC0415
        from llmplan.engines.settings import EngineName  # noqa: PLC0415

        return profile_of(self.engine or EngineName.GENERIC.value)

    def settings(self) -> Settings:
        """What was typed, over what a pasted command says.

        Raises:
            InputError: A share outside (0, 1], a size that cannot be read, or an option of
                another engine.
        """
        from llmplan.engines.settings import EngineName, Settings  # noqa: PLC0415

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
        return typed.over(self.launch) if self.launch else typed


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
        from llmplan.analyze.arrange import Wanted  # noqa: PLC0415
        from llmplan.parallel.layout import Layout  # noqa: PLC0415

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
            "pp_layers": self.pp_layers,
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
    is_read = all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts)
    if not (is_read and all(map(int, parts))):
        raise InputError("--pp-layers lists the layers of each stage, as in 20,21,20.")
    return tuple(map(int, parts))
