"""Pages of devices, nodes and number formats."""

from typing import Any, Final

from llmplan.report.page import Page, Table, columns
from llmplan.results import schema
from llmplan.units import format_digits, format_gib

Inputs = dict[str, Any]
FEW: Final = 1.0


def hardware_page(result: schema.HardwareResult, inputs: Inputs) -> Page:
    """All of the catalogue, or one device."""
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
    """In whole units, or in three digits where that would be one or none."""
    if value is None:
        return "-"
    return f"{value / unit:,.0f}" if value >= FEW * unit else format_digits(value / unit)


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
    rates = ", ".join(f"{k} {_scaled(v, 1e12)}" for k, v in row.peak_flops_per_s.items())
    facts = (
        ("vendor", row.vendor),
        ("architecture", row.architecture),
        ("memory for a process", f"{format_gib(row.capacity_bytes)} ({row.capacity_provenance})"),
        ("bandwidth", f"{_scaled(row.bandwidth_bytes_per_s, 1e9)} GB/s"),
        ("dense TFLOP/s", rates or "-"),
        ("link", _link(row)),
        ("power", "not known" if row.tdp_w is None else f"{_scaled(row.tdp_w, 1)} W"),
        ("aliases", ", ".join(row.aliases)),
        ("source", f"{row.source} ({row.source_date})"),
    )
    return Page(row.name, facts, (_node_table(result.nodes),) if result.nodes else ())


def _link(row: schema.DeviceRow) -> str:
    if row.link is None:
        return "none"
    if row.link_bytes_per_s is None:
        return f"{row.link}, rate not known"
    return f"{row.link}, {_scaled(row.link_bytes_per_s, 1e9)} GB/s a direction"
