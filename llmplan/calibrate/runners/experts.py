"""Routed experts, and other matrices of which each token uses a few.

Which rows an expert works on is known before the timed call, as engines sort them in a kernel of
their own. The call gathers the rows, runs the products and the activation between them, and adds
the results of each token up with their weights.
"""

# ruff: noqa: SLF001  (torch's products of few bits have private names)

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import (
    E4M3,
    ROUNDING,
    Calls,
    Tensor,
    dequantised,
    normal,
    nvidia_capability,
    quantised,
    weight,
    whole,
)
from llmplan.calibrate.runners.expert_rows import (
    Routing,
    columns_under,
    evenly,
    routing_under,
    uneven,
)
from llmplan.calibrate.runners.product import TABLE_DTYPES
from llmplan.calibrate.runners.requests import torch_dtype, work_row
from llmplan.calibrate.runners.scaled_products import FP8_ERROR
from llmplan.ops.base import Step
from llmplan.ops.moe import Experts
from llmplan.ops.precision import Role
from llmplan.ops.routed_linear import RoutedLinear

ALIGNMENT_BYTES: Final = 16
"""Rows of matrices in grouped products start at multiples of it (torch's checks)."""
ROUNDINGS: Final = 6
"""Of a result to the format of activations: both products, the activation and its product with
the other half, the weighting, and the sum."""
FP8_FORMATS: Final = ("fp8_tensor", "fp8_channel")
Matrices = Callable[[int], Tensor]
"""The float64 matrix of an expert."""


@dataclass(frozen=True, slots=True)
class Mlp:
    """The experts of a rank under some routing.

    Attributes:
        operator: Sizes and formats.
        routing: Rows of each expert.
        exponent: Of the power law that they follow.
        dtype: Of activations.
    """

    operator: Experts
    routing: Routing
    exponent: float
    dtype: torch.dtype

    @property
    def matrices(self) -> int:
        """Gate, up and down; or up and down."""
        return 3 if self.operator.is_gated else 2

    @property
    def shapes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of the first matrices, gate and up side by side, and of the last."""
        E, F, D = (
            self.operator.num_experts,
            self.operator.moe_intermediate_size,
            self.operator.hidden_size,
        )
        return (E, (self.matrices - 1) * F, D), (E, D, F)

    def kernel(self, name: str, table_format: str, calls: Calls) -> Kernel:
        """A row of the table ``moe``."""
        gated = "" if self.operator.is_gated else "_nongated"
        labels = {"kernel": name + gated, "dtype": table_format}
        columns = columns_under(self.operator, self.routing.tokens, self.exponent)
        sizes = self.operator.hidden_size * self.operator.moe_intermediate_size
        flops = 2.0 * self.matrices * sizes * self.routing.rows
        return Kernel("moe", labels, columns, flops, *calls)

    def indices(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Token of each row, rows of each token, their weights, and where experts' rows end."""
        token_of_row = self.routing.token_of_row(generator)
        rows, present = self.routing.rows_of_token(token_of_row)
        drawn = torch.rand(rows.shape, generator=generator, device=generator.device)
        weights = torch.where(present, drawn, 0.0).to(self.dtype)[..., None]
        return token_of_row, rows, weights, self.routing.ends(generator.device)

    def tokens_in(self, generator: torch.Generator) -> Tensor:
        """Activations [tokens, hidden]."""
        return normal(generator, (self.routing.tokens, self.operator.hidden_size), self.dtype)

    def activated(self, first: Tensor) -> Tensor:
        """SiLU of the gate times up; or the square of a ReLU, as models without gates have."""
        if not self.operator.is_gated:
            return functional.relu(first).square()
        gate, up = first.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def reference(self, x: Tensor, first: Matrices, last: Matrices, *indices: Tensor) -> Tensor:
        """All experts one after the other in float64."""
        token_of_row, rows, weights, _ends = indices
        scales = scales_of_rows(rows, weights, self.routing.rows)
        out = torch.zeros_like(x, dtype=torch.float64)
        for expert, start, end in self.routing.spans():
            of = token_of_row[start:end]
            inner = self.activated(x[of].double() @ first(expert).t())
            out.index_add_(0, of, inner @ last(expert).t() * scales[start:end, None])
        return out


