"""Convolutions over pixels, and operators that run as another one does."""

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import ROUNDING, Calls, Tensor, normal, whole
from llmplan.calibrate.runners.requests import torch_dtype
from llmplan.calibrate.runners.vector_work import Work
from llmplan.ops.base import Step
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.reused import Reused


@kernels.register
def _convolution(operator: Convolution2d, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """One image, as square as its pixels allow, padded so that it keeps its size."""
    del place
    work, pixels = Work(operator, step), whole(step.tokens, "tokens") * operator.pixels
    stored, side = operator.precision.of(operator.role), operator.kernel
    dtype = torch_dtype(stored)
    if dtype is None or side % 2 == 0:
        reason = f"torch has no filter of {side} x {side} {stored.name} weights that keeps a size"
        return (Refused(work.name, reason),)
    rows = max((each for each in range(1, int(pixels**0.5) + 1) if pixels % each == 0), default=0)
    taps = operator.in_channels * side**2

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(generator, (1, operator.in_channels, rows, pixels // rows), dtype)
        filters = normal(generator, operator.weights[0].shape, dtype, taps**-0.5)
        return x, filters, normal(generator, (operator.out_channels,), dtype)

    def function(x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
        return functional.conv2d(x, filters, bias, padding=side // 2)

    def reference(*given: Tensor) -> Tensor:
        return function(*(tensor.double() for tensor in given))

    def make() -> Kernel:
        calls = Calls(inputs, function, reference, 2 * ROUNDING[dtype])
        return work.kernel("aten_conv2d", calls, 2.0 * taps * operator.out_channels * pixels)

    return work.found(pixels, make)


@kernels.register
def _reused(operator: Reused, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    del step, place
    used = type(operator.operator).__name__
    return (Refused("Reused", f"runs as the {used} whose weights it reads again: see there"),)
