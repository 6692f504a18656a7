"""What an answer says of its GPUs."""

from typing import Any

from llmplan.hardware.device import GpuGroup, Status
from llmplan.units import Provenance, format_gib


def gpu_echo(group: GpuGroup) -> dict[str, Any]:
    """The GPU group as inputs of a result."""
    return {
        "gpus": str(group),
        "device": group.device.slug,
        "node": group.node.slug if group.node else None,
    }


def gpu_warnings(group: GpuGroup, *, of_memory: bool = True) -> tuple[str, ...]:
    """What a reader of an answer on these GPUs should know; with what holds for memory only."""
    device = group.device
    capacity = format_gib(device.capacity_bytes)
    assumed = f"{capacity} for a process on {device.slug} is assumed from a larger figure."
    remarks = (
        (of_memory and device.capacity_provenance is Provenance.ASSUMED, assumed),
        (
            not device.file.startswith("hardware/"),
            f"{device.slug} is read from {device.file}.",
        ),
        (device.status is Status.ANNOUNCED, f"{device.slug} is announced and not available."),
    )
    return tuple(text for applies, text in remarks if applies)
