"""Products of few tokens by engines that multiply a matrix with one vector after the other.

Such kernels have no tiles: each multiprocessor streams rows of the weight, and no more bytes are
on their way to it at once than its threads ask for. So weights arrive at a share of the memory
bandwidth, or at a rate of each multiprocessor, whichever is less: on a device with much bandwidth
and few multiprocessors a large part of it is never used.
"""

import datetime as dt
from functools import cache

import numpy as np

from llmplan.documents import load_document, shipped_folder
from llmplan.perf.kernels import Column, smooth_max
from llmplan.perf.profile import Strict
from llmplan.perf.rates import Rates
from llmplan.validation import validated


class VectorProducts(Strict):
    """What single streams of one engine show.

    Attributes:
        engine: Whose kernels.
        most_tokens: Tokens of a step up to which they run.
        memory_frac: Share of the bandwidth that is reached at most.
        bytes_per_s: That one multiprocessor takes in at most.
        sharpness: How closely the slower of the two is the time.
        rows: Measurements behind it.
        median_error: Of single streams, host work fitted beside it.
    """

    engine: str
    most_tokens: int
    memory_frac: float
    bytes_per_s: float
    sharpness: float
    rows: int
    median_error: float

    def seconds(self, weight_bytes: float, tokens: Column, device: Rates) -> Column:
        """Reading the weight once for all tokens of a step, shape [rows]."""
        rows = np.ones_like(tokens)
        memory = rows * weight_bytes / (device.bytes_per_s * self.memory_frac)
        if not device.sms:
            return memory
        taken = rows * weight_bytes / (device.sms * self.bytes_per_s)
        return smooth_max(self.sharpness, memory, taken)


class VectorFile(Strict):
    """``hardware/profiles/vector_products.yaml``."""

    source: str
    date: dt.date
    tool: str
    engines: tuple[VectorProducts, ...]


@cache
def vector_products(engine: str) -> VectorProducts | None:
    """Of an engine that has such kernels; None for others."""
    path = shipped_folder("hardware") / "profiles" / "vector_products.yaml"
    file = validated(load_document(path), VectorFile)
    return next((each for each in file.engines if each.engine == engine), None)
