"""Operators as engines launch them: products that share an input are one, so are vector chains."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from llmplan.ops.base import Operator, changed
from llmplan.ops.embedding import Embedding, TiedHead
from llmplan.ops.linear import GroupedLinear, Linear, Split
from llmplan.ops.moe import Experts, Router
from llmplan.ops.norm import Elementwise, Norm
from llmplan.ops.precision import Role

CONTEXT_FREE: Final = (Linear, Experts, Router, Embedding, TiedHead)


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel's operators: a single one, or vector operators that run as one.

    Attributes:
        operators: In order.
    """

    operators: tuple[Operator, ...]

    @property
    def is_vector(self) -> bool:
        """Whether it does vector work only."""
        return all(isinstance(operator, Norm | Elementwise) for operator in self.operators)

    @property
    def looks_at_context(self) -> bool:
        """Whether its time depends on more than how many tokens and requests there are."""
        return not self.is_vector and not isinstance(self.operators[0], CONTEXT_FREE)

    @property
    def name(self) -> str:
        """Of its operators."""
        return " + ".join(operator.name for operator in self.operators)


def launches(operators: tuple[Operator, ...]) -> tuple[Launch, ...]:
    """The kernels of some operators, in order.

    Queries, keys and values are one product, and so are gate and up: weights of one format that
    read the same input lie side by side. Norms, activations, rotary embedding and residual sums
    that follow each other are one kernel.
    """
    return tuple(_chained(_side_by_side(operators)))


def _side_by_side(operators: tuple[Operator, ...]) -> Iterator[Operator]:
    first: dict[tuple[object, ...], Linear] = {}
    widths: dict[tuple[object, ...], int] = {}
    names: dict[tuple[object, ...], list[str]] = {}
    for operator in operators:
        if isinstance(operator, Linear) and (key := _input(operator)):
            first.setdefault(key, operator)
            widths[key] = widths.get(key, 0) + operator.out_features
            names.setdefault(key, []).append(operator.name)
    given: set[tuple[object, ...]] = set()
    for operator in operators:
        key = _input(operator)
        if not key:
            yield operator
        elif key not in given:
            given.add(key)
            name = ", ".join(names[key])
            yield changed(first[key], out_features=widths[key], name=name)


def _input(operator: Operator) -> tuple[object, ...] | None:
    """What products with one input have in common; None for those that stand alone."""
    if not isinstance(operator, Linear) or isinstance(operator, GroupedLinear):
        return None
    if operator.split in (Split.ROW, Split.VOCABULARY) or operator.role is Role.HEAD:
        return None
    stored = operator.precision.of(operator.role)
    return operator.block, operator.in_features, operator.role, stored, operator.tokens


def _chained(operators: Iterator[Operator]) -> Iterator[Launch]:
    for is_vector, chain in groupby(operators, lambda o: isinstance(o, Norm | Elementwise)):
        if is_vector:
            yield Launch(tuple(chain))
        else:
            yield from (Launch((operator,)) for operator in chain)
