"""A calibration that is interrupted, that fails in parts, and whose time is too short."""

import json
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest

from llmplan.errors import InputError
from llmplan.hardware.catalogue import load_device
from llmplan.ops.linear import Linear
from llmplan.ops.norm import Norm
from llmplan.ops.precision import Precision, Role
from llmplan.perf.calibration import load, save
from llmplan.perf.fitting import Calibrated, described
from llmplan.perf.rates import rates_of

torch = pytest.importorskip("torch")

from llmplan.calibrate import session  # noqa: E402  (they need torch)
from llmplan.calibrate.grid import Grid, Point  # noqa: E402
from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels  # noqa: E402
from llmplan.calibrate.machine import Machine  # noqa: E402
from llmplan.calibrate.runners import RUNNERS  # noqa: E402
from llmplan.calibrate.session import Order, calibrated  # noqa: E402
from llmplan.calibrate.timing import Timing  # noqa: E402

ENTERED = RUNNERS
"""They are entered by being imported."""
P = Precision()
RATES = rates_of(load_device("h100-sxm"))
MACHINE = Machine(
    place=Place(torch.device("cpu")),
    name="NVIDIA H100 80GB HBM3",
    slug="h100-sxm",
    unmatched="",
    memory_bytes=80_000_000_000,
    cache_bytes=50_000_000,
    cores=132,
    capability="9.0",
    driver=None,
    runtime=None,
    torch_version="2.13.0",
    host="any",
)
LINEAR, NORM = Linear("x", P, 64, 96, Role.FFN), Norm("norm", P, 64)
POINTS = tuple(
    Point(operator, 1, tokens, 0, "grid")
    for tokens in (1, 2, 4, 8, 16)
    for operator in (LINEAR, NORM)
)
GRID = Grid(POINTS, 0, "a" * 64)


def seconds_of(kernel: Kernel) -> float:
    """A time that is no curve's, and another for every row."""
    return 1e-5 * (1 + sum(kernel.columns.values()) / 1e4)


def timing_of(kernel: Kernel, note: str = "") -> Timing:
    seconds = seconds_of(kernel)
    return Timing(seconds, seconds, 0.01, 10, 1, is_graph=False, note=note)


@pytest.fixture
def order(tmp_path):
    return Order(
        machine=MACHINE, slug="h100-sxm", rates=RATES, grid=GRID, models=(), budget_s=60.0,
        ranks=1, journal=tmp_path / "x.partial",
    )  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """The rows that were timed, in order; times are made up."""
    found = []

    def measure(kernel, _place, _limits):
        found.append((kernel.table, *sorted(kernel.columns.items())))
        return timing_of(kernel)

    monkeypatch.setattr(session, "measure", measure)
    return found


@pytest.fixture(autouse=True)
def unfitted(monkeypatch):
    """Curves stay where fits start: what is measured counts here."""

    def start(operator, rows, rates):
        named = {p.name: p.start for p in operator.parameters(rows.labels)}
        return Calibrated(**described(operator, named, rows, rates).model_dump())

    monkeypatch.setattr(session, "fitted_kernel", start)


def silent(_done, _total):
    """Nobody is told."""


def stop_after(points):
    """A progress bar that somebody interrupts; it is told of every point before it is measured."""
    told = count()

    def tick(_done, _total):
        if next(told) == points:
            raise KeyboardInterrupt

    return tick


def interrupted(order, points):
    with pytest.raises(KeyboardInterrupt):
        calibrated(order, stop_after(points))


# --- interrupted


def test_a_second_run_measures_the_rest(order, measured):
    interrupted(order, 4)
    assert len(measured) == 4
    assert len(order.journal.read_text().splitlines()) == 1 + 4
    again = calibrated(order, silent)
    assert len(measured) == len(set(measured)) == len(POINTS)
    assert sum(k.rows for k in again.kernels) == len(POINTS)


def test_an_interrupted_run_ends_as_one_that_was_not(order, measured, tmp_path):
    interrupted(order, 7)
    again = calibrated(order, silent)
    whole = calibrated(replace(order, journal=tmp_path / "other.partial"), silent)
    assert len(measured) == 2 * len(POINTS)
    assert again.model_copy(update={"conditions": whole.conditions}) == whole