def scales_of_rows(rows: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weights by row, float64 [rows], from those by token; slots without a row have weight 0."""
    scales = torch.zeros(count, dtype=torch.float64, device=rows.device)
    return scales.index_add_(0, rows.flatten(), weights.double().flatten())


def combined(results: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of each token's rows [tokens, hidden]."""
    return (results[rows] * weights).sum(dim=1)


def plain_calls(mlp: Mlp, run: Callable[..., Tensor]) -> Calls:
    """Activations, both stacks of matrices and the routing, and what is right for these."""

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        first, last = (weight(generator, shape, mlp.dtype) for shape in mlp.shapes)
        return mlp.tokens_in(generator), first, last, *mlp.indices(generator)

    def reference(x: Tensor, first: Tensor, last: Tensor, *indices: Tensor) -> Tensor:
        return mlp.reference(x, lambda e: first[e].double(), lambda e: last[e].double(), *indices)

    return Calls(inputs, run, reference, ROUNDINGS * ROUNDING[mlp.dtype])


def grouped_mm(mlp: Mlp, place: Place) -> Kernel | Refused:
    """One grouped product for gate and up, one for down."""
    sizes = (*mlp.shapes[0][1:], *mlp.shapes[1][1:])
    if reason := grouped_refusal(sizes, mlp.dtype, place):
        return Refused("grouped_mm", reason)

    def run(x: Tensor, first: Tensor, last: Tensor, *indices: Tensor) -> Tensor:
        token_of_row, rows, weights, ends = indices
        inner = functional.grouped_mm(x[token_of_row], first.transpose(1, 2), offs=ends)
        results = functional.grouped_mm(mlp.activated(inner), last.transpose(1, 2), offs=ends)
        return combined(results, rows, weights)

    return mlp.kernel("grouped_mm", TABLE_DTYPES[mlp.dtype], plain_calls(mlp, run))


def grouped_refusal(sizes: Sequence[int], dtype: torch.dtype, place: Place) -> str:
    """Why torch's grouped product cannot run."""
    if not hasattr(functional, "grouped_mm"):
        return "this torch has no functional.grouped_mm"
    if any(size * dtype.itemsize % ALIGNMENT_BYTES for size in sizes):
        return f"rows of {sizes} elements do not all start at multiples of {ALIGNMENT_BYTES} bytes"
    if place.device.type == "cpu":
        return ""
    if dtype is not torch.bfloat16 or (torch.version.hip is None and place.capability < (8, 0)):
        return "torch has grouped products of bf16 on CPUs and on GPUs of capability 8.0 and above"
    return ""


def loop(mlp: Mlp) -> Kernel:
    """One expert after the other, those without rows left out."""
    spans = mlp.routing.spans()

    def run(x: Tensor, first: Tensor, last: Tensor, *indices: Tensor) -> Tensor:
        token_of_row, rows, weights, _ends = indices
        gathered = x[token_of_row]
        results = torch.empty_like(gathered)
        for expert, start, end in spans:
            inner = mlp.activated(torch.mm(gathered[start:end], first[expert].t()))
            torch.mm(inner, last[expert].t(), out=results[start:end])
        return combined(results, rows, weights)

    return mlp.kernel("loop", TABLE_DTYPES[mlp.dtype], plain_calls(mlp, run))


def scaled_grouped_mm(mlp: Mlp, place: Place) -> Kernel | Refused:
    """FP8 with one scale a token and one an output channel."""
    name = "scaled_grouped_mm_rowwise"
    if nvidia_capability(place) != (9, 0) or not hasattr(torch, "_scaled_grouped_mm"):
        return Refused(
            name, "torch has grouped products of FP8 on NVIDIA devices of capability 9.0"
        )
    if any(size % ALIGNMENT_BYTES for shape in mlp.shapes for size in shape[1:]):
        return Refused(name, f"widths must be multiples of {ALIGNMENT_BYTES}")
    return scaled_grouped_kernel(mlp)


def scaled_grouped_kernel(mlp: Mlp) -> Kernel:
    """The same, wherever it is made.

    Tokens are quantised before the timed call; what lies between the products is quantised in it,
    by torch's plain arithmetic, which engines do in the kernel of the activation.
    """

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        first, last = (stack_quantised(weight(generator, s, mlp.dtype)) for s in mlp.shapes)
        x = quantised(mlp.tokens_in(generator), E4M3, 1, 0)
        return *x, *first, *last, *mlp.indices(generator)

    def run(*given: Tensor) -> Tensor:
        x, x_scales, first, first_scales, last, last_scales, *indices = given
        token_of_row, rows, weights, ends = indices
        # bytes, since not every function that moves rows knows the type
        gathered = x.view(torch.uint8)[token_of_row].view(E4M3)
        scales = x_scales[token_of_row, 0]
        inner = mlp.activated(_rowwise(gathered, scales, first, first_scales, ends))
        codes, inner_scales = row_quantised(inner)
        return combined(_rowwise(codes, inner_scales, last, last_scales, ends), rows, weights)

    def reference(*given: Tensor) -> Tensor:
        x, x_scales, first, first_scales, last, last_scales, *indices = given
        return mlp.reference(
            dequantised(x, x_scales, 1, 0),
            lambda expert: dequantised(first[expert], first_scales[expert, :, None], 1, 0),
            lambda expert: dequantised(last[expert], last_scales[expert, :, None], 1, 0),
            *indices,
        )

    # what lies between is rounded to three bits here, and not in the reference
    tolerance = FP8_ERROR + torch.finfo(E4M3).eps / 2
    calls = Calls(inputs, run, reference, tolerance)
    return mlp.kernel("scaled_grouped_mm_rowwise", "fp8", calls)


def _rowwise(x: Tensor, x_scales: Tensor, w: Tensor, w_scales: Tensor, ends: Tensor) -> Tensor:
    return torch._scaled_grouped_mm(
        x, w.transpose(1, 2), x_scales, w_scales, offs=ends, out_dtype=torch.bfloat16
    )


def row_quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """E4m3 elements and a scale a row, with as few kernels as torch needs."""
    scales = x.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / torch.finfo(E4M3).max
    return (x / scales).to(E4M3), scales.squeeze(-1)


def stack_quantised(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices [E, n, k] as e4m3 elements, and a scale an output channel [E, n]."""
    codes = torch.empty_like(stack, dtype=E4M3)
    scales = torch.empty(stack.shape[:2], device=stack.device)
    # one by one: what quantising needs meanwhile is several times as large
    for expert, matrix in enumerate(stack):
        codes[expert], column = quantised(matrix, E4M3, 1, 0)
        scales[expert] = column[:, 0]
    return codes, scales


def expert_kernels(
    operator: Experts, step: Step, place: Place, exponent: float
) -> tuple[Kernel | Refused, ...]:
    """All ways of running a rank's experts; an exponent of 0 is even routing.

    Biases of experts are left out: the table has no word for them.
    """
    tokens = whole(step.tokens * operator.token_groups, "tokens")
    if reason := uneven(operator, tokens, exponent):
        return (Refused("Experts", reason),)
    stored = operator.precision.of(Role.EXPERTS)
    routing = routing_under(operator, tokens, exponent)
    if stored.name in FP8_FORMATS:
        return (scaled_grouped_mm(Mlp(operator, routing, exponent, torch.bfloat16), place),)
    dtype = torch_dtype(stored)
    if dtype not in TABLE_DTYPES:
        return (Refused("Experts", f"torch has no grouped product with {stored.name} weights"),)
    mlp = Mlp(operator, routing, exponent, dtype)
    grouped = grouped_mm(mlp, place)
    return (grouped, loop(mlp)) if isinstance(grouped, Refused) else (grouped,)


@kernels.register
def _experts(operator: Experts, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    return expert_kernels(operator, step, place, place.skew)


@kernels.register
def _routed_linear(
    operator: RoutedLinear, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """Rows gathered and one grouped product, as many experts hit as even routing is expected to."""
    tokens = whole(step.tokens, "tokens")
    stored = operator.precision.of(Role.ATTENTION)
    dtype = torch_dtype(stored)
    if dtype not in TABLE_DTYPES or not tokens:
        reason = f"torch has no grouped product of {tokens} tokens with {stored.name} weights"
        return (Refused("RoutedLinear", reason),)
    inner, outer, E = operator.in_features, operator.out_features, operator.num_experts
    if reason := grouped_refusal((inner, outer), dtype, place):
        return (Refused("RoutedLinear", reason),)
    top = operator.num_experts_per_tok
    hit = max(round(E * (1 - (1 - top / E) ** tokens)), top)
    routing = Routing(tokens, evenly(tokens * top, hit) + (0,) * (E - hit))

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        x, w = (
            normal(generator, (tokens, inner), dtype),
            weight(generator, (E, outer, inner), dtype),
        )
        return x, w, routing.token_of_row(generator), routing.ends(generator.device)

    def run(x: Tensor, w: Tensor, token_of_row: Tensor, ends: Tensor) -> Tensor:
        return functional.grouped_mm(x[token_of_row], w.transpose(1, 2), offs=ends)

    def reference(x: Tensor, w: Tensor, token_of_row: Tensor, _ends: Tensor) -> Tensor:
        gathered = x[token_of_row].double()
        parts = [gathered[start:end] @ w[e].double().t() for e, start, end in routing.spans()]
        return torch.cat(parts)

    row = work_row(operator, step, "grouped_mm")
    calls = Calls(inputs, run, reference, ROUNDING[dtype])
    flops = 2.0 * inner * outer * routing.rows
    return (Kernel(row.table, row.labels, row.columns, flops, *calls),)
