"""Derivations of figures, as pages show them."""

from llmplan.report.page import Derivations
from llmplan.results import schema


def derivations(rows: list[schema.Explanation]) -> Derivations | None:
    """Where numbers come from; None where nobody asked."""
    if not rows:
        return None
    items = tuple(
        (row.quantity, (row.formula, f"= {row.values}", f"= {row.result}", f"from {row.source}"))
        for row in rows
    )
    return Derivations("Where the numbers come from", items)
