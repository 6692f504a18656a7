"""Marks of charts: what is written does not lie on each other."""

from itertools import combinations

import pytest

from llmplan.report.chart_marks import label_points, readable_ticks
from llmplan.report.charts import chart_svg
from llmplan.report.page import Chart, Line

matplotlib = pytest.importorskip("matplotlib")


def drawn(line, x_ticks=()):
    """A figure of one line, with ticks and labels, its places known."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.plot(line.x, line.y)
    readable_ticks(axes, x_ticks)
    label_points(figure, axes, (line,))
    figure.draw_without_rendering()
    return axes


def test_labels_of_crowded_points_do_not_overlap():
    x = (1.0, *(100 * 1.03**step for step in range(30)))
    line = Line("points", x, x, is_points=True, labels=tuple(f"operator {at:.0f}" for at in x))

    boxes = [text.get_window_extent() for text in drawn(line).texts]

    assert 2 < len(boxes) < len(x)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_labels_stay_inside_the_axes():
    line = Line("points", (1.0, 1000.0), (1.0, 1000.0), labels=("the first of all", "the last"))

    axes = drawn(line)

    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 <= box.x1 <= frame.x1


def test_ticks_that_have_no_room_are_left_out():
    x = (6.45, 6.54, 6.72, 7.1, 7.84, 9.33, 12.4, 18.5, 31.6)
    ticks = tuple((at, f"{at:g}") for at in x)

    words = [tick.get_text() for tick in drawn(Line("curve", x, x), ticks).get_xticklabels()]

    assert words[-1] == "31.6"
    assert "6.54" not in words


def test_ticks_of_near_points_are_both_there():
    x = (10.3, 10.6)
    ticks = tuple((at, f"{at:g}") for at in x)

    words = [tick.get_text() for tick in drawn(Line("curve", x, x), ticks).get_xticklabels()]

    assert words == ["10.3", "10.6"]


@pytest.mark.parametrize(("low", "high"), [(154, 7942), (5000, 5400), (0.2, 30)])
def test_an_axis_has_at_least_two_ticks_in_plain_numbers(low, high):
    axes = drawn(Line("curve", (1.0, 10.0), (low, high)))

    bottom, top = axes.get_ylim()
    shown = [text.get_text() for text in axes.get_yticklabels()]
    inside = [
        word for at, word in zip(axes.get_yticks(), shown, strict=True) if bottom <= at <= top
    ]
    assert len(inside) >= 2
    assert not any("$" in word for word in inside)


def test_a_chart_has_its_legend_and_labels():
    line = Line("curve", (1.0, 10.0), (2.0, 30.0), labels=("few", "many"))

    svg = chart_svg(Chart("Throughput", "TPOT in ms", "tokens/s", (line,), ((1.0, "1"),)))

    assert svg.startswith("<svg")
    assert svg.count("<!-- few -->") == 1
