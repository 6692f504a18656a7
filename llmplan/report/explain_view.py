"""The page of what keys of results mean."""

from collections.abc import Iterator
from itertools import groupby

from llmplan.report.page import Derivations, Page, Table, columns
from llmplan.results import schema


def explain_page(result: schema.ExplainResult, key: str | None) -> Page:
    """All keys by command, facts of the only one asked for, or those of each."""
    if key is None:
        tables = tuple(
            _table(command, tuple(rows))
            for command, rows in groupby(result.keys, key=lambda row: row.command)
        )
        return Page(f"{len(result.keys)} keys of results", tables=tables)
    remarks = (f"Also: {', '.join(result.others)}.",) if result.others else ()
    if len(result.keys) == 1:
        (row,) = result.keys
        return Page(_title(row), tuple(_facts(row)), remarks=remarks)
    items = tuple(
        (_title(row), tuple(f"{name}: {text}" for name, text in _facts(row))) for row in result.keys
    )
    return Page(key, derivations=Derivations(f"{len(items)} keys", items), remarks=remarks)


def _table(command: str, rows: tuple[schema.KeyRow, ...]) -> Table:
    shown = tuple((row.key, row.unit or _type(row), row.meaning) for row in rows)
    return Table(f"llmplan {command}", columns("key", "unit or type", "meaning"), shown)


def _type(row: schema.KeyRow) -> str:
    """Its type; a list of words would make the column wide."""
    return "one of some words" if ", " in row.type else row.type


def _title(row: schema.KeyRow) -> str:
    return f"{row.command}: {row.key}"


def _facts(row: schema.KeyRow) -> Iterator[tuple[str, str]]:
    texts = (
        ("means", row.meaning),
        ("part of", row.within),
        ("type", row.type),
        ("unit", row.unit),
        ("computed", row.formula),
        ("provenance", ", ".join(row.provenance)),
        ("changed by", ", ".join(row.changed_by)),
        ("read", row.page),
    )
    return ((name, text) for name, text in texts if text)
