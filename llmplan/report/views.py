"""Each result as a page: what is shown, in which order, with which units."""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

from llmplan.report.calibrate_view import calibrate_page, changes_page, files_page
from llmplan.report.estimate_view import estimate_page
from llmplan.report.estimates import estimates_page
from llmplan.report.explain_view import explain_page
from llmplan.report.page import Chart, Column, Derivations, Line, Page, Table, columns
from llmplan.report.perf_estimates import perf_page
from llmplan.report.place_view import place_page
from llmplan.report.reconcile_view import corrections_page, reconcile_page
from llmplan.report.utilisation_view import utilisation_facts
from llmplan.results import schema
from llmplan.units import (
    GIB,
    format_count,
    format_flops,
    format_gib,
    format_tokens,
    format_tokens_down,
)

Inputs = dict[str, Any]


@singledispatch
def page_of(result: object, _inputs: Inputs) -> Page:
    """The page of a result, chosen by its type."""
    raise TypeError(f"no view is registered for {type(result).__name__}")


def _derivations(rows: list[schema.Explanation]) -> Derivations | None:
    if not rows:
        return None
    items = tuple(
        (row.quantity, (row.formula, f"= {row.values}", f"= {row.result}", f"from {row.source}"))
        for row in rows
    )
    return Derivations("Where the numbers come from", items)


@page_of.register
def _models(result: schema.ModelsResult, inputs: Inputs) -> Page:
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


@page_of.register
def _compared(result: schema.CompareModelsResult, _inputs: Inputs) -> Page:
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


@page_of.register
def _hardware(result: schema.HardwareResult, inputs: Inputs) -> Page:
    if inputs.get("device"):
        return _device_page(result)
    tables = (_device_table(result.devices), _node_table(result.nodes), _dtypes(result.dtypes))
    return Page("Hardware", tables=tuple(table for table in tables if table.rows))


def _device_table(devices: list[schema.DeviceRow]) -> Table:
    numbers = ("memory", "GB/s", "bf16 TFLOP/s", "fp8 TFLOP/s", "W")
    names = columns("device", *numbers, "link", numbers=numbers)
    rows = tuple(
        (
            row.slug,
            format_gib(row.capacity_bytes) + ("" if row.capacity_provenance == "measured" else "*"),
            _scaled(row.bandwidth_bytes_per_s, 1e9),
            _scaled(row.peak_flops_per_s.get("bf16"), 1e12),
            _scaled(row.peak_flops_per_s.get("fp8"), 1e12),
            _scaled(row.tdp_w, 1),
            row.link or "-",
        )
        for row in devices
    )
    return Table("Devices (* capacity assumed from a larger figure)", names, rows)


def _scaled(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:,.0f}"


def _node_table(nodes: list[schema.NodeRow]) -> Table:
    numbers = ("devices", "link GB/s", "network GB/s")
    names = columns("node", "device", *numbers, "topology", numbers=numbers)
    rows = tuple(
        (
            row.slug,
            row.device,
            str(row.devices),
            _scaled(row.link_bytes_per_s, 1e9),
            _scaled(row.scale_out_bytes_per_s, 1e9),
            row.topology,
        )
        for row in nodes
    )
    return Table("Nodes (per device and direction)", names, rows)


def _dtypes(dtypes: list[schema.DtypeRow]) -> Table:
    names = columns("format", "bits/weight", "runs in", "layout", numbers=("bits/weight",))
    rows = tuple((r.name, f"{r.bits_per_weight:g}", r.compute, r.note) for r in dtypes)
    return Table("Number formats", names, rows)


def _device_page(result: schema.HardwareResult) -> Page:
    row = result.devices[0]
    rates = ", ".join(f"{k} {v / 1e12:,.0f}" for k, v in row.peak_flops_per_s.items())
    facts = (
        ("vendor", row.vendor),
        ("architecture", row.architecture),
        ("memory for a process", f"{format_gib(row.capacity_bytes)} ({row.capacity_provenance})"),
        ("bandwidth", f"{_scaled(row.bandwidth_bytes_per_s, 1e9)} GB/s"),
        ("dense TFLOP/s", rates or "-"),
        ("link", f"{row.link or '-'}, {_scaled(row.link_bytes_per_s, 1e9)} GB/s a direction"),
        ("power", f"{_scaled(row.tdp_w, 1)} W"),
        ("aliases", ", ".join(row.aliases)),
        ("source", f"{row.source} ({row.source_date})"),
    )
    return Page(row.name, facts, (_node_table(result.nodes),) if result.nodes else ())


@page_of.register
def _params(result: schema.ParamsResult, _inputs: Inputs) -> Page:
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
    return Page(title, tuple(facts), tables, derivations=_derivations(result.explain))


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


@page_of.register
def _flops(result: schema.FlopsResult, inputs: Inputs) -> Page:
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
    derived = _derivations(result.explain)
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
    derived = _derivations(result.explain)
    return Page(title, facts, tables, derivations=derived, remarks=remarks)


