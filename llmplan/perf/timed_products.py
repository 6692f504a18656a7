"""Time of products with weights: linear layers, heads, routers."""

from dataclasses import replace

import numpy as np

from llmplan.dtypes import BF16, Format
from llmplan.ops.base import Operator, Step
from llmplan.ops.embedding import TiedHead
from llmplan.ops.linear import GroupedLinear, Linear, Tokens
from llmplan.ops.moe import Router
from llmplan.ops.precision import Role
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.kernels import US, Column
from llmplan.perf.own_kernels import BATCHED
from llmplan.perf.rates import BITS
from llmplan.perf.table_formats import WEIGHT_ONLY, table_formats
from llmplan.perf.timed import PROBE_TOKENS, VECTOR_FLOOR_US, Timed, by_curves, timed
from llmplan.perf.vector_products import vector_products
from llmplan.units import Provenance, weakest


def gemm_curve(
    formats: tuple[str, ...],
    shelf: KernelShelf,
    *,
    is_half: bool = False,
    is_batched: bool = False,
) -> Curve | None:
    """The kernel of products in the first of these formats that any device has.

    Batched ones, and those in fp16, for which tables have bf16, run as kernels of their own where
    these were measured.
    """
    tokens = np.array(PROBE_TOKENS)
    probe = {"m": tokens, "n": np.full_like(tokens, 4096), "k": np.full_like(tokens, 4096)}
    dtype = "half" if is_half else formats[0]
    measured = [{"dtype": dtype, "kernel": BATCHED}] if is_batched else []
    measured += [{"dtype": dtype}] if is_half else []
    for wanted in measured:
        if own := shelf.measured("gemm", wanted, probe):
            return own
    for name in formats:
        if curve := shelf.best("gemm", {"dtype": name}, probe):
            return curve
    return None


def product(  # noqa: PLR0913 - the sizes of a product, and how it runs
    m: Column, n: float, k: float, stored: Format, shelf: KernelShelf, *, is_batched: bool = False
) -> Timed | None:
    """``m`` tokens by a matrix of k x n.

    Weights of a few bits that no table has lie between those of 4 bits and those of 8. Engines that
    multiply few tokens as vectors do so whatever the table of tiles says.
    """
    formats = table_formats(stored.name, shelf)
    is_half = stored.name == "fp16"
    curve = gemm_curve(formats, shelf, is_half=is_half, is_batched=is_batched)
    if not curve:
        return None
    seconds = product_s(curve, m, n, k)
    wider = gemm_curve(formats[1:], shelf) if formats == WEIGHT_ONLY else None
    if wider:
        narrow, wide = (BITS[each.labels["dtype"]] for each in (curve, wider))
        share = (stored.bits_per_weight - narrow) / (wide - narrow)
        seconds = seconds + share * (product_s(wider, m, n, k) - seconds)
    vectors = vector_products(shelf.engine)
    if vectors:
        weight_bytes = n * k * stored.bits_per_weight / 8
        streamed = VECTOR_FLOOR_US * US + vectors.seconds(weight_bytes, m, shelf.rates)
        seconds = np.where(m <= vectors.most_tokens, streamed, seconds)
    found = by_curves("gemm", seconds, curve)
    is_the_curve = wider is None and not (vectors and np.any(m <= vectors.most_tokens))
    if is_the_curve:
        return found
    return replace(found, provenance=weakest(found.provenance, Provenance.FITTED))


def product_s(curve: Curve, m: Column, n: float, k: float) -> Column:
    """Seconds of ``m`` tokens by a matrix of k x n, shape [rows]; at least one token."""
    rows = np.maximum(m, 1.0)
    return curve.seconds({"m": rows, "n": np.full_like(rows, n), "k": np.full_like(rows, k)})


@timed.register
def _linear(operator: Linear, step: Step, shelf: KernelShelf) -> Timed:
    tokens = operator.tokens.in_step(step)
    stored = operator.precision.of(operator.role)
    sizes = operator.out_features, operator.in_features
    is_batched = isinstance(operator, GroupedLinear)
    found = product(tokens, *sizes, stored, shelf, is_batched=is_batched)
    return found or timed.dispatch(Operator)(operator, step, shelf)


@timed.register
def _grouped(operator: GroupedLinear, step: Step, shelf: KernelShelf) -> Timed:
    """Groups run as one batched product: as wide as all outputs."""
    return _linear(operator, step, shelf)


@timed.register
def _head(operator: TiedHead, step: Step, shelf: KernelShelf) -> Timed:
    stored = operator.precision.of(Role.EMBEDDING)
    sequences = Tokens.LAST.in_step(step)
    found = product(sequences, operator.vocab_size, operator.hidden_size, stored, shelf)
    return found or timed.dispatch(Operator)(operator, step, shelf)


@timed.register
def _router(operator: Router, step: Step, shelf: KernelShelf) -> Timed:
    """The scores, and two small kernels that choose."""
    found = product(step.tokens, operator.num_experts, operator.hidden_size, BF16, shelf)
    if not found:
        return timed.dispatch(Operator)(operator, step, shelf)
    return replace(found, kind="router", seconds=found.seconds + 2 * VECTOR_FLOOR_US * US)
