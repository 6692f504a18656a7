"""Products with weights: linear layers, heads, routers."""

from typing import Final

import torch

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import (
    ROUNDING,
    Calls,
    Tensor,
    normal,
    weight,
    whole,
)
from llmplan.calibrate.runners.integer_products import (
    int_mm,
    weight_int4pack_mm,
    weight_int8pack_mm,
)
from llmplan.calibrate.runners.product import (
    BF16,
    TABLE_DTYPES,
    Product,
    Realisation,
    aten_mm,
)
from llmplan.calibrate.runners.requests import torch_dtype
from llmplan.calibrate.runners.scaled_products import (
    scaled_mm,
    scaled_mm_blockwise,
    scaled_mm_mxfp8,
    scaled_mm_nvfp4,
    scaled_mm_rowwise,
)
from llmplan.dtypes import divide_exactly
from llmplan.ops.base import Step
from llmplan.ops.cross_attention import ImageLinear
from llmplan.ops.embedding import TiedHead
from llmplan.ops.linear import GroupedLinear, Linear, Tokens
from llmplan.ops.moe import Router
from llmplan.ops.precision import Role

SELECTED: Final = 8
"""Experts chosen when a router's selection is timed; a router does not say how many. Its time
hardly depends on it."""

REALISATIONS: Final[dict[str, tuple[Realisation, ...]]] = {
    "bf16": (aten_mm,),
    "fp16": (aten_mm,),
    "fp8": (scaled_mm_blockwise,),
    "fp8_tensor": (scaled_mm,),
    "fp8_e5m2": (scaled_mm,),
    "fp8_channel": (scaled_mm_rowwise,),
    "mxfp8": (scaled_mm_mxfp8,),
    "nvfp4": (scaled_mm_nvfp4,),
    "int8": (int_mm, weight_int8pack_mm),
}
"""Kernels by the format of the weights; 4-bit integers have theirs by the start of the name."""


def products(what: str, product: Product) -> tuple[Kernel | Refused, ...]:
    """All ways in which torch does a product with weights of its format."""
    if not product.m:
        return (Refused(what, "no token of this step passes through it"),)
    name = product.stored.name
    found = (weight_int4pack_mm,) if name.startswith("int4_") else REALISATIONS.get(name, ())
    if not found:
        reason = f"torch has no product with {name} weights that the table has a word for"
        return (Refused(what, reason),)
    return tuple(realisation(product) for realisation in found)


@kernels.register
def _linear(operator: Linear, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    m = whole(operator.tokens.in_step(step), "tokens")
    stored = operator.precision.of(operator.role)
    sizes = operator.out_features, operator.in_features
    return products(type(operator).__name__, Product(m, *sizes, stored, place))


@kernels.register
def _image(operator: ImageLinear, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """The tokens of the images of all requests that start in this step."""
    starting = step.over_requests((step.context == 0) * 1.0)
    m = whole(starting, "requests") * operator.image_tokens
    stored = operator.precision.of(operator.role)
    sizes = operator.out_features, operator.in_features
    return products("ImageLinear", Product(m, *sizes, stored, place))


@kernels.register
def _grouped(operator: GroupedLinear, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """Groups as one batched product; tokens come first, as engines keep them."""
    m, groups = whole(operator.tokens.in_step(step), "tokens"), operator.split_units
    stored = operator.precision.of(operator.role)
    dtype = torch_dtype(stored)
    if dtype not in TABLE_DTYPES or not m:
        reason = f"torch has no batched product of {m} tokens with {stored.name} weights"
        return (Refused("GroupedLinear", reason),)
    inner, outer = operator.in_features, divide_exactly(operator.out_features, groups)

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x = normal(generator, (m, groups, inner), dtype)
        return x, weight(generator, (groups, outer, inner), dtype)

    def run(x: Tensor, w: Tensor) -> Tensor:
        return torch.bmm(x.transpose(0, 1), w.transpose(1, 2))

    def reference(x: Tensor, w: Tensor) -> Tensor:
        return torch.einsum("mgk,gnk->gmn", x.double(), w.double())

    product = Product(m, operator.out_features, inner, stored, place)
    name = TABLE_DTYPES[dtype]
    return (product.kernel("aten_bmm", name, Calls(inputs, run, reference, ROUNDING[dtype])),)


@kernels.register
def _head(operator: TiedHead, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    m = whole(operator.tokens.in_step(step), "positions")
    stored = operator.precision.of(Role.EMBEDDING)
    sizes = operator.vocab_size, operator.hidden_size
    return products("TiedHead", Product(m, *sizes, stored, place))


@kernels.register
def _router(operator: Router, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """The scores, and the choice of experts; the norm before some routers is a kernel of norms."""
    m = whole(Tokens.ALL.in_step(step), "tokens")
    stored = operator.precision.of(Role.ROUTER)
    sizes = operator.num_experts, operator.hidden_size
    scores = products("Router", Product(m, *sizes, stored, place))
    return (*scores, selection(operator, m)) if m else scores


def selection(operator: Router, tokens: int) -> Kernel:
    """Softmax of all scores and the largest few: two kernels of torch, one of an engine.

    Reads the scores; what it writes, a few numbers a token, is left out as in ``Router.cost``.
    """
    experts = operator.num_experts
    most = min(SELECTED, experts)

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        return (normal(generator, (tokens, experts), BF16),)

    def run(scores: Tensor) -> Tensor:
        return torch.topk(torch.softmax(scores, dim=-1, dtype=torch.float32), most).values

    def reference(scores: Tensor) -> Tensor:
        return torch.softmax(scores.double(), dim=-1).sort(descending=True).values[:, :most]

    read = float(tokens * experts)
    columns = {"flops": 0.0, "other_flops": read, "bytes": read * 2.0, "steps": 1.0}
    labels = {"kernel": "reference_softmax_topk", "op": "Router"}
    # the sum over all experts, in fp32
    tolerance = experts * ROUNDING[torch.float32]
    return Kernel("by_work", labels, columns, 0.0, inputs, run, reference, tolerance)
