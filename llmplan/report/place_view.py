"""The page of a placement: boxes of GPUs by node, ranks, collectives and links."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from llmplan.report.page import Cell, Page, Picture, Table, columns
from llmplan.results import schema
from llmplan.units import GIB, format_gib, format_runs

MOST_NODES: Final = 8
"""Nodes that are drawn; the table has all ranks."""
SHORT: Final = 8
"""Characters of a line in a box."""


def place_page(result: schema.PlaceResult, inputs: dict[str, Any]) -> Page:
    """Facts, the picture, and tables."""
    idle = f", {result.gpus_idle} GPUs idle" if result.gpus_idle else ""
    facts = [
        ("on", f"{inputs['gpus']}, {result.layout}{idle}"),
        ("weights", f"{inputs['dtype']}, {_sizes(result)}"),
        *_balance(result.expert_balance, _load(inputs)),
    ]
    tables = (_rank_table(result, inputs), *_collective_tables(result), *_link_tables(result))
    remarks = () if result.collectives else ("One rank holds everything: nothing is exchanged.",)
    return Page(
        f"{result.model}: placement",
        tuple(facts),
        tables,
        remarks=remarks,
        picture=_picture(result, inputs),
    )


def _sizes(result: schema.PlaceResult) -> str:
    sizes = [row.bytes for row in result.ranks]
    least, most = format_gib(min(sizes)), format_gib(max(sizes))
    of = f"of {format_gib(result.capacity_bytes)} ({result.capacity_provenance})"
    too_much = "" if result.weights_fit else ": too much"
    return f"{most if least == most else f'{least} to {most}'} a GPU {of}{too_much}"


def _load(inputs: dict[str, Any]) -> str:
    if inputs["expert_load"]:
        return f"load of {inputs['expert_load']}"
    return "even load" if inputs["zipf"] is None else f"Zipf load, exponent {inputs['zipf']:g}"


def _balance(balance: schema.ExpertBalance | None, load: str) -> Iterator[tuple[str, str]]:
    if balance is None:
        return
    extra = balance.slots - balance.experts
    copies = f" and {extra} redundant" if extra else ""
    heaviest = f"the heaviest gets {balance.most_loaded_share:.2%}"
    yield "experts", f"{balance.experts}{copies}; {load}, {heaviest}"
    yield (
        "busiest rank over the mean",
        f"{balance.imbalance:.3f} (experts in order, no copies: {balance.imbalance_before:.3f})",
    )


def _picture(result: schema.PlaceResult, inputs: dict[str, Any]) -> Picture:
    rows = [
        (f"node {node}", tuple(_cell(row, result.capacity_bytes, inputs) for row in ranks))
        for node, ranks in groupby(result.ranks, key=lambda row: row.node)
    ]
    left_out = f" (the first {MOST_NODES} of {len(rows)} nodes)" if len(rows) > MOST_NODES else ""
    what = "rank and stage, Layers, heads, kv heads, Experts, weights"
    return Picture(f"{what}{left_out}", tuple(rows[:MOST_NODES]))


def _cell(row: schema.PlacedRankRow, capacity_bytes: int, inputs: dict[str, Any]) -> Cell:
    lines = (
        f"#{row.rank} s{row.stage}",
        _short("L", row.layers),
        _short("h", row.heads),
        _short("kv", row.kv_heads),
        f"E {_part(inputs)}" if row.experts and _part(inputs) else _short("E", row.experts),
    )
    held = tuple(line for line in lines if line)
    digits = 1 if row.bytes < 100 * GIB else 0
    return Cell(held, row.bytes / capacity_bytes, f"{row.bytes / GIB:,.{digits}f} GiB")


def _part(inputs: dict[str, Any]) -> str:
    """What a rank has of each of its experts; empty for the whole."""
    return "" if inputs["ep"] > 1 or inputs["tp"] == 1 else f"1/{inputs['tp']}"


def _short(letter: str, numbers: list[int]) -> str:
    """Numbers as runs where that is short, else how many."""
    if not numbers:
        return ""
    text = f"{letter}{format_runs(sorted(numbers))}"
    return text if len(text) <= SHORT else f"{letter}: {len(numbers)}"


def _rank_table(result: schema.PlaceResult, inputs: dict[str, Any]) -> Table:
    numbers = ("rank", "node", "gpu", "stage", "weights")
    names = columns(*numbers[:4], "layers", "heads", "KV heads", "experts", "weights",
                    numbers=numbers)  # fmt: skip
    rows = tuple(
        (
            *(str(number) for number in (row.rank, row.node, row.gpu, row.stage)),
            *_by_block(row),
            _experts(row.experts, _part(inputs)),
            format_gib(row.bytes),
        )
        for row in result.ranks
    )
    return Table("Ranks", names, rows)


def _experts(numbers: list[int], part: str) -> str:
    listed = format_runs(dict.fromkeys(numbers))
    return f"{part} of {listed}" if listed and part else listed or "-"


def _by_block(row: schema.PlacedRankRow) -> tuple[str, str, str]:
    """Layers, heads and KV heads; blocks that differ stand side by side, most layers first."""
    heads = dict.fromkeys(mixer.heads for mixer in row.mixers)
    kv_heads = dict.fromkeys(mixer.kv_heads for mixer in row.mixers)
    return format_runs(row.layers), " / ".join(heads) or "-", " / ".join(kv_heads) or "-"


def _collective_tables(result: schema.PlaceResult) -> tuple[Table, ...]:
    if not result.collectives:
        return ()
    numbers = ("stage", "times", "ranks", "payload", "sent")
    names = columns("collective", "behind", "in", "stage", "times", "ranks", "over", "payload",
                    "sent", numbers=numbers)  # fmt: skip
    rows = tuple(
        (
            row.kind.replace("_", "-"),
            row.of,
            row.phase,
            str(row.stage),
            str(row.count),
            str(row.ranks),
            " + ".join(row.links),
            _size(row.payload_bytes_per_token, row.once_per),
            _size(row.sent_bytes_per_token, row.once_per),
        )
        for row in result.collectives
    )
    title = "Collectives of a step (bytes of one token, each time, on each rank)"
    return (Table(title, names, rows),)


def _size(size_bytes: float, once_per: str) -> str:
    text = f"{size_bytes:,.0f}"
    return text if once_per == "token" else f"{text} a {once_per}"


def _link_tables(result: schema.PlaceResult) -> tuple[Table, ...]:
    if not result.links:
        return ()
    names = columns("link", "in", "senders", "bytes a token", numbers=("senders", "bytes a token"))
    rows = tuple(
        (row.link, row.phase, str(row.senders), f"{row.busiest_bytes_per_token:,.0f}")
        for row in result.links
    )
    return (Table("Links (all collectives, what the busiest rank sends)", names, rows),)
