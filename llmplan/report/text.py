"""Pages for a terminal, and plain text for a pipe."""

from io import StringIO
from typing import Literal

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from llmplan.report.charts import can_plot_text, chart_text
from llmplan.report.page import Derivations, Page, Table
from llmplan.report.pictures import PICTURE_WIDTH, picture_text

CHART_WIDTH = 100
"""Widest chart; a terminal may be narrower."""
GAP = 2
"""Columns between two columns of a table."""
LEAST_TEXT = 8
"""Columns that text folds to before numbers do."""
PLAIN_WIDTH = 10_000
"""Width for pipes: nothing is wrapped or cut."""


def render_text(page: Page, width: int | None, *, colour: bool) -> str:
    """The page as text.

    Args:
        page: What to show.
        width: Columns of the terminal; None for a pipe, where nothing is wrapped.
        colour: Whether to use styles.
    """
    out = StringIO()
    console = Console(
        file=out,
        width=width or PLAIN_WIDTH,
        force_terminal=colour,
        no_color=not colour,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=width is None,
    )
    console.print(Text(page.title, style="bold"))
    if page.facts:
        console.print(_facts(page))
    if page.picture:
        console.print()
        console.print(Text(picture_text(page.picture, width or PICTURE_WIDTH)))
    for table in page.tables:
        console.print()
        console.print(_table(table, console.width - 1), width=console.width - 1)
    charts = [chart for chart in page.charts if not chart.is_fine]
    if charts and can_plot_text():
        for chart in charts:
            console.print()
            console.print(Text(chart_text(chart, min(width or CHART_WIDTH, CHART_WIDTH))))
    if page.derivations:
        _print_derivations(console, page.derivations)
    for remark in page.remarks:
        console.print()
        console.print(Text(remark))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def _print_derivations(console: Console, derivations: Derivations) -> None:
    console.print()
    console.print(Text(derivations.title, style="bold"))
    for name, lines in derivations.items:
        console.print(Text(name))
        for line in lines:
            console.print(Padding(Text(line, style="dim"), (0, 0, 0, 4)))


def _facts(page: Page) -> RichTable:
    grid = RichTable.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(overflow="fold")
    for name, value in page.facts:
        grid.add_row(Text(f"  {name}", style="dim"), Text(value))
    return grid


def _least_widths(table: Table, width: int) -> list[int | None]:
    """Widths that keep numbers whole, where the other columns still have room to fold."""
    longest = [
        max((len(row[index]) for row in table.rows), default=0) if column.is_number else 0
        for index, column in enumerate(table.columns)
    ]
    folded = sum(LEAST_TEXT for size in longest if not size)
    if sum(longest) + folded + (GAP + 1) * len(longest) > width:
        return [None] * len(longest)
    return [size or None for size in longest]


def _table(table: Table, width: int) -> RichTable:
    rich_table = RichTable(
        title=table.title or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for column, least in zip(table.columns, _least_widths(table, width), strict=True):
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        rich_table.add_column(column.name, justify=justify, overflow="fold", min_width=least)
    for row in table.rows:
        rich_table.add_row(*(Text(cell) for cell in row))
    return rich_table
