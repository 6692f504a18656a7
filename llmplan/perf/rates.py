"""What a device can do at most, as the curves of kernels need it."""

from dataclasses import dataclass
from typing import Final

from llmplan.hardware.device import Device

UNITS = {
    "bfloat16": "bf16", "bf16": "bf16", "half": "fp16", "fp16": "fp16", "float16": "fp16",
    "fp8": "fp8", "fp8_block": "fp8", "fp8_channel": "fp8", "mxfp8": "fp8", "w8a8": "int8",
    "int8": "int8", "sq": "int8", "nvfp4": "fp4", "mxfp4": "fp4", "fp4": "fp4",
    "int8_wo": "bf16", "int4_wo": "bf16", "w4a16": "bf16", "w4a16_mxfp4": "bf16",
    "w4a8_mxfp4_mxfp8": "fp8",
}  # fmt: skip
"""Arithmetic unit of a table's format: weight-only formats compute in 16 bits."""
BITS = {
    "bfloat16": 16.0, "bf16": 16.0, "half": 16.0, "fp16": 16.0, "float16": 16.0, "fp32": 32.0,
    "fp8": 8.0, "fp8_block": 8.0, "fp8_channel": 8.0, "mxfp8": 8.25, "w8a8": 8.0, "int8": 8.0,
    "sq": 8.0, "int8_wo": 8.0, "nvfp4": 4.5, "mxfp4": 4.25, "fp4": 4.5, "int4_wo": 4.25,
    "w4a16": 4.25, "w4a16_mxfp4": 4.25, "w4a8_mxfp4_mxfp8": 4.25,
}  # fmt: skip
"""Bits of one weight, scales included."""


def is_16_bit(table_format: str) -> bool:
    """Whether weights and activations of a format are both 16 bits wide."""
    return BITS[table_format] == 16.0


HOST_DEVICES: Final = 8
TRAY_DEVICES: Final = 4
"""A host of a rack whose links join all of it, as GB200 NVL72: 18 trays of four GPUs."""
PCIE_PEERS: Final = 2
"""Engines keep their own all-reduce to pairs where devices have no links."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Peaks of one device.

    Attributes:
        slug: Catalogue name.
        bytes_per_s: Memory bandwidth.
        flops_per_s: Dense rate by unit; the nearest wider one where a unit is missing.
        l2_bytes: Last-level cache; 0 where unknown.
        sms: Multiprocessors; 0 where unknown.
        link_bytes_per_s: Link between devices of a node, one direction; 0 where there is none.
        peers: Devices that map each other's memory: those of a host over links, else a pair.
    """

    slug: str
    bytes_per_s: float
    flops_per_s: dict[str, float]
    l2_bytes: float
    sms: int
    link_bytes_per_s: float
    peers: int = HOST_DEVICES

    def flops(self, table_format: str) -> float:
        """Dense rate for a format of a table.

        Raises:
            KeyError: A format that no table has.
        """
        unit = UNITS[table_format]
        for wider in (unit, "fp8", "fp16", "bf16"):
            if wider in self.flops_per_s:
                return self.flops_per_s[wider]
        raise KeyError(unit)


def rates_of(device: Device) -> Rates:
    """The peaks of a device of the catalogue."""
    link = device.link
    rate = (link.unidirectional_bytes_per_s or 0.0) if link else 0.0
    peers = PCIE_PEERS
    if link and rate:
        peers = TRAY_DEVICES if link.domain_size > HOST_DEVICES else HOST_DEVICES
    return Rates(
        device.slug,
        device.bandwidth_bytes_per_s or 0.0,
        {rate.unit: rate.flops_per_s for rate in device.peaks},
        float(device.l2_bytes or 0),
        device.sm_count or 0,
        rate,
        peers,
    )
