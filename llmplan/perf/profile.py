"""Profiles of devices: fitted kernels in ``hardware/profiles/DEVICE.yaml``."""

import datetime as dt
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from llmplan.documents import load_document, shipped_folder
from llmplan.perf.kernels import Labels
from llmplan.validation import validated


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Fitted(Strict):
    """One kernel.

    Attributes:
        operator: The table it was measured in.
        labels: What tells it apart.
        parameters: Of its curve.
        rows: Rows it was fitted to.
        median_error: Median of absolute relative residuals.
        p90_error: 90th percentile.
        low_error: 10th percentile of measured over predicted, less one.
        high_error: 90th percentile of the same.
        ranges: Least and most of each number column.
    """

    operator: str
    labels: dict[str, str]
    parameters: dict[str, float]
    rows: int
    median_error: float
    p90_error: float
    low_error: float
    high_error: float
    ranges: dict[str, tuple[float, float]]


class DeviceProfile(Strict):
    """``hardware/profiles/DEVICE.yaml``."""

    device: str
    source: str
    date: dt.date
    tool: str
    kernels: tuple[Fitted, ...]


@dataclass(frozen=True)
class Kernels:
    """The fitted kernels of a device, by operator and labels."""

    by_labels: dict[tuple[str, tuple[tuple[str, str], ...]], Fitted]

    def find(self, operator: str, labels: Labels) -> Fitted | None:
        """The kernel with exactly these labels."""
        return self.by_labels.get((operator, tuple(sorted(labels.items()))))


def profile_path(device: str) -> Path:
    """Where the profile of a device is, if it has one."""
    return shipped_folder("hardware") / "profiles" / f"{device}.yaml"


@cache
def kernels_of(device: str) -> Kernels | None:
    """The fitted kernels of a device; None where it has no profile."""
    path = profile_path(device)
    if not path.is_file():
        return None
    file = validated(load_document(path), DeviceProfile)
    return Kernels({(k.operator, tuple(sorted(k.labels.items()))): k for k in file.kernels})
