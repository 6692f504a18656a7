"""Profiles of a device, and of those that stand for it where it has none of its own."""

from functools import cache
from math import log

from llmplan.documents import shipped_folder
from llmplan.errors import LlmplanError
from llmplan.hardware.catalogue import load_device
from llmplan.hardware.device import Device


@cache
def profiled_devices() -> tuple[Device, ...]:
    """All devices that have a profile of kernels."""
    folder = shipped_folder("hardware") / "profiles"
    slugs = sorted(path.stem for path in folder.glob("*.yaml"))
    return tuple(load_device(slug) for slug in slugs if _is_device(slug))


def _is_device(stem: str) -> bool:
    return (shipped_folder("hardware") / "devices" / f"{stem}.yaml").is_file()


def relatives(device: Device) -> tuple[Device, ...]:
    """Devices with a profile, those most alike first; the device itself before all others.

    Alike is the same compute capability, then a like architecture, then the same vendor; among
    these the nearest memory bandwidth. All of that is of the device as the catalogue has it: where
    somebody asks what a higher rate would bring, the kernels stay, so that it is never slower.
    """
    known = as_published(device)
    return tuple(sorted(profiled_devices(), key=lambda other: _distance(known, other)))


def as_published(device: Device) -> Device:
    """A device as the catalogue has it; itself where it has none of that name."""
    try:
        return load_device(device.slug)
    except LlmplanError:
        return device


def _distance(device: Device, other: Device) -> tuple[int, float, str]:
    if device.slug == other.slug:
        return 0, 0.0, ""
    rank = 4
    if device.vendor == other.vendor:
        rank = 3
        if device.architecture.split()[0] == other.architecture.split()[0]:
            rank = 2
        if device.compute_capability == other.compute_capability:
            rank = 1
    mine, theirs = device.bandwidth_bytes_per_s or 1.0, other.bandwidth_bytes_per_s or 1.0
    return rank, abs(log(mine / theirs)), other.slug