def test_a_fresh_run_measures_all_again(order, measured):
    interrupted(order, 4)
    calibrated(replace(order, is_fresh=True), silent)
    assert len(measured) == 4 + len(POINTS)


@pytest.mark.parametrize(
    "change",
    [
        {"grid": replace(GRID, sha256="b" * 64)},
        {"slug": "h200-sxm"},
        {"machine": replace(MACHINE, torch_version="2.14.0")},
    ],
    ids=["grid", "device", "torch"],
)
def test_another_calibration_begins_anew(order, measured, change):
    interrupted(order, 4)
    calibrated(replace(order, **change), silent)
    assert len(measured) == 4 + len(POINTS)


def test_other_tables_begin_anew(order, measured, monkeypatch):
    interrupted(order, 4)
    with monkeypatch.context() as patch:
        patch.setattr(session, "fingerprint", lambda: "f" * 64)
        interrupted(order, 1)
    assert len(measured) == 4 + 1
    assert len(order.journal.read_text().splitlines()) == 1 + 1


def test_less_room_is_no_other_grid(order, measured):
    """Free memory differs from run to run; what fits is measured, what was measured stays."""
    interrupted(order, 4)
    calibrated(replace(order, grid=Grid(POINTS[:6], 4, GRID.sha256)), silent)
    assert len(measured) == 6


def test_a_last_line_that_was_cut_off_is_measured_again(order, measured):
    interrupted(order, 4)
    text = order.journal.read_text()
    order.journal.write_text(text[:-20])
    calibrated(order, silent)
    assert len(measured) == len(POINTS) + 1
    assert measured[3] == measured[4]


@pytest.mark.parametrize(
    "line",
    [
        "[]", "5", '"!!python/object/apply:os.system [ls]"', "{}", "\x00\x00",
        '{"table": 5, "labels": {}, "columns": {}, "seconds": 1, "spread_frac": 0}',
        '{"table": "gemm", "labels": {}, "columns": {}, "seconds": 1, "spread_frac": 0}',
        '{"table": "gem", "labels": {}, "columns": {}, "seconds": 1, "spread_frac": 0}',
        (
            '{"table": "gemm", "labels": {"src": "a", "kernel": "b", "dtype": "bfloat16"},'
            ' "columns": {"m": 1, "n": 1, "k": NaN}, "seconds": 1, "spread_frac": 0}'
        ),
    ],
)  # fmt: skip
def test_a_line_that_is_no_row_ends_what_is_read(order, measured, line):
    interrupted(order, 4)
    first, second, *rest = order.journal.read_text().splitlines()
    order.journal.write_text("\n".join([first, second, line, *rest]))
    calibrated(order, silent)
    assert len(measured) == 4 + len(POINTS) - 1


@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 50, b"{}\n", b"null\n"])
def test_a_file_that_is_no_journal_is_begun_anew(order, measured, content):
    order.journal.write_bytes(content)
    calibrated(order, silent)
    assert len(measured) == len(POINTS)
    head = json.loads(order.journal.read_text().splitlines()[0])
    assert (head["device"], head["torch"]) == ("h100-sxm", "2.13.0")


def test_a_journal_that_cannot_be_written_is_said_at_once(order, measured, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        calibrated(replace(order, journal=tmp_path / "file" / "x.partial"), silent)
    assert not measured


# --- failing in parts


def reasons(profile):
    return {skipped.name: skipped.reason for skipped in profile.skipped}


def failing(order, monkeypatch, error):
    """A calibration in which the product cannot run."""
    by_class = kernels.dispatch(Linear)

    def broken(*_inputs):
        raise error

    def runner(operator, step, place):
        return tuple(replace(kernel, run=broken) for kernel in by_class(operator, step, place))

    with monkeypatch.context() as patch:
        patch.setattr(session, "MOST_POINT_S", 0.02)
        patch.setattr(session, "offered", lambda o, s, p: (
            runner(o, s, p) if isinstance(o, Linear) else kernels(o, s, p)
        ))  # fmt: skip
        return calibrated(order, silent)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no such kernel\nand much more"), "no such kernel"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
    ],
)
def test_a_kernel_that_fails_is_recorded_and_others_go_on(order, monkeypatch, error, reason):
    profile = failing(order, monkeypatch, error)
    assert reasons(profile) == {"aten_mm": reason}
    assert [k.labels["op"] for k in profile.kernels] == ["Norm"]
    assert profile.kernels[0].rows == 5


