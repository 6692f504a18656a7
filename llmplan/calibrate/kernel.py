"""One way in which torch does the work of an operator, and where it is run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch

import torch

from llmplan.ops.base import Operator, Step
from llmplan.perf.refused import Refused as Refused  # noqa: PLC0414 (runners take it from here)

SOURCE = f"llmplan/torch/{torch.__version__.partition('+')[0]}"
"""``src`` of every kernel that is measured here."""
REFERENCE = "reference"
"""First word of kernels that are torch's plain arithmetic, not what an engine would run."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where kernels run.

    Attributes:
        device: Torch's device.
        capability: CUDA compute capability, as (9, 0); (0, 0) where there is none.
        seed: Of random inputs.
        skew: Exponent of the power law by which tokens choose experts; 0 for all alike.
    """

    device: torch.device
    capability: tuple[int, int] = (0, 0)
    seed: int = 0
    skew: float = 0.0

    @property
    def is_cuda(self) -> bool:
        """Whether events, graphs and streams of CUDA (or ROCm) are at hand."""
        return self.device.type == "cuda"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One realisation of an operator's work in one step: a row of an operator table.

    Attributes:
        table: Name of the operator table in ``perf.registry`` that it is a row of.
        labels: Words of that table, ``src`` left out.
        columns: Numbers of that table.
        flops: Matmul, attention and convolution FLOPs that it runs.
        inputs: Makes one set of random inputs; called several times, so that sets take turns.
        run: The timed call, on one set.
        reference: The same result in float64, on the same set.
        tolerance: Largest relative error, as the norm of the difference over that of the result.
    """

    table: str
    labels: Mapping[str, str]
    columns: Mapping[str, float]
    flops: float
    inputs: Callable[[torch.Generator], tuple[torch.Tensor, ...]]
    run: Callable[..., torch.Tensor]
    reference: Callable[..., torch.Tensor]
    tolerance: float

    @property
    def is_reference(self) -> bool:
        """Whether it is torch's plain arithmetic, which engines have better kernels for."""
        return self.labels.get("kernel", "").startswith(REFERENCE)


def offered(operator: Operator, step: Step, place: Place) -> "tuple[Kernel | Refused, ...]":
    """``kernels``, or a refusal where asking for them fails: one operator must not end a run."""
    try:
        return kernels(operator, step, place)
    except Exception as error:  # noqa: BLE001 (as said)
        lines = str(error).strip().splitlines()
        reason = ": ".join((type(error).__name__, *lines[:1]))
        return (Refused(type(operator).__name__, f"failed: {reason}"),)


@singledispatch
def kernels(operator: Operator, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """All ways in which torch does this operator's work, for a step of one group of requests.

    The step's fields have shape [1]. Sharded operators are run as they are: at the shape of a rank.
    """
    del step, place
    name = type(operator).__name__
    return (Refused(name, f"no runner knows {name}: add one in llmplan/calibrate/runners"),)
