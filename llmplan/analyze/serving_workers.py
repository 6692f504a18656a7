"""The workers of a measured deployment: how each is split, and how many there are."""

import re
from dataclasses import dataclass, replace
from math import isfinite
from typing import Final

from llmplan.analyze.measured import Row, Skipped
from llmplan.errors import printable
from llmplan.parallel.layout import Layout

MOST: Final = 100_000
"""Bound of counts of GPUs, to refuse broken cells."""
NODE: Final = 8
"""GPUs over which tensor parallelism is assumed where nothing is said of the split."""
UNSTATED: Final = ("mlperf", "production")
"""Beginnings of scenarios whose split is tuned: none is assumed."""
OF_ONE_POOL: Final = ("prefill_only", "decode_only", "production")
_CONTEXT_PARALLEL: Final = re.compile(r"decode context parallel (\d{1,3})\b")
_PREFILL: Final = re.compile(r"prefill \d{1,4}x\(tp(\d{1,4}),dp(\d{1,4}),ep(\d{1,4})\)")
_PREFILL_TP: Final = re.compile(r"\d{1,4} prefill x TP(\d{1,4})\b")


@dataclass(frozen=True, slots=True)
class Pools:
    """Workers of a row.

    Attributes:
        layout: Of one worker; of a decode worker where prefill runs elsewhere.
        replicas: Workers of that layout.
        num_gpus: Of the deployment; of the one pool in rows of a pool.
        nodes: Hosts.
        disaggregated: Prefill and decode run on pools of their own.
        prefill_layout: Of a prefill worker where prefill runs elsewhere and the row states it.
        prefill_gpus: 0 where prefill does not run elsewhere, or is not stated.
        decode_gpus: Likewise.
        assumed: What is not stated and decides the answer.
        remarks: How words were read.
    """

    layout: Layout
    replicas: int
    num_gpus: int
    nodes: int
    disaggregated: bool = False
    prefill_layout: Layout | None = None
    prefill_gpus: int = 0
    decode_gpus: int = 0
    assumed: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Worker:
    """How one worker is split.

    Attributes:
        layout: Its layout.
        remarks: How words were read.
        assumed: What is not stated and decides the answer.
    """

    layout: Layout
    remarks: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


def pools_of(row: Row, *, has_experts: bool) -> Pools:
    """The workers of a row.

    Args:
        row: The row.
        has_experts: The model has routed experts, which data-parallel groups share.

    Raises:
        Skipped: The split or the number of GPUs is not stated, or they contradict each other.
    """
    num_gpus = count(row, "num_gpus")
    if not num_gpus:
        raise Skipped("does not state the number of GPUs")
    worker = _worker(row, num_gpus, has_experts=has_experts)
    is_apart = row.get("disaggregated", "").strip() == "1"
    prefill_gpus, decode_gpus = (
        count(row, name) if is_apart else 0 for name in ("prefill_gpus", "decode_gpus")
    )
    is_pool = row["scenario"].strip().startswith(OF_ONE_POOL)
    pool = decode_gpus if is_apart and not is_pool else num_gpus
    if not pool:
        raise Skipped("does not state the GPUs of the decode pool")
    replicas, left = divmod(pool, worker.layout.gpus)
    if not replicas:
        raise Skipped(f"layout: a worker of {worker.layout.gpus} GPUs, and {pool} to run it on")
    return Pools(
        worker.layout,
        replicas,
        num_gpus,
        count(row, "nodes") or 1,
        is_apart,
        _prefill(row, has_experts=has_experts) if is_apart else None,
        prefill_gpus,
        decode_gpus,
        worker.assumed,
        (*worker.remarks, f"{left} of {pool} GPUs are part of no worker" if left else ""),
    )


def _worker(row: Row, num_gpus: int, *, has_experts: bool) -> Worker:
    """One worker of a row; where nothing is said, tensor parallelism over a host's GPUs."""
    split = {name: count(row, name) for name in ("tp", "pp", "ep", "dp")}
    decode_cp = _context_parallelism(row)
    if split["tp"]:
        return worker_of(split, decode_cp, has_experts=has_experts)
    if row["scenario"].strip().startswith(UNSTATED) or num_gpus > NODE:
        raise Skipped("no layout stated")
    each = (split["pp"] or 1) * (split["dp"] or 1)
    worker = worker_of(split | {"tp": num_gpus // each}, decode_cp, has_experts=has_experts)
    return replace(worker, assumed=("layout",)) if num_gpus > 1 else worker


def worker_of(split: dict[str, int], decode_cp: int = 1, *, has_experts: bool) -> Worker:
    """The nearest layout to the degrees of a row; 0 is not stated.

    Of a dense model data parallelism makes copies, which are workers of their own.

    Raises:
        Skipped: More GPUs share the experts than a worker has.
    """
    tp, pp, dp = (split[name] or 1 for name in ("tp", "pp", "dp"))
    if not has_experts:
        # shared experts of a model without any are refused with the layout
        return Worker(Layout(tp=tp, pp=pp, ep=split["ep"] > 1, decode_cp=decode_cp))
    ranks, ep = tp * dp, split["ep"]
    if ep > ranks:
        raise Skipped(f"layout: {ep} GPUs share the experts of a worker of {ranks}")
    remarks: tuple[str, ...] = ()
    if dp > 1 and ep <= 1:
        remarks = ("experts split over all ranks are counted as whole experts on each",)
    elif 1 < ep < ranks:
        remarks = (f"experts shared by {ep} of {ranks} ranks are counted as the nearest layout",)
    elif not ep and ranks > 1:
        remarks = ("expert parallelism is not stated: none",)
    # between none and all: the nearer by ratio
    is_spread = dp > 1 or (ep > 1 and ep * ep >= ranks)
    return Worker(Layout(tp=tp, pp=pp, dp=dp, ep=is_spread, decode_cp=decode_cp), remarks)


def _prefill(row: Row, *, has_experts: bool) -> Layout | None:
    """The layout of prefill workers, where notes state it."""
    notes = row.get("notes", "")
    if match := _PREFILL.search(notes):
        tp, dp, ep = map(int, match.groups())
        return worker_of({"tp": tp, "pp": 1, "dp": dp, "ep": ep}, has_experts=has_experts).layout
    if match := _PREFILL_TP.search(notes):
        return Layout(tp=int(match[1]) or 1)
    return None


def _context_parallelism(row: Row) -> int:
    match = _CONTEXT_PARALLEL.search(row.get("notes", ""))
    return max(int(match[1]), 1) if match else 1


def count(row: Row, column: str) -> int:
    """A count of a row; 0 where it is blank.

    Raises:
        Skipped: No whole number, or one out of bounds.
    """
    value = number(row, column)
    if value is None:
        return 0
    if value != int(value) or value > MOST:
        raise Skipped(f"{column} is no count: {printable(row[column], 20)}")
    return int(value)


def number(row: Row, column: str) -> float | None:
    """A number of a row, not negative; None where it is blank.

    Raises:
        Skipped: No such number.
    """
    text = row.get(column, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and value >= 0):
        raise Skipped(f"{column} is no number: {printable(text, 20)}")
    return value
