"""Tables that fit a terminal of 80 columns: columns that say nothing go, long words are cut."""

from dataclasses import replace
from textwrap import wrap
from typing import Final

from llmplan.report.page import Column, Table

WIDTH: Final = 79
GAP: Final = 2
"""Columns between two columns of a table."""
NOTHING: Final = ("", "-")
LEAST: Final = 8
"""Columns that a column of words keeps."""


def narrowed(table: Table) -> Table:
    """The table without empty columns, its longest column of words cut until all of it fits.

    Numbers are never cut; results as JSON have the words in full.
    """
    kept = [i for i in range(len(table.columns)) if any(r[i] not in NOTHING for r in table.rows)]
    columns = tuple(table.columns[i] for i in kept)
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    widths = _widths(columns, rows)
    words = [index for index, column in enumerate(columns) if not column.is_number]
    while words and sum(widths) + GAP * (len(widths) - 1) > WIDTH:
        widest = max(words, key=lambda index: widths[index])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    rows = tuple(
        tuple(cut(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
    return replace(table, columns=columns, rows=rows)


def _widths(columns: tuple[Column, ...], rows: tuple[tuple[str, ...], ...]) -> list[int]:
    return [
        max(len(column.name), *(len(row[index]) for row in rows))
        for index, column in enumerate(columns)
    ]


def cut(text: str, width: int) -> str:
    """At most so many characters, the last one ``…`` where there were more."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def wrapped(
    rows: tuple[tuple[str, str], ...], names: int, lines: int
) -> tuple[tuple[str, str], ...]:
    """Rows of a name and a sentence, the sentence over some lines, each a row of its own.

    Args:
        rows: Name and sentence.
        names: Width that names are cut to.
        lines: Of a sentence, at the most.
    """
    longest = max((min(len(name), names) for name, _ in rows), default=0)
    room = WIDTH - GAP - longest
    found: list[tuple[str, str]] = []
    for name, sentence in rows:
        parts = wrap(sentence, room, max_lines=lines, placeholder=" …") or [""]
        found.append((cut(name, names), parts[0]))
        found += [("", part) for part in parts[1:]]
    return tuple(found)
