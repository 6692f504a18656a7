"""What serves, as memory has it: copies, layouts and places for requests."""

from dataclasses import dataclass, replace

from llmplan.analyze.fit import Deployment, answer
from llmplan.analyze.memory import Load
from llmplan.analyze.served_rows import RESERVING
from llmplan.analyze.traffic import (
    EARLY_UNTIL,
    USUAL_NODE,
    Deployed,
    Generation,
    PrefillPool,
)
from llmplan.dtypes import divide_up
from llmplan.engines.profile import Profile, is_older_than_day
from llmplan.engines.settings import Settings
from llmplan.errors import InputError, LayoutError
from llmplan.hardware.device import Device, GpuGroup
from llmplan.model.compiled import Model
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.results.engine_options import LayoutOptions
from llmplan.results.engine_said import engine_states
from llmplan.results.memory import MemoryQuestion
from llmplan.results.memory_on_gpus import per_gpu, question_of, why_not
from llmplan.results.traffic_options import TrafficOptions
from llmplan.units import Provenance


@dataclass(frozen=True)
class Serves:
    """A deployment that memory was asked about.

    Attributes:
        group: All GPUs.
        best: The copies that decode, for one request at a time.
        prefill: Those for prompts; None where all copies do both.
        profile: The engine.
        states: Formats of what requests keep.
        kept: Why the engine keeps it so; empty where it is as usual.
        settings: How the engine is started, defaults in force.
        draft: The draft model in the formats it is served in; None without one.
        model: The text decoder in the formats it is served in.
        tokens: Of a prompt and of an output.
    """

    group: GpuGroup
    best: Deployment
    prefill: Deployment | None
    profile: Profile
    states: StateFormats
    kept: str
    settings: Settings
    draft: Model | None
    model: Model
    tokens: tuple[int, int]

    @property
    def fits(self) -> bool:
        """Whether every engine starts and holds a request."""
        return all(each.fits for each in self.pools)

    @property
    def pools(self) -> tuple[Deployment, ...]:
        """Both pools, or the one."""
        return (self.best, self.prefill) if self.prefill else (self.best,)

    @property
    def reason(self) -> str:
        """What stops it, or would stop it next."""
        stopped = next((each for each in self.pools if not each.fits), self.best)
        return f"{'workers for prompts: ' * (stopped is self.prefill)}{stopped.reason}"

    @property
    def slots(self) -> int:
        """Requests that one copy runs at once: what memory holds, or the engine's limit."""
        limit = self.settings.max_num_seqs
        return self.held if limit is None else min(self.held, limit * self.best.serving.layout.dp)

    @property
    def held(self) -> int:
        """Requests that memory of one copy holds at once.

        Engines that page their cache hold what requests have so far, in the mean half an output;
        those that reserve it hold the whole.
        """
        isl, osl = self.tokens
        tokens = isl + (osl if self.profile.engine.value in RESERVING else divide_up(osl, 2))
        return self.best.serving.requests(tokens)

    @property
    def slots_provenance(self) -> Provenance:
        """Of ``slots``: that of the cache pool."""
        return per_gpu(self.best, self.group.device).provenance["kv_available_bytes"]

    @property
    def workers(self) -> int:
        """Copies that decode."""
        return self.best.arrangement.replicas

    @property
    def layout(self) -> str:
        """Of both pools."""
        if not self.prefill:
            return str(self.best.arrangement)
        return f"prompts {self.prefill.arrangement} : decode {self.best.arrangement}"

    @property
    def deployed(self) -> Deployed:
        """What an estimate is asked of."""
        early = is_older_than_day(self.profile, EARLY_UNTIL)
        pool = None
        if self.prefill:
            copies = self.prefill.arrangement.replicas
            pool = PrefillPool(layout=self.prefill.serving.layout, workers=copies)
        return Deployed(
            model=self.model,
            layout=self.best.serving.layout,
            workers=self.workers,
            device=self.group.device,
            engine=self.profile.engine.value,
            generation=Generation.EARLY if early else Generation.CURRENT,
            slots=self.slots,
            prefill=pool,
        )


