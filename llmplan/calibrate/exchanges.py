"""Collectives between ranks: which sizes are timed, how, and as rows of which tables.

The library's own collectives through torch.distributed, in 16 bits: NCCL, RCCL, or gloo between
processors. Each is checked at each size with whole numbers whose result is known, then timed. All
ranks walk through the same points in step; what one cannot do is refused on all.

On several nodes, under torchrun, groups within the first node are timed as well as those across.
Point to point goes into the table of networks, which alone has it.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
import torch.distributed as dist

from llmplan.calibrate.collective_calls import (
    MOST_RANKS,
    Buffers,
    Group,
    Point,
    buffers,
    checked_once,
)
from llmplan.calibrate.exchange_timing import timed_together
from llmplan.calibrate.kernel import SOURCE, Refused
from llmplan.calibrate.local_ranks import module_command, run_ranks
from llmplan.calibrate.ranks import Ranks, is_launched, joined, world_of
from llmplan.dtypes import divide_exactly
from llmplan.errors import InputError, LlmplanError
from llmplan.ops.collective import CollectiveKind
from llmplan.perf.exchange_rows import (
    ExchangeRow,
    Exchanges,
    read_exchanges,
    write_exchanges,
)
from llmplan.perf.exchanged import TABLE_WORDS
from llmplan.units import KIB, MIB, parse_bytes, parse_seconds

FORMAT_WORD: Final = "half"
"""As tables of libraries call it."""
SEND_WORD: Final = "send_recv"
CPU_RANKS: Final = 2
LEAST_RANKS: Final = 2
LARGEST_BYTES: Final = {"cuda": 256 * MIB, "cpu": 4 * MIB}
START_S: Final = 120.0
"""Starting Python, torch and the library's connections, on all ranks."""
OVERRUN: Final = 4.0
"""A run that takes so many times its budget hangs."""

