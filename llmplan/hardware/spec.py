"""What may stand in ``hardware/devices/*.yaml`` and ``hardware/nodes/*.yaml``.

A fact that is not known is left out. Rates are dense and per direction; sizes are bytes.
"""

from datetime import date
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from llmplan.described import described_schema
from llmplan.hardware.device import Status, Topology

MAX_MEMORY_BYTES: Final = 10 * 10**12
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DAY: Final = r"^\d{4}(-\d{2}(-\d{2})?)?$"


def _plain_date(value: object) -> object:
    """YAML reads 2022-09-20 as a date and 2017 as a number; both stay text here."""
    is_year = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if isinstance(value, date) or is_year else value


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("should be a number, not yes or no")  # noqa: TRY004  what pydantic reports
    return value


Text = Annotated[str, Field(min_length=1, max_length=1000)]
Day = Annotated[str, BeforeValidator(_plain_date), Field(pattern=_DAY)]
Count = Annotated[int, BeforeValidator(_no_boolean), Field(gt=0, le=10_000_000)]
SizeBytes = Annotated[int, BeforeValidator(_no_boolean), Field(gt=0, le=MAX_MEMORY_BYTES)]
Rate = Annotated[
    float, BeforeValidator(_no_boolean), Field(gt=0, le=1e21, allow_inf_nan=False)
]  # PyYAML reads 3.35e12 as text; pydantic turns it into a number


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class MemorySpec(_Spec):
    """Device memory. The capacity is what a process can use, not what the name promises."""

    capacity_bytes: SizeBytes | None = None
    """What the driver gives a process (cudaMemGetInfo), as an engine logs it."""
    capacity_source: Text | None = None
    """Where the capacity was read."""
    capacity_date: Day | None = None
    """When the capacity was read."""
    total_bytes: SizeBytes | None = None
    """Total that nvidia-smi, rocm-smi or the vendor's runtime reports, before any reservation."""
    total_source: Text | None = None
    """Where the total was read."""
    total_date: Day | None = None
    """When the total was read."""
    marketing_gb: Rate
    """The figure in the product's name, 10^9 bytes each, whatever the product holds."""
    type: Text
    """Memory technology, such as HBM3."""
    bandwidth_bytes_per_s: Rate | None = None
    """Peak bandwidth as published."""
    l2_bytes: SizeBytes | None = None
    """Last cache before memory (L2), or the software-managed SRAM that replaces it."""

    @model_validator(mode="after")
    def _sourced_and_in_order(self) -> Self:
        if self.capacity_bytes and not (self.capacity_source and self.capacity_date):
            raise ValueError("capacity_bytes needs capacity_source and capacity_date")
        if self.total_bytes and not (self.total_source and self.total_date):
            raise ValueError("total_bytes needs total_source and total_date")
        if self.capacity_bytes and self.total_bytes and self.capacity_bytes > self.total_bytes:
            raise ValueError("capacity_bytes is larger than total_bytes")
        return self


class PeakSpec(_Spec):
    """Dense peak rates by the format of the operands, in FLOP/s (integers: operations/s)."""

    fp32: Rate | None = None
    """Vector units, fp32."""
    tf32: Rate | None = None
    """Matrix units, TF32."""
    bf16: Rate | None = None
    """Matrix units, bf16, fp32 accumulation."""
    fp16: Rate | None = None
    """Matrix units, fp16, fp32 accumulation."""
    fp8: Rate | None = None
    """Matrix units, 8-bit floating point."""
    int8: Rate | None = None
    """Matrix units, 8-bit integer."""
    fp4: Rate | None = None
    """Matrix units, 4-bit floating point with block scales."""


class MeasuredSpec(_Spec):
    """The best matrix-multiply rates that somebody measured and published."""

    bf16: Rate | None = None
    """bf16 matrix multiply, FLOP/s."""
    fp8: Rate | None = None
    """fp8 matrix multiply, FLOP/s."""
    source: Text
    """Where the rates were published."""
    source_date: Day
    """When the rates were published or read."""


class LinkSpec(_Spec):
    """The link between devices of one scale-up domain."""

    name: Text
    """Name of the link."""
    unidirectional_bytes_per_s: Rate | None = None
    """What one device can send at once, all links together, one direction."""
    pair_bytes_per_s: Rate | None = None
    """What two devices have between them, one direction: all on a switch, a share on a mesh."""
    domain_size: Count | None = None
    """Devices that reach each other over this link."""

    @model_validator(mode="after")
    def _pair_within_whole(self) -> Self:
        whole, pair = self.unidirectional_bytes_per_s, self.pair_bytes_per_s
        if whole and pair and pair > whole:
            raise ValueError("pair_bytes_per_s is larger than unidirectional_bytes_per_s")
        return self


