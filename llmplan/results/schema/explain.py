"""What the keys of results mean."""

from llmplan.results.schema.common import Published
from llmplan.units import Provenance


class KeyRow(Published):
    """One key of the result of one command."""

    command: str
    """Command that gives it."""
    key: str
    """Place in its result; behind a name, [] stands for any entry and {} for any name."""
    type: str
    """What stands there."""
    meaning: str
    """What it says."""
    within: str
    """What the object says that holds it; empty at the top of a result."""
    unit: str
    """Unit of a number; empty for text, counts and places in an order."""
    formula: str
    """How it is computed; empty where its meaning says so."""
    provenance: list[Provenance]
    """Where it may come from, strongest first; empty for what is no figure."""
    changed_by: list[str]
    """Arguments and options of the command that change it; those of a kind (layout options, engine
    options and so on) by its name."""
    page: str
    """Page of the documentation that says more."""


class ExplainResult(Published):
    """``llmplan explain``."""

    keys: list[KeyRow]
    """The keys asked for, or all of them."""
    others: list[str]
    """Further keys, deeper in a result, that end in the name asked for."""
