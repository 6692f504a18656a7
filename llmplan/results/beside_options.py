"""Options for what is held beside a model and in host memory.

What such things take is loaded where an option needs it: a plain question needs none of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from llmplan.errors import InputError, UnknownNameError
from llmplan.model.catalogue import is_known, load_model
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.parallel.precision import NATIVE, StateFormats, lowered
from llmplan.units import parse_bytes

if TYPE_CHECKING:
    from llmplan.analyze.beside import Beside
    from llmplan.engines.profile import Profile
    from llmplan.engines.settings import Settings
    from llmplan.model.compiled import Model

TARGETS: Final = {
    "attention": (Role.ATTENTION,),
    "ffn": (Role.FFN, Role.SHARED_EXPERTS),
    "experts": (Role.EXPERTS,),
}
"""Words of --lora-targets; experts that every token passes are dense networks like any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideOptions:
    """What is held beside a model, as typed; None where nothing was said.

    Attributes:
        lora: Adapters held on the GPU at once.
        lora_rank: Rank that their slots are made for.
        lora_targets: Words of ``TARGETS``, separated by commas.
        draft: The draft model.
        draft_dtype: Format of its linear weights.
        prompt_logits: Log-probabilities of prompt tokens are asked for.
        experts_on_cpu: Routed experts stay in host memory.
        gpu_layers: Layers on GPUs, counted from the end, the output head among them.
        host_memory: Memory of each node's host.
        kv_offload: Host memory for the cache blocks of each GPU.
    """

    lora: int | None = None
    lora_rank: int | None = None
    lora_targets: str | None = None
    draft: str | None = None
    draft_dtype: str | None = None
    prompt_logits: bool = False
    experts_on_cpu: bool = False
    gpu_layers: int | None = None
    host_memory: str | None = None
    kv_offload: str | None = None

    @property
    def is_given(self) -> bool:
        """Whether anything was typed."""
        return self != BesideOptions()

    def settings(self, engine: Settings) -> Settings:
        """What was typed, over the engine's other settings.

        Raises:
            InputError: An option that does nothing without another one.
        """
        from llmplan.engines.settings import Settings  # noqa: PLC0415

        enables = self.lora is not None or engine.enable_lora
        if not enables and (self.lora_rank or self.lora_targets):
            raise InputError(
                "--lora-rank and --lora-targets are of adapters: say --lora, how many."
            )
        if self.draft_dtype and not self.draft:
            raise InputError("--draft-dtype is of a draft model: name it with --draft.")
        typed = Settings(
            enable_lora=True if self.lora else None,
            max_loras=self.lora,
            max_lora_rank=self.lora_rank,
            draft_model=self.draft,
            speculative_method="draft_model" if self.draft else None,
            experts_on_cpu=True if self.experts_on_cpu else None,
            n_gpu_layers=self.gpu_layers,
        )
        return typed.over(engine)

    def beside(self, settings: Settings, profile: Profile, states: StateFormats) -> Beside:
        """What is wanted, with the draft model in the formats it is served in.

        Raises:
            UnknownNameError: A target or a model that is not known.
            InputError: A size that cannot be read.
        """
        from llmplan.analyze.beside import Beside  # noqa: PLC0415

        return Beside(
            lora_targets=_targets(self.lora_targets),
            draft=self._draft(settings, profile, states),
            prompt_logits=self.prompt_logits,
            tier_bytes=parse_bytes(self.kv_offload) if self.kv_offload else 0,
            host_memory_bytes=parse_bytes(self.host_memory) if self.host_memory else None,
        )

    def _draft(self, settings: Settings, profile: Profile, states: StateFormats) -> Model | None:
        """The draft model as typed, or as a pasted command names it where it is known."""
        from llmplan.analyze.beside import WITH_DRAFT  # noqa: PLC0415

        name = self.draft
        if name is None and settings.draft_model and profile.engine in WITH_DRAFT:
            is_model = settings.speculative_method in (None, "draft_model")
            name = settings.draft_model if is_model and is_known(settings.draft_model) else None
        if name is None:
            return None
        draft = load_model(name).served(vision=False)
        return lowered(draft, self.draft_dtype or NATIVE, states)

    def echo(self, wanted: Beside) -> dict[str, Any]:
        """As inputs of a result, where anything was typed; the rest is among the settings."""
        if not self.is_given:
            return {}
        return {
            "lora_targets": [role.value for role in wanted.lora_targets] if self.lora else None,
            "draft": wanted.draft.identity.name if wanted.draft else None,
            "draft_dtype": (self.draft_dtype or NATIVE) if wanted.draft else None,
            "prompt_logits": wanted.prompt_logits,
            "experts_on_cpu": self.experts_on_cpu,
            "gpu_layers": self.gpu_layers,
            "host_memory_bytes": wanted.host_memory_bytes,
            "kv_offload_bytes": wanted.tier_bytes or None,
        }

    def check(self, model: Model) -> None:
        """Refuse experts in host memory of a model that has none.

        Raises:
            InputError: Naming the model.
        """
        has_experts = any(isinstance(o, Experts) for o, _ in model.counted())
        if self.experts_on_cpu and not has_experts:
            raise InputError(
                f"{model.identity.name} has no routed experts: --gpu-layers keeps whole layers in "
                "host memory."
            )


def _targets(text: str | None) -> tuple[Role, ...]:
    from llmplan.analyze.beside import DENSE_TARGETS  # noqa: PLC0415

    if text is None:
        return DENSE_TARGETS
    roles: list[Role] = []
    for word in (part.strip().lower() for part in text.split(",")):
        if word not in TARGETS:
            raise UnknownNameError("target of adapters", word, TARGETS, f"{', '.join(TARGETS)}.")
        roles += TARGETS[word]
    return tuple(dict.fromkeys(roles))
