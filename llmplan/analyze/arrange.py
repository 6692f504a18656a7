"""Ways to put copies of a model on a group of GPUs."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from llmplan.dtypes import divide_up
from llmplan.engines.settings import EngineName
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked of the layout; None for whatever is legal.

    Attributes:
        tp: Ranks that split each layer.
        pp: Stages.
        dp: Data-parallel groups: of the attention where experts are spread, else whole copies.
        ep: Whole experts on ranks.
        fixed: What is not searched over: context parallelism, redundant experts, stages by hand.
        every: Look at stages and spread experts too, rather than at tensor parallelism alone.
    """

    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: bool | None = None
    fixed: Layout = field(default_factory=Layout)
    every: bool = False

    @property
    def is_open(self) -> bool:
        """Whether nothing was asked for."""
        return self == Wanted(every=self.every)

    @property
    def options(self) -> str:
        """As options on a command line."""
        named = (("--tp", self.tp), ("--pp", self.pp), ("--dp", self.dp))
        words = [f"{name} {value}" for name, value in named if value]
        return " ".join([*words, "--ep"] if self.ep else words)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Copies of a model in one layout, with GPUs left over."""

    layout: Layout
    replicas: int
    idle: int = 0

    def __str__(self) -> str:
        """``tp4 pp2 dp2 (1 idle)``: layout, copies, what is left over."""
        copies = f"{self.layout}" if self.replicas == 1 else f"{self.layout} dp{self.replicas}"
        return f"{copies} ({self.idle} idle)" if self.idle else copies


def is_usual(layout: Layout, per_node: int) -> bool:
    """Whether layers are split within a node only, and stages are cut between nodes only.

    Stages within a node hold a little more and answer later; layers split between nodes wait for
    the network.
    """
    return layout.tp <= per_node and layout.pp <= divide_up(layout.gpus, per_node)


def arrangements(
    model: Model, group: GpuGroup, wanted: Wanted, engine: EngineName
) -> Iterator[Arrangement]:
    """Every arrangement to look at, in no order.

    Inside a node, tensor parallelism takes powers of two and the divisors of a node's GPUs, so some
    may stay idle; beyond one, whole nodes. Stages and spread experts are looked at where they are
    asked for, or where everything is. llama.cpp splits by layers only.
    """
    if engine is EngineName.LLAMACPP:
        stages = wanted.pp or group.count
        if wanted.tp in (None, 1):
            yield from _placed(group, replace(wanted.fixed, pp=stages), None)
        return
    seen = set()
    for layout in _layouts(model, group, wanted):
        for arrangement in _placed(group, layout, None if layout.ep else wanted.dp):
            if arrangement not in seen:
                seen.add(arrangement)
                yield arrangement


def _layouts(model: Model, group: GpuGroup, wanted: Wanted) -> Iterator[Layout]:
    has_experts = any(isinstance(o, Experts) for o, _ in model.decoder.counted)
    for tp in _tensor_sizes(group, wanted):
        for pp in _stage_counts(group, wanted, tp):
            if wanted.ep and wanted.dp is None:
                yield replace(wanted.fixed, tp=tp, pp=pp, ep=True)
            elif not wanted.ep:
                yield replace(wanted.fixed, tp=tp, pp=pp)
        if wanted.ep is False or not (wanted.ep or (wanted.every and has_experts)):
            continue
        for dp in _attention_groups(group, wanted, tp):
            yield replace(wanted.fixed, tp=tp, pp=wanted.pp or 1, dp=dp, ep=True)


def _tensor_sizes(group: GpuGroup, wanted: Wanted) -> tuple[int, ...]:
    if wanted.tp:
        return (wanted.tp,)
    inside = [
        tp for tp in range(1, group.per_node + 1) if group.per_node % tp == 0 or tp & (tp - 1) == 0
    ]
    across = [n * group.per_node for n in range(2, group.nodes + 1) if group.nodes % n == 0]
    return (*inside, *across)


def _stage_counts(group: GpuGroup, wanted: Wanted, tp: int) -> tuple[int, ...]:
    """Powers of two, as far as the group reaches; one where stages were not asked for."""
    if wanted.pp:
        return (wanted.pp,)
    if not wanted.every:
        return (1,)
    room = group.count // (tp * wanted.fixed.prefill_cp)
    return tuple(1 << power for power in range(max(room, 1).bit_length()))


def _attention_groups(group: GpuGroup, wanted: Wanted, tp: int) -> tuple[int, ...]:
    """Groups that fill a node, or all nodes."""
    if wanted.dp:
        return (wanted.dp,)
    sizes = {gpus // tp for gpus in (group.per_node, group.count) if gpus % tp == 0 and gpus > tp}
    return tuple(sorted(sizes))


def _placed(group: GpuGroup, layout: Layout, replicas: int | None) -> Iterator[Arrangement]:
    """The layout as often as the group has room for; none where a copy would straddle nodes."""
    size = layout.gpus
    if size <= group.per_node:
        copies = group.per_node // size * group.nodes
    elif size % group.per_node == 0:
        copies = group.count // size
    else:
        return
    if replicas is not None:
        if replicas > copies:
            return
        copies = replicas
    if copies:
        yield Arrangement(layout, copies, group.count - copies * size)
