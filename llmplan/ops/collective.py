"""Collectives: what the ranks of a group exchange, in bytes, whatever link carries it.

They have no weights and no state; the split of a model puts them between its operators.

Symbols: n ranks of the group, P payload of one token.
"""

from dataclasses import dataclass
from enum import StrEnum

from llmplan.ops.base import Array, Step
from llmplan.ops.linear import Tokens


class CollectiveKind(StrEnum):
    """What is exchanged."""

    ALL_REDUCE = "all_reduce"
    """Every rank has a vector of P; all end with the sum."""
    ALL_GATHER = "all_gather"
    """Every rank has a part of P; all end with the whole."""
    REDUCE_SCATTER = "reduce_scatter"
    """Every rank has a vector of P; each ends with its part of the sum."""
    ALL_TO_ALL = "all_to_all"
    """Every rank has P, of which an equal part is for each rank, itself included."""
    SEND = "send"
    """One rank hands P to another."""

    def sent_frac(self, ranks: int) -> float:
        """Bytes that a rank sends, over the payload: the ring algorithm, which is optimal.

        2(n - 1)/n for an all-reduce, (n - 1)/n for its two halves and for all-to-all, 1 for a send.

        Source: Patarasuk and Yuan 2009 (bandwidth optimal all-reduce); NCCL tests, PERFORMANCE.md.
        """
        match self:
            case CollectiveKind.SEND:
                return 1.0
            case CollectiveKind.ALL_REDUCE:
                return 2 * (ranks - 1) / ranks
            case _:
                return (ranks - 1) / ranks

    @property
    def runs_in_a_ring(self) -> bool:
        """Whether ranks send to the next one only."""
        return self not in (CollectiveKind.ALL_TO_ALL, CollectiveKind.SEND)


@dataclass(frozen=True, slots=True)
class Collective:
    """One exchange between the ranks of a group.

    Attributes:
        kind: What is exchanged.
        ranks: Ranks of the group (n).
        payload_bytes: Payload of one token (P): the whole vector, not a rank's part of it.
        tokens: Which tokens of a step take part.
        token_shares: Ranks that share out the tokens at hand, so that each handles its part only.
    """

    kind: CollectiveKind
    ranks: int
    payload_bytes: float
    tokens: Tokens = Tokens.ALL
    token_shares: int = 1

    @property
    def sent_bytes_per_token(self) -> float:
        """Bytes that each rank sends for each token of its step; for a send, the sender."""
        return self.payload_bytes * self.kind.sent_frac(self.ranks) / self.token_shares

    def bytes_sent(self, step: Step) -> Array:
        """Bytes that each rank sends in a step, shapes [..., G] to [...]."""
        sent: Array = self.sent_bytes_per_token * self.tokens.in_step(step)
        return sent
