"""Collectives between two processes of this machine, through gloo: times, checks and losses."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from llmplan.errors import DocumentError, InputError, LlmplanError
from llmplan.hardware.catalogue import load_device
from llmplan.ops.collective import CollectiveKind
from llmplan.perf.choice import KernelShelf
from llmplan.perf.exchanged import TABLE_WORDS, ring_curve
from llmplan.perf.family import profiled_devices
from llmplan.perf.operators.collectives import LIBRARIES
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.units import KIB, MIB

torch = pytest.importorskip("torch")

from llmplan.calibrate.collective_calls import (  # noqa: E402  (they need torch)
    MOST_RANKS,
    expected_of,
    is_right,
    sent_of,
)
from llmplan.calibrate.exchanges import (  # noqa: E402
    Request,
    exchange_points,
    group_sizes,
    main,
    measured_exchanges,
)
from llmplan.calibrate.kernel import Refused  # noqa: E402
from llmplan.calibrate.local_ranks import run_ranks  # noqa: E402
from llmplan.calibrate.ranks import STORE, World, is_launched, world_of  # noqa: E402
from llmplan.perf.exchange_rows import (  # noqa: E402
    ExchangeRow,
    Exchanges,
    read_exchanges,
    write_exchanges,
)

KINDS = tuple(CollectiveKind)
TWO_RANKS = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
ROW = ExchangeRow(
    "collectives",
    {"kernel": "gloo", "op": "all_reduce", "dtype": "half"},
    {"gpus": 2.0, "bytes": 2048.0},
    1e-4,
    0.1,
    "gloo between processors, 3 times 1",
)


@pytest.fixture(scope="module")
def measured() -> Exchanges:
    """Two ranks, buffers up to 2 MiB."""
    return measured_exchanges(Request("cpu", 2.0, 2 * MIB), count=2)


def rows_of(found: Exchanges, op: str) -> dict[float, ExchangeRow]:
    """By bytes."""
    return {row.columns["bytes"]: row for row in found.rows if row.labels["op"] == op}


@pytest.mark.parametrize("op", ["all_reduce", "all_gather"])
def test_every_size_up_to_the_largest_is_a_row(measured: Exchanges, op: str) -> None:
    rows = rows_of(measured, op)
    refused = {refused.name for refused in measured.refused}
    # a busy machine may not reach all sizes within the budget, and then says so
    assert set(rows) == set(exchange_points(2, 2 * MIB)) or f"{op} of 2 ranks" in refused
    assert {2 * MIB, 8 * KIB} <= set(rows)
    assert all(row.columns["gpus"] == 2 for row in rows.values())
    assert all(row.table == "collectives" for row in rows.values())
    assert all(row.labels["kernel"] == "gloo" for row in rows.values())
    assert all(row.seconds > 0 and row.spread_frac >= 0 for row in rows.values())


@pytest.mark.parametrize("op", ["all_reduce", "all_gather"])
def test_larger_messages_take_longer(measured: Exchanges, op: str) -> None:
    rows = rows_of(measured, op)
    sizes = sorted(rows)
    small = min(rows[size].seconds for size in sizes if size <= 32 * KIB)
    assert rows[2 * MIB].seconds > small


def test_whatever_a_library_lacks_is_told(measured: Exchanges) -> None:
    """Each collective has rows or a reason."""
    found = {row.labels["op"] for row in measured.rows}
    for kind in KINDS:
        word = TABLE_WORDS.get(kind, "send_recv")
        told = [r.reason for r in measured.refused if r.name == f"{kind.value} of 2 ranks"]
        assert word in found or (told and all(told))


def test_what_one_rank_sends_another_is_a_row_of_networks(measured: Exchanges) -> None:
    rows = [row for row in measured.rows if row.table == "network"]
    assert {row.labels["op"] for row in rows} <= {"send_recv"}
    for row in rows:
        assert set(row.columns) == set(OPERATORS["network"].numbers)
        assert (row.columns["gpus"], row.columns["gpus_per_node"]) == (2, 2)


def test_rows_are_rows_of_their_tables_and_curves_follow_them(measured: Exchanges) -> None:
    rates = rates_of(load_device("l40s"))
    for row in measured.rows:
        operator = OPERATORS[row.table]
        labels = {**row.labels, "src": "llmplan/torch/2.13.0"}
        assert set(labels) == set(operator.labels)
        assert set(row.columns) == set(operator.numbers)
        parameters = {p.name: p.start for p in operator.parameters(labels)}
        columns = {name: np.array([value]) for name, value in row.columns.items()}
        took = operator.seconds(parameters, columns, labels, rates)
        assert np.isfinite(took).all()
        assert took[0] > 0


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_every_library_has_the_curve_of_a_library(library: str) -> None:
    operator = OPERATORS["collectives"]
    columns = {"gpus": np.array([4.0, 8.0]), "bytes": np.array([4096.0, 1e8])}
    rates = rates_of(load_device("h100-sxm"))
    took = []
    for kernel in (library, "NCCL"):
        labels = {"src": "", "kernel": kernel, "op": "all_gather", "dtype": "half"}
        parameters = {p.name: p.start for p in operator.parameters(labels)}
        assert "switch_mb" not in parameters
        took.append(operator.seconds(parameters, columns, labels, rates))
    np.testing.assert_array_equal(*took)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind in TABLE_WORDS])
def test_steps_still_find_the_libraries_of_shipped_profiles(kind: CollectiveKind) -> None:
    for device in profiled_devices():
        for engine in ("vllm", "other"):
            curve = ring_curve(kind, 128, KernelShelf(device, engine))
            assert curve.labels["kernel"] == "NCCL"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_expected_results_are_what_the_words_say(kind: CollectiveKind, ranks: int) -> None:
    """By numpy, over a matrix of what each rank sends."""
    if kind is CollectiveKind.SEND and ranks > 2:
        pytest.skip("goes from one rank to another")
    sent = np.array([sent_of(kind, ranks, rank) for rank in range(ranks)])
    wanted = {
        CollectiveKind.ALL_REDUCE: lambda rank: sent.sum(0),  # noqa: ARG005
        CollectiveKind.REDUCE_SCATTER: lambda rank: sent.sum(0)[[rank]],
        CollectiveKind.ALL_GATHER: lambda rank: sent[:, 0],  # noqa: ARG005
        CollectiveKind.ALL_TO_ALL: lambda rank: sent.T[rank],
        CollectiveKind.SEND: lambda rank: sent[0],  # noqa: ARG005
    }[kind]
    for rank in range(ranks):
        assert list(expected_of(kind, ranks, rank)) == wanted(rank).tolist()


@pytest.mark.parametrize("kind", [CollectiveKind.ALL_REDUCE, CollectiveKind.ALL_TO_ALL])
def test_expected_results_are_exact_in_16_bits(kind: CollectiveKind) -> None:
    whole = torch.tensor(expected_of(kind, MOST_RANKS, 1))
    assert torch.equal(whole.to(torch.float16).to(torch.int64), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_result_is_seen(kind: CollectiveKind) -> None:
    expected = expected_of(kind, 2, 1)
    result = torch.tensor(expected, dtype=torch.float16).repeat_interleave(4)
    assert is_right(result, expected)
    assert not is_right(result, (expected[0] + 1, *expected[1:]))
    result[-1] += 1
    assert not is_right(result, expected)


def test_a_sum_that_was_left_out_is_seen() -> None:
    """What each rank had before is not what it must have after."""
    for rank in range(2):
        before = sent_of(CollectiveKind.ALL_REDUCE, 2, rank)
        assert not is_right(
            torch.tensor(before, dtype=torch.float16),
            expected_of(CollectiveKind.ALL_REDUCE, 2, rank),
        )


WRONG = """
import llmplan.calibrate.collective_calls as calls
right = calls.expected_of
calls.expected_of = lambda kind, ranks, rank: tuple(v + rank for v in right(kind, ranks, rank))
from llmplan.calibrate.exchanges import main
raise SystemExit(main(["--rows", {rows!r}, "--device", "cpu", "--budget", "1s",
                       "--largest", "4KiB"]))
