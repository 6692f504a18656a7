"""Pictures of boxes in rows: drawn in characters for a terminal, and as SVG."""

from collections.abc import Iterator
from html import escape
from typing import Final

from llmplan.report.page import Cell, Picture

PICTURE_WIDTH: Final = 80
"""Columns where nothing says how many there are."""
MOST_IN_A_ROW: Final = 8
"""Boxes side by side."""

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_BOX: Final = (128, 22, 16, 8)
"""Of an SVG: width of a box, space above a row, height of a line, height of a bar."""


def picture_text(picture: Picture, width: int) -> str:
    """The picture in at most ``width`` columns, or in as many as one box needs."""
    inner = max((len(text) for _, cells in picture.rows for c in cells for text in _texts(c)))
    together = max(1, min(MOST_IN_A_ROW, (width - 1) // (inner + 1)))
    lines = [picture.title]
    for label, cells in picture.rows:
        lines.append(label)
        for part in _parts(cells, together):
            lines += _boxes(part, inner)
    return "\n".join(lines)


def _texts(cell: Cell) -> tuple[str, ...]:
    return (*cell.lines, cell.below)


def _parts(cells: tuple[Cell, ...], size: int) -> Iterator[tuple[Cell, ...]]:
    for start in range(0, len(cells), size):
        yield cells[start : start + size]


def _boxes(cells: tuple[Cell, ...], inner: int) -> Iterator[str]:
    """Boxes of equal height with one frame."""
    height = max(len(cell.lines) for cell in cells)
    edge = "─" * inner
    yield "┌" + "┬".join([edge] * len(cells)) + "┐"
    for line in range(height):
        yield _framed([cell.lines[line] if line < len(cell.lines) else "" for cell in cells], inner)
    yield _framed([bar(cell.filled_frac, inner) for cell in cells], inner)
    yield _framed([cell.below for cell in cells], inner)
    yield "└" + "┴".join([edge] * len(cells)) + "┘"


def _framed(texts: list[str], inner: int) -> str:
    return "│" + "│".join(text.ljust(inner) for text in texts) + "│"


def bar(filled_frac: float, width: int) -> str:
    """A bar in eighths of a column; what is more than full is full."""
    whole, eighths = divmod(round(min(filled_frac, 1.0) * width * 8), 8)
    return "█" * whole + (_EIGHTHS[eighths] if eighths else "")


def picture_svg(picture: Picture) -> str:
    """The picture as an SVG element."""
    width, gap, line, _ = _BOX
    drawn: list[str] = [_svg_text(4, line, picture.title)]
    top = float(gap)
    for label, cells in picture.rows:
        drawn.append(_svg_text(4, top + line, label))
        top += gap
        for part in _parts(cells, MOST_IN_A_ROW):
            height = (max(len(cell.lines) for cell in part) + 2) * line + 8
            for index, cell in enumerate(part):
                drawn += _svg_box(cell, 4 + index * width, top, height)
            top += height + 4
    across = 8 + width * MOST_IN_A_ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {top + gap:g}" '
        f'width="{across}" font-family="system-ui, sans-serif" font-size="12" role="img" '
        f'aria-label="{escape(picture.title)}">{"".join(drawn)}</svg>'
    )


def _svg_box(cell: Cell, left: float, top: float, height: float) -> Iterator[str]:
    width, _, line, bar = _BOX
    inside = width - 16
    over = cell.filled_frac > 1
    yield _svg_rect(left, top, width - 4, height, 'fill="#fff" stroke="#888"')
    for number, text in enumerate(cell.lines, 1):
        yield _svg_text(left + 6, top + number * line, text)
    below = top + height - line - bar
    yield _svg_rect(left + 6, below, inside, bar, 'fill="#e6e8eb"')
    filled = inside * min(cell.filled_frac, 1.0)
    yield _svg_rect(left + 6, below, filled, bar, f'fill="{"#c0392b" if over else "#3b6ea5"}"')
    yield _svg_text(left + 6, top + height - 5, cell.below)


def _svg_rect(left: float, top: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" {style}/>'


def _svg_text(left: float, base: float, text: str) -> str:
    return f'<text x="{left:g}" y="{base:g}">{escape(text)}</text>'
