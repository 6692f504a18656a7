"""Kernels of a step as parts of its time, none below what the device can do at most."""

from dataclasses import dataclass

import numpy as np

from llmplan.ops.attention import Attention
from llmplan.ops.base import Cost, Operator, Step
from llmplan.ops.latent import LatentAttention
from llmplan.ops.moe import Experts
from llmplan.perf import timed_attention, timed_experts, timed_products
from llmplan.perf.choice import KernelShelf
from llmplan.perf.kernels import US, Column
from llmplan.perf.merged import Launch
from llmplan.perf.operators.by_work import columns_of
from llmplan.perf.own_kernels import is_reference
from llmplan.perf.rates import UNITS
from llmplan.perf.routing import experts_hit
from llmplan.perf.table_formats import kv_word, table_formats
from llmplan.perf.timed import GENERIC_MEMORY_FRAC, VECTOR_FLOOR_US, curve_by_work, timed
from llmplan.units import Provenance

TIMED_IN = (timed_attention, timed_experts, timed_products)
"""Where operators with kernels are entered in the table."""


@dataclass(frozen=True, slots=True)
class Part:
    """One kernel of a step.

    Attributes:
        name: Its operators.
        kind: What it is: gemm, attention, experts, vector, collective …
        seconds: One call, shape [rows].
        cost: What it asks of the hardware.
        compute_s: Arithmetic at the peak of its format, shape [rows].
        memory_s: Bytes at the memory bandwidth, shape [rows].
        network_s: Bytes at the rate of its link, shape [rows].
        count: Calls a step.
        provenance: Of its time.
        reason: What stands for what, where it is assumed.
    """

    name: str
    kind: str
    seconds: Column
    cost: Cost
    compute_s: Column
    memory_s: Column
    network_s: Column
    count: int = 1
    provenance: Provenance = Provenance.ASSUMED
    reason: str = ""

    @property
    def bound_s(self) -> Column:
        """No step is faster than the slowest of what it asks for."""
        result: Column = np.maximum(np.maximum(self.compute_s, self.memory_s), self.network_s)
        return result


def part_of(launch: Launch, step: Step, shelf: KernelShelf) -> Part:
    """The time of a kernel in a step whose fields have shape [rows, groups]."""
    first = launch.operators[0]
    if launch.is_vector:
        return _vector(launch, step, shelf)
    cost = first.cost(step)
    compute_s, memory_s = bounds(first, cost, step, shelf)
    found = timed(first, step, shelf)
    floor = np.maximum(compute_s, memory_s)
    return Part(
        launch.name,
        found.kind,
        np.maximum(found.seconds, floor),
        cost,
        compute_s,
        memory_s,
        np.zeros_like(floor),
        provenance=found.provenance,
        reason=found.reason,
    )


def unit_of(operator: Operator, shelf: KernelShelf) -> str:
    """Arithmetic unit of an operator's products; of attention the fastest that may do them."""
    weights = operator.weights
    if isinstance(operator, Attention | LatentAttention):
        return UNITS[kv_word(operator.precision.kv.name)]
    if not weights:
        return "bf16"
    stored = operator.precision.of(weights[0].role)
    return UNITS[table_formats(stored.name, shelf)[0]]


def bounds(operator: Operator, cost: Cost, step: Step, shelf: KernelShelf) -> tuple[Column, Column]:
    """Seconds of arithmetic and of memory at their peaks, shape [rows].

    Activations may stay in caches between kernels, so only weights and state are counted. Tokens
    that favour some experts read fewer of them than the cost under even routing says.
    """
    rows = np.zeros(np.shape(step.tokens))
    peak = shelf.rates.flops(unit_of(operator, shelf))
    compute = (rows + cost.model_flops) / peak
    weights = rows + cost.weight_read_bytes
    if isinstance(operator, Experts):
        tokens = rows + step.tokens * operator.token_groups
        even = np.maximum(operator.experts_hit(tokens), np.finfo(np.float64).tiny)
        weights = weights * experts_hit(operator, tokens, shelf.skew) / even
    moved = weights + cost.state_read_bytes + cost.state_written_bytes
    return compute, moved / shelf.rates.bytes_per_s


def _vector(launch: Launch, step: Step, shelf: KernelShelf) -> Part:
    """A chain of vector operators: each reads what the one before wrote, from the cache.

    Where its operators were measured one by one the chain takes as long as the longest; torch's
    plain arithmetic says nothing of a kernel that does it all at once.
    """
    costs = [operator.cost(step) for operator in launch.operators]
    rows = np.zeros(np.shape(step.tokens))
    moved = np.maximum.reduce([rows + cost.moved_bytes for cost in costs])
    whole = sum(costs, start=Cost())
    curves = [curve_by_work(operator, shelf) for operator in launch.operators]
    if all(curve and not is_reference(curve.labels) for curve in curves):
        longest = np.maximum.reduce(
            [
                curve.seconds(columns_of(operator, step))
                for operator, curve in zip(launch.operators, curves, strict=True)
                if curve
            ]
        )
        known, said = Provenance.FITTED, "the longest of its operators by itself"
        if len(curves) == 1 and curves[0]:
            known, said = curves[0].provenance, curves[0].reason
        return Part(launch.name, "vector", longest, whole, rows, rows, rows, 1, known, said)
    seconds = VECTOR_FLOOR_US * US + moved / (shelf.rates.bytes_per_s * GENERIC_MEMORY_FRAC)
    return Part(launch.name, "vector", seconds, whole, rows, rows, rows, reason="usual share")
