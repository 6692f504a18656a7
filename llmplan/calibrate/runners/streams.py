"""Residual streams that are mixed: hyper-connections, and attention over depth."""

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import ROUNDING, Calls, Tensor, normal, weight, whole
from llmplan.calibrate.runners.vector_work import EPSILON, ROUNDINGS, Work
from llmplan.ops.base import Step
from llmplan.ops.hyper import HyperConnection, StreamMean
from llmplan.ops.residual import AttentionResidual


@kernels.register
def _hyper(operator: HyperConnection, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """A norm of all streams, the product that gives the coefficients, and the streams' sum.

    Coefficients to write and mix are computed and not used: the residual sum does that. The balance
    of the mixing matrix is left out, as in ``HyperConnection.cost``.
    """
    del place
    work, N, D = Work(operator, step), operator.hc_mult, operator.hidden_size
    tokens = whole(operator.tokens.in_step(step), "tokens")
    width, count = N * D, operator.coefficients

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(generator, (tokens, N, D), work.dtype)
        return (
            x,
            weight(generator, (count, width), work.dtype),
            normal(generator, (count,), work.dtype),
        )

    def function(x: Tensor, matrix: Tensor, base: Tensor) -> Tensor:
        normed = functional.rms_norm(x.flatten(1), (width,), None, EPSILON)
        coefficients = torch.sigmoid(torch.mm(normed, matrix.t()) + base)
        return (x * coefficients[:, :N, None]).sum(dim=1)

    def reference(*given: Tensor) -> Tensor:
        return function(*(tensor.double() for tensor in given))

    def make() -> Kernel:
        calls = Calls(inputs, function, reference, ROUNDINGS * ROUNDING[work.dtype])
        return work.kernel("reference_hyper_connection", calls, 2.0 * width * count * tokens)

    return work.found(tokens, make)


@kernels.register
def _mean(operator: StreamMean, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    del place
    work, tokens = Work(operator, step), whole(operator.tokens.in_step(step), "tokens")

    def function(x: Tensor) -> Tensor:
        return x.mean(dim=1)

    shapes = ((tokens, operator.hc_mult, operator.hidden_size),)
    return work.found(tokens, lambda: work.of("aten_mean", function, shapes))


@kernels.register
def _residual(
    operator: AttentionResidual, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """A norm of every sum, its score, and the sums weighted by the softmax of the scores."""
    del place
    work, D = Work(operator, step), operator.hidden_size
    tokens = whole(operator.tokens.in_step(step), "tokens")

    def function(sums: Tensor, query: Tensor, scale: Tensor) -> Tensor:
        normed = functional.rms_norm(sums, (D,), scale, EPSILON)
        # the query is as long as √D: scores then are of the size of 1
        scores = (normed * query).sum(dim=-1) * D**-0.5
        return (sums * torch.softmax(scores, dim=-1)[..., None]).sum(dim=1)

    shapes = ((tokens, operator.sources, D), (D,), (D,))
    return work.found(
        tokens, lambda: work.of("reference_attention_residual", function, shapes, ROUNDINGS)
    )
