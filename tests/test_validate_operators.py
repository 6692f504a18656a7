"""The tool that holds kernel curves to their targets, on a table made of a curve."""

import csv
import importlib
from pathlib import Path

import numpy as np
import pytest

from llmplan.perf.operators.network import NETWORK
from llmplan.perf.profile import Fitted, Kernels
from llmplan.perf.rates import Rates
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import kernel_rows

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

ROOT = Path(__file__).parent.parent
DEVICE = Rates("made-up", 1e12, {"bf16": 1e14}, 0.0, 100, 0.0)
LABELS = {"src": "made/up", "topology": "made_up", "op": "send_recv"}
TRUE = {
    "latency_us": 5.0,
    "quick_gb_s": 4.0,
    "ramp_us": 20.0,
    "full_gb_s": 100.0,
    "node_us": 15.0,
    "node_gb_s": 8.0,
    "host_us": 6.0,
    "burst_gb_s": 20.0,
    "burst_mb": 0.0,
}
ROWS = 24


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.setattr("llmplan.perf.fitting.STARTS", 1)
    return importlib.import_module("validate_operators")


@pytest.fixture
def table(tmp_path):
    """A table whose times are the curve itself."""
    sizes = np.geomspace(1e3, 1e9, ROWS)
    columns = {"gpus": np.full(ROWS, 2.0), "gpus_per_node": np.full(ROWS, 2.0), "bytes": sizes}
    seconds = NETWORK.seconds(TRUE, columns, LABELS, DEVICE)
    path = tmp_path / "made_up_network.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*LABELS, *columns, "latency_ms"])
        for i in range(ROWS):
            numbers = [values[i] for values in columns.values()]
            writer.writerow([*LABELS.values(), *numbers, seconds[i] * 1e3])
    return path


def kernels(**changed: float) -> Kernels:
    """A profile with the true curve, or a changed one."""
    fitted = Fitted(
        operator="network", labels=LABELS, parameters=TRUE | changed, rows=ROWS, median_error=0.0,
        p90_error=0.0, low_error=0.0, high_error=0.0, ranges={},
    )  # fmt: skip
    return Kernels({("network", tuple(sorted(LABELS.items()))): fitted})


def measured(tool, table, profile):
    (rows,) = kernel_rows(table, NETWORK)
    return tool.kernel_errors(NETWORK, rows, DEVICE, profile)


def test_a_true_curve_has_no_errors_and_trees_add_nothing(tool, table):
    found = measured(tool, table, kernels())

    assert found.rows == ROWS
    assert found.shipped == pytest.approx(np.zeros(ROWS))
    assert len(found.kept_back) == len(found.trees) == len(found.corrected) == ROWS / 2
    assert np.median(found.kept_back) < 0.05 < np.median(found.trees)
    assert np.median(found.corrected) < 0.05
    assert found.peaks == pytest.approx(np.ones(ROWS)), "no link is stated, so its bound is 0"


def test_errors_are_relative_to_what_was_measured(tool, table):
    """At large sizes half the rate is twice the time."""
    found = measured(tool, table, kernels(full_gb_s=50.0))

    assert found.shipped[-1] == pytest.approx(1.0, rel=0.01)


def test_a_kernel_of_no_profile_is_counted_and_not_predicted(tool, table):
    found = measured(tool, table, Kernels({}))

    assert found.rows == ROWS
    assert not len(found.shipped)


def test_products_in_16_bits_count_twice(tool):
    gemm = OPERATORS["gemm"]

    assert list(tool.titles(gemm, {"dtype": "bfloat16"})) == ["gemm", tool.BF16_GEMM]
    assert list(tool.titles(gemm, {"dtype": "fp8"})) == ["gemm"]
    assert list(tool.titles(OPERATORS["moe"], {"dtype": "bfloat16"})) == ["moe"]


def errors(tool, shipped: float, kept_back: float):
    one = np.ones(3)
    return tool.Errors(5, shipped * one, kept_back * one, one, one, one)


@pytest.mark.parametrize(
    ("shipped", "kept_back", "missed"),
    [(0.09, 0.12, False), (0.11, 0.05, True), (0.09, 0.14, True)],
)
def test_a_target_holds_in_sample_and_in_part_beyond(tool, shipped, kept_back, missed):
    found = errors(tool, shipped, kept_back)

    assert tool.misses("gemm", found) is missed
    assert not tool.misses("network", found), "has no target"
    assert tool.line("gemm", "h100-sxm", found)[-1] == ("**10%**" if missed else "10%")


def test_the_table_replaces_what_is_between_the_markers(tool, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{tool.BEGIN}old\n{tool.END}after\n")
    text = tool.markdown([tool.line("gemm", "h100-sxm", errors(tool, 0.05, 0.06))])

    tool.write(page, text)

    written = page.read_text()
    assert "| gemm | h100-sxm | 5 | 3 | 5.0% | 5.0% | 6.0% |" in written
    assert "old" not in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    with pytest.raises(ValueError, match="has no lines"):
        tool.write(table_without(tmp_path), text)


def table_without(folder: Path) -> Path:
    page = folder / "bare.md"
    page.write_text("no markers\n")
    return page
