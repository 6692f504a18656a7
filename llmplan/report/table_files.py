"""Results as CSV: raw values, one row a record."""

import csv
from collections.abc import Iterator
from functools import singledispatch
from io import StringIO
from typing import Any

from pydantic import BaseModel

from llmplan.results import schema

Record = dict[str, Any]


def render_csv(result: BaseModel) -> str:
    """The records of a result; nested values get dotted names, lists are joined by semicolons.

    Records in a list are numbered from 0.
    """
    rows = [dict(_flat(record)) for record in records(result)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@singledispatch
def records(result: BaseModel) -> list[Record]:
    """The rows of a result: by default its keys and values, one row each."""
    dump = result.model_dump(mode="json", by_alias=True, exclude={"explain"})
    return [{"key": key, "value": value} for key, value in _flat(dump)]


@records.register
def _models(result: schema.ModelsResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.models]


@records.register
def _compared(result: schema.CompareModelsResult) -> list[Record]:
    return [
        {"model": row.model, "context_tokens": context, "state_bytes": size,
         "decode_flops_per_token": flops}
        for row in result.growth
        for context, size, flops in zip(
            row.context_tokens, row.state_bytes, row.decode_flops_per_token, strict=True
        )
    ]  # fmt: skip


@records.register
def _hardware(result: schema.HardwareResult) -> list[Record]:
    rows = [*result.devices, *result.nodes, *result.dtypes]
    return [row.model_dump(mode="json") for row in rows]


@records.register
def _params(result: schema.ParamsResult) -> list[Record]:
    counts = result.parameters.model_dump()
    totals = [
        {"name": f"parameters.{name}", "total": count, "active": "", "stored_bytes": ""}
        for name, count in counts.items()
    ]
    held = [
        {"name": f"ledger.{name}", "total": count, "active": "", "stored_bytes": ""}
        for name, count in _flat(result.ledger.model_dump())
    ]
    return totals + [component.model_dump() for component in result.components] + held


@records.register
def _verify(result: schema.VerifyResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.rows]


@records.register
def _validation(result: schema.ValidationResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.rows]


@records.register
def _estimate(result: schema.EstimateResult) -> list[Record]:
    if not result.operators:
        dump = result.model_dump(mode="json", exclude={"operators", "explain"})
        return [{"key": key, "value": value} for key, value in _flat(dump)]
    return [row.model_dump(mode="json") for row in result.operators]


@records.register
def _reconcile(result: schema.ReconcileResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.rows]


@records.register
def _explain(result: schema.ExplainResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.keys]


@records.register
def _corrections(result: schema.CorrectionsResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.corrections]


@records.register
def _fit(result: schema.FitResult) -> list[Record]:
    return [
        row.model_dump(mode="json", by_alias=True, exclude={"try_", "beside"})
        for row in result.deployments
    ]


@records.register
def _place(result: schema.PlaceResult) -> list[Record]:
    return [row.model_dump(mode="json", exclude={"mixers"}) for row in result.ranks]


def _flat(record: Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            yield from _flat({str(number): item for number, item in enumerate(value)}, f"{name}.")
        elif isinstance(value, list):
            yield name, ";".join(map(str, value))
        else:
            yield name, str(value).lower() if isinstance(value, bool) else value


@records.register
def _calibrate(result: schema.CalibrateResult) -> list[Record]:
    rows = result.grid if result.is_dry_run else [*result.operators, *result.layers]
    return [row.model_dump(mode="json") for row in rows]


@records.register
def _calibrations(result: schema.CalibrateDiffResult) -> list[Record]:
    return [row.model_dump(mode="json") for row in result.changes]
