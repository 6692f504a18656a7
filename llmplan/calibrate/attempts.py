"""Work on a device that may fail: what it gives, or why there is nothing, with the memory freed."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import torch

from llmplan.calibrate.kernel import Kernel, Place

OUT_OF_MEMORY: Final = "out of memory"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Failed:
    """Kernels that could not be run here, or whose result is wrong.

    Attributes:
        name: The kernel, or the kernels with plus signs.
        reason: ``out of memory``, the first line of what torch says, ``failed:`` and the kind of
            any other error, ``too slow``, or how wrong it is.
    """

    name: str
    reason: str


class LostDeviceError(Exception):
    """The GPU can run nothing more in this process, as after an illegal access."""


def guarded(
    kernels: Sequence[Kernel], place: Place, work: Callable[[], _Result]
) -> _Result | Failed:
    """What ``work`` returns, or why torch could not run it, with the memory freed.

    Any exception is the kernel's: one of many must not end a calibration. Where memory was too
    little for what others left in pieces, it is tried once more with all of it handed back.

    Raises:
        LostDeviceError: The GPU can run nothing more in this process.
    """
    name = kernel_names(kernels)
    found = _attempt(name, place, work)
    if isinstance(found, Failed) and found.reason == OUT_OF_MEMORY and place.is_cuda:
        return _attempt(name, place, work)
    return found


def _attempt(name: str, place: Place, work: Callable[[], _Result]) -> _Result | Failed:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 (as above)
        reason = reason_of(error)
    gc.collect()  # the traceback held tensors
    if place.is_cuda:
        try:
            torch.cuda.synchronize(place.device)
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise LostDeviceError(f"{name}: {reason_of(error)}") from None
    return Failed(name, reason)


def kernel_names(kernels: Sequence[Kernel]) -> str:
    """How messages name them."""
    return " + ".join(kernel.labels.get("kernel", kernel.table) for kernel in kernels)


def reason_of(error: BaseException) -> str:
    """What went wrong, in a line."""
    text = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return OUT_OF_MEMORY
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    kind = type(error).__name__
    if isinstance(error, RuntimeError):
        return lines[0] if lines else kind
    return f"failed: {': '.join((kind, *lines[:1]))}"
