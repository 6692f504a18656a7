"""The page of what a model holds."""

from typing import Any

from llmplan.report.derived import derivations
from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import format_gib, format_tokens

Inputs = dict[str, Any]


def memory_page(result: schema.MemoryResult, inputs: Inputs) -> Page:
    """What a model holds, and on each GPU."""
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
        tables += (*beside_table(result.beside), *host_table(result.host))
        facts.append(("on", f"{inputs['gpus']}, {result.layout}"))
        facts.append(("fits", _verdict(result, inputs)))
        if result.engine_tokens is not None and inputs.get("engine") != "generic":
            facts.append((f"{inputs['engine']} prints", _printed(result, inputs)))
    title = f"{result.model}: memory"
    return Page(title, tuple(facts), tuple(tables), derivations=derivations(result.explain))


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


def beside_table(held: list[schema.BesideRow]) -> tuple[Table, ...]:
    """What engines hold beside the model."""
    names = columns("what", "size", "how", numbers=("size",))
    rows = tuple((row.name, format_gib(row.bytes), row.note) for row in held)
    return (Table("Beside the model, on each GPU", names, rows),) if rows else ()


def host_table(host: schema.HostMemory | None) -> tuple[Table, ...]:
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