"""


def test_a_wrong_reduction_is_refused_and_named(tmp_path) -> None:
    """Rank 1 expects other numbers than it gets: there are no rows, on rank 0 either."""
    rows = tmp_path / "rows.json"
    run_ranks([sys.executable, "-c", WRONG.format(rows=str(rows))], 2, limit_s=60)
    found = read_exchanges(rows)
    assert not found.rows
    reasons = {refused.name: refused.reason for refused in found.refused}
    assert len(reasons) == len(KINDS)
    assert "rank 1: wrong result of all_reduce" in reasons["all_reduce of 2 ranks"]


LOST = "import os, sys, time; r = os.environ['RANK']; r == '1' and sys.exit({end}); time.sleep(60)"


def test_a_rank_that_dies_ends_all_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(LlmplanError, match=r"rank 1 of 3 ended with exit code 1.*no such link"):
        run_ranks([sys.executable, "-c", LOST.format(end="'no such link'")], 3, limit_s=60)
    assert time.monotonic() - began < 15


def test_a_rank_that_is_killed_is_named() -> None:
    kill = "os.kill(os.getpid(), 9)"
    with pytest.raises(LlmplanError, match=r"rank 1 of 2 was ended by SIGKILL"):
        run_ranks([sys.executable, "-c", LOST.format(end=kill)], 2, limit_s=60)


def test_ranks_that_hang_are_stopped() -> None:
    began = time.monotonic()
    with pytest.raises(LlmplanError, match=r"rank 0 of 2 not done after 1 s: stopped"):
        run_ranks([sys.executable, "-c", LOST.format(end=0)], 2, limit_s=1)
    assert time.monotonic() - began < 15


def test_ranks_of_torchrun_measure_together(tmp_path) -> None:
    rows = tmp_path / "rows.json"
    given = ("--rows", rows, "--budget", "1s", "--largest", "64KiB", "--device", "cpu")
    start = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [*start, "-m", "llmplan.calibrate.exchanges", *map(str, given)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={name: value for name, value in os.environ.items() if name != STORE},
    )
    assert done.returncode == 0, done.stderr
    assert 65536.0 in rows_of(read_exchanges(rows), "all_reduce")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_sizes_double_from_a_kib_a_rank() -> None:
    sizes = exchange_points(3, 256 * MIB)
    assert sizes[0] == 3 * KIB
    assert all(after == 2 * before for before, after in pairwise(sizes))
    assert 128 * MIB < sizes[-1] <= 256 * MIB
    with pytest.raises(InputError, match="too small for 8 ranks: allow 8 KiB"):
        exchange_points(8, 4 * KIB)


@pytest.mark.parametrize(
    ("count", "per_node", "sizes"),
    [
        (1, 1, ()),
        (2, 2, (2,)),
        (8, 8, (2, 4, 8)),
        (6, 6, (2, 4, 6)),
        (2, 1, (2,)),
        (32, 8, (2, 4, 8, 16, 32)),
        (12, 4, (2, 4, 8, 12)),
    ],
)
def test_groups_are_parts_of_a_node_then_whole_nodes(count, per_node, sizes) -> None:
    assert group_sizes(count, per_node) == sizes


def test_a_single_rank_has_nobody_to_exchange_with() -> None:
    found = measured_exchanges(Request("cuda", 1.0, MIB), count=1)
    assert not found.rows
    assert "nobody to exchange with" in found.refused[0].reason


def test_a_launcher_says_where_a_rank_stands() -> None:
    launched = {**TWO_RANKS, "MASTER_ADDR": "node0"}
    assert world_of(launched) == World(1, 2, 1, 2)
    assert world_of({**launched, "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}).nodes == 2
    assert is_launched(launched)
    assert not is_launched({"RANK": "0", "WORLD_SIZE": "1"})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"LOCAL_WORLD_SIZE": ""}, "LOCAL_WORLD_SIZE=''.*torchrun"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not"),
        ({"RANK": "2"}, "rank 2 of 2"),
        ({"WORLD_SIZE": "3"}, "as many on every node"),
    ],
)
def test_a_launcher_that_contradicts_itself_is_refused(changed, said: str) -> None:
    given = {**TWO_RANKS, "MASTER_ADDR": "node0", **changed}
    with pytest.raises(InputError, match=said):
        world_of({name: value for name, value in given.items() if value is not None})


def test_rows_are_read_as_they_were_written(tmp_path) -> None:
    path = tmp_path / "rows.json"
    found = Exchanges((ROW, replace(ROW, seconds=2e-4)), (Refused("send of 2 ranks", "why"),))
    write_exchanges(path, found)
    assert read_exchanges(path) == found


def test_a_file_of_other_rows_is_refused(tmp_path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"rows": [], "refused": [], "colour": 1}))
    with pytest.raises(DocumentError, match="colour"):
        read_exchanges(path)
    with pytest.raises(DocumentError, match="No such file"):
        read_exchanges(tmp_path / "none.json")


def test_options_that_cannot_be_read_are_told(capsys) -> None:
    assert main(["--rows", "rows.json", "--budget", "60", "--device", "cpu"]) == 2
    assert "60" in capsys.readouterr().err