class HostLinkSpec(_Spec):
    """The link between a device and its host."""

    name: Text
    """Name of the link, such as PCIe 5.0 x16."""
    unidirectional_bytes_per_s: Rate | None = None
    """Raw rate of one direction."""


class ListPriceSpec(_Spec):
    """A public price of one device; vendors publish few, so the note says what kind it is."""

    usd: Rate
    """US dollars for one device."""
    date: Day
    """When the price was published."""
    note: Text
    """Who says so: list, street, resale or estimate."""


class DeviceSpec(_Spec):
    """One accelerator."""

    vendor: Text
    """Who makes it."""
    name: Text
    """The product's name."""
    form_factor: Text | None = None
    """SXM5, OAM, PCIe, superchip, ..."""
    architecture: Text
    """Architecture or core generation."""
    compute_capability: Text | None = None
    """CUDA compute capability, or the gfx target of AMD devices; quote it, 8.0 is text."""
    status: Status
    """Whether it can be bought or rented; figures of announced devices are promises."""
    aliases: tuple[Text, ...] = ()
    """Other names it goes by; case, spaces, hyphens and a leading vendor word do not matter."""
    memory: MemorySpec
    """Device memory."""
    peak_flops_per_s: PeakSpec = PeakSpec()
    """Dense peak rates, as published."""
    measured_flops_per_s: MeasuredSpec | None = None
    """Matrix-multiply rates that were measured."""
    link: LinkSpec | None = None
    """Link to the other devices."""
    host_link: HostLinkSpec | None = None
    """Link to the host."""
    scale_out_bytes_per_s: Rate | None = None
    """Usual network rate per device, one direction."""
    tdp_w: Rate | None = None
    """Power limit of one device, W."""
    sm_count: Count | None = None
    """Streaming multiprocessors, compute units or cores."""
    boost_hz: Rate | None = None
    """Highest advertised clock."""
    launch_date: Day | None = None
    """First availability or announcement."""
    list_price: ListPriceSpec | None = None
    """A public price."""
    note: Text | None = None
    """What a reader should know before using these figures."""
    check: Text | None = None
    """How far the figures were compared between sources."""
    source: Text
    """Where the facts without a source of their own come from."""
    source_date: Day
    """When they were read."""


class NodeLinkSpec(_Spec):
    """The link between the devices of one node."""

    name: Text
    """Name of the link and of what switches it."""
    unidirectional_bytes_per_s: Rate
    """What one device can send at once, one direction."""
    pair_bytes_per_s: Rate
    """What two devices have between them, one direction."""
    domain_size: Count | None = None
    """Devices that reach each other over it, where that is not the whole node (bridged pairs)."""
    in_network_reduction: bool = False
    """Whether the switch adds up operands of an all-reduce (NVLS, SHARP)."""


class NicSpec(_Spec):
    """The network adapters of one node."""

    count: Count
    """Adapters for traffic between nodes."""
    bits_per_s: Rate
    """Line rate of each."""


class NodeSpec(_Spec):
    """One type of node: devices that share a scale-up domain or a host."""

    name: Text
    """The node's name."""
    device: Text
    """Catalogue name of its device."""
    devices: Count
    """Devices in the node."""
    default_for_device: bool = False
    """Whether a GPU argument such as 8xH100 means this node."""
    topology: Topology
    """How the devices reach each other."""
    link: NodeLinkSpec | None = None
    """Link between the devices; a node of one device has none."""
    nic: NicSpec | None = None
    """Network adapters."""
    scale_out_bytes_per_s: Rate | None = None
    """Network rate per device, one direction."""
    host_memory_bytes: Annotated[int, Field(gt=0, le=10**15)] | None = None
    """Host memory of the node."""
    aliases: tuple[Text, ...] = ()
    """Other names it goes by, instance types of clouds among them."""
    note: Text | None = None
    """What a reader should know before using these figures."""
    source: Text
    """Where the facts come from."""
    source_date: Day
    """When they were read."""

    @model_validator(mode="after")
    def _link_where_needed(self) -> Self:
        if self.devices > 1 and self.link is None:
            raise ValueError("a node of several devices needs link")
        return self


def device_schema() -> dict[str, Any]:
    """JSON schema of a device file, for editors."""
    return {"$schema": _DIALECT, **described_schema(DeviceSpec)}


def node_schema() -> dict[str, Any]:
    """JSON schema of a node file, for editors."""
    return {"$schema": _DIALECT, **described_schema(NodeSpec)}
