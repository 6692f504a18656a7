"""Tables: input embeddings, learned positions and vectors, the experts of token ids."""

from collections.abc import Callable
from typing import Final

import torch
from torch.nn import functional

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.elements import ROUNDING, Calls, Tensor, normal, whole
from llmplan.calibrate.runners.requests import torch_dtype
from llmplan.calibrate.runners.vector_work import Work
from llmplan.ops.base import Step
from llmplan.ops.embedding import Embedding, LayerInputTable, LearnedVectors, PositionTable
from llmplan.ops.moe import ExpertTable

EXACT: Final = 0.0
"""A look-up copies."""


def _rows(
    rows: int, width: int, tokens: int, dtype: torch.dtype
) -> Callable[..., tuple[Tensor, ...]]:
    """A table, and the rows of some tokens."""

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        table = normal(generator, (rows, width), dtype)
        return table, torch.randint(rows, (tokens,), generator=generator, device=generator.device)

    return inputs


def _look_up(
    operator: Embedding | LayerInputTable, rows: int, width: int, step: Step
) -> tuple[Kernel | Refused]:
    """Rows of a table that is stored without scales."""
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    stored = operator.precision.embedding
    dtype = torch_dtype(stored)
    if dtype is None:
        return (Refused(work.name, f"torch looks nothing up in a table of {stored.name}"),)

    def run(table: Tensor, ids: Tensor) -> Tensor:
        return functional.embedding(ids, table)

    def reference(table: Tensor, ids: Tensor) -> Tensor:
        return table[ids].double()

    calls = Calls(_rows(rows, width, tokens, dtype), run, reference, EXACT)
    return work.found(tokens, lambda: work.kernel("aten_embedding", calls))


@kernels.register
def _embedding(operator: Embedding, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    del place
    rows = operator.vocab_size + operator.extra_rows
    return _look_up(operator, rows, operator.hidden_size, step)


@kernels.register
def _layer_inputs(
    operator: LayerInputTable, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    del place
    return _look_up(operator, operator.vocab_size, operator.num_layers * operator.width, step)


@kernels.register
def _expert_table(operator: ExpertTable, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """Whole numbers of 32 bits, as wide as the buffer that holds them."""
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    if operator.precision.buffer.bits != torch.int32.itemsize * 8:
        reason = f"expert numbers are run 32 bits wide, not as {operator.precision.buffer.name}"
        return (Refused(work.name, reason),)
    shape = operator.vocab_size, operator.num_experts_per_tok

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        device = generator.device
        table = torch.randint(2**15, shape, generator=generator, device=device, dtype=torch.int32)
        return table, torch.randint(shape[0], (tokens,), generator=generator, device=device)

    def run(table: Tensor, ids: Tensor) -> Tensor:
        return table.index_select(0, ids)

    def reference(table: Tensor, ids: Tensor) -> Tensor:
        return table[ids].double()

    calls = Calls(inputs, run, reference, EXACT)
    return work.found(tokens, lambda: work.kernel("aten_index_select", calls))


@kernels.register
def _positions(operator: PositionTable, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """Rows of the positions that follow the context, added to each request's tokens."""
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    new, context = whole(step.new_tokens, "new tokens"), whole(step.context, "context")
    if context + new > operator.num_positions:
        reason = f"positions end at {operator.num_positions}, before {context + new}"
        return (Refused(work.name, reason),)
    return work.found(tokens, lambda: _added(work, operator.num_positions, context, tokens))


@kernels.register
def _vectors(operator: LearnedVectors, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """The vectors in turn, added to the tokens."""
    del place
    work, tokens = Work(operator, step), whole(step.tokens, "tokens")
    return work.found(tokens, lambda: _added(work, operator.count, 0, tokens))


def _added(work: Work, rows: int, first: int, tokens: int) -> Kernel:
    """Rows of a table from one on, as many as it has, added to tokens; looked up before."""
    operator = work.operator
    width = operator.weights[0].shape[1]
    new = whole(work.step.new_tokens, "new tokens")

    def inputs(generator: torch.Generator) -> tuple[Tensor, ...]:
        steps = torch.arange(tokens, device=generator.device) % new
        x, table = (normal(generator, (each, width), work.dtype) for each in (tokens, rows))
        return x, table, (first + steps) % rows

    def run(x: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        return x + functional.embedding(ids, table)

    def reference(x: Tensor, table: Tensor, ids: Tensor) -> Tensor:
        return x.double() + table.double()[ids]

    return work.kernel(
        "reference_embedding_add", Calls(inputs, run, reference, ROUNDING[work.dtype])
    )
