"""Which rank holds what on which GPU, and what the ranks exchange."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from llmplan.errors import InputError
from llmplan.hardware.catalogue import parse_gpus
from llmplan.hardware.device import GpuGroup
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model, Part
from llmplan.ops.linear import Tokens
from llmplan.ops.precision import Role
from llmplan.parallel.collectives import Phase, PlacedCollective, collectives
from llmplan.parallel.experts import ExpertPlacement, Shares, stated_shares, zipf_shares
from llmplan.parallel.layout import Layout
from llmplan.parallel.placement import Mixer, PlacedRank, Placement, num_experts, placement
from llmplan.parallel.precision import weight_formats, with_weight_formats
from llmplan.parallel.traffic import Links, Sent, crossed, sent_in_phase
from llmplan.results import schema
from llmplan.results.common import Said, check_roles
from llmplan.results.engine_options import LayoutOptions
from llmplan.results.expert_load import expert_load
from llmplan.units import format_gib, format_runs

PHASES: Final = (Phase.DECODE, Phase.PREFILL)

SentByPhase: TypeAlias = dict[str, dict[str, float]]
"""Bytes a token by phase and name of the link."""


def chosen_layout(options: LayoutOptions, group: GpuGroup) -> Layout:
    """The one layout asked for; tensor parallelism takes what is left of a node unless given.

    Raises:
        InputError: Options that do not go together.
    """
    wanted = options.wanted(every=False)
    pp, dp = wanted.pp or 1, wanted.dp or 1
    left = max(1, group.count // (pp * dp * wanted.fixed.prefill_cp))
    tp = wanted.tp or min(left, group.per_node)
    layout = replace(wanted.fixed, tp=tp, pp=pp, dp=dp, ep=bool(wanted.ep))
    if layout.ep and layout.stage_ranks != options.ep:
        raise InputError(
            f"--ep {options.ep} spreads experts over all ranks of a stage, which are "
            f"{layout.stage_ranks}: tp {tp} x dp {dp} x prefill cp {layout.prefill_cp}."
        )
    return layout


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceQuestion:
    """Where each part of a model goes.

    Attributes:
        model: The model.
        gpus: The GPU group.
        dtype: Format of weights.
        layout: How it is split.
        text_only: Leave the vision tower out.
        zipf: Exponent of a Zipf load over the experts.
        expert_load: File with the load of each expert.
    """

    model: str
    gpus: str
    dtype: str = "native"
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    text_only: bool = False
    zipf: float | None = None
    expert_load: Path | None = None

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            InputError: An option cannot be read, or options do not go together.
            LayoutError: The model does not split as asked, or not over these GPUs.
        """
        published = load_model(self.model)
        group = parse_gpus(self.gpus)
        served = published.served(vision=not self.text_only)
        check_roles(served, self.dtype)
        model = with_weight_formats(served, weight_formats(self.dtype))
        layout = chosen_layout(self.layout, group)
        placed = placement(model, layout, group, self._shares(model, layout))
        found = collectives(model, layout)
        said = Said("place", self._inputs(published, placed), self._warnings(published, placed))
        return said.answered(place_result(placed, found))

    def _shares(self, model: Model, layout: Layout) -> Shares | None:
        if self.zipf is None and self.expert_load is None:
            return None
        if self.zipf is not None and self.expert_load is not None:
            raise InputError("--zipf and --expert-load both state the load: give one of them.")
        if not layout.ep:
            raise InputError(
                "a load of experts needs --ep: without it every rank has a part of every expert."
            )
        experts = num_experts(model)
        if not experts:
            return None
        if self.expert_load is not None:
            return stated_shares(expert_load(self.expert_load), experts)
        return zipf_shares(experts, self.zipf or 0.0)

    def _inputs(self, model: Model, placed: Placement) -> dict[str, Any]:
        layout, group = placed.layout, placed.group
        return {
            "model": model.identity.name,
            "gpus": str(group),
            "device": group.device.slug,
            "node": group.node.slug if group.node else None,
            "dtype": self.dtype,
            "tp": layout.tp,
            "pp": layout.pp,
            "dp": layout.dp,
            "ep": layout.stage_ranks if layout.ep else 1,
            "cp": layout.decode_cp,
            "prefill_cp": layout.prefill_cp,
            "redundant_experts": layout.redundant_experts,
            "pp_layers": [stage.num_layers for stage in placed.stages],
            "zipf": self.zipf,
            "expert_load": str(self.expert_load) if self.expert_load else None,
            "text_only": self.text_only,
            "mtp": False,
        }

    def _warnings(self, model: Model, placed: Placement) -> tuple[str, ...]:
        layout, group = placed.layout, placed.group
        idle = group.count - layout.gpus
        most, capacity = _most_bytes(placed), group.device.capacity_bytes
        chosen = f"--tp is not given: {layout.tp} is taken, what the rest leaves of a node."
        whole = "shared experts are split over tp; vLLM holds them whole where --dp and --tp meet."
        excess = f"{format_gib(most)} of weights on a rank, {format_gib(capacity)} on the GPU."
        remarks = (
            (self.layout.tp is None and not layout.ep, chosen),
            (idle, f"{idle} of {group.count} GPUs stay idle in this layout, {layout}."),
            (most > capacity, f"it does not fit: {excess}"),
            (
                model.parts(Part.MTP),
                "the model has MTP modules; they are left out, and so is what they exchange.",
            ),
            (layout.tp > 1 and layout.dp > 1 and _has_shared_experts(placed.model), whole),
            (
                placed.model.parts(Part.VISION) and layout.gpus > 1,
                "what the vision tower exchanges for an image is not among the collectives.",
            ),
        )
        return model.identity.assumptions + tuple(text for applies, text in remarks if applies)


