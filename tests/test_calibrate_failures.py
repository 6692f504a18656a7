"""A calibration on a GPU goes on after whatever one kernel does, and keeps what it has."""

import pytest

from llmplan.hardware.catalogue import load_device
from llmplan.ops.base import Step
from llmplan.ops.linear import Linear
from llmplan.ops.precision import Precision, Role
from llmplan.perf.rates import rates_of

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from llmplan.calibrate import kernel as kernel_module  # noqa: E402  (they need torch)
from llmplan.calibrate import session  # noqa: E402
from llmplan.calibrate.attempts import LostDeviceError  # noqa: E402
from llmplan.calibrate.grid import Grid, Point, _spread  # noqa: E402
from llmplan.calibrate.journal import Row  # noqa: E402
from llmplan.calibrate.kernel import Place, Refused, offered  # noqa: E402
from llmplan.calibrate.machine import Machine  # noqa: E402
from llmplan.calibrate.runners import RUNNERS  # noqa: E402
from llmplan.calibrate.session import Order, calibrated  # noqa: E402
from llmplan.calibrate.timing import Timing  # noqa: E402

ENTERED = RUNNERS
"""They are entered by being imported."""
PRECISION = Precision()
PRODUCT = Linear("x", PRECISION, 64, 96, Role.FFN)
MACHINE = Machine(
    place=Place(torch.device("cuda", 63), (9, 0)),
    name="NVIDIA H200",
    slug="h200-sxm",
    unmatched="",
    memory_bytes=150_753_352_090,
    cache_bytes=60_000_000,
    cores=132,
    capability="9.0",
    driver="580.159",
    runtime="CUDA 13.0",
    torch_version="2.11.0+cu130",
    host="any",
)


@pytest.fixture
def order(tmp_path):
    points = tuple(Point(PRODUCT, 1, 2**power, 0, "grid") for power in range(8))
    rates = rates_of(load_device("h200-sxm"))
    return Order(
        machine=MACHINE, slug="h200-sxm", rates=rates, grid=Grid(points, 0, "a" * 64), models=(),
        budget_s=60.0, ranks=1, journal=tmp_path / "x.partial",
    )  # fmt: skip


@pytest.fixture
def timed(monkeypatch):
    """Times are made up, and results are right; the list holds what was timed."""
    found = []

    def measure(kernel, _place, _limits):
        found.append(kernel)
        seconds = 1e-6 * (1 + kernel.columns["m"])
        return Timing(seconds, seconds, 0.01, 10, 1, is_graph=True)

    monkeypatch.setattr(session, "measure", measure)
    monkeypatch.setattr(session, "verified", lambda _kernel, _place: 0.0)
    monkeypatch.setattr(session, "available_bytes", lambda _place: 140e9)
    return found


def silent(*_):
    """Nobody is told."""


def test_a_gpu_that_runs_nothing_more_leaves_what_was_measured(order, timed, monkeypatch):
    measure = session.measure

    def breaks(kernel, place, limits):
        if len(timed) == 5:
            raise LostDeviceError("aten_mm: an illegal memory access was encountered")
        return measure(kernel, place, limits)

    def dead(*_):
        raise AssertionError("nobody asks this GPU for anything")

    monkeypatch.setattr(session, "measure", breaks)
    monkeypatch.setattr(session, "available_bytes", dead)
    profile = calibrated(order, silent)
    assert [kernel.rows for kernel in profile.kernels] == [5]
    assert profile.layers == ()
    assert profile.memory is None
    assert "ran nothing more after aten_mm: an illegal memory access" in profile.notes[0]


@pytest.mark.usefixtures("timed")
def test_a_kernel_whose_rows_no_curve_takes_leaves_the_others(order, monkeypatch):
    with monkeypatch.context() as patch:
        rows = []
        patch.setattr(session.Journal, "add", lambda journal, row: rows.append(row) or (
            journal.rows.__setitem__(row.key, row)
        ))  # fmt: skip
        calibrated(order, silent)
    odd = [
        Row(row.table, {**row.labels, "kernel": "odd"}, {**row.columns, "m": -1.0 - at}, 1e-3, 0.0)
        for at, row in enumerate(rows)
    ]
    add = session.Journal.add

    def both(journal, row):
        add(journal, row)
        add(journal, odd[len(journal.rows) % len(odd)])

    monkeypatch.setattr(session.Journal, "add", both)
    profile = calibrated(order, silent)
    assert [kernel.labels["kernel"] for kernel in profile.kernels] == ["aten_mm"]
    (skipped,) = profile.skipped
    assert "odd" in skipped.name
    assert skipped.reason.startswith("not fitted: row 1 holds a time or number that cannot be")


def test_an_operator_that_cannot_be_asked_for_kernels_is_refused(monkeypatch):
    def breaks(*_):
        raise AttributeError("module 'torch.nn.functional' has no attribute 'ScalingType'\nmore")

    monkeypatch.setattr(kernel_module, "kernels", breaks)
    (refused,) = offered(PRODUCT, Step.of(1, 1, 0), MACHINE.place)
    assert refused == Refused(
        "Linear",
        "failed: AttributeError: module 'torch.nn.functional' has no attribute 'ScalingType'",
    )


@pytest.mark.parametrize("steps", [5, 8, 16])
def test_the_first_points_are_of_many_shapes_and_of_many_steps(steps):
    """Eight steps of sixteen shapes each: no step and no shape is left for the end."""
    points = [(shape, step) for shape in range(16) for step in range(steps)]
    order = _spread(points)
    assert sorted(order) == points
    assert order[0] == points[0]
    quarter = order[: len(points) // 4]
    assert len({step for _, step in quarter}) == steps
    assert len({shape for shape, _ in quarter}) >= 12
