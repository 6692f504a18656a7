"""Which links the collectives of a placement cross, and what each rank sends over them a token.

Rings run in the order of ranks, flat over all nodes: each rank sends to the next one, so of a group
that spans nodes only the last rank of each node sends over the network, everything that it sends.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from llmplan.hardware.device import GpuGroup, Link
from llmplan.ops.collective import Collective, CollectiveKind
from llmplan.ops.linear import Tokens
from llmplan.parallel.collectives import Phase, PlacedCollective

NETWORK: Final = "network"
"""The link between nodes."""
UNKNOWN: Final = "link not in the catalogue"

Sent: TypeAlias = Mapping[tuple[int, str], float]
"""Bytes a token by rank and name of the link."""


@dataclass(frozen=True, slots=True)
class Links:
    """The links of a group of GPUs."""

    group: GpuGroup

    def between(self, rank: int, peer: int) -> str:
        """Name of the link between two ranks that stand on the GPUs of their number."""
        (node, gpu), (far_node, far_gpu) = (divmod(r, self.group.per_node) for r in (rank, peer))
        if node != far_node:
            return NETWORK
        link = self._fast
        if link and link.domain_size > 1 and gpu // link.domain_size == far_gpu // link.domain_size:
            return link.name
        host = self.group.device.host_link
        return host.name if host else UNKNOWN

    @property
    def _fast(self) -> Link | None:
        node = self.group.node
        return node.link if node else self.group.device.link


def sent_once(collective: Collective, ranks: tuple[int, ...], links: Links) -> Sent:
    """What each rank of one group sends for each token of its step."""
    sent: defaultdict[tuple[int, str], float] = defaultdict(float)
    for rank, peer, size in _transfers(collective, ranks):
        sent[rank, links.between(rank, peer)] += size
    return sent


def _transfers(collective: Collective, ranks: tuple[int, ...]) -> Iterator[tuple[int, int, float]]:
    """Sender, receiver and bytes a token."""
    total = collective.sent_bytes_per_token
    if collective.kind is CollectiveKind.SEND:
        yield ranks[0], ranks[1], total
    elif collective.kind.runs_in_a_ring:
        for index, rank in enumerate(ranks):
            yield rank, ranks[(index + 1) % len(ranks)], total
    else:
        for rank in ranks:
            for peer in ranks:
                if peer != rank:
                    yield rank, peer, total / (len(ranks) - 1)


def sent_in_phase(placed: tuple[PlacedCollective, ...], phase: Phase, links: Links) -> Sent:
    """What each rank sends for one token in all collectives of a phase.

    In decode every token gets logits; in prefill one a request does, which is left out.
    """
    sent: defaultdict[tuple[int, str], float] = defaultdict(float)
    for each in placed:
        collective = each.exchange.collective
        runs = each.exchange.phase in (phase, Phase.EVERY)
        if not runs or (phase is Phase.PREFILL and collective.tokens is Tokens.LAST):
            continue
        for ranks in each.groups:
            for key, size in sent_once(collective, ranks, links).items():
                sent[key] += each.count * size
    return sent


def crossed(placed: PlacedCollective, links: Links) -> tuple[str, ...]:
    """Names of the links that a collective crosses, in the order of ranks."""
    names = (
        name
        for ranks in placed.groups
        for _, name in sent_once(placed.exchange.collective, ranks, links)
    )
    return tuple(dict.fromkeys(names))
