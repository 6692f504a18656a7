"""Ticks and labels of charts that do not lie on each other."""

from typing import Any, Final

from llmplan.report.page import Line

FONT: Final = 6
"""Size of labels of points."""
LETTER: Final = 0.62
"""Width of a letter over its size, a little more than the mean."""
LINE_HEIGHT: Final = 1.2
AWAY: Final = 3
"""Of a label from its point."""
FEW_DECADES: Final = 3.5
"""Up to here an axis has ticks at 1, 2 and 5, beyond it at powers of ten."""
NARROW: Final = 10.0
"""Ends of an axis whose ratio is less hold too few of those: evenly spaced ticks stand there."""
ROOM: Final = 34
"""Between two ticks that are given, in pixels."""
SIDES: Final = ((1, -1), (1, 1), (-1, 1), (-1, -1))
"""Right or left of a point and above or below, in the order of trial: lines mostly rise."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top."""


def readable_ticks(axes: Any, x_ticks: tuple[tuple[float, str], ...]) -> None:
    """Ticks as plain numbers; those given for x, as far as their words have room."""
    from matplotlib.ticker import FixedLocator, NullFormatter  # noqa: PLC0415 (an optional part)

    for axis, given in ((axes.xaxis, x_ticks), (axes.yaxis, ())):
        if given:
            kept = _apart(axes, given)
            axis.set_major_locator(FixedLocator([at for at, _ in kept]))
            axis.set_major_formatter(lambda at, _, words=dict(kept): words.get(at, ""))
        else:
            _round_ticks(axis)
        axis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _round_ticks(axis: Any) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator  # noqa: PLC0415 (an optional part)

    low, high = axis.get_view_interval()
    if high > low * 10**FEW_DECADES:
        return
    is_narrow = high < low * NARROW
    axis.set_major_locator(MaxNLocator(5) if is_narrow else LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda at, _: f"{at:,.0f}" if at >= 100 else f"{at:.3g}")


def _apart(axes: Any, given: tuple[tuple[float, str], ...]) -> list[tuple[float, str]]:
    """Those with room between them, from the right: large ones are far apart."""
    axes.get_xlim()  # places of points are those of the ends that the axis has after it
    kept: list[tuple[float, str]] = []
    last = float("inf")
    for at, word in sorted(given, reverse=True):
        place = float(axes.transData.transform((at, 1.0))[0])
        if last - place >= ROOM:
            kept.append((at, word))
            last = place
    return kept[::-1]


def label_points(figure: Any, axes: Any, lines: tuple[Line, ...]) -> None:
    """Labels where they have room, on either side of their points, the first ones first.

    A label without room is left out; tables have all of them.
    """
    figure.draw_without_rendering()  # places of points are known after it
    frame: Box = axes.get_window_extent().extents
    scale = figure.dpi / 72
    taken: list[Box] = []
    for line in lines:
        taken += [_around(x, y, scale) for x, y in _places(axes, line) if line.labels]
    for line in lines:
        points = zip(line.x, line.y, strict=True)
        for point, place, label in zip(points, _places(axes, line), line.labels, strict=False):
            boxes = {side: _box(place, len(label), side, scale) for side in SIDES}
            for side, box in boxes.items():
                if _within(box, frame) and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    _write(axes, label, point, side)
                    break


def _write(axes: Any, label: str, point: tuple[float, float], side: tuple[int, int]) -> None:
    right, up = side
    axes.annotate(
        label,
        point,
        xytext=(AWAY * right, AWAY * up),
        textcoords="offset points",
        ha="left" if right > 0 else "right",
        va="bottom" if up > 0 else "top",
        fontsize=FONT,
    )


def _places(axes: Any, line: Line) -> list[tuple[float, float]]:
    """Of its points, in pixels."""
    points = list(zip(line.x, line.y, strict=True))
    return [(float(x), float(y)) for x, y in axes.transData.transform(points)] if points else []


def _around(x: float, y: float, scale: float) -> Box:
    half = 1.5 * scale
    return (x - half, y - half, x + half, y + half)


def _box(place: tuple[float, float], letters: int, side: tuple[int, int], scale: float) -> Box:
    """What a label covers, in pixels."""
    x, y = place[0] + AWAY * side[0] * scale, place[1] + AWAY * side[1] * scale
    far_x = x + LETTER * FONT * letters * side[0] * scale
    far_y = y + LINE_HEIGHT * FONT * side[1] * scale
    return (min(x, far_x), min(y, far_y), max(x, far_x), max(y, far_y))


def _within(one: Box, other: Box) -> bool:
    return other[0] < one[0] and other[1] < one[1] and one[2] < other[2] and one[3] < other[3]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
