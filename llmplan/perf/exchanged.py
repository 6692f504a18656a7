"""Time of the collectives of a step, from fitted curves of a node's links and of the network."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmplan.errors import InputError
from llmplan.hardware.device import GpuGroup
from llmplan.model.compiled import Model
from llmplan.ops.base import Cost, Step
from llmplan.ops.collective import Collective, CollectiveKind
from llmplan.ops.moe import Experts
from llmplan.parallel.collectives import Leg, Phase, PlacedCollective
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.kernels import US, Column, Columns, Labels
from llmplan.perf.parts import Part
from llmplan.perf.timed_attention import DECODE_TOKENS
from llmplan.units import Provenance

TABLE_WORDS: Final = {
    CollectiveKind.ALL_REDUCE: "all_reduce",
    CollectiveKind.ALL_GATHER: "all_gather",
    CollectiveKind.REDUCE_SCATTER: "reduce_scatter",
    CollectiveKind.ALL_TO_ALL: "alltoall",
}
SEND_WORD: Final = "send_recv"
NETWORK_LATENCY_US: Final = 23.0
"""What one exchange between nodes adds to that within nodes; a sum is two.

All-reduces of 10 to 43 kB take 71 us over two hosts of eight A100 and 25 us within one.
Source: microsoft/vidur data/profiling/network/a100_dgx (MIT), 16 and 8 GPUs, hosts of 8.
"""
NETWORK_FRAC: Final = 0.7
"""Of an adapter's rate: assumed."""
NETWORK_REASON: Final = "a usual share of the network's rate, and its latency"
LINK_FRAC: Final = 0.75
"""Of a link's rate, from one GPU to another: assumed."""
SEND_US: Final = 6.0
PCIE_BYTES_PER_S: Final = 25e9
"""Between GPUs without links: what PCI Express 4.0 x16 carries."""
HOST_FRAC: Final = 0.35
"""Of a host link's rate, with several GPUs sending at once."""
HOST_LATENCY_US: Final = 8.0
HOST_REASON: Final = "a usual share of the host's links"
PROBE_BYTES: Final = np.array([16e3, 128e3, 1e6, 16e6])


def exchange_part(
    placed: PlacedCollective, model: Model, step: Step, group: GpuGroup, shelf: KernelShelf
) -> Part:
    """The time of one collective in a step, as often as the step runs it."""
    collective = placed.exchange.collective
    tokens = _tokens(collective, step)
    if placed.exchange.phase is not Phase.EVERY:
        tokens = np.where(_is_decode(step) == (placed.exchange.phase is Phase.DECODE), tokens, 0.0)
    nodes = _nodes(placed, group)
    if nodes == 1:
        kept = _kept(collective, model, collective.ranks)
        sent = collective.sent_bytes_per_token * tokens * kept
        wire = sent / (shelf.rates.link_bytes_per_s or PCIE_BYTES_PER_S)
    else:
        sent = _leaving(collective, model, tokens, nodes)
        wire = sent / network_rate(group)
    seconds, curve, reason = _seconds(placed, model, tokens, group, shelf)
    seconds = np.where(tokens > 0, seconds, 0.0)
    none = np.zeros_like(sent)
    is_timed = curve is not None and (nodes == 1 or curve.operator.name == "network")
    if not is_timed and nodes > 1:
        reason = NETWORK_REASON
    least = wire if collective.kind is not CollectiveKind.ALL_REDUCE else wire / 2
    return Part(
        f"{collective.kind.value} {placed.exchange.of}",
        "collective",
        np.maximum(seconds, least),
        Cost(),
        none,
        none,
        least,
        placed.count,
        curve.provenance if curve and is_timed else Provenance.ASSUMED,
        reason or (curve.reason if curve else ""),
    )


def _tokens(collective: Collective, step: Step) -> Column:
    tokens: Column = np.asarray(collective.tokens.in_step(step), np.float64)
    return tokens


def _kept(collective: Collective, model: Model, places: int) -> float:
    """Part of a token's copies that is sent: one for each rank, or node, with its experts."""
    if collective.kind is not CollectiveKind.ALL_TO_ALL:
        return 1.0
    copies = _experts(model).num_experts_per_tok
    reached: float = places * (1 - (1 - 1 / places) ** copies)
    return min(reached / copies, 1.0)


def _experts(model: Model) -> Experts:
    return next(o for o, _ in model.decoder.counted if isinstance(o, Experts))


def _is_decode(step: Step) -> NDArray[np.bool_]:
    most: Column = np.max(np.where(step.requests > 0, step.new_tokens, 0.0), axis=-1)
    return most <= DECODE_TOKENS