@page_of.register
def _memory(result: schema.MemoryResult, inputs: Inputs) -> Page:
    load = f"{inputs['batch']} x {format_tokens(inputs['context'])} tokens"
    kv = result.kv_cache
    facts = [
        ("weights", f"{format_gib(result.weights_bytes)} ({inputs['dtype']})"),
        ("KV cache and state", f"{format_gib(kv.total_bytes)} ({load}, {inputs['kv_dtype']})"),
        ("activations, estimate", format_gib(result.activations_bytes)),
        ("total", format_gib(result.total_bytes)),
    ]
    tables = [_state_table(kv)] if kv.bytes_per_request else [_weights_table(result)]
    if result.per_gpu:
        tables += [_gpu_table(result.per_gpu), _roles_table(result.per_gpu)]
        tables += (*_beside_table(result.beside), *_host_table(result.host))
        facts.append(("on", f"{inputs['gpus']}, {result.layout}"))
        facts.append(("fits", _verdict(result, inputs)))
        if result.engine_tokens is not None and inputs.get("engine") != "generic":
            facts.append((f"{inputs['engine']} prints", _printed(result, inputs)))
    title = f"{result.model}: memory"
    return Page(title, tuple(facts), tuple(tables), derivations=_derivations(result.explain))


def _verdict(result: schema.MemoryResult, inputs: Inputs) -> str:
    word = "yes" if result.fits else "no"
    if not result.kv_cache.bytes_per_request:
        return f"{word}: the weights beside the reserve; requests keep no cache"
    context = format_tokens(inputs["context"])
    return (
        f"{word}: {result.max_concurrency:,} requests of {context} tokens, "
        f"{result.kv_tokens:,} tokens of cache"
    )


def _printed(result: schema.MemoryResult, inputs: Inputs) -> str:
    """What the engine says at start-up, where windows and blocks count in its own way."""
    length = format_tokens(inputs["settings"].get("max_model_len") or inputs["context"])
    return f"{result.engine_tokens:,} tokens, {result.engine_concurrency:,.2f} x {length}"


def _roles_table(gpu: schema.PerGpu) -> Table:
    """Stored weights of the rank."""
    rows = tuple((role, format_gib(size)) for role, size in gpu.weights_by_role.items())
    return Table("Weights on the GPU", columns("role", "stored", numbers=("stored",)), rows)


def _weights_table(result: schema.MemoryResult) -> Table:
    """Weights by part, where requests keep nothing."""
    parts = result.weights_by_component.items()
    rows = tuple((name, f"{size:,}", format_gib(size)) for name, size in parts)
    names = columns("part", "bytes", "size", numbers=("bytes", "size"))
    return Table("Weights by part", names, rows)


def _state_table(kv: schema.KvCache) -> Table:
    parts = (
        ("growing KV, per token", kv.bytes_per_token),
        ("indexer keys, per token", kv.indexer_bytes_per_token),
        ("windows full, per request", kv.window_bytes),
        ("recurrent, per request", kv.recurrent_bytes),
        ("convolution, per request", kv.convolution_bytes),
        ("image, per request", kv.cross_bytes),
        ("one request at the context", kv.bytes_per_request),
    )
    rows = [(name, f"{size:,}", format_gib(size)) for name, size in parts if size]
    if kv.window_bytes:
        whole = kv.bytes_per_request_reserved_as_full
        rows.append(("the same, windows reserved as full", f"{whole:,}", format_gib(whole)))
    return Table(
        "What a request keeps",
        columns("part", "bytes", "size", numbers=("bytes", "size")),
        tuple(rows),
    )


def _gpu_table(gpu: schema.PerGpu) -> Table:
    names = columns("share", "size", "provenance", "how", numbers=("size",))
    graphs = (("graphs", "graphs"),)
    shares: tuple[tuple[str, str], ...] = (
        ("capacity", "capacity"),
        ("engine may fill", "budget"),
        ("weights", "weights"),
        *((("beside the model", "beside"),) if gpu.beside_bytes else ()),
        ("activations", "activations"),
        ("libraries", "non_torch"),
        *(graphs if gpu.graphs_in_budget else ()),
        ("left for the cache", "kv_available"),
        *(() if gpu.graphs_in_budget else graphs),
        ("headroom", "headroom"),
    )
    rows = tuple(
        (
            words,
            format_gib(getattr(gpu, f"{key}_bytes")),
            gpu.provenance.get(f"{key}_bytes", "exact"),
            gpu.notes.get(f"{key}_bytes", ""),
        )
        for words, key in shares
    )
    return Table("On each GPU", names, rows)


def _beside_table(held: list[schema.BesideRow]) -> tuple[Table, ...]:
    names = columns("what", "size", "how", numbers=("size",))
    rows = tuple((row.name, format_gib(row.bytes), row.note) for row in held)
    return (Table("Beside the model, on each GPU", names, rows),) if rows else ()


