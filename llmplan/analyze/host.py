"""What a node's host memory holds for its GPUs, and what that costs in time at the least."""

from dataclasses import dataclass

from llmplan.analyze.beside import Beside
from llmplan.analyze.memory import Load
from llmplan.analyze.offload import active_bytes
from llmplan.analyze.serving import ServedRank, Serving
from llmplan.dtypes import divide_up
from llmplan.engines.settings import EngineName
from llmplan.hardware.device import GpuGroup, Link
from llmplan.ops.embedding import Embedding
from llmplan.units import format_gib


@dataclass(frozen=True, slots=True)
class Tier:
    """A cache in host memory behind that of the GPUs, all copies.

    Attributes:
        bytes: Host memory of the fullest node.
        tokens: Tokens in requests of the asked context.
        requests: Whole such requests.
    """

    bytes: int = 0
    tokens: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Host:
    """The host of the fullest node.

    Attributes:
        weights_bytes: Weights that stay there.
        state_bytes: Cache of the layers that stay there, for the requests asked for.
        tier: Cache blocks that are moved there.
        capacity_bytes: Memory of the host; None where neither the catalogue nor the user says it.
        read_bytes_per_token: Weights in host memory that one token of one request uses.
        link: Between host and each GPU.
        ranks: GPUs whose links carry one token's share at the same time.
    """

    weights_bytes: int
    state_bytes: int
    tier: Tier
    capacity_bytes: int | None
    read_bytes_per_token: int
    link: Link | None
    ranks: int

    @property
    def needed_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.state_bytes + self.tier.bytes

    @property
    def fits(self) -> bool | None:
        """Whether the host has it; None where its memory is not known."""
        return None if self.capacity_bytes is None else self.needed_bytes <= self.capacity_bytes

    @property
    def is_short(self) -> bool:
        """Whether the model itself is more than the host has; a tier may be made smaller."""
        own = self.weights_bytes + self.state_bytes
        return self.capacity_bytes is not None and own > self.capacity_bytes

    @property
    def shortage(self) -> str:
        """What is missing, in words; nothing where nothing is."""
        if not self.is_short or self.capacity_bytes is None:
            return ""
        own, has = format_gib(self.weights_bytes + self.state_bytes), self.capacity_bytes
        return f"what stays in host memory needs {own} a node, which has {format_gib(has)}"

    @property
    def seconds_per_token(self) -> float | None:
        """Seconds of one token at the least where these weights cross the link for it."""
        rate = self.link.unidirectional_bytes_per_s if self.link else None
        if not rate or not self.read_bytes_per_token:
            return None
        return self.read_bytes_per_token / (rate * self.ranks)


def host_of(
    serving: Serving, replicas: int, group: GpuGroup, load: Load, beside: Beside
) -> Host | None:
    """What the fullest node's host holds; None where it holds nothing."""
    layout, split = serving.layout, serving.halves
    settings = serving.worst.plan.settings
    tiered = beside.tier_bytes or settings.swap_space_bytes
    if not (split.is_split or settings.cpu_offload_bytes or tiered):
        return None
    copies = min(replicas, max(group.per_node // layout.gpus, 1))
    nodes = divide_up(layout.gpus, group.per_node)
    offloaded = sum(_offloaded(served) for served in serving.ranks) * layout.stage_ranks
    read = sum(_offloaded_read(served) for served in serving.ranks) * layout.stage_ranks
    weights = offloaded + split.host_weights_bytes(layout)
    held = Load(load.context, divide_up(load.batch, replicas))
    if split.is_split and serving.profile.engine is EngineName.LLAMACPP:
        # every slot has its cache from the start
        held = Load(settings.max_model_len or load.context, settings.max_num_seqs or 1)
        tables = (o for o in serving.model.decoder.before if isinstance(o, Embedding))
        weights += sum(table.weights_bytes for table in tables)
    state = split.host_state_bytes(held.context) * held.batch
    tier = _tier(serving, replicas, group, load, beside)
    known = group.node.host_memory_bytes if group.node else None
    return Host(
        weights_bytes=divide_up(weights * copies, nodes),
        state_bytes=divide_up(state * copies, nodes),
        tier=tier,
        capacity_bytes=known if beside.host_memory_bytes is None else beside.host_memory_bytes,
        read_bytes_per_token=read + split.read_bytes_per_token(layout),
        link=group.device.host_link,
        ranks=layout.tp,
    )


def _offloaded(served: ServedRank) -> int:
    """Bytes of a rank's weights that a size asks for."""
    return served.facts.offloaded_bytes(served.plan.settings.cpu_offload_bytes or 0)


def _offloaded_read(served: ServedRank) -> int:
    """Of these, what one token uses: their share of what it uses of the whole rank."""
    held = served.rank.model.decoder.counted
    whole = sum(o.weights_bytes * n for o, n in held)
    active = sum(active_bytes(o) * n for o, n in held)
    return _offloaded(served) * active // whole if whole else 0


def _tier(serving: Serving, replicas: int, group: GpuGroup, load: Load, beside: Beside) -> Tier:
    """A share of the same size for each GPU; the rank whose cache ends first decides."""
    each = beside.tier_bytes or serving.worst.plan.settings.swap_space_bytes or 0
    need = serving.worst.plan.cache.request_bytes(load.context)
    if not each or not need:
        return Tier()
    gpus = min(group.per_node, replicas * serving.layout.gpus)
    groups = replicas * serving.layout.dp
    return Tier(each * gpus, each * load.context // need * groups, each // need * groups)
