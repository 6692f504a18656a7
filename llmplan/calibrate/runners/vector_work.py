"""What kernels of operators without products have in common: they are rows of one table.

One torch function that reads and writes what the operator states is a kernel ``aten_…``. Several of
them, which an engine runs as one, are a kernel ``reference_…``: it moves more bytes than the
operator states. Learned numbers are held in the format of activations, whatever format they are
stored in: they are few beside the activations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llmplan.calibrate.kernel import Kernel, Refused
from llmplan.calibrate.runners.elements import ROUNDING, Calls, Tensor, normal
from llmplan.calibrate.runners.requests import torch_dtype, work_row
from llmplan.ops.base import Operator, Step

EPSILON: Final = 1e-6
"""Of norms."""
ROUNDINGS: Final = 8
"""Of a result in the format of activations, in chains of a few functions."""
Function = Callable[..., Tensor]
Shapes = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Work:
    """One operator in one step, and what its kernels have in common."""

    operator: Operator
    step: Step

    @property
    def name(self) -> str:
        """Class of the operator."""
        return type(self.operator).__name__

    @property
    def dtype(self) -> torch.dtype:
        """Of activations."""
        return torch_dtype(self.operator.precision.activations) or torch.bfloat16

    def found(self, tokens: int, make: Callable[[], Kernel | Refused]) -> tuple[Kernel | Refused]:
        """A kernel, where there are tokens and torch computes in the format of activations."""
        if not tokens:
            return (Refused(self.name, "no token of this step passes through it"),)
        stored = self.operator.precision.activations
        if not torch_dtype(stored):
            reason = f"torch does no vector work on {stored.name} activations"
            return (Refused(self.name, reason),)
        return (make(),)

    def kernel(self, name: str, calls: Calls, flops: float = 0.0) -> Kernel:
        """A row of the table ``by_work``."""
        row = work_row(self.operator, self.step, name)
        return Kernel(row.table, row.labels, row.columns, flops, *calls)

    def of(self, name: str, function: Function, shapes: Shapes, roundings: float = 1) -> Kernel:
        """A function of normal tensors of some shapes, whose reference is itself in float64."""

        def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
            return tuple(normal(generator, shape, self.dtype) for shape in shapes)

        def reference(*given: Tensor) -> Tensor:
            return function(*(tensor.double() for tensor in given))

        tolerance = roundings * ROUNDING[self.dtype]
        return self.kernel(name, Calls(inputs, function, reference, tolerance))
