"""Devices, node types and number formats."""

from llmplan.results.schema.common import Published
from llmplan.units import Provenance


class DeviceRow(Published):
    """One device."""

    slug: str
    """Catalogue name."""
    name: str
    """Vendor's name."""
    vendor: str
    """Vendor."""
    architecture: str
    """Architecture."""
    status: str
    """available or announced."""
    capacity_bytes: int
    """What the driver gives a process."""
    capacity_provenance: Provenance
    """measured, or assumed from a larger figure."""
    bandwidth_bytes_per_s: float | None
    """Memory bandwidth."""
    peak_flops_per_s: dict[str, float]
    """Dense peak rates by format."""
    link: str | None
    """Link between devices."""
    link_bytes_per_s: float | None
    """Per device and direction."""
    tdp_w: float | None
    """Board power."""
    aliases: list[str]
    """Other accepted names."""
    source: str
    """Source of the facts."""
    source_date: str
    """When they were read."""


class NodeRow(Published):
    """One node type."""

    slug: str
    """Catalogue name."""
    name: str
    """Full name."""
    device: str
    """Its device."""
    devices: int
    """Devices a node."""
    topology: str
    """How they are joined."""
    link_bytes_per_s: float | None
    """Per device and direction."""
    scale_out_bytes_per_s: float | None
    """Network bandwidth a device and direction."""
    source: str
    """Source of the facts."""
    source_date: str
    """When they were read."""


class DtypeRow(Published):
    """One number format."""

    name: str
    """Name accepted by --dtype."""
    bits_per_weight: float
    """Stored bits of an element, scales included."""
    compute: str
    """The unit that matmuls with such weights run in."""
    note: str
    """Layout and source."""


class HardwareResult(Published):
    """``llmplan hardware``."""

    devices: list[DeviceRow] = []
    """Devices."""
    nodes: list[NodeRow] = []
    """Node types."""
    dtypes: list[DtypeRow] = []
    """Number formats."""
