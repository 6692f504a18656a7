"""One product with weights, and how it is run where these have 16 bits.

A row of the table is the product alone. A bias is added where a kernel writes its results, and the
table has no word for it: it is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from llmplan.calibrate.kernel import Kernel, Place, Refused
from llmplan.calibrate.runners.elements import (
    ROUNDING,
    Calls,
    Tensor,
    normal,
    weight,
)
from llmplan.calibrate.runners.requests import DTYPES
from llmplan.dtypes import Format

BF16: Final = torch.bfloat16
TABLE_DTYPES: Final = {torch.bfloat16: "bfloat16", torch.float16: "half"}
"""How the tables call 16-bit formats."""


@dataclass(frozen=True, slots=True)
class Product:
    """y[m, n] = x[m, k] W[n, k]ᵀ with W stored in a format, and where it runs."""

    m: int
    n: int
    k: int
    stored: Format
    place: Place

    def kernel(self, name: str, table_format: str, calls: Calls) -> Kernel:
        """A row of the table ``gemm``."""
        labels = {"kernel": name, "dtype": table_format}
        columns = {"m": float(self.m), "n": float(self.n), "k": float(self.k)}
        return Kernel("gemm", labels, columns, 2.0 * self.m * self.n * self.k, *calls)

    def operands(self, generator: torch.Generator, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Activations [m, k] and weights [n, k]."""
        x = normal(generator, (self.m, self.k), dtype)
        return x, weight(generator, (self.n, self.k), dtype)

    def varied(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same in bf16, rows and columns of several sizes: a scale out of place then shows."""
        x, w = self.operands(generator, BF16)
        for matrix in (x, w):
            for sizes in ((len(matrix), 1), (1, self.k)):
                matrix.mul_(torch.exp2(normal(generator, sizes, BF16)))
        return x, w

    def uneven(self, of_n: int, of_k: int) -> str:
        """Why a kernel of GPUs that wants n and k to be multiples of some numbers cannot run."""
        if not self.place.is_cuda or not (self.n % of_n or self.k % of_k):
            return ""
        return f"n {self.n} must be a multiple of {of_n}, and k {self.k} one of {of_k}"


Realisation = Callable[[Product], Kernel | Refused]


def plain_reference(x: Tensor, w: Tensor) -> Tensor:
    """The product in float64."""
    return x.double() @ w.double().t()


def aten_mm(product: Product) -> Kernel | Refused:
    """Of 16-bit weights: torch's own choice among the kernels of cuBLAS, rocBLAS or oneDNN."""
    dtype = DTYPES[product.stored.name]

    def run(x: Tensor, w: Tensor) -> Tensor:
        return torch.mm(x, w.t())

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        return product.operands(generator, dtype)

    # every element is rounded once from an fp32 sum, or each part of a split sum
    calls = Calls(inputs, run, plain_reference, ROUNDING[dtype])
    return product.kernel("aten_mm", TABLE_DTYPES[dtype], calls)