def _has_shared_experts(model: Model) -> bool:
    operators = (operator for operator, _ in model.decoder.counted)
    return any(w.role is Role.SHARED_EXPERTS for o in operators for w in o.weights)


def _most_bytes(placed: Placement) -> int:
    return max(rank.weights_bytes for rank in placed.ranks)


def place_result(placed: Placement, found: tuple[PlacedCollective, ...]) -> schema.PlaceResult:
    """``llmplan place``."""
    layout, group = placed.layout, placed.group
    links = Links(group)
    sent = {phase: sent_in_phase(found, phase, links) for phase in PHASES}
    return schema.PlaceResult(
        model=placed.model.identity.name,
        layout=str(layout),
        gpus_used=layout.gpus,
        gpus_idle=group.count - layout.gpus,
        capacity_bytes=group.device.capacity_bytes,
        capacity_provenance=group.device.capacity_provenance,
        weights_fit=_most_bytes(placed) <= group.device.capacity_bytes,
        ranks=_rank_rows(placed.ranks, sent),
        collectives=[_collective_row(each, links) for each in found],
        links=[row for phase in PHASES for row in _link_rows(phase, sent[phase])],
        expert_balance=_balance(placed.experts) if placed.experts else None,
    )


def _rank_rows(
    ranks: tuple[PlacedRank, ...], sent: dict[Phase, Sent]
) -> list[schema.PlacedRankRow]:
    by_rank: list[SentByPhase] = [{phase.value: {} for phase in sent} for _ in ranks]
    for phase, sizes in sent.items():
        for (sender, link), size in sizes.items():
            by_rank[sender][phase.value][link] = size
    return [_rank_row(rank, by_rank[rank.rank]) for rank in ranks]


def _rank_row(rank: PlacedRank, sent: SentByPhase) -> schema.PlacedRankRow:
    most = rank.mixers[0] if rank.mixers else None
    return schema.PlacedRankRow(
        rank=rank.rank,
        node=rank.node,
        gpu=rank.gpu,
        stage=rank.seat.stage,
        dp_rank=rank.seat.dp,
        prefill_cp_rank=rank.seat.prefill_cp,
        tp_rank=rank.seat.tp,
        layers=list(rank.layers),
        heads=list(most.heads) if most else [],
        kv_heads=list(most.kv_heads) if most else [],
        kv_copies=most.kv_copies if most else 1,
        mixers=[_mixer_row(mixer) for mixer in rank.mixers],
        experts=list(rank.experts),
        expert_share=rank.expert_share,
        bytes=rank.weights_bytes,
        sent_bytes_per_token=sent,
    )


def _mixer_row(mixer: Mixer) -> schema.MixerRow:
    return schema.MixerRow(
        block=mixer.block,
        layers=format_runs(mixer.layers),
        heads=format_runs(mixer.heads),
        kv_heads=format_runs(mixer.kv_heads),
        kv_copies=mixer.kv_copies,
    )


def _collective_row(placed: PlacedCollective, links: Links) -> schema.CollectiveRow:
    collective = placed.exchange.collective
    return schema.CollectiveRow(
        kind=collective.kind.value,
        of=placed.exchange.of,
        over=placed.exchange.team.value,
        phase=placed.exchange.phase.value,
        once_per="token" if collective.tokens is Tokens.ALL else "request",
        stage=placed.stage,
        count=placed.count,
        ranks=collective.ranks,
        groups=[list(ranks) for ranks in placed.groups],
        links=list(crossed(placed, links)),
        payload_bytes_per_token=collective.payload_bytes,
        sent_bytes_per_token=collective.sent_bytes_per_token,
    )


def _link_rows(phase: Phase, sent: Sent) -> list[schema.LinkTraffic]:
    """The busiest sender on each link, and all senders together."""
    by_link: dict[str, list[float]] = {}
    for (_, link), size in sent.items():
        by_link.setdefault(link, []).append(size)
    return [
        schema.LinkTraffic(
            phase=phase.value,
            link=link,
            senders=len(sizes),
            busiest_bytes_per_token=max(sizes),
        )
        for link, sizes in by_link.items()
    ]


def _balance(experts: ExpertPlacement) -> schema.ExpertBalance:
    copies = experts.copies
    return schema.ExpertBalance(
        experts=len(experts.shares),
        slots=sum(copies.values()),
        most_loaded_share=max(experts.shares),
        imbalance_before=experts.imbalance_before,
        imbalance=experts.imbalance,
        copies_of={str(expert): n for expert, n in sorted(copies.items()) if n > 1},
    )
