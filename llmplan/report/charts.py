"""Line charts: drawn in a terminal with plotext, as SVG with matplotlib, where these are there."""

from importlib.util import find_spec
from io import StringIO

from llmplan.report.page import Chart


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
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 (an optional part)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
    axes.set_xticks(*map(list, zip(*chart.x_ticks, strict=True)), minor=False)
    axes.minorticks_off()
    for line in chart.lines:
        axes.plot(line.x, line.y, marker="o", markersize=3, label=line.name)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    out = StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue().partition("<svg")[2].join(("<svg", ""))
