"""Ranks: processes that exchange data, how they join, and what they agree on.

Every rank is a process of its own. Those that ``local_ranks`` starts meet through a file, so no
port is needed; those of torchrun meet as it says. None can hang: each ends itself when its time
is up.
"""

import datetime as dt
import faulthandler
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
import torch.distributed as dist

from llmplan.calibrate.kernel import Refused
from llmplan.errors import InputError, printable

Result = TypeVar("Result")

STORE: Final = "LLMPLAN_RANKS_STORE"
"""Variable that names the file through which ranks meet that were started here."""
LAUNCHED: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Variables that torchrun sets for each rank. Source: torch.distributed.run, environment."""


@dataclass(frozen=True, slots=True)
class World:
    """The place of this process among all ranks.

    Attributes:
        rank: From 0 on.
        count: Ranks on all nodes.
        local_rank: Among those of this node; also the number of its GPU.
        per_node: Ranks on each node.
        store: File through which they meet; empty where torchrun says how.
    """

    rank: int
    count: int
    local_rank: int
    per_node: int
    store: str = ""

    @property
    def nodes(self) -> int:
        """Nodes that the ranks stand on."""
        return self.count // self.per_node


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether this process is one rank of several.

    Clusters set some of the variables for a whole node, which is no rank: torchrun sets all.
    """
    return all(name in environment for name in LAUNCHED)


def world_of(environment: Mapping[str, str]) -> World:
    """The world that a launcher describes.

    Raises:
        InputError: A variable is missing or contradicts the others.
    """
    rank, count, local_rank, per_node = (_number(environment, name) for name in LAUNCHED)
    store = environment.get(STORE, "")
    if not store and "MASTER_ADDR" not in environment:
        raise InputError("RANK is set but MASTER_ADDR is not: start all ranks with torchrun.")
    if not (rank < count and local_rank < per_node <= count):
        raise InputError(
            f"rank {rank} of {count} and {local_rank} of {per_node} on its node cannot be: "
            "start all ranks with torchrun."
        )
    if count % per_node:
        raise InputError(
            f"{count} ranks with {per_node} on this node: start as many on every node."
        )
    return World(rank, count, local_rank, per_node, store)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise InputError(
            f"{name}='{printable(text)}' is no number: start all ranks with torchrun, which sets "
            f"{', '.join(LAUNCHED)}."
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Ranks:
    """All ranks, joined, as one of them sees them.

    Attributes:
        world: Where this one stands.
        device: What it computes on.
        library: What exchanges data of that device: NCCL, RCCL or gloo.
        control: Group of all, on processors, by which they agree.
    """

    world: World
    device: torch.device
    library: str
    control: dist.ProcessGroup

    def greatest(self, *values: float) -> tuple[float, ...]:
        """The greatest of each value over all ranks; it also waits for all of them."""
        agreed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(agreed, dist.ReduceOp.MAX, group=self.control)
        return tuple(float(value) for value in agreed)

    def of_first(self, value: float) -> float:
        """The value that rank 0 has."""
        said = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(said, 0, group=self.control)
        return float(said[0])

    def attempt(self, name: str, work: Callable[[], Result]) -> Result | Refused:
        """The result of some work where all ranks have done it; a refusal on all where one failed.

        Args:
            name: What is tried, for the refusal.
            work: What this rank does; what torch cannot do, it raises.
        """
        outcome: Result | Refused
        try:
            outcome = work()
        except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
            said = str(error).strip() or type(error).__name__
            first = printable(said.splitlines()[0], 300)
            outcome = Refused(name, f"rank {self.world.rank}: {first}")
        if not self.greatest(float(isinstance(outcome, Refused)))[0]:
            return outcome
        reasons: list[str] = [""] * self.world.count
        mine = outcome.reason if isinstance(outcome, Refused) else ""
        dist.all_gather_object(reasons, mine, group=self.control)
        return Refused(name, next(said for said in reasons if said))


@contextmanager
def joined(world: World, device_type: str, limit_s: float) -> Iterator[Ranks]:
    """Join the other ranks; leave them at the end.

    A process that is not done when the limit has passed says where it stands and ends itself, even
    where it waits within a library.

    Raises:
        InputError: There is no such device for this rank.
    """
    device = _device(world, device_type)
    faulthandler.dump_traceback_later(limit_s, exit=True)
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{world.store}" if world.store else "env://",
            rank=world.rank,
            world_size=world.count,
            timeout=dt.timedelta(seconds=limit_s),
        )
        try:
            control = dist.new_group(backend="gloo", timeout=dt.timedelta(seconds=limit_s))
            ranks = Ranks(world, device, library_of(device), control)
            _refuse_uneven(ranks)
            yield ranks
        finally:
            dist.destroy_process_group()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _device(world: World, device_type: str) -> torch.device:
    if device_type == "cpu":
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if device_type != "cuda" or world.local_rank >= found:
        raise InputError(
            f"rank {world.local_rank} of this node has no {printable(device_type)} device: torch "
            f"sees {found} CUDA or ROCm GPUs. Start at most as many ranks, or use cpu."
        )
    device = torch.device("cuda", world.local_rank)
    torch.cuda.set_device(device)
    return device


def library_of(device: torch.device) -> str:
    """What exchanges data of a device: torch calls AMD's library nccl as well."""
    if device.type != "cuda":
        return "gloo"
    return "RCCL" if torch.version.hip else "NCCL"


def _refuse_uneven(ranks: Ranks) -> None:
    most, least = ranks.greatest(ranks.world.per_node, -ranks.world.per_node)
    if most != -least:
        raise InputError(
            f"nodes have {-least:.0f} to {most:.0f} ranks: start as many on every node."
        )
