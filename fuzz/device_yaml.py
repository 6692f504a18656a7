"""Devices as YAML."""

from collections.abc import Iterator

from fuzz.common import Target
from fuzz.spec_yaml import documents, mutate_yaml
from llmplan.hardware.reading import read_device


def seeds() -> Iterator[bytes]:
    """Devices of the catalogue."""
    yield from documents("hardware/devices")


TARGET = Target("device_yaml", "device.yaml", read_device, seeds, mutate_yaml)
