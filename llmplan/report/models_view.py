"""Pages of the catalogue of models, of one, and of several side by side."""

from collections.abc import Callable
from typing import Any

from llmplan.report.page import Chart, Column, Line, Page, Table, columns
from llmplan.results import schema
from llmplan.units import GIB, format_count, format_flops, format_gib, format_tokens

Inputs = dict[str, Any]


def models_page(result: schema.ModelsResult, inputs: Inputs) -> Page:
    """All models, one, or one that is known by name only."""
    if inputs.get("model") is not None:
        return _model_page(result.models[0]) if result.models else _listed_page(result.listed[0])
    numbers = ("parameters", "active", "KV/token", "context")
    names = columns("model", "parameters", "active", "KV/token", "context", "attention",
                    numbers=numbers)  # fmt: skip
    rows = tuple(
        (
            row.name,
            format_count(row.parameters_total),
            format_count(row.parameters_active),
            format_gib(row.kv_bytes_per_token) if row.kv_bytes_per_token else "-",
            format_tokens(row.context_length),
            ", ".join(row.attention),
        )
        for row in result.models
    )
    tables = (*((Table("", names, rows),) if rows else ()), *_listed_table(result.listed))
    return Page(f"{len(rows)} model{'s' * (len(rows) != 1)}", tables=tables)


def _listed_table(listed: list[schema.ListedRow]) -> tuple[Table, ...]:
    names = columns("model", "status", "why")
    rows = tuple((row.name, row.status, row.reason) for row in listed)
    return (Table("Known by name only: no numbers", names, rows),) if rows else ()


def _listed_page(row: schema.ListedRow) -> Page:
    announced = ((name.replace("_", " "), text) for name, text in row.published.items())
    facts = (
        ("family", row.family),
        ("status", row.status),
        ("no numbers", row.reason),
        *((f"{name}, as announced", text) for name, text in announced),
        *((("Hugging Face", ", ".join(row.hf_ids)),) if row.hf_ids else ()),
        ("known from", row.source),
    )
    return Page(row.name, facts)


def _model_page(row: schema.ModelRow) -> Page:
    facts = (
        ("family", row.family),
        ("parameters", f"{row.parameters_total:,}"),
        ("active per token", f"{row.parameters_active:,}"),
        ("stored as published", format_gib(row.native_weights_bytes)),
        ("token mixers", ", ".join(row.attention)),
        ("layers", ", ".join(row.layers)),
        ("context", f"{row.context_length:,} tokens"),
        ("KV per token", _kv_per_token(row)),
        ("licence", row.license),
        ("released", row.release_date or "not stated"),
        ("Hugging Face", ", ".join(row.hf_ids)),
        *((("other contexts", ", ".join(row.variants)),) if row.variants else ()),
        ("config", row.source),
    )
    return Page(row.name, facts, remarks=tuple(row.notes))


def _kv_per_token(row: schema.ModelRow) -> str:
    if not row.kv_bytes_per_token:
        return "none: state does not grow without limit"
    return f"{row.kv_bytes_per_token:,} bytes in bf16"


def compared_page(result: schema.CompareModelsResult, _inputs: Inputs) -> Page:
    """Several models side by side."""
    names = tuple(row.name for row in result.models)
    aspects: tuple[tuple[str, Callable[[schema.ModelRow], str]], ...] = (
        ("parameters", lambda row: format_count(row.parameters_total)),
        ("active per token", lambda row: format_count(row.parameters_active)),
        ("stored as published", lambda row: format_gib(row.native_weights_bytes)),
        ("token mixers", lambda row: ", ".join(row.attention)),
        ("layers", lambda row: ", ".join(row.layers)),
        ("context", lambda row: format_tokens(row.context_length)),
        ("licence", lambda row: row.license),
        ("released", lambda row: row.release_date or "not stated"),
    )
    heads = (Column(""), *(Column(name) for name in names))
    rows = tuple((aspect, *(show(row) for row in result.models)) for aspect, show in aspects)
    tables = (
        Table("", heads, rows),
        _growth_table("State of one request", result, "state_bytes"),
        _growth_table("FLOPs of one decoded token", result, "decode_flops_per_token"),
    )
    charts = (
        _growth_chart("State of one request", "GiB", result, "state_bytes", GIB),
        _growth_chart("Decode", "GFLOP a token", result, "decode_flops_per_token", 1e9),
    )
    return Page(" and ".join(names), tables=tables, charts=charts)


def _growth_table(title: str, result: schema.CompareModelsResult, key: str) -> Table:
    """Every second context; beyond a model's published context in brackets."""
    show = format_gib if key == "state_bytes" else format_flops
    names = tuple(row.model for row in result.growth)
    contexts = result.growth[0].context_tokens
    rows = tuple(
        (format_tokens(context), *(_grown(show, row, key, i) for row in result.growth))
        for i, context in enumerate(contexts)
        if i % 2 == 1
    )
    heads = columns("context", *names, numbers=("context", *names))
    return Table(f"{title} (in brackets: beyond the published context)", heads, rows)


def _grown(show: Callable[[float], str], row: schema.GrowthRow, key: str, index: int) -> str:
    text = show(getattr(row, key)[index])
    return text if row.context_tokens[index] <= row.published_context else f"({text})"


def _growth_chart(
    title: str, unit: str, result: schema.CompareModelsResult, key: str, scale: float
) -> Chart:
    lines = tuple(
        Line(row.model, tuple(row.context_tokens), tuple(v / scale for v in getattr(row, key)))
        for row in result.growth
    )
    contexts = result.growth[0].context_tokens
    ticks = tuple((float(context), format_tokens(context)) for context in contexts[::2])
    return Chart(title, "context in tokens", unit, lines, ticks)
