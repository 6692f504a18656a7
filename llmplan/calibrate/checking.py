"""Whether what a kernel computes is right: against float64, before it is timed."""

import math

import torch

from llmplan.calibrate.attempts import Failed, guarded, kernel_names
from llmplan.calibrate.cold import generator_of
from llmplan.calibrate.kernel import Kernel, Place
from llmplan.calibrate.timing import current


def verified(kernel: Kernel, place: Place) -> float | Failed:
    """The relative error of a kernel's result, or that it is above the tolerance or not finite."""
    error = guarded((kernel,), place, lambda: check(kernel, place))
    if isinstance(error, Failed) or error <= kernel.tolerance:  # false of nan
        return error
    return Failed(
        kernel_names((kernel,)),
        f"wrong result: relative error {error:.2g} is above {kernel.tolerance:.2g}",
    )


def check(kernel: Kernel, place: Place) -> float:
    """The norm of what a kernel gets wrong over that of the right result, on one set of inputs.

    Raises:
        RuntimeError: Torch cannot run it, or the result has another shape.
    """
    with torch.inference_mode(), current(place):
        inputs = kernel.inputs(generator_of(place))
        # first, since a kernel may write into its inputs
        expected = kernel.reference(*inputs)
        return relative_error(kernel.run(*inputs), expected)


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over that of the expected tensor, in float64."""
    if result.shape != expected.shape:
        shapes = f"{tuple(result.shape)}, not {tuple(expected.shape)}"
        raise RuntimeError(f"the result has shape {shapes}")
    right = expected.to(torch.float64)
    difference = result.to(right.device, torch.float64) - right
    error, size = (float(torch.linalg.vector_norm(tensor)) for tensor in (difference, right))
    if size == 0:
        return 0.0 if error == 0 else math.inf
    return error / size
