"""What each rank holds, and what ranks send to each other."""

from llmplan.results.schema.common import Published
from llmplan.units import Provenance


class MixerRow(Published):
    """Heads of a rank in the layers of one block; numbers as runs, 0-15."""

    block: str
    """Name of the spec's block."""
    layers: str
    """Decoder layers that have it."""
    heads: str
    """Query heads, or heads of a recurrence."""
    kv_heads: str
    """Key and value heads, or groups; a latent is head 0 of all ranks."""
    kv_copies: int
    """Ranks of a tensor group that hold the same ones."""


class PlacedRankRow(Published):
    """What one rank holds, and where it stands."""

    rank: int
    """Number, from 0: data-parallel group x stage x prefill_cp x tp, the last one fastest."""
    node: int
    """Number of its node."""
    gpu: int
    """Number of its GPU in the node."""
    stage: int
    """Pipeline stage."""
    dp_rank: int
    """Data-parallel group."""
    prefill_cp_rank: int
    """Place among the ranks that share out a prompt."""
    tp_rank: int
    """Place in its tensor group."""
    layers: list[int]
    """Decoder layers by number."""
    heads: list[int]
    """Query heads by number, in the block that most of its layers have; mixers has all blocks."""
    kv_heads: list[int]
    """Key and value heads likewise; a latent is head 0 of all ranks."""
    kv_copies: int
    """Ranks of its tensor group that hold the same key and value heads."""
    mixers: list[MixerRow]
    """Heads by block, most layers first; empty where no mixer has heads."""
    experts: list[int]
    """Routed experts by number: whole with expert parallelism, else a part of every one."""
    expert_share: float | None
    """Its part of all routed tokens, with expert parallelism."""
    bytes: int
    """Stored weights, scales, buffers and copies included."""
    sent_bytes_per_token: dict[str, dict[str, float]]
    """By phase and link: what it sends for one token, all collectives; logits in decode only."""


class CollectiveRow(Published):
    """One collective that the ranks of a stage run."""

    kind: str
    """all_reduce, all_gather, reduce_scatter, all_to_all or send."""
    of: str
    """The operator that it follows, or what is handed on."""
    over: str
    """The axis along which ranks join."""
    phase: str
    """Every step, or prefill or decode only."""
    once_per: str
    """What the bytes are for: a token, or a request (logits)."""
    stage: int
    """Stage that runs it; of a send, the sender's."""
    count: int
    """How often a step runs it."""
    ranks: int
    """Ranks of a group."""
    groups: list[list[int]]
    """Ranks by number; of a send, sender and receiver."""
    links: list[str]
    """Links that it crosses."""
    payload_bytes_per_token: float
    """The whole vector of one token."""
    sent_bytes_per_token: float
    """What each rank sends of it, once."""


class LinkTraffic(Published):
    """What the busiest rank sends over one link."""

    phase: str
    """prefill or decode."""
    link: str
    """Name of the link; network between nodes."""
    senders: int
    """Ranks that send over it."""
    busiest_bytes_per_token: float
    """Of these, what the busiest sends for one token of its own."""


class ExpertBalance(Published):
    """Load of the ranks that experts are spread over."""

    experts: int
    """Routed experts of a layer."""
    slots: int
    """Copies in all, originals included."""
    most_loaded_share: float
    """Share of routed tokens of the expert that gets most."""
    imbalance_before: float
    """Largest load of a rank over the mean, experts in order and without copies."""
    imbalance: float
    """The same as placed."""
    copies_of: dict[str, int]
    """Experts with more than one copy."""


class PlaceResult(Published):
    """``llmplan place``."""

    model: str
    """Catalogue name."""
    layout: str
    """In short words: tp4 pp2, tp1 adp8 ep."""
    gpus_used: int
    """GPUs of the one copy."""
    gpus_idle: int
    """GPUs left over."""
    capacity_bytes: int
    """What the driver gives a process on each GPU."""
    capacity_provenance: Provenance
    """How that is known."""
    weights_fit: bool
    """Whether the weights alone are within it on every rank."""
    ranks: list[PlacedRankRow]
    """Every rank."""
    collectives: list[CollectiveRow]
    """Every collective of a step, by stage."""
    links: list[LinkTraffic]
    """Traffic by phase and link."""
    expert_balance: ExpertBalance | None
    """With expert parallelism."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return not self.weights_fit
