"""From one hardware file to one value: read, validate, and decide what the capacity is."""

from pathlib import Path

from llmplan.documents import load_document
from llmplan.hardware.device import Device, Link, ListPrice, Node, UnitRate
from llmplan.hardware.spec import (
    DeviceSpec,
    HostLinkSpec,
    LinkSpec,
    MeasuredSpec,
    MemorySpec,
    NodeSpec,
    PeakSpec,
)
from llmplan.units import Provenance
from llmplan.validation import validated


def read_device(path: Path, shown_as: str | None = None) -> Device:
    """One device file.

    Raises:
        DocumentError: It cannot be read or holds a wrong key or value.
    """
    document = load_document(path, shown_as)
    return _device(path.stem, validated(document, DeviceSpec), document.path)


def read_node(path: Path, shown_as: str | None = None) -> Node:
    """One node file; errors as in ``read_device``."""
    return _node(path.stem, validated(load_document(path, shown_as), NodeSpec))


def _device(slug: str, spec: DeviceSpec, file: str) -> Device:
    capacity_bytes, provenance = _capacity(spec.memory)
    return Device(
        slug=slug,
        name=spec.name,
        vendor=spec.vendor,
        form_factor=spec.form_factor,
        architecture=spec.architecture,
        compute_capability=spec.compute_capability,
        status=spec.status,
        aliases=spec.aliases,
        capacity_bytes=capacity_bytes,
        capacity_provenance=provenance,
        capacity_source=_capacity_source(spec),
        file=file,
        total_bytes=spec.memory.total_bytes,
        marketing_gb=spec.memory.marketing_gb,
        memory_type=spec.memory.type,
        bandwidth_bytes_per_s=spec.memory.bandwidth_bytes_per_s,
        l2_bytes=spec.memory.l2_bytes,
        peaks=_rates(spec.peak_flops_per_s),
        measured=_rates(spec.measured_flops_per_s),
        link=_link(spec.link),
        host_link=_link(spec.host_link),
        scale_out_bytes_per_s=spec.scale_out_bytes_per_s,
        tdp_w=spec.tdp_w,
        sm_count=spec.sm_count,
        boost_hz=spec.boost_hz,
        launch_date=spec.launch_date,
        list_price=_price(spec),
        note=spec.note,
        check=spec.check,
        source=spec.source,
        source_date=spec.source_date,
    )


def _capacity_source(spec: DeviceSpec) -> str:
    memory = spec.memory
    if memory.capacity_source:
        return f"{memory.capacity_source} ({memory.capacity_date})"
    return f"{spec.source} ({spec.source_date})"


def _capacity(memory: MemorySpec) -> tuple[int, Provenance]:
    """What a process can use: as logged, else the reported total, else the name's figure."""
    if memory.capacity_bytes:
        return memory.capacity_bytes, Provenance.MEASURED
    return memory.total_bytes or round(memory.marketing_gb * 10**9), Provenance.ASSUMED


def _rates(rates: PeakSpec | MeasuredSpec | None) -> tuple[UnitRate, ...]:
    stated = rates.model_dump(exclude_none=True, exclude={"source", "source_date"}) if rates else {}
    return tuple(UnitRate(unit, flops_per_s) for unit, flops_per_s in stated.items())


def _link(link: LinkSpec | HostLinkSpec | None) -> Link | None:
    match link:
        case None:
            return None
        case HostLinkSpec():
            return Link(link.name, link.unidirectional_bytes_per_s)
        case LinkSpec():
            rates = link.unidirectional_bytes_per_s, link.pair_bytes_per_s
            return Link(link.name, *rates, link.domain_size or 1)


def _price(spec: DeviceSpec) -> ListPrice | None:
    price = spec.list_price
    return ListPrice(price.usd, price.date, price.note) if price else None


def _node(slug: str, spec: NodeSpec) -> Node:
    return Node(
        slug=slug,
        name=spec.name,
        device=spec.device,
        devices=spec.devices,
        default_for_device=spec.default_for_device,
        topology=spec.topology,
        link=_node_link(spec),
        in_network_reduction=spec.link.in_network_reduction if spec.link else False,
        nics=spec.nic.count if spec.nic else None,
        nic_bits_per_s=spec.nic.bits_per_s if spec.nic else None,
        scale_out_bytes_per_s=spec.scale_out_bytes_per_s,
        host_memory_bytes=spec.host_memory_bytes,
        aliases=spec.aliases,
        note=spec.note,
        source=spec.source,
        source_date=spec.source_date,
    )


def _node_link(spec: NodeSpec) -> Link | None:
    if spec.link is None:
        return None
    rates = spec.link.unidirectional_bytes_per_s, spec.link.pair_bytes_per_s
    return Link(spec.link.name, *rates, spec.link.domain_size or spec.devices)
