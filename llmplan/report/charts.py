"""Charts: lines in a terminal with plotext; lines and waterfalls as SVG with matplotlib."""

from importlib.util import find_spec
from io import StringIO
from typing import Any, Final

from llmplan.report.chart_marks import label_points, readable_ticks
from llmplan.report.page import Chart, Waterfall

WATERFALL_COLOURS: Final = {
    "compute": "#c0392b",
    "memory": "#3b6ea5",
    "network": "#7d5ba6",
    "launch": "#8a8d91",
    "host": "#c59a3a",
}


def can_plot_text() -> bool:
    """Whether plotext is installed."""
    return find_spec("plotext") is not None


def chart_text(chart: Chart, width: int, height: int = 18) -> str:
    """The chart in characters, without colours, so that a pipe keeps it."""
    import plotext  # noqa: PLC0415 (an optional part)

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    plotext.title(chart.title)
    plotext.xlabel(chart.x_label)
    plotext.ylabel(chart.y_label)
    plotext.xscale("log")
    plotext.yscale("log")
    plotext.xticks(*map(list, zip(*chart.x_ticks, strict=True)))
    for marker, line in zip("*o+x#%@&", chart.lines, strict=False):
        plotext.plot(list(line.x), list(line.y), label=line.name, marker=marker)
    return str(plotext.uncolorize(plotext.build()))


def chart_svg(chart: Chart) -> str:
    """The chart as an SVG element."""
    figure = _figure(4.2)
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    for line in chart.lines:
        style = "none" if line.is_points else "-"
        marker = "" if chart.is_fine and not line.is_points else "o"
        axes.plot(line.x, line.y, linestyle=style, marker=marker, markersize=3, label=line.name)
    readable_ticks(axes, chart.x_ticks)
    axes.grid(visible=True, which="major", alpha=0.25)
    # beside the axes: inside, it would lie on points
    figure.legend(loc="outside lower center", ncols=3, fontsize=8)
    label_points(figure, axes, chart.lines)
    return _svg(figure)


def waterfall_svg(waterfall: Waterfall) -> str:
    """The waterfall as an SVG element, one row a bar."""
    bars = waterfall.bars
    figure = _figure(1.2 + 0.24 * len(bars))
    axes = figure.add_subplot()
    axes.set(title=waterfall.title, xlabel=waterfall.x_label)
    words = list(dict.fromkeys(word for _, _, word in bars))
    starts = [sum(size for _, size, _ in bars[:row]) for row in range(len(bars))]
    for word in words:
        rows = [row for row, bar in enumerate(bars) if bar[2] == word]
        sizes = [bars[row][1] for row in rows]
        colour = WATERFALL_COLOURS.get(word)
        axes.barh(rows, sizes, left=[starts[row] for row in rows], label=word, color=colour)
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(loc="lower left")
    return _svg(figure)


def _figure(height: float) -> Any:
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 (an optional part)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure


def _svg(figure: Any) -> str:
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue().partition("<svg")[2].join(("<svg", ""))
