"""Which rows the experts of a rank work on, evenly or under a power law.

Rows that a rank holds are spread evenly over the tokens, however unevenly over the experts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from llmplan.calibrate.runners.elements import Tensor
from llmplan.dtypes import divide_exactly, divide_up
from llmplan.ops.moe import Experts
from llmplan.perf.operators.expert_load import rank_load, shuffled_loads


@dataclass(frozen=True, slots=True)
class Routing:
    """Which rows the experts of a rank work on.

    Attributes:
        tokens: Tokens of all groups.
        counts: Rows of each expert here.
    """

    tokens: int
    counts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Rows of all experts."""
        return sum(self.counts)

    @property
    def per_token(self) -> int:
        """Most rows of a token."""
        return divide_up(self.rows, self.tokens)

    def ends(self, device: torch.device) -> Tensor:
        """Where the rows of each expert end, int32 [experts]."""
        return torch.tensor(np.cumsum(self.counts), dtype=torch.int32, device=device)

    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """Expert, first and last row of all experts that have any."""
        ends = np.cumsum(self.counts).tolist()
        spans = zip(range(len(ends)), (0, *ends), ends, strict=False)
        return tuple(span for span in spans if span[2] > span[1])

    def token_of_row(self, generator: torch.Generator) -> Tensor:
        """Token of each row [rows]: all tokens in turn, so that no expert sees one twice."""
        order = torch.randperm(self.tokens, generator=generator, device=generator.device)
        return order[torch.arange(self.rows, device=generator.device) % self.tokens]

    def rows_of_token(self, token_of_row: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of each token, and whether there is one, both [tokens, most]."""
        taken = self.per_token * self.tokens
        filled = torch.arange(taken, device=token_of_row.device).view(self.per_token, self.tokens)
        # every turn of the tokens is in the order of the first one
        first = token_of_row[: self.tokens]
        held = filled[:, : len(first)]
        slots = torch.zeros_like(filled)
        slots[:, first] = held
        present = torch.zeros_like(filled, dtype=torch.bool)
        present[:, first] = held < self.rows
        return torch.where(present, slots, 0).t().contiguous(), present.t().contiguous()


def columns_under(operator: Experts, tokens: int, exponent: float) -> Mapping[str, float]:
    """The row of the table that a rank's experts are: a layer as wide as they, over ep ranks."""
    among = operator.routed_among or operator.num_experts
    return {
        "tokens": float(tokens),
        "hidden": float(operator.hidden_size),
        "inter": float(operator.moe_intermediate_size),
        "topk": float(operator.num_experts_per_tok),
        "experts": float(among),
        "tp": 1.0,
        "ep": float(divide_exactly(among, operator.num_experts, "experts")),
        "distribution": exponent,
    }


def routing_under(operator: Experts, tokens: int, exponent: float) -> Routing:
    """Rows of a rank's experts: even ones, or those of the rank that a power law fills most.

    Of the shuffles that the curve's mean is over, the one nearest to that mean.
    """
    among, local = operator.routed_among or operator.num_experts, operator.num_experts
    top = operator.num_experts_per_tok
    if exponent <= 0:
        rows = divide_exactly(tokens * top * local, among, "rows of all experts")
        return Routing(tokens, evenly(rows, local))
    loads = shuffled_loads(tokens, top, among, exponent).reshape(-1, among // local, local)
    fullest = loads[np.arange(len(loads)), loads.sum(axis=2).argmax(axis=1)]
    columns = columns_under(operator, tokens, exponent)
    mean = rank_load({name: np.array([value]) for name, value in columns.items()})
    far = abs(fullest.sum(axis=1) / mean.rows - 1) + abs((fullest > 0).sum(axis=1) / mean.hit - 1)
    return Routing(tokens, tuple(int(count) for count in fullest[far.argmin()]))


def evenly(rows: int, experts: int) -> tuple[int, ...]:
    """Rows of each expert, the first ones with one more where they do not divide."""
    each, left = divmod(rows, experts)
    return tuple(each + (expert < left) for expert in range(experts))


def uneven(operator: Experts, tokens: int, exponent: float) -> str:
    """Why no rank's part of some tokens can be run."""
    among, local = operator.routed_among or operator.num_experts, operator.num_experts
    rows = tokens * operator.num_experts_per_tok * local
    if not tokens:
        return "no token of this step passes through them"
    if among % local:
        return f"{among} experts are not split evenly by {local} a rank"
    if exponent <= 0 and rows % among:
        return f"even routing gives a rank {rows / among:g} rows: no whole number"
    return ""
