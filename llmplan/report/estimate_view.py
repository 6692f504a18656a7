"""The page of an estimate: headline figures with their ranges, then where the time goes."""

from collections.abc import Iterator
from math import ceil, floor, log10
from textwrap import fill
from typing import Any, Final

from llmplan.report.page import Chart, Derivations, Line, Page, Table, Waterfall, columns
from llmplan.report.pictures import bar
from llmplan.results import schema
from llmplan.units import format_digits, format_percent, format_seconds

MS: Final = 1e3
TERA: Final = 1e12
LINE: Final = 79
LONGEST_NAME: Final = 27
BAR: Final = 10
LONG_S: Final = 10.0
"""From here on a table says seconds."""
NO_YES: Final = ("missed", "met")
STEPS: Final = {"decode": "A decode step", "prefill": "A prompt"}


def estimate_page(result: schema.EstimateResult, inputs: dict[str, Any]) -> Page:
    """Everything on one page; charts are for HTML."""
    title = f"{result.model} on {inputs['gpus']}: estimate"
    if not result.fits:
        facts = (("plan", _plan(result, inputs)), ("does not fit", result.fits_reason))
        return Page(title, facts)
    is_explained = bool(result.explain)
    operators = _waterfalls(result, is_explained=is_explained)
    return Page(
        title,
        _facts(result, inputs),
        (*_sweep(result), *_steps(result), *(operators if is_explained else ())),
        (*_curve(result), *_roofline(result)),
        _derivations(result),
        _remarks(result, is_explained=is_explained),
        waterfalls=tuple(_drawn(result, step, words) for step, words in STEPS.items())
        if result.steps
        else (),
        fine_tables=() if is_explained else operators,
    )


def _plan(result: schema.EstimateResult, inputs: dict[str, Any]) -> str:
    formats = f"weights {inputs['dtype']}, KV {inputs['kv_dtype']}"
    return f"{result.layout}, {inputs['engine']}, {formats}"


