"""What a reader sees, before it has a medium: facts, tables and remarks, already formatted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """A table column; numbers stand to the right."""

    name: str
    is_number: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its heading; ``title`` may be empty."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Derivations:
    """Numbers with the lines that derive them, each under its name."""

    title: str
    items: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart, or points without one; points may have labels."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    is_points: bool = False
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over logarithmic axes; some are too fine to be drawn in characters."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...] = ()
    is_fine: bool = False


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Amounts that add up, each bar beginning where the one above it ends.

    Each bar is a name, an amount, and a word that decides its colour.
    """

    title: str
    x_label: str
    bars: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A box of a picture: short lines, a bar filled to a share, and a line below it."""

    lines: tuple[str, ...]
    filled_frac: float = 0.0
    below: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes side by side, in rows with a label."""

    title: str
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A title, facts as pairs, tables, charts, derivations, remarks at the end; maybe a picture.

    Waterfalls, fine charts and fine tables are on HTML pages only.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    derivations: Derivations | None = None
    remarks: tuple[str, ...] = ()
    picture: Picture | None = None
    waterfalls: tuple[Waterfall, ...] = ()
    fine_tables: tuple[Table, ...] = ()


def columns(*names: str, numbers: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Columns by name; those in ``numbers`` stand to the right."""
    return tuple(Column(name, name in numbers) for name in names)
