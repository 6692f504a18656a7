"""What every kernel of a runner must hold on the processor, at small size."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.hardware.catalogue import load_device
from llmplan.ops.base import Operator, Step
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS

PROCESSOR = Place(torch.device("cpu"))


def ran(operator: Operator, step: Step) -> list[Kernel]:
    """Its kernels here; nothing is refused."""
    found = kernels(operator, step, PROCESSOR)
    assert found
    assert not [each for each in found if isinstance(each, Refused)]
    return list(found)


def drawn_inputs(kernel: Kernel, seed: int = 0) -> tuple[torch.Tensor, ...]:
    return kernel.inputs(torch.Generator().manual_seed(seed))


def error(kernel: Kernel, inputs: tuple[torch.Tensor, ...], run=None) -> float:
    """Relative error, of another run or other inputs than the reference's where these are given."""
    with torch.inference_mode():
        expected = kernel.reference(*drawn_inputs(kernel))
        result = (run or kernel.run)(*inputs)
    assert result.shape == expected.shape
    assert expected.dtype is torch.float64
    assert torch.isfinite(result).all()
    return float((result.double() - expected).norm() / expected.norm())


def assert_is_right(kernel: Kernel) -> None:
    assert error(kernel, drawn_inputs(kernel)) <= kernel.tolerance


def assert_is_a_row(kernel: Kernel) -> None:
    """Labels and columns are those of its table, whose curve can be evaluated on them."""
    table = OPERATORS[kernel.table]
    assert {"src", *kernel.labels} == set(table.labels)
    assert set(kernel.columns) == set(table.numbers)
    labels = {"src": "llmplan/torch/0", **kernel.labels}
    columns = {name: np.array([value]) for name, value in kernel.columns.items()}
    start = {each.name: each.start for each in table.parameters(labels)}
    seconds = table.seconds(start, columns, labels, rates_of(load_device("h100-sxm")))
    assert seconds.shape == (1,)
    assert np.isfinite(seconds).all()
    assert (seconds > 0).all()


def counted_flops(kernel: Kernel) -> float:
    """What torch's counter sees; it does not know its own fused attention on the processor."""
    inputs = drawn_inputs(kernel)
    with FlopCounterMode(display=False) as counter:
        kernel.run(*inputs)
    return float(counter.get_total_flops())


def each_changed(kernel: Kernel) -> Iterator[tuple[int, float]]:
    """For each input its number, and the error where it alone is not that of the reference.

    Numbers are drawn again, masks and lists of keys reversed.
    """
    first, second = drawn_inputs(kernel), drawn_inputs(kernel, seed=1)
    for number, part in enumerate(first):
        other = second[number] if part.is_floating_point() else part.flip(-1)
        if not torch.equal(other, part):
            yield number, error(kernel, (*first[:number], other, *first[number + 1 :]))
