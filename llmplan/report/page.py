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
class Page:
    """A title, facts as pairs, tables, derivations, and remarks at the end."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    derivations: Derivations | None = None
    remarks: tuple[str, ...] = ()


def columns(*names: str, numbers: tuple[str, ...] = ()) -> tuple[Column, ...]:
    """Columns by name; those in ``numbers`` stand to the right."""
    return tuple(Column(name, name in numbers) for name in names)