def what_serves(
    asked: MemoryQuestion, traffic: TrafficOptions, published: Model, group: GpuGroup, most: int
) -> Serves:
    """The best layout that memory finds for ``most`` requests at once, or the one that was asked.

    Raises:
        InputError: Options that do not go together, or a device of which too little is known.
        LayoutError: The model does not split as asked.
    """
    check_device(group.device)
    isl, osl = traffic.tokens
    served = published.served(mtp=asked.mtp, vision=not asked.text_only)
    decoding, prompts = _pools(traffic, group)
    best = _best(asked, published, served, Load(isl + osl, most), decoding)
    prefill = None
    if prompts:
        layout = LayoutOptions(tp=traffic.prefill_tp) if traffic.prefill_tp else asked.layout
        prefill = _best(replace(asked, layout=layout), published, served, Load(isl, 1), prompts)
        _check_nodes(prefill, group)
    _check_nodes(best, group)
    question = question_of(asked, published, served, Load(isl + osl, 1), decoding)
    settings = best.serving.worst.plan.settings
    _check_host(best, settings)
    decoder = published.served(mtp=asked.mtp, vision=False)
    return Serves(
        group=group,
        best=replace(best, load=question.load),
        prefill=prefill,
        profile=question.profile,
        states=question.states,
        kept=engine_states(question.profile, published)[1],
        settings=settings,
        draft=question.beside.draft,
        model=lowered(decoder, asked.formats.dtype, question.states),
        tokens=(isl, osl),
    )


def check_device(device: Device) -> None:
    """Refuse a device whose rates are not known.

    Raises:
        InputError: With what is missing, and where it would stand.
    """
    missing = []
    if not device.bandwidth_bytes_per_s:
        missing.append("memory bandwidth")
    if not any(device.peak_flops_per_s(unit) for unit in ("bf16", "fp16")):
        missing.append("dense 16-bit rate")
    if not device.peak_flops_per_s("fp32"):
        missing.append("fp32 rate")
    if missing:
        raise InputError(
            f"{device.slug} has no known {' and no known '.join(missing)}, so no times follow: add "
            f"it, with its source, to {device.file}."
        )


def _best(
    asked: MemoryQuestion, published: Model, served: Model, load: Load, group: GpuGroup
) -> Deployment:
    placed = answer(question_of(asked, published, served, load, group))
    if placed.best:
        return placed.best
    reason = why_not(placed, group)
    if asked.layout.is_given:
        raise LayoutError(reason)
    raise LayoutError(
        f"no layout of {published.identity.name} on {group} works: {reason} Ask for fewer GPUs, or "
        "choose one with --tp, --pp, --dp and --ep."
    )


def _pools(traffic: TrafficOptions, group: GpuGroup) -> tuple[GpuGroup, GpuGroup | None]:
    """GPUs that decode, and those for prompts only where some are."""
    pools = traffic.pools()
    if pools is None:
        return group, None
    prompts, decoding = pools
    if prompts + decoding != group.count:
        raise InputError(
            f"--disaggregate {prompts}:{decoding} is of {prompts + decoding} GPUs, --gpus says "
            f"{group.count}."
        )
    return _part(group, decoding), _part(group, prompts)


def _part(group: GpuGroup, gpus: int) -> GpuGroup:
    """Some of the GPUs: of one node, or whole nodes."""
    if gpus <= group.per_node:
        return replace(group, nodes=1, per_node=gpus)
    if gpus % group.per_node:
        raise InputError(
            f"a pool of {gpus} GPUs is neither within a node of {group.per_node} nor whole nodes."
        )
    return replace(group, nodes=gpus // group.per_node)


def _check_nodes(deployment: Deployment, group: GpuGroup) -> None:
    """Refuse copies over parts of nodes: what times say of networks is of whole ones."""
    whole = group.node.devices if group.node else USUAL_NODE
    gpus = deployment.serving.layout.gpus
    if gpus > min(group.per_node, whole) and group.per_node != whole:
        raise InputError(
            f"a copy on {gpus} GPUs is over several groups of {group.per_node}: times are known "
            f"for copies within one, or over whole nodes of {whole} {group.device.slug}."
        )


def _check_host(deployment: Deployment, settings: Settings) -> None:
    """Refuse weights in host memory: their way over the host's link is not in any time."""
    if deployment.serving.halves.is_split or settings.cpu_offload_bytes:
        raise InputError(
            "times are known for weights on GPUs only: leave out what keeps them in host memory."
        )
