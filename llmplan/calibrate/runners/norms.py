"""Norms of all kinds."""

from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import Tensor, whole
from llmplan.calibrate.runners.vector_work import EPSILON, Work
from llmplan.ops.base import Step
from llmplan.ops.cross_attention import ImageNorm
from llmplan.ops.norm import (
    Norm,
    NormKind,
)


@kernels.register
def _norm(operator: Norm, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    del place
    return _normed(operator, step, whole(operator.tokens.in_step(step), "tokens"))


@kernels.register
def _image_norm(operator: ImageNorm, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """The tokens of the images of all requests that start in this step."""
    del place
    starting = whole(step.over_requests((step.context == 0) * 1.0), "requests")
    return _normed(operator, step, starting * operator.image_tokens)


def _normed(operator: Norm, step: Step, tokens: int) -> tuple[Kernel | Refused, ...]:
    """One function where it has all weights of the norm, else the function and then the weights."""
    work = Work(operator, step)
    x = tokens, operator.vectors, operator.width
    is_layer, own = (
        operator.kind is NormKind.LAYER,
        operator.weight_width not in {0, operator.width},
    )
    affine = (operator.vectors, operator.width) if own else (operator.width,)
    given = (operator.has_weight, operator.has_bias)
    shapes = [x, *(affine for here in given if here)]
    is_one = not own and (is_layer or not operator.has_bias)
    name = "layer_norm" if is_layer else "rms_norm"

    def function(x: Tensor, *learned: Tensor) -> Tensor:
        scale = learned[0] if operator.has_weight else None
        bias = learned[-1] if operator.has_bias else None
        if is_one:
            return _statistic(operator, x, scale, bias)
        normed = _statistic(operator, x, None, None)
        scaled = normed if scale is None else normed * scale
        return scaled if bias is None else scaled + bias

    def make() -> Kernel | Refused:
        if own and operator.weight_width != operator.vectors * operator.width:
            sizes = f"{operator.weight_width} for {operator.vectors} vectors of {operator.width}"
            return Refused(work.name, f"weights are of one vector or of all, not {sizes}")
        return work.of(f"aten_{name}" if is_one else f"reference_{name}", function, shapes, 3)

    return work.found(tokens, make)


def _statistic(operator: Norm, x: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    if operator.kind is NormKind.LAYER:
        return functional.layer_norm(x, (operator.width,), scale, bias, EPSILON)
    return functional.rms_norm(x, (operator.width,), scale, EPSILON)
