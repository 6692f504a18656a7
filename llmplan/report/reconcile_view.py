"""A log beside its prediction, and kept corrections, as pages."""

from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import format_gib

COUNTS = ("kv_tokens", "max_concurrency")
"""Terms that are no memory."""


def reconcile_page(result: schema.ReconcileResult, inputs: dict[str, object]) -> Page:
    """Terms, settings, and what a correction would hold."""
    version = f" {result.version}" if result.version else ""
    ended = f", line {result.outcome_line}" if result.outcome_line else ""
    facts = (
        ("log", f"{result.lines:,} lines of {result.engine}{version}"),
        ("predicted", f"{result.model} on {inputs['gpus']}, {result.layout}"),
        ("start", f"{result.outcome}{ended}"),
        ("not in the log", ", ".join(result.missing) or "nothing"),
        ("correction", _kept(result)),
    )
    tables = (_terms(result), _settings(result))
    return Page(
        f"{result.log}: predicted against logged",
        facts,
        tuple(table for table in tables if table.rows),
    )


def _kept(result: schema.ReconcileResult) -> str:
    if result.correction is None:
        return "none"
    if result.saved is None:
        return f"{result.correction.name}, kept with --save"
    return f"{result.correction.name}, kept in {result.saved}"


def _terms(result: schema.ReconcileResult) -> Table:
    numbers = ("line", "log", "predicted", "difference", "error")
    names = columns("term", "rank", *numbers, "remark", numbers=numbers)
    rows = tuple(
        (
            row.term,
            row.rank or "-",
            "-" if row.line is None else str(row.line),
            _value(row.term, row.log),
            _value(row.term, row.predicted),
            _value(row.term, row.delta),
            "-" if row.error_frac is None else _error(row),
            row.note,
        )
        for row in result.rows
    )
    return Table("Terms, of one GPU where nothing else is said", names, rows)


def _error(row: schema.ReconcileRow) -> str:
    if row.term == "verdict":
        return "differs" if row.error_frac else "equal"
    return f"{row.error_frac:+.1%}".replace("-0.0%", "0.0%").replace("+0.0%", "0.0%")


def _value(term: str, value: float | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if term in COUNTS:
        return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
    return format_gib(value)


def _settings(result: schema.ReconcileResult) -> Table:
    rows = tuple((name, str(value)) for name, value in result.settings.items())
    return Table("Settings that the log states", columns("setting", "value"), rows)


def corrections_page(result: schema.CorrectionsResult, inputs: dict[str, object]) -> Page:
    """Kept corrections."""
    numbers = ("weights", "activations", "non-torch", "graphs")
    names = columns("name", *numbers, "log", "model", numbers=numbers)
    rows = tuple(
        (
            row.name,
            _delta(row.weights_bytes),
            "-" if row.activations_scale is None else f"x {row.activations_scale:.3f}",
            _delta(row.non_torch_bytes),
            _delta(row.graphs_bytes),
            f"{row.log} of {row.date}",
            row.model,
        )
        for row in result.corrections
    )
    count = f"{len(rows)} correction{'s' * (len(rows) != 1)}"
    facts = [("folder", str(inputs["folder"]))]
    if inputs.get("forget"):
        facts.append(("forgotten", str(inputs["forget"])))
    return Page(count, tuple(facts), (Table("", names, rows),) if rows else ())


def _delta(size: int | None) -> str:
    return "-" if size is None else f"{'+' * (size > 0)}{format_gib(size)}"
