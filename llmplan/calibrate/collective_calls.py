"""One collective between some ranks: its input, its call, and the result that it must have.

Inputs are whole numbers that float16 holds, chosen so that every part of a result is known, and
that parts of different ranks differ. Buffers are split in equal parts, one for each rank.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Self

import torch
import torch.distributed as dist

from llmplan.calibrate.ranks import Ranks
from llmplan.dtypes import divide_exactly
from llmplan.ops.collective import CollectiveKind

FORMAT: Final = torch.float16
SUMMED: Final = 3
"""Greatest summand: sums of 682 ranks stay exact in float16, which holds integers up to 2048."""
MOST_RANKS: Final = 2048 // SUMMED
GATHERED: Final = 2039
"""Values that are handed on are counted up to this prime: all exact, neighbours all different."""
UNSENT: Final = -1.0
"""What results hold before."""

# torch 2.13 renamed both and warns of the former names
_all_gather: Final = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter: Final = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Ranks that exchange.

    Attributes:
        members: Their numbers in the world; rank 0 is always the first.
        per_node: How many of them a node has.
        kinds: Collectives that are timed between them.
        handle: Torch's group of them.
    """

    members: tuple[int, ...]
    per_node: int
    kinds: tuple[CollectiveKind, ...]
    handle: dist.ProcessGroup

    @property
    def size(self) -> int:
        """Ranks in it."""
        return len(self.members)

    @property
    def is_across(self) -> bool:
        """Whether they stand on several nodes."""
        return self.size > self.per_node


@dataclass(frozen=True, slots=True)
class Buffers:
    """A collective that is ready to run on this rank.

    Attributes:
        call: Runs it once.
        result: Where its result is.
        given: What it reads, which is the result where it works in place.
    """

    call: Callable[[], object]
    result: torch.Tensor
    given: torch.Tensor

    @classmethod
    def of_nobody(cls) -> Self:
        """What a rank outside the group has: nothing to do."""
        return cls(lambda: None, torch.empty(0), torch.empty(0))

    @property
    def is_idle(self) -> bool:
        """Whether this rank has nothing to do."""
        return self.given.numel() == 0


@dataclass(frozen=True, slots=True)
class Point:
    """One collective between some ranks, at one size.

    Attributes:
        group: The ranks.
        kind: What they exchange.
        size_bytes: Of the whole buffer.
    """

    group: Group
    kind: CollectiveKind
    size_bytes: int

    @property
    def name(self) -> str:
        """What is refused where it fails: the collective at all sizes."""
        group = self.group
        nodes = f" on {divide_exactly(group.size, group.per_node)} nodes" * group.is_across
        return f"{self.kind.value} of {group.size} ranks{nodes}"


def sent_of(kind: CollectiveKind, ranks: int, rank: int) -> tuple[int, ...]:
    """What each equal part of a rank's input is filled with."""
    match kind:
        case CollectiveKind.ALL_REDUCE | CollectiveKind.REDUCE_SCATTER:
            return tuple(1 + (part + rank**2) % SUMMED for part in range(ranks))
        case CollectiveKind.ALL_TO_ALL:
            return tuple((rank * ranks + part) % GATHERED for part in range(ranks))
        case _:
            return ((rank + 1) % GATHERED,)


def expected_of(kind: CollectiveKind, ranks: int, rank: int) -> tuple[int, ...]:
    """What each equal part of a rank's result must be filled with.

    Of a send, which goes from rank 0 to rank 1, both hold the same afterwards.
    """
    sent = [sent_of(kind, ranks, other) for other in range(ranks)]
    match kind:
        case CollectiveKind.ALL_REDUCE:
            return tuple(sum(parts) for parts in zip(*sent, strict=True))
        case CollectiveKind.REDUCE_SCATTER:
            return (sum(parts[rank] for parts in sent),)
        case CollectiveKind.ALL_GATHER:
            return tuple(part for (part,) in sent)
        case CollectiveKind.ALL_TO_ALL:
            return tuple(parts[rank] for parts in sent)
        case CollectiveKind.SEND:
            return sent[0]


def is_right(result: torch.Tensor, expected: Sequence[int]) -> bool:
    """Whether each equal part of a result is filled with what it must be, to the bit."""
    wanted = torch.tensor(expected, dtype=result.dtype, device=result.device)
    return bool((result.view(len(expected), -1) == wanted[:, None]).all())


def buffers(point: Point, ranks: Ranks) -> Buffers:
    """A collective over a buffer of this size, its input filled."""
    group, kind = point.group, point.kind
    rank, device = group.members.index(ranks.world.rank), ranks.device
    elements = divide_exactly(point.size_bytes, FORMAT.itemsize)
    part = divide_exactly(elements, group.size)
    given_elements = part if kind is CollectiveKind.ALL_GATHER else elements
    values = torch.tensor(sent_of(kind, group.size, rank), dtype=FORMAT, device=device)
    given = values.repeat_interleave(divide_exactly(given_elements, len(values)))

    def result(elements: int) -> torch.Tensor:
        return torch.full((elements,), UNSENT, dtype=FORMAT, device=device)

    handle = group.handle
    match kind:
        case CollectiveKind.ALL_REDUCE:
            return Buffers(partial(dist.all_reduce, given, group=handle), given, given)
        case CollectiveKind.ALL_GATHER:
            whole = result(elements)
            return Buffers(partial(_all_gather, whole, given, group=handle), whole, given)
        case CollectiveKind.REDUCE_SCATTER:
            mine = result(part)
            return Buffers(partial(_reduce_scatter, mine, given, group=handle), mine, given)
        case CollectiveKind.ALL_TO_ALL:
            swapped = result(elements)
            return Buffers(
                partial(dist.all_to_all_single, swapped, given, group=handle), swapped, given
            )
        case CollectiveKind.SEND if rank == 0:
            return Buffers(partial(dist.send, given, group.members[1], group=handle), given, given)
        case CollectiveKind.SEND:
            received = result(elements)
            return Buffers(
                partial(dist.recv, received, group.members[0], group=handle), received, given
            )


def checked_once(point: Point, ready: Buffers, ranks: Ranks) -> bool:
    """Run a collective once, and compare what this rank has then with what it must have.

    Raises:
        ArithmeticError: They differ.
    """
    ready.call()
    group = point.group
    expected = expected_of(point.kind, group.size, group.members.index(ranks.world.rank))
    if not is_right(ready.result, expected):
        raise ArithmeticError(
            f"wrong result of {point.name} at {point.size_bytes} bytes: the library or a link "
            "is at fault"
        )
    return True
