"""All operators that have curves."""

from typing import Final

from llmplan.perf.kernels import Operator
from llmplan.perf.operators.gemm import GEMM

OPERATORS: Final[dict[str, Operator]] = {operator.name: operator for operator in (GEMM,)}
"""By the name of their table."""