def _host_table(host: schema.HostMemory | None) -> tuple[Table, ...]:
    """What a node's host holds, and what cannot leave the GPU."""
    if host is None:
        return ()
    sizes = (
        ("weights", host.weights_bytes),
        ("cache of these layers", host.state_bytes),
        ("cache tier", host.tier_bytes),
        ("needed", host.needed_bytes),
        ("has", host.capacity_bytes),
        ("used by each token", host.read_bytes_per_token),
    )
    rows = [(words, format_gib(size)) for words, size in sizes if size]
    if host.capacity_bytes is None:
        rows.append(("has", "not known"))
    if host.tier_bytes:
        rows.append(("tier holds, tokens", f"{host.tier_tokens:,}"))
        rows.append(("tier holds, requests", f"{host.tier_requests:,}"))
    kept = tuple((role, format_gib(size)) for role, size in host.stays_on_gpu.items() if size)
    names = columns("part", "size", numbers=("size",))
    tables = (Table("In the host memory of each node", names, tuple(rows)),)
    if not host.weights_bytes:
        return tables
    return (*tables, Table("Stays on each GPU", names, kept))


@page_of.register
def _fit(result: schema.FitResult, inputs: Inputs) -> Page:
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
        tables += (*_beside_table(best.beside), *_host_table(best.host))
        tables += (*_refusals(result), *_tries(result))
    title = f"{inputs['gpus']}: what fits ({asked})"
    return Page(title, tables=tuple(tables), derivations=_derivations(result.explain))


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


@page_of.register
def _place(result: schema.PlaceResult, inputs: Inputs) -> Page:
    return place_page(result, inputs)


@page_of.register
def _estimate(result: schema.EstimateResult, inputs: Inputs) -> Page:
    return estimate_page(result, inputs)


@page_of.register
def _reconcile(result: schema.ReconcileResult, inputs: Inputs) -> Page:
    return reconcile_page(result, inputs)


@page_of.register
def _corrections(result: schema.CorrectionsResult, inputs: Inputs) -> Page:
    return corrections_page(result, inputs)


@page_of.register
def _explain(result: schema.ExplainResult, inputs: Inputs) -> Page:
    return explain_page(result, inputs["key"])


@page_of.register
def _verify(result: schema.VerifyResult, _inputs: Inputs) -> Page:
    numbers = ("spec entries", "file entries", "difference", "byte difference")
    names = columns("role", *numbers, numbers=numbers)
    rows = tuple(
        (
            row.role,
            f"{row.spec_entries:,}",
            f"{row.file_entries:,}",
            f"{row.file_entries - row.spec_entries:+,}" if not row.agrees else "equal",
            f"{row.file_bytes - row.spec_bytes:+,}" if not row.agrees else "equal",
        )
        for row in result.rows
    )
    word = "equal" if result.agrees else "different"
    return Page(f"{result.model} and {result.file}: {word}", (), (Table("", names, rows),))


@page_of.register
def _validation(result: schema.ValidationResult, inputs: Inputs) -> Page:
    if inputs["what"] == "perf":
        return perf_page(result, inputs)
    if result.are_estimates:
        return estimates_page(result, inputs)
    summary = result.summary
    facts = [
        ("compared with", str(inputs["data"])),
        ("metrics", f"{summary.rows:,}, of which {summary.predicted:,} predicted"),
        ("median, mean, 90th percentile of errors", _errors(summary)),
    ]
    facts += [(f"skipped: {reason}", str(n)) for reason, n in summary.skipped.items()]
    numbers = ("published", "llmplan", "error")
    names = columns("model", "metric", *numbers, "remark", numbers=numbers)
    rows = tuple(
        (
            row.id,
            row.metric,
            "-" if row.measured is None else f"{row.measured:,}",
            "-" if row.predicted is None else f"{row.predicted:,}",
            _error(row),
            row.reason,
        )
        for row in result.rows
        if row.error_frac != 0 or row.metric == "published"
    )
    title = "Totals as published, differences and skipped rows (all others are equal)"
    return Page(f"validate {inputs['what']}", tuple(facts), (Table(title, names, rows),))


def _error(row: schema.ValidationRow) -> str:
    if row.error_frac is None:
        return row.status
    return "equal" if row.error_frac == 0 else f"{row.error_frac:+.1e}"


def _errors(summary: schema.ValidationSummary) -> str:
    figures = (summary.median_abs_error_frac, summary.mape, summary.p90_abs_error_frac)
    return ", ".join("-" if figure is None else f"{figure:.2g}" for figure in figures)


@page_of.register
def _calibrated(result: schema.CalibrateResult, inputs: Inputs) -> Page:
    return calibrate_page(result, inputs)


@page_of.register
def _calibrations(result: schema.CalibrateDiffResult, inputs: Inputs) -> Page:
    return changes_page(result, inputs)


@page_of.register
def _calibration_files(result: schema.CalibrateFilesResult, inputs: Inputs) -> Page:
    return files_page(result, inputs)
