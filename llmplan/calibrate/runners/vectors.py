"""Activations, gates, rotary embedding, sums and scales."""

from typing import Final

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import Tensor, whole
from llmplan.calibrate.runners.vector_work import ROUNDINGS, Function, Shapes, Work
from llmplan.ops.base import Step
from llmplan.ops.norm import (
    GATE_FLOPS,
    GELU_GATE_FLOPS,
    ROTARY_FLOPS,
    Elementwise,
    LearnedActivation,
    LearnedScale,
    StoredScale,
)
from llmplan.ops.routed_linear import OutputBias

XIELU_SCALARS: Final = 2


def _silu_mul(a: Tensor, b: Tensor) -> Tensor:
    return functional.silu(a) * b


def _gelu_mul(a: Tensor, b: Tensor) -> Tensor:
    return functional.gelu(a, approximate="tanh") * b


def _gelu(a: Tensor) -> Tensor:
    return functional.gelu(a, approximate="tanh")


def _square_of_relu(a: Tensor) -> Tensor:
    return functional.relu(a).square()


def _double(a: Tensor) -> Tensor:
    return a * 2.0


FUNCTIONS: Final[dict[tuple[int, float], tuple[str, Function]]] = {
    (1, 1.0): ("aten_relu", functional.relu),
    (1, 2.0): ("reference_relu_square", _square_of_relu),
    (1, 4.0): ("aten_silu", functional.silu),
    (1, 8.0): ("aten_gelu", _gelu),
    (2, 1.0): ("aten_add", torch.add),
    (2, GATE_FLOPS): ("reference_silu_mul", _silu_mul),
    (2, GELU_GATE_FLOPS): ("reference_gelu_mul", _gelu_mul),
}
"""By elements read for each one written, and its FLOPs: all that such an operator states."""


@kernels.register
def _elementwise(operator: Elementwise, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """The function with these FLOPs; where none is known, a sum of as many tensors as are read."""
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    return work.found(tokens, lambda: _function(work, operator, tokens))


def _function(work: Work, operator: Elementwise, tokens: int) -> Kernel:
    shapes = ((tokens, operator.width),) * operator.reads
    found = FUNCTIONS.get((operator.reads, operator.flops_per_element))
    if found:
        return work.of(*found, shapes, ROUNDINGS)
    head, odd = divmod(operator.width, operator.split_units)
    if operator.reads == 1 and operator.flops_per_element == ROTARY_FLOPS and not (odd or head % 2):
        return _rotary(work, tokens, operator.split_units, head)
    if operator.reads == 1:
        return work.of("reference_mul", _double, shapes)

    def function(first: Tensor, *others: Tensor) -> Tensor:
        total = first
        for other in others:
            total = total + other
        return total

    return work.of("reference_sum", function, shapes, operator.reads)


def _rotary(work: Work, tokens: int, heads: int, head: int) -> Kernel:
    """Halves of each head rotated by the angles of their token."""
    half = head // 2

    def function(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)

    shapes = ((tokens, heads, head), (tokens, 1, half), (tokens, 1, half))
    return work.of("reference_rotary", function, shapes, ROUNDINGS)


@kernels.register
def _bias(operator: OutputBias, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    shapes = ((tokens, operator.width), (operator.width,))
    return work.found(tokens, lambda: work.of("aten_add", torch.add, shapes))


@kernels.register(StoredScale)
@kernels.register(LearnedScale)
def _scale(
    operator: StoredScale | LearnedScale, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """A product, and a sum where there are two numbers a channel."""
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    return work.found(tokens, lambda: _scaled(work, operator, tokens))


def _scaled(work: Work, operator: StoredScale | LearnedScale, tokens: int) -> Kernel | Refused:
    width, entries = operator.width, operator.entries
    if entries == 2 * width:
        shapes: Shapes = ((tokens, width), (width,), (width,))
        return work.of("aten_addcmul", _scale_and_shift, shapes, 2)
    channels, odd = divmod(width, entries)
    if odd:
        return Refused(work.name, f"{entries} numbers do not divide a width of {width}")
    return work.of("aten_mul", torch.mul, ((tokens, entries, channels), (entries, 1)))


def _scale_and_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, x, scale)


@kernels.register
def _learned_activation(
    operator: LearnedActivation, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """The xIELU (Huang and Schlag 2024): a parabola above 0, an exponential below."""
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    if operator.scalars != XIELU_SCALARS or operator.reads != 1:
        reason = (
            f"no activation with {operator.scalars} scalars and {operator.reads} reads is known"
        )
        return (Refused(work.name, reason),)

    def function(x: Tensor, above: Tensor, below: Tensor) -> Tensor:
        exponential = (torch.expm1(x.clamp(max=0.0)) - x) * below
        return torch.where(x > 0, above * x * x, exponential) + x / 2

    shapes = ((tokens, operator.width), (1,), (1,))
    return work.found(tokens, lambda: work.of("reference_xielu", function, shapes, ROUNDINGS))