def _nodes(placed: PlacedCollective, group: GpuGroup) -> int:
    """Nodes that the ranks of one group of a collective stand on."""
    reach = _domain(group)
    return max(len({rank // reach for rank in ranks}) for ranks in placed.groups)


def _domain(group: GpuGroup) -> int:
    """GPUs that reach each other without the network: a node, or a rack whose links join all."""
    link = group.node.link if group.node and group.node.link else group.device.link
    return max(group.per_node, link.domain_size if link else 1)


def network_rate(group: GpuGroup) -> float:
    """Bytes a second that a GPU sends to another node.

    Devices whose network is not published are taken to have 400 Gbit/s each.
    """
    node = group.node.scale_out_bytes_per_s if group.node else None
    return node or group.device.scale_out_bytes_per_s or 50e9


def _seconds(
    placed: PlacedCollective, model: Model, tokens: Column, group: GpuGroup, shelf: KernelShelf
) -> tuple[Column, Curve | None, str]:
    collective, nodes = placed.exchange.collective, _nodes(placed, group)
    if nodes > 1 and (own := own_network(collective.kind, shelf)):
        return own.seconds(_network_columns(collective, model, tokens, nodes)), own, ""
    if collective.kind is CollectiveKind.SEND:
        rate = (shelf.rates.link_bytes_per_s or PCIE_BYTES_PER_S) * LINK_FRAC
        if nodes > 1:
            rate = network_rate(group) * NETWORK_FRAC
        sent = collective.sent_bytes_per_token * tokens
        return SEND_US * US + sent / rate, None, "latency and rate of the link"
    leaving = _leaving(collective, model, tokens, nodes)
    if leg := placed.exchange.leg:
        found = _dispatch(collective, leg, model, tokens, shelf)
        if found:
            seconds, curve = found
            if nodes == 1:
                seconds = np.minimum(seconds, _gathered(collective, leg, model, tokens, shelf))
            return _across(seconds, leaving, nodes, group, collective), curve, ""
    within = max(collective.ranks // nodes, 2)
    curve = ring_curve(collective.kind, within, shelf, is_library=nodes > 1)
    kept = _kept(collective, model, collective.ranks)
    payload = collective.payload_bytes * tokens / collective.token_shares * kept
    seconds = curve.seconds(_columns(payload, within))
    if not shelf.rates.link_bytes_per_s:
        seconds, reason = over_host(seconds, payload, collective, curve, group), HOST_REASON
    else:
        reason = ""
    return _across(seconds, leaving, nodes, group, collective), curve, reason


def own_network(kind: CollectiveKind, shelf: KernelShelf) -> Curve | None:
    """What was measured between nodes of this very device; None where nothing was."""
    word = TABLE_WORDS.get(kind, SEND_WORD)
    probe = {
        "gpus": np.full_like(PROBE_BYTES, 2.0),
        "gpus_per_node": np.ones_like(PROBE_BYTES),
        "bytes": PROBE_BYTES,
    }
    found = shelf.measured("network", {"op": word}, probe)
    crosses = found and found.fitted.ranges["gpus"][1] > found.fitted.ranges["gpus_per_node"][0]
    return found if crosses else None


def _network_columns(collective: Collective, model: Model, tokens: Column, nodes: int) -> Columns:
    kept = _kept(collective, model, collective.ranks)
    payload = collective.payload_bytes * tokens / collective.token_shares * kept
    ranks = max(collective.ranks, nodes)
    return {
        "gpus": np.full_like(payload, ranks),
        "gpus_per_node": np.full_like(payload, max(ranks // nodes, 1)),
        "bytes": np.maximum(payload, 1.0),
    }


def over_host(
    fitted: Column, payload: Column, collective: Collective, curve: Curve, group: GpuGroup
) -> Column:
    """Between GPUs that share the links of their host.

    How fast that goes is the host's affair: tables of one device were measured 10 times slower in
    one host than deployments show in others. So it is a usual share of the link, or the table's
    time where that is less.
    """
    if curve.own:
        return fitted
    host = group.device.host_link
    rate = (host.unidirectional_bytes_per_s if host else None) or PCIE_BYTES_PER_S
    share = collective.kind.sent_frac(collective.ranks)
    latency = HOST_LATENCY_US * US * np.log2(max(collective.ranks, 2))
    shared: Column = latency + payload * share / (rate * HOST_FRAC)
    if collective.kind is CollectiveKind.ALL_TO_ALL:
        return shared
    return np.minimum(fitted, shared) if not curve.reason else shared


def _columns(payload: Column, ranks: int) -> Columns:
    return {"gpus": np.full_like(payload, ranks), "bytes": np.maximum(payload, 1.0)}


def _timed_ranks(curve: Curve) -> float:
    return curve.fitted.ranges["gpus"][1]


def ring_curve(
    kind: CollectiveKind, ranks: int, shelf: KernelShelf, *, is_library: bool = False
) -> Curve:
    """The engine's own all-reduce, or the library over more ranks than it was timed on.

    Ranks on several nodes have the library only: an engine's own maps its peers' memory. A library
    that was measured on the very device goes before an engine's kernel of another one.
    """
    word = TABLE_WORDS[kind]
    probe = _columns(PROBE_BYTES, ranks)
    wanted: Labels = {"op": word, "dtype": "half"}  # libraries, and nothing else, are timed so
    if kind is CollectiveKind.ALL_REDUCE and not is_library:
        own = shelf.best("collectives", {"op": word, "dtype": "bfloat16"}, probe)
        is_engines = own and f"/{shelf.engine}/" in own.labels["src"]
        is_borrowed = own and own.provenance is Provenance.ASSUMED
        is_better = is_borrowed and shelf.measured("collectives", wanted, probe)
        if own and is_engines and ranks <= _timed_ranks(own) and not is_better:
            return own
    found = shelf.best("collectives", wanted, probe)
    if not found:
        raise InputError(f"no profile has a kernel of {word}: run tools/fit_operators.py.")
    return found


def _dispatch(
    collective: Collective, leg: Leg, model: Model, tokens: Column, shelf: KernelShelf
) -> tuple[Column, Curve] | None:
    """All-to-all kernels made for experts: of low latency or of high rate, whichever is faster.

    Engines without them gather all tokens on all ranks, and scatter the sums.
    """
    if not shelf.rates.link_bytes_per_s:
        return None
    experts = _experts(model)
    mine = tokens / collective.token_shares

    def columns(tokens: Column) -> Columns:
        def whole(value: float) -> Column:
            return np.full_like(tokens, float(value))

        return {
            "ep": whole(collective.ranks),
            "nodes": whole(1),
            "hidden": whole(experts.hidden_size),
            "topk": whole(experts.num_experts_per_tok),
            "experts": whole(experts.routed_among or experts.num_experts),
            "tokens": np.maximum(tokens, 1.0),
        }

    found = []
    for size in (16.0, 2048.0):
        probe = columns(np.array([size]))
        for words in ("bfloat16", "default", ""):
            curve = shelf.best("moe_a2a", {"phase": leg.value, "dtype": words}, probe)
            if curve:
                found.append((curve.seconds(columns(mine)), curve))
                break
    if not found:
        return None
    seconds = np.minimum.reduce([s for s, _ in found])
    return seconds, found[0][1]


def _gathered(
    collective: Collective, leg: Leg, model: Model, tokens: Column, shelf: KernelShelf
) -> Column:
    """The same without kernels made for it: gather all tokens, scatter the sums of all experts.

    Engines choose so where tokens are few, or where they were not told otherwise.
    """
    kind = CollectiveKind.ALL_GATHER if leg is Leg.DISPATCH else CollectiveKind.REDUCE_SCATTER
    experts = _experts(model)
    token_bytes = experts.hidden_size * experts.activation_width_bytes
    buffer = tokens / collective.token_shares * collective.ranks * token_bytes
    curve = ring_curve(kind, collective.ranks, shelf)
    return curve.seconds(_columns(buffer, collective.ranks))


def _leaving(collective: Collective, model: Model, tokens: Column, nodes: int) -> Column:
    """Bytes that each rank sends to other nodes.

    Sums and gathers run within nodes first, so that the ranks of a node share what leaves it. Of a
    token's copies one goes to each node that has some of its experts.
    """
    payload: Column = collective.payload_bytes * tokens / collective.token_shares
    away = (nodes - 1) / nodes
    match collective.kind:
        case CollectiveKind.SEND:
            return payload
        case CollectiveKind.ALL_TO_ALL:
            return payload * _kept(collective, model, nodes) * away
        case CollectiveKind.ALL_REDUCE:
            return 2 * payload * away / max(collective.ranks // nodes, 1)
        case _:
            return payload * away / max(collective.ranks // nodes, 1)


def _across(
    seconds: Column, leaving: Column, nodes: int, group: GpuGroup, collective: Collective
) -> Column:
    """What the network adds where ranks are on several nodes: latency, and what leaves a node."""
    if nodes == 1:
        return seconds
    rounds = 2 if collective.kind is CollectiveKind.ALL_REDUCE else 1
    hops = rounds * NETWORK_LATENCY_US * US * np.ceil(np.log2(nodes))
    result: Column = seconds + hops + leaving / (network_rate(group) * NETWORK_FRAC)
    return result