def test_a_wrong_result_is_not_timed(order, measured, monkeypatch):
    def wrong(operator, step, place):
        return tuple(
            replace(kernel, run=lambda *tensors, run=kernel.run: run(*tensors) * 1.5)
            for kernel in kernels(operator, step, place)
        )

    monkeypatch.setattr(session, "offered", wrong)
    profile = calibrated(order, silent)
    assert not measured
    assert not profile.kernels
    assert set(reasons(profile)) == {"aten_mm", "aten_rms_norm"}
    assert reasons(profile)["aten_mm"].startswith("wrong result: relative error 0.5 is above")


def test_a_point_that_fails_is_named_now_and_after_an_interruption(order, monkeypatch):
    tried = []

    def measure(kernel, _place, _limits):
        tried.append(kernel)
        if kernel.columns.get("m") == 2:
            return session.Failed(kernel.labels["kernel"], "out of memory")
        return timing_of(kernel, "launched eagerly: no graph" if "m" in kernel.columns else "")

    monkeypatch.setattr(session, "measure", measure)
    interrupted(order, 6)
    profile = calibrated(order, silent)
    assert len(tried) == len(POINTS)  # what failed is not tried again
    assert reasons(profile) == {"aten_mm at m 2, n 96, k 64": "out of memory"}
    assert {k.operator: k.rows for k in profile.kernels} == {"gemm": 4, "by_work": 5}
    assert profile.notes == ("aten_mm: launched eagerly: no graph",)


def test_what_has_no_runner_is_skipped_with_the_reason(order, measured, monkeypatch):
    refused = (Refused("Linear", "needs another device"),)
    monkeypatch.setattr(session, "offered", lambda o, s, p: (
        refused if isinstance(o, Linear) else kernels(o, s, p)
    ))  # fmt: skip
    profile = calibrated(order, silent)
    assert reasons(profile) == {"Linear": "needs another device"}
    assert len(measured) == 5


def test_two_rows_are_kept_and_not_fitted(order, measured, tmp_path):
    few = Grid((*POINTS[::2], *POINTS[1:4:2]), 0, "c" * 64)
    profile = calibrated(replace(order, grid=few), silent)
    assert [k.operator for k in profile.kernels] == ["gemm"]
    assert "too few measured rows to fit" in reasons(profile).values()
    assert {p.operator: len(p.kernel_rows().measured_s) for p in profile.points} == {
        "gemm": 5, "by_work": 2,
    }  # fmt: skip
    save(profile, tmp_path / "x.yaml")
    assert load(tmp_path / "x.yaml").points == profile.points
    assert len(measured) == 7


# --- too little time


def test_a_budget_that_is_too_short_says_so_and_keeps_what_it_has(order, monkeypatch):
    seconds = count(step=6)  # from each look at the clock to the next
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr(session, "measure", lambda kernel, _place, _limits: timing_of(kernel))
    profile = calibrated(order, silent)
    (note,) = profile.notes
    assert note.startswith("the budget was spent after 7 of 10 points")
    # points come in an order that leaves some of every kind
    assert {k.operator: k.rows for k in profile.kernels} == {"gemm": 4, "by_work": 3}


def test_progress_is_told_to_the_end(order, measured):
    told = []
    calibrated(order, lambda done, total: told.append((done, total)))
    assert len(told) == len(measured) + 1
    assert told == sorted(told)
    done, total = told[-1]
    assert done == total
    assert all(done < total for done, total in told[:-1])


def test_a_profile_that_is_replaced_is_kept(tmp_path):
    from llmplan.calibrate.question import _set_aside

    path = tmp_path / "x.calibrated.yaml"
    assert _set_aside(path) == ()
    path.write_text("long run")
    (said,) = _set_aside(path)
    kept = tmp_path / "x.calibrated.yaml.before"
    assert str(kept) in said
    assert kept.read_text() == "long run"
    assert not path.exists()
