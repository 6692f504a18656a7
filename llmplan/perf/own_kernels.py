"""Kernels that were measured on the very device, beside those of shipped tables.

A library's kernel that engines run as well (16-bit matrix products, collectives of the library) is
replaced by its measurement. Where engines bring kernels of their own (attention, experts, products
in few bits) the faster of the two counts, as engines choose. Torch's plain arithmetic counts only
where no table of the device has the work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from llmplan.perf.kernels import Columns
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import Rates, is_16_bit

LIBRARY_TABLES: Final = ("gemm", "collectives", "network")
"""Tables whose measured kernels are the ones that engines run, those of gemm in 16 bits."""
OURS: Final = "llmplan/"
"""How ``src`` of kernels begins that were measured here."""
BATCHED: Final = "aten_bmm"
"""One product a head or group: of other work than a single product, whatever its sizes."""
REFERENCE: Final = "reference"
"""First word of the name of a kernel that is plain arithmetic."""
BEYOND: Final = 2.0
"""Times a column's greatest measured value up to which a curve is taken at its word."""


@dataclass(frozen=True, eq=False)
class OwnKernels:
    """The fitted kernels of a calibration profile.

    Attributes:
        kernels: As fitted.
        slug: The device that they were measured on.
        said: Where they come from, in words.
        path: The profile.
        beyond: Of every column that was asked far beyond what was measured, how far: filled while
            times are computed.
    """

    kernels: tuple[Fitted, ...]
    slug: str
    said: str
    path: Path
    beyond: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def of(self, operator: str) -> tuple[Fitted, ...]:
        """Those of one table."""
        return tuple(kernel for kernel in self.kernels if kernel.operator == operator)

    def note(self, kernel: Fitted, columns: Columns) -> None:
        """Remember columns that are far beyond what the kernel was measured at."""
        for name, (_, most) in kernel.ranges.items():
            asked = float(np.max(columns[name])) if name in columns else 0.0
            if most > 0 and asked > BEYOND * most:
                key = (kernel.operator, name)
                known = self.beyond.get(key, (0.0, 0.0))
                self.beyond[key] = (max(asked, known[0]), most)


def is_library(operator: str, labels: Mapping[str, str]) -> bool:
    """Whether engines run the very kernel: what was measured here replaces what was published."""
    is_narrow = operator == "gemm" and not is_16_bit(labels["dtype"])
    return operator in LIBRARY_TABLES and not is_narrow


def is_ours(labels: Mapping[str, str]) -> bool:
    """Whether a kernel was measured by this program, not taken over from others."""
    return labels["src"].startswith(OURS)


def rates_at(labels: Mapping[str, str], device: Rates) -> Rates:
    """Peaks under which measured rows of a kernel are fitted and predicted.

    Inputs of own measurements take turns until none is found in the cache, as a model's are not:
    they are asked for, as models are, of a device without one. Tables of others repeat a call.
    """
    return replace(device, l2_bytes=0.0) if is_ours(labels) else device


def is_reference(labels: Mapping[str, str]) -> bool:
    """Whether a kernel is plain arithmetic, which engines have better ones for."""
    return labels.get("kernel", "").startswith(REFERENCE)
