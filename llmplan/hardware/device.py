"""Devices, nodes and groups of devices as frozen values; sizes in bytes, rates per second."""

from dataclasses import dataclass
from enum import StrEnum

from llmplan.units import Provenance


class Status(StrEnum):
    """Whether a device can be bought or rented; figures of announced ones are promises."""

    AVAILABLE = "available"
    ANNOUNCED = "announced"


class Topology(StrEnum):
    """How the devices of a node reach each other."""

    SWITCHED = "switched"
    FULL_MESH = "full_mesh"
    TORUS = "torus"
    BRIDGE_PAIR = "bridge_pair"
    PCIE = "pcie"
    UNIFIED = "unified"


@dataclass(frozen=True, slots=True)
class UnitRate:
    """The rate of one arithmetic unit.

    Attributes:
        unit: Format of the operands: fp32, tf32, bf16, fp16, fp8, int8 or fp4.
        flops_per_s: Dense rate.
    """

    unit: str
    flops_per_s: float


@dataclass(frozen=True, slots=True)
class Link:
    """A link, per device and per direction; ``None`` where nothing is published.

    Attributes:
        name: What it is called.
        unidirectional_bytes_per_s: What one device can send at once.
        pair_bytes_per_s: What two devices have between them.
        domain_size: Devices that reach each other over it, 1 where it joins none.
    """

    name: str
    unidirectional_bytes_per_s: float | None = None
    pair_bytes_per_s: float | None = None
    domain_size: int = 1


@dataclass(frozen=True, slots=True)
class ListPrice:
    """A public price of one device, its date, and what kind of price it is."""

    usd: float
    date: str
    note: str


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator; ``None`` means that the fact is not known, never that it is zero.

    Attributes:
        slug: Catalogue name, the stem of its file.
        capacity_bytes: What the driver gives a process.
        file: The file it was read from, as messages name it.
        capacity_source: Where and when the capacity was read.
        capacity_provenance: Measured where an engine logged it, assumed where it is nvidia-smi's
            total or the marketing size.
        total_bytes: Total that nvidia-smi or its like reports.
        marketing_gb: The figure in the product's name.
        peaks: Dense rates as published.
        measured: Best matrix-multiply rates that were measured.
        source: Where the facts come from, with ``source_date``.
    """

    slug: str
    name: str
    vendor: str
    form_factor: str | None
    architecture: str
    compute_capability: str | None
    status: Status
    aliases: tuple[str, ...]
    capacity_bytes: int
    capacity_provenance: Provenance
    capacity_source: str
    file: str
    total_bytes: int | None
    marketing_gb: float
    memory_type: str
    bandwidth_bytes_per_s: float | None
    l2_bytes: int | None
    peaks: tuple[UnitRate, ...]
    measured: tuple[UnitRate, ...]
    link: Link | None
    host_link: Link | None
    scale_out_bytes_per_s: float | None
    tdp_w: float | None
    sm_count: int | None
    boost_hz: float | None
    launch_date: str | None
    list_price: ListPrice | None
    note: str | None
    check: str | None
    source: str
    source_date: str

    def peak_flops_per_s(self, unit: str) -> float | None:
        """Published dense rate for operands of this format."""
        return _rate(self.peaks, unit)

    def measured_flops_per_s(self, unit: str) -> float | None:
        """Best measured rate for operands of this format."""
        return _rate(self.measured, unit)


@dataclass(frozen=True, slots=True)
class Node:
    """One type of node: devices that share a scale-up domain or a host.

    Attributes:
        slug: Catalogue name, the stem of its file.
        device: Catalogue name of its device.
        devices: How many.
        link: Link between them, per device and direction; ``None`` for a single device.
        in_network_reduction: Whether the switch adds up an all-reduce.
        nics: Network adapters, ``nic_bits_per_s`` each.
        scale_out_bytes_per_s: Network rate per device, one direction.
    """

    slug: str
    name: str
    device: str
    devices: int
    default_for_device: bool
    topology: Topology
    link: Link | None
    in_network_reduction: bool
    nics: int | None
    nic_bits_per_s: float | None
    scale_out_bytes_per_s: float | None
    host_memory_bytes: int | None
    aliases: tuple[str, ...]
    note: str | None
    source: str
    source_date: str


@dataclass(frozen=True, slots=True)
class GpuGroup:
    """Equal nodes of equal devices, all of them used alike.

    Attributes:
        nodes: Nodes.
        per_node: Devices used in each.
        device: The device.
        node: The type of node, ``None`` where the catalogue has none for the device.
    """

    nodes: int
    per_node: int
    device: Device
    node: Node | None = None

    @property
    def count(self) -> int:
        """Devices of the whole group."""
        return self.nodes * self.per_node

    def __str__(self) -> str:
        """The group as ``parse_gpus`` reads it: ``8xh100-sxm``, ``2n8xh200-sxm``."""
        nodes = f"{self.nodes}n" if self.nodes > 1 else ""
        return f"{nodes}{self.per_node}x{self.device.slug}"


def _rate(rates: tuple[UnitRate, ...], unit: str) -> float | None:
    return next((rate.flops_per_s for rate in rates if rate.unit == unit), None)
