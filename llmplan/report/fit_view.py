"""The page of what fits."""

from typing import Any

from llmplan.report.derived import derivations
from llmplan.report.memory_view import beside_table, host_table
from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import GIB, format_tokens, format_tokens_down

Inputs = dict[str, Any]


def fit_page(result: schema.FitResult, inputs: Inputs) -> Page:
    """What fits, why not, and what would."""
    contexts = ("8192", "32768", "131072")
    heads = tuple(f"@{format_tokens(int(c))}" for c in contexts)
    numbers = ("GiB/GPU", "max context", *heads)
    names = columns("model", "format", "layout", "fits", *numbers, numbers=numbers)
    rows = tuple(
        (
            row.model,
            row.dtype,
            row.layout or "-",
            "yes" if row.fits else "no",
            f"{row.weights_bytes_per_gpu / GIB:,.1f}" if row.weights_bytes_per_gpu else "-",
            format_tokens_down(row.max_context) if row.max_context else "-",
            *(_requests(row.concurrency_at[c]) for c in contexts),
        )
        for row in result.deployments
    )
    asked = f"{inputs['batch']} x {_context(inputs)}, KV {inputs['kv_dtype']}"
    tables = [Table("", names, rows)]
    if inputs.get("model"):
        best = result.deployments[0]
        tables += (*beside_table(best.beside), *host_table(best.host))
        tables += (*_refusals(result), *_tries(result))
    title = f"{inputs['gpus']}: what fits ({asked})"
    return Page(title, tables=tuple(tables), derivations=derivations(result.explain))


def _requests(count: int | None) -> str:
    """A count; a dash beyond the model's own limit."""
    return "-" if count is None else f"{count:,}"


def _context(inputs: Inputs) -> str:
    context = inputs["context"]
    return f"{format_tokens(context)} tokens"


def _refusals(result: schema.FitResult) -> tuple[Table, ...]:
    rows = tuple((r.model, r.dtype, r.layout, r.reason) for r in result.deployments if not r.fits)
    names = columns("model", "format", "layout", "reason")
    return (Table("Why not", names, rows),) if rows else ()


def _tries(result: schema.FitResult) -> tuple[Table, ...]:
    rows = tuple(
        (t.change, t.option, t.layout, format_tokens(t.max_context), f"{t.max_concurrency:,}")
        for row in result.deployments
        for t in row.try_
    )
    names = columns("change", "option", "layout", "max context", "requests",
                    numbers=("max context", "requests"))  # fmt: skip
    return (Table("What would fit (each tried)", names, rows),) if rows else ()
