"""Options for what is held beside a model and in host memory, and their published form."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from llmplan.analyze.beside import DENSE_TARGETS, WITH_DRAFT, Beside
from llmplan.analyze.fit import Deployment
from llmplan.analyze.host import Host
from llmplan.analyze.offload import is_unified
from llmplan.dtypes import divide_up
from llmplan.engines.profile import Profile
from llmplan.engines.settings import EngineName, Settings
from llmplan.errors import InputError, UnknownNameError
from llmplan.hardware.device import GpuGroup
from llmplan.model.catalogue import is_known, load_model
from llmplan.model.compiled import Model
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.parallel.precision import NATIVE, StateFormats, lowered
from llmplan.results import schema
from llmplan.units import Provenance, format_gib, parse_bytes

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
        return Beside(
            lora_targets=_targets(self.lora_targets),
            draft=self._draft(settings, profile, states),
            prompt_logits=self.prompt_logits,
            tier_bytes=parse_bytes(self.kv_offload) if self.kv_offload else 0,
            host_memory_bytes=parse_bytes(self.host_memory) if self.host_memory else None,
        )

    def _draft(self, settings: Settings, profile: Profile, states: StateFormats) -> Model | None:
        """The draft model as typed, or as a pasted command names it where it is known."""
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
    if text is None:
        return DENSE_TARGETS
    roles: list[Role] = []
    for word in (part.strip().lower() for part in text.split(",")):
        if word not in TARGETS:
            raise UnknownNameError("target of adapters", word, TARGETS, f"{', '.join(TARGETS)}.")
        roles += TARGETS[word]
    return tuple(dict.fromkeys(roles))


def beside_warnings(
    deployment: Deployment | None, wanted: Beside, group: GpuGroup
) -> tuple[str, ...]:
    """What a reader of such an answer should know."""
    remarks = []
    if is_unified(group.device):
        remarks.append(
            f"CPU and GPU of {group.device.slug} share one memory: what the system and other "
            "programs hold comes out of it. --gpu-memory-utilization says what is left."
        )
    if deployment is None:
        return tuple(remarks)
    settings = deployment.serving.worst.plan.settings
    if settings.draft_model and not wanted.draft:
        remarks.append(
            f"the draft model {settings.draft_model} is not counted: name one of the catalogue "
            "with --draft, or drafting modules of the model's own with --mtp."
        )
    if wanted.prompt_logits:
        remarks.append(
            "engines set nothing aside for logits of prompts: lower the share of memory by as much."
        )
    return (*remarks, *_host_warnings(deployment.host))


def _host_warnings(host: Host | None) -> list[str]:
    if host is None:
        return []
    remarks = []
    if host.capacity_bytes is None:
        remarks.append(
            f"{format_gib(host.needed_bytes)} of host memory are needed on a node; what it has is "
            "not known. --host-memory says it."
        )
    seconds, link = host.seconds_per_token, host.link
    if seconds is not None and link is not None:
        read, rate = format_gib(host.read_bytes_per_token), link.unidirectional_bytes_per_s or 0
        remarks.append(
            f"slow: each token uses {read} of weights in host memory. Over {link.name} "
            f"({rate / 1e9:g} GB/s) that takes {seconds * 1e3:,.0f} ms a token at the least; an "
            "engine that computes on the CPU is bound by the host's memory instead."
        )
    return remarks


def beside_rows(deployment: Deployment) -> list[schema.BesideRow]:
    """What the GPU whose cache ends first holds beside the model."""
    held = deployment.serving.worst.beside
    rows = [
        schema.BesideRow(
            name=item.name,
            bytes=item.term.bytes,
            provenance=item.term.provenance,
            note=item.term.note,
        )
        for item in held.items
    ]
    each = sum(cache.bytes_at(deployment.load.context) * n for cache, n in held.caches)
    if each:
        rows.append(
            schema.BesideRow(
                name="draft cache, per request",
                bytes=each,
                provenance=Provenance.EXACT,
                note="what its layers keep of a request of the context, before rounding to "
                "blocks; it comes out of the cache",
            )
        )
    return rows


def host_memory(deployment: Deployment) -> schema.HostMemory | None:
    """What the host of the fullest node holds."""
    host = deployment.host
    if host is None:
        return None
    return schema.HostMemory(
        needed_bytes=host.needed_bytes,
        weights_bytes=host.weights_bytes,
        state_bytes=host.state_bytes,
        tier_bytes=host.tier.bytes,
        tier_tokens=host.tier.tokens,
        tier_requests=host.tier.requests,
        capacity_bytes=host.capacity_bytes,
        fits=host.fits,
        stays_on_gpu=_stays(deployment),
        read_bytes_per_token=host.read_bytes_per_token,
        link=host.link.name if host.link else None,
        link_bytes_per_s=host.link.unidirectional_bytes_per_s if host.link else None,
        link_s_per_token=host.seconds_per_token,
    )


def _stays(deployment: Deployment) -> dict[str, int]:
    """Bytes of a GPU that stay there: weights, by role where parts were chosen, and what runs."""
    serving, load = deployment.serving, deployment.load
    held = serving.worst.plan.held
    groups = deployment.arrangement.replicas * serving.layout.dp
    each = deployment.request_bytes(load.context)
    roles = weights_by_role(serving.worst.rank.model)
    if serving.profile.engine is EngineName.LLAMACPP:
        # the table of inputs stays in host memory whatever is asked
        roles = {role: size for role, size in roles.items() if role != Role.EMBEDDING}
    return {
        **(roles if serving.halves.is_split else {"weights": held.weights.bytes}),
        "activations": held.activations.bytes,
        "libraries": held.non_torch.bytes,
        "beside": held.beside.bytes,
        "cache": each * divide_up(load.batch, groups),
    }


def weights_by_role(model: Model) -> dict[str, int]:
    """Stored bytes by role, most first."""
    sizes: Counter[str] = Counter()
    for operator, repeats in model.counted():
        for weight in operator.weights:
            sizes[weight.role.value] += operator.weight_bytes(weight) * repeats
    return dict(sizes.most_common())