def _traffic(inputs: dict[str, Any]) -> str:
    tokens = f"{inputs['isl']:,} prompt + {_counted(inputs['osl'], 'output token')}"
    match inputs["scenario"]:
        case "open_loop":
            rate = inputs["rate"]
            how = f"{rate:,.10g} request{'s' * (rate != 1)} a second"
        case "static_batch":
            how = f"{_counted(inputs['concurrency'], 'request')} together"
        case "closed_loop":
            how = f"{inputs['concurrency']:,} in flight"
        case "single_stream":
            how = "one at a time on each copy"
        case _:
            how = "as many as run at once"
    return f"{tokens}, {how}"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def _facts(result: schema.EstimateResult, inputs: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    facts = [("plan", _plan(result, inputs)), ("traffic", _traffic(inputs))]
    for words, figure in (
        ("first token (TTFT)", result.ttft_s),
        ("further tokens (TPOT)", result.tpot_s),
        ("whole request", result.e2e_s),
    ):
        if figure:
            facts.append((words, _time(figure)))
    if result.output_tokens_per_s and result.output_tokens_per_s_per_gpu:
        words = "output, at the most" if result.is_overloaded else "output"
        facts.append((words, f"{_number(result.output_tokens_per_s)} tokens/s"))
        facts.append(("on each GPU", f"{_number(result.output_tokens_per_s_per_gpu)} tokens/s"))
    requests = f"{_plain(result.requests_per_s)} a second"
    if result.is_overloaded:
        facts.append(("requests, at the most", requests))
        return (*facts, *_bounds(result), *_calibration(result))
    waiting = f", {result.waiting:,.0f} wait" if result.waiting else ""
    decoding = f"{_plain(result.decoding)} a copy{waiting}"
    places = f"{_counted(result.slots, 'place')} in all"
    facts += [("requests", requests), ("decoding at once", f"{decoding}; {places}")]
    if result.energy:
        facts.append(("draw", f"{_number(result.energy.gpu_w)} W a GPU"))
        joules = _number(result.energy.joules_per_output_token_j)
        facts.append(("energy", f"{joules} J an output token"))
    return (*facts, *_bounds(result), *_calibration(result))


def _calibration(result: schema.EstimateResult) -> Iterator[tuple[str, str]]:
    """The profile, how far it is off, and what is said without it and at the peaks."""
    used = result.calibration
    if not used:
        return
    off = "; errors of layers unknown"
    if used.layer_median_error_frac is not None and used.layer_p90_error_frac is not None:
        middle = format_percent(used.layer_median_error_frac)
        off = f"; layers off {middle} (p90 {format_percent(used.layer_p90_error_frac)})"
    yield "calibrated", f"{used.device}, {used.date.isoformat()}{off}"
    plain = used.uncalibrated
    rate = f"{format_digits(plain.output_tokens_per_s)} tokens/s"
    times = [
        f"{name} {format_seconds(value)}"
        for name, value in (("TTFT", plain.ttft_s), ("TPOT", plain.tpot_s))
        if value is not None
    ]
    yield "uncalibrated", ", ".join((*times, rate))
    if result.steps:
        prompt, step = result.steps.prefill.roofline_s, result.steps.decode.roofline_s
        yield "at the peaks", f"prompt {format_seconds(prompt)}, step {format_seconds(step)}"


def _bounds(result: schema.EstimateResult) -> Iterator[tuple[str, str]]:
    """Each limit on a latency, and whether it is held."""
    for row in result.slo:
        name = row.metric.removesuffix("_s").upper()
        yield f"{name} at the most", f"{format_seconds(row.limit_s)}: {NO_YES[row.is_met]}"


def _time(figure: schema.Estimated) -> str:
    """``12.3 ms (10.9–14.6)``: the unit is that of the value."""
    scale, unit = (1.0, "s") if figure.value >= 1 else (MS, "ms")
    low, value, high = (format_digits(end * scale) for end in _ends(figure))
    return f"{value} {unit} ({low}–{high})"


def _number(figure: schema.Estimated) -> str:
    low, value, high = map(format_digits, _ends(figure))
    return f"{value} ({low}–{high})"


def _plain(value: float | None) -> str:
    return "-" if value is None else format_digits(value)


def _ends(figure: schema.Estimated) -> tuple[float, float, float]:
    return figure.low, figure.value, figure.high


def _sweep(result: schema.EstimateResult) -> tuple[Table, ...]:
    names = ("requests", "TTFT", "TPOT", "tokens/s", "per GPU", "wait")
    rows = tuple(
        (
            f"{row.concurrency:,.0f}",
            _milliseconds(row.ttft_s.value),
            _milliseconds(row.tpot_s.value),
            format_digits(row.output_tokens_per_s.value),
            format_digits(row.output_tokens_per_s_per_gpu.value),
            f"{row.waiting:,.0f}",
        )
        for row in result.sweep
    )
    title = "By requests in flight (above: the last row)"
    return (Table(title, columns(*names, numbers=names), rows),) if rows else ()


def _milliseconds(seconds: float) -> str:
    is_long = seconds >= LONG_S
    return f"{format_digits(seconds)} s" if is_long else f"{format_digits(seconds * MS)} ms"


def _steps(result: schema.EstimateResult) -> tuple[Table, ...]:
    if not result.steps:
        return ()
    numbers = ("time", "compute", "memory", "network", "launch", "MFU", "MBU")
    found = {"decode": result.steps.decode, "prefill": result.steps.prefill}
    rows = tuple(
        (
            STEPS[step],
            _milliseconds(row.seconds),
            *(f"{getattr(row.bound_share, bound):.0%}" for bound in numbers[1:5]),
            f"{row.mfu_frac:.1%}",
            f"{row.mbu_frac:.1%}",
        )
        for step, row in found.items()
    )
    title = "What decides the time of each by itself"
    return (Table(title, columns("", *numbers, numbers=numbers), rows),)


def _waterfalls(result: schema.EstimateResult, *, is_explained: bool) -> tuple[Table, ...]:
    """Both steps; where no remark says what a star is, the headings do."""
    if not result.operators:
        return ()
    numbers = ("calls", "time", "share")
    names = columns("operator", *numbers, "", "bound by", numbers=numbers)
    tables = []
    for step, words in STEPS.items():
        rows = [row for row in result.operators if row.step == step]
        most = max(row.share_frac for row in rows)
        shown = tuple(_operator(row, most) for row in rows)
        title = f"{words}, operator by operator{'' if is_explained else ' (* assumed)'}"
        tables.append(Table(title, names, shown))
    return tuple(tables)


def _operator(row: schema.OperatorRow, most_frac: float) -> tuple[str, ...]:
    star = "*" if row.provenance == "assumed" else ""
    return (
        _cut(row.name) + star,
        f"{row.count:,}",
        f"{row.seconds * MS:,.3f} ms",
        f"{row.share_frac:.1%}",
        bar(max(row.share_frac, 0.0) / most_frac, BAR),
        _bound(row),
    )


def _bound(row: schema.OperatorRow) -> str:
    """What decides its time, and how near it comes."""
    if row.kind == "host":
        return row.kind
    return row.bound if row.efficiency_frac is None else f"{row.bound} {row.efficiency_frac:.0%}"


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _derivations(result: schema.EstimateResult) -> Derivations | None:
    if not result.explain:
        return None
    items = tuple(
        (row.quantity, (row.formula, f"= {row.values}", f"= {row.result}", f"from {row.source}"))
        for row in result.explain
    )
    return Derivations("Where the numbers come from", items)


def _remarks(result: schema.EstimateResult, *, is_explained: bool) -> tuple[str, ...]:
    told = [("TTFT", result.ttft_s), ("TPOT", result.tpot_s)]
    rate, whole = result.output_tokens_per_s, result.e2e_s
    is_of_both = rate and whole and rate.note == whole.note
    if not is_of_both:
        told.append(("tokens/s", rate))
    notes: dict[str, list[str]] = {}
    for name, figure in told:
        if figure:
            notes.setdefault(f"{figure.provenance}, {figure.note}", []).append(name)
    if is_of_both:
        notes["from those of TTFT and TPOT"] = ["whole request", "tokens/s"]
    ranges = [f"Range of {' and '.join(names)}: {note}." for note, names in notes.items()]
    stars = ["* assumed: no such kernel was measured on this GPU; JSON says what stands for it."]
    has_stars = is_explained and any(row.provenance == "assumed" for row in result.operators)
    return tuple(fill(text, LINE) for text in (*ranges, *(stars if has_stars else ())))


def _curve(result: schema.EstimateResult) -> tuple[Chart, ...]:
    """Throughput over latency."""
    if not result.sweep:
        return ()
    rows = sorted(result.sweep, key=lambda row: row.concurrency)
    line = Line(
        "by requests in flight",
        tuple(row.tpot_s.value * MS for row in rows),
        tuple(row.output_tokens_per_s_per_gpu.value for row in rows),
        labels=tuple(f"{row.concurrency:,.0f}" for row in rows),
    )
    title, y_label = "Throughput and latency", "output tokens/s a GPU"
    ticks = tuple((x, format_digits(x)) for x in sorted(set(line.x)))
    return (Chart(title, "TPOT in ms", y_label, (line,), ticks),)


def _roofline(result: schema.EstimateResult) -> tuple[Chart, ...]:
    found = result.roofline
    if not found or not found.points:
        return ()
    ends = [point.flops_per_byte for point in found.points]
    knees = [roof.flops_per_s / roof.bytes_per_s for roof in found.roofs]
    first, last = floor(log10(min(ends))), ceil(log10(max(*ends, *knees)))
    lines = [_roof(roof, 10.0**first, 10.0**last) for roof in found.roofs]
    for step in STEPS:
        points = [point for point in found.points if point.step == step]
        x = tuple(point.flops_per_byte for point in points)
        y = tuple(point.flops_per_s for point in points)
        lines.append(Line(step, x, y, is_points=True, labels=tuple(_cut(p.name) for p in points)))
    ticks = tuple((10.0**power, f"{10.0**power:g}") for power in range(first, last + 1))
    return (
        Chart("Roofline of one GPU", "FLOPs a byte", "FLOP/s", tuple(lines), ticks, is_fine=True),
    )


def _roof(roof: schema.Roof, first: float, last: float) -> Line:
    knee = roof.flops_per_s / roof.bytes_per_s
    x = tuple(sorted({first, knee, max(last, knee)}))
    peak, bandwidth = f"{roof.flops_per_s / TERA:,.0f}", f"{roof.bytes_per_s / TERA:.3g}"
    return Line(
        f"{roof.format}: {peak} TFLOP/s, {bandwidth} TB/s",
        x,
        tuple(min(roof.flops_per_s, roof.bytes_per_s * i) for i in x),
    )


def _drawn(result: schema.EstimateResult, step: str, words: str) -> Waterfall:
    bars = tuple(
        (_cut(row.name), row.seconds * MS, "host" if row.kind == "host" else row.bound)
        for row in result.operators
        if row.step == step
    )
    return Waterfall(words, "ms", bars)
