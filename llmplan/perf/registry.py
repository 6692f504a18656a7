"""All operators that have curves."""

from typing import Final

from llmplan.perf.kernels import Operator
from llmplan.perf.operators.by_work import BY_WORK
from llmplan.perf.operators.collectives import COLLECTIVES
from llmplan.perf.operators.context_attention import CONTEXT_ATTENTION
from llmplan.perf.operators.gemm import GEMM
from llmplan.perf.operators.generation_attention import GENERATION_ATTENTION
from llmplan.perf.operators.layer_ops import LAYER_OPS
from llmplan.perf.operators.mla import MLA
from llmplan.perf.operators.mla_module import MLA_MODULE
from llmplan.perf.operators.moe import MOE
from llmplan.perf.operators.moe_a2a import MOE_A2A
from llmplan.perf.operators.network import NETWORK

OPERATORS: Final[dict[str, Operator]] = {
    operator.name: operator
    for operator in (
        BY_WORK,
        COLLECTIVES,
        CONTEXT_ATTENTION,
        GEMM,
        GENERATION_ATTENTION,
        LAYER_OPS,
        MLA,
        MLA_MODULE,
        MOE,
        MOE_A2A,
        NETWORK,
    )
}
"""By the name of their table."""
