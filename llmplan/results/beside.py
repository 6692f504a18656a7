"""Published form of what is held beside a model and in host memory."""

from collections import Counter

from llmplan.analyze.beside import Beside
from llmplan.analyze.fit import Deployment
from llmplan.analyze.host import Host
from llmplan.analyze.offload import is_unified
from llmplan.dtypes import divide_up
from llmplan.engines.settings import EngineName
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.precision import Role
from llmplan.results import schema
from llmplan.units import Provenance, format_gib


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
