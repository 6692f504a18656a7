"""Pages of parameters and FLOPs."""

from typing import Any

from llmplan.report.derived import derivations
from llmplan.report.page import Column, Page, Table, columns
from llmplan.report.utilisation_view import utilisation_facts
from llmplan.results import schema
from llmplan.units import format_count, format_flops, format_gib, format_tokens

Inputs = dict[str, Any]


def params_page(result: schema.ParamsResult, _inputs: Inputs) -> Page:
    """Counts by role, and what published totals are made of."""
    counts = result.parameters
    facts = [("total", f"{counts.total:,} ({format_count(counts.total)})"),
             ("active per token", f"{counts.active:,} ({format_count(counts.active)})"),
             ("input table", f"{counts.embedding:,}")]  # fmt: skip
    extra = (
        ("vision, in total", counts.vision),
        ("MTP, beside total", counts.mtp),
        ("buffers, beside total", counts.buffers),
    )
    facts += [(name, f"{count:,}") for name, count in extra if count]
    numbers = ("parameters", "active", "stored")
    rows = tuple(
        (c.name, f"{c.total:,}", f"{c.active:,}", format_gib(c.stored_bytes))
        for c in result.components
    )
    table = Table("By role", columns("role", *numbers, numbers=numbers), rows)
    tables = (table, *_ledger_tables(result.ledger))
    title = f"{result.model}: parameters"
    return Page(title, tuple(facts), tables, derivations=derivations(result.explain))


def _ledger_tables(ledger: schema.Ledger) -> tuple[Table, ...]:
    """What a published total may be made of: entries, then bytes without and with MTP."""
    without, whole = ledger.without_mtp, ledger.with_mtp
    entries = (
        ("parameters", ledger.logical),
        ("buffers", ledger.buffers),
        ("MTP modules", ledger.mtp),
        ("scales", without.scale_entries),
        ("scales of MTP modules", whole.scale_entries - without.scale_entries),
        ("a second copy of the tied head", ledger.tied_copy),
        ("vocabulary padding, in parameters", ledger.padding),
    )
    sizes = (
        ("parameters", without.elements_bytes, whole.elements_bytes),
        ("scales", without.scales_bytes, whole.scales_bytes),
        ("buffers", without.buffers_bytes, whole.buffers_bytes),
        ("total", without.total_bytes, whole.total_bytes),
    )
    rows = tuple((name, f"{count:,}") for name, count in entries if count)
    counted = Table("Ledger: entries", columns("part", "entries", numbers=("entries",)), rows)
    numbers = ("bytes", "with MTP") if ledger.mtp else ("bytes",)
    held = tuple(
        (name, *(f"{n:,}" for n in both[: len(numbers)])) for name, *both in sizes if any(both)
    )
    stored = Table("Ledger: as published", columns("part", *numbers, numbers=numbers), held)
    return (counted, stored)


def flops_page(result: schema.FlopsResult, inputs: Inputs) -> Page:
    """FLOPs of a token, or of an image."""
    if result.flops_per_image is not None:
        return _image_page(result, inputs)
    per_token = result.flops_per_token.model_dump()
    if per_token["decode"] == per_token["decode_absorbed"]:
        per_token.pop("decode_absorbed")
    every = ("matmul", "attention", "convolution", "scan", "vector")
    units = [u for u in every if any(getattr(b, u) for b in result.breakdown.values())]
    names = (Column("phase"), Column("per token", is_number=True),
             *(Column(unit, is_number=True) for unit in units))  # fmt: skip
    rows = tuple(
        (
            phase.replace("_", ", MLA "),
            format_flops(total),
            *(format_flops(getattr(result.breakdown[phase], unit)) for unit in units),
        )
        for phase, total in per_token.items()
    )
    title = f"{result.model}: FLOPs per token at {format_tokens(inputs['context'])} tokens"
    remarks = ("per token = matmul + attention + convolution; scan and vector stay apart.",)
    tables = (Table("", names, rows),)
    derived = derivations(result.explain)
    facts = utilisation_facts(result.utilisation, inputs)
    return Page(title, facts, tables, derivations=derived, remarks=remarks)


def _image_page(result: schema.FlopsResult, inputs: Inputs) -> Page:
    facts = (
        ("per step", format_flops(result.flops_per_step or 0.0)),
        ("per image", format_flops(result.flops_per_image or 0.0)),
        ("guidance", str(inputs["guidance"])),
    )
    units = ("matmul", "attention", "convolution", "vector")
    numbers = ("runs", "in all", *(f"{unit} a run" for unit in units))
    rows = tuple(
        (
            name,
            f"{part.runs:,}",
            format_flops(part.flops),
            *(format_flops(getattr(part.per_run, unit)) for unit in units),
        )
        for name, part in result.image_components.items()
    )
    size = f"{inputs['width']} x {inputs['height']} in {inputs['steps']} steps"
    title = f"{result.model}: FLOPs of one image, {size}"
    remarks = ("in all = matmul + attention + convolution; vector stays apart.",)
    tables = (Table("", columns("part", *numbers, numbers=numbers), rows),)
    derived = derivations(result.explain)
    return Page(title, facts, tables, derivations=derived, remarks=remarks)