ALONE: Final = Exchanges(
    refused=(Refused("collectives", "one rank has nobody to exchange with: needs two GPUs"),)
)


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure.

    Attributes:
        device: cuda, also for ROCm, or cpu.
        budget_s: Time for all points together; starting the ranks is not in it.
        largest_bytes: Of a buffer.
    """

    device: str
    budget_s: float
    largest_bytes: int


def exchange_points(ranks: int, largest_bytes: int) -> tuple[int, ...]:
    """Sizes of the whole buffer, bytes: 1 KiB for each rank, doubled up to the largest.

    Raises:
        InputError: Not even the least fits.
    """
    sizes = []
    size = ranks * KIB
    while size <= largest_bytes:
        sizes.append(size)
        size *= 2
    if not sizes:
        raise InputError(
            f"the largest buffer of {largest_bytes} bytes is too small for {ranks} ranks: allow "
            f"{ranks} KiB at least."
        )
    return tuple(sizes)


def group_sizes(count: int, per_node: int) -> tuple[int, ...]:
    """Ranks of the groups that are timed: 2, 4, … of a node, all of it; 2, 4, … nodes, all."""
    within = [2**power for power in range(1, per_node.bit_length()) if 2**power < per_node]
    nodes = divide_exactly(count, per_node)
    across = [2**power for power in range(1, nodes.bit_length()) if 2**power < nodes]
    sizes = {*within, per_node, *(per_node * some for some in across), count}
    return tuple(sorted(size for size in sizes if size > 1))


def groups_of(ranks: Ranks) -> Iterator[Group]:
    """The groups that are timed; every rank makes all of them, in the same order.

    Each is made of the first ranks, which stand on the first nodes. A send goes to the next rank
    of the node, and to the first of the next node.
    """
    world = ranks.world
    collective = tuple(TABLE_WORDS)
    for size in group_sizes(world.count, world.per_node):
        members = tuple(range(size))
        yield Group(members, min(size, world.per_node), collective, dist.new_group(list(members)))
    if world.per_node > 1:
        yield Group((0, 1), 2, (CollectiveKind.SEND,), dist.new_group([0, 1]))
    if world.nodes > 1:
        pair = (0, world.per_node)
        yield Group(pair, 1, (CollectiveKind.SEND,), dist.new_group(list(pair)))


def exchanges(ranks: Ranks, request: Request) -> Exchanges:
    """Measure all collectives between the ranks of this world; every rank returns the same rows.

    Raises:
        InputError: More ranks than sums can be checked for, or too small a largest buffer.
    """
    if ranks.world.count > MOST_RANKS:
        raise InputError(
            f"{ranks.world.count} ranks: sums are checked exactly up to {MOST_RANKS}. Start fewer."
        )
    if ranks.world.count < LEAST_RANKS:
        return ALONE
    end = time.monotonic() + request.budget_s
    points = points_of(ranks, request.largest_bytes)
    rows: list[ExchangeRow] = []
    refused: dict[str, Refused] = {}
    for done, point in enumerate(points):
        now = time.monotonic()
        left_s = ranks.of_first(end - now)
        if left_s <= 0:
            refused = {**_unmeasured(points, done), **refused}
            break
        if point.name in refused:
            continue
        found = _measured(ranks, point, now + left_s / (len(points) - done))
        if isinstance(found, Refused):
            refused[point.name] = found
        else:
            rows.extend(found)
    return Exchanges(tuple(rows), tuple(refused.values()), SOURCE)


def points_of(ranks: Ranks, largest_bytes: int) -> tuple[Point, ...]:
    """All points, in an order that leaves few sizes of everything where the budget ends early.

    Every fourth size of each collective comes first, the largest among them, then those between,
    then all others.

    Raises:
        InputError: The largest buffer is too small.
    """
    passes: list[list[Point]] = [[], [], []]
    for group in groups_of(ranks):
        for kind in group.kinds:
            sizes = exchange_points(group.size, largest_bytes)
            for at, size in enumerate(reversed(sizes)):
                passes[(0, 2, 1, 2)[at % 4]].append(Point(group, kind, size))
    return tuple(point for one in passes for point in one)


def _unmeasured(points: Sequence[Point], done: int) -> dict[str, Refused]:
    """What the budget did not suffice for, behind the first ``done`` points."""
    sizes = Counter(point.name for point in points)
    left = Counter(point.name for point in points[done:])
    return {
        name: Refused(name, f"{left[name]} of {sizes[name]} sizes not timed: allow more time")
        for name in left
    }


def _measured(ranks: Ranks, point: Point, end: float) -> tuple[ExchangeRow, ...] | Refused:
    """All ranks go through the same stages, also those that are not in the group.

    ``end`` is when it should be done, by the monotonic clock of this rank.
    """
    is_member = ranks.world.rank in point.group.members
    ready = ranks.attempt(
        point.name, lambda: buffers(point, ranks) if is_member else Buffers.of_nobody()
    )
    if isinstance(ready, Refused):
        return ready
    checked = ranks.attempt(point.name, lambda: not is_member or checked_once(point, ready, ranks))
    if isinstance(checked, Refused):
        return checked
    if point.kind is CollectiveKind.ALL_REDUCE:
        ready.given.zero_()  # it sums in place again and again: zeros stay finite
    timed = timed_together(ranks, point.name, ready, end)
    if isinstance(timed, Refused):
        return timed
    return tuple(
        ExchangeRow(table, labels, columns, timed.seconds, timed.spread_frac, timed.note)
        for table, labels, columns in placed(point, ranks)
    )


def placed(point: Point, ranks: Ranks) -> tuple[tuple[str, dict[str, str], dict[str, float]], ...]:
    """Tables that a point is a row of: name, labels, columns.

    What crosses nodes, and what one rank sends another, is a row of ``network``. Of several nodes
    the exchanges within one are rows of it too: its curve has both parts.
    """
    group, size = point.group, float(point.size_bytes)
    is_sent = point.kind is CollectiveKind.SEND
    word = SEND_WORD if is_sent else TABLE_WORDS[point.kind]
    found: list[tuple[str, dict[str, str], dict[str, float]]] = []
    if not is_sent and not group.is_across:
        labels = {"kernel": ranks.library, "op": word, "dtype": FORMAT_WORD}
        found.append(("collectives", labels, {"gpus": float(group.size), "bytes": size}))
    if is_sent or ranks.world.nodes > 1:
        topology = f"{ranks.library}-{ranks.world.per_node}-per-node"
        columns = {
            "gpus": float(group.size),
            "gpus_per_node": float(group.per_node),
            "bytes": size,
        }
        found.append(("network", {"topology": topology, "op": word}, columns))
    return tuple(found)


def usual_ranks(device: str) -> int:
    """Ranks where nobody says how many: one for each GPU, two on a processor."""
    return torch.cuda.device_count() if device == "cuda" else CPU_RANKS


def measured_exchanges(request: Request, count: int) -> Exchanges:
    """Measure between so many ranks of this machine, or between those that torchrun started.

    Every rank of torchrun calls this, and gets the same.

    Raises:
        LlmplanError: A rank failed or was not done in time.
    """
    limit_s = START_S + OVERRUN * request.budget_s
    if is_launched(os.environ):
        with joined(world_of(os.environ), request.device, limit_s) as ranks:
            return exchanges(ranks, request)
    if count < LEAST_RANKS:
        return ALONE
    with TemporaryDirectory(prefix="llmplan-exchanges-") as folder:
        rows = Path(folder) / "rows.json"
        run_ranks(_command(request, rows), count, limit_s)
        return read_exchanges(rows)


def _command(request: Request, rows: Path) -> tuple[str, ...]:
    return (
        *module_command("llmplan.calibrate.exchanges", "--rows", str(rows)),
        *("--device", request.device, "--budget", f"{request.budget_s:.6f}s"),
        *("--largest", f"{request.largest_bytes}B"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the rows: by itself, or as one rank of torchrun; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        largest = options.largest
        request = Request(
            options.device,
            parse_seconds(options.budget),
            parse_bytes(largest) if largest else LARGEST_BYTES[options.device],
        )
        found = measured_exchanges(request, options.ranks or usual_ranks(options.device))
        if not is_launched(os.environ) or world_of(os.environ).rank == 0:
            write_exchanges(Path(options.rows), found)
    except LlmplanError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m llmplan.calibrate.exchanges", description="Time collectives between ranks."
    )
    parser.add_argument("--rows", required=True, help="file for the rows, written by rank 0")
    parser.add_argument("--budget", default="60s", help="time for all points, as 60s")
    parser.add_argument("--largest", default="", help="largest buffer, as 256MiB")
    parser.add_argument(
        "--device",
        choices=tuple(LARGEST_BYTES),
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cuda is also AMD's",
    )
    parser.add_argument("--ranks", type=int, default=0, help="ranks; torchrun says so itself")
    return parser


if __name__ == "__main__":
    sys.exit(main())
