"""Mixture of experts: the router and the routed experts. Shared experts are ``Linear`` operators.

Symbols: D hidden size, F expert width, E experts, k experts per token.
"""

from dataclasses import dataclass, field

import numpy as np

from llmplan.ops.base import Array, Cost, Operator, Step, Weight
from llmplan.ops.norm import NormKind
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class Router(Operator):
    """Scores of all experts for every token.

    Attributes:
        hidden_size: D.
        num_experts: E.
        has_bias: The router is a linear layer with bias.
        has_correction_bias: A stored selection bias a expert that is no parameter.
        has_scales: The input is normed and scaled by feature, and the result by expert (Gemma 4).
        label: Origin of num_experts in words of the spec's keys.
    """

    hidden_size: int
    num_experts: int
    has_bias: bool = False
    has_correction_bias: bool = False
    has_scales: bool = False
    label: str = field(default="num_experts", compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Score matrix, bias, scales, and the routing-bias buffer."""
        E, labels = self.num_experts, (self.label, "hidden_size")
        weights = [Weight("", (E, self.hidden_size), Role.ROUTER, labels)]
        if self.has_bias:
            weights.append(Weight("bias", (E,), Role.ROUTER, labels[:1]))
        if self.has_scales:
            weights.append(Weight("scale", (self.hidden_size,), Role.ROUTER, labels[1:]))
            weights.append(Weight("per_expert_scale", (E,), Role.ROUTER, labels[:1]))
        if self.has_correction_bias:
            name = "e_score_correction_bias"
            weights.append(Weight(name, (E,), Role.BUFFER, labels[:1], is_buffer=True))
        return tuple(weights)

    def cost(self, step: Step) -> Cost:
        """2·D·E FLOPs a token; the choice of the top k is vector work of E a token.

        Scaling, where there is any, adds the vector work of a norm over D.
        """
        width = self.hidden_size + self.num_experts
        normed = NormKind.RMS.flops_per_element * self.hidden_size if self.has_scales else 0.0
        return Cost(
            matmul_flops=2.0 * self.hidden_size * self.num_experts * step.tokens,
            vector_flops=(self.num_experts + normed) * step.tokens,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=width * self.activation_width_bytes * step.tokens,
            launches=2.0,
        )


@dataclass(frozen=True, slots=True)
class ExpertTable(Operator):
    """The experts of each token id, looked up instead of chosen by score (hash routing).

    Attributes:
        vocab_size: Rows, one a token id.
        num_experts_per_tok: Experts in a row (k).

    Source: DeepSeek-AI 2026 (DeepSeek-V4).
    """

    vocab_size: int
    num_experts_per_tok: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The table, which is no parameter."""
        shape = (self.vocab_size, self.num_experts_per_tok)
        labels = ("expert_table_rows", "num_experts_per_tok")
        return (Weight("tid2eid", shape, Role.BUFFER, labels, is_buffer=True),)

    def cost(self, step: Step) -> Cost:
        """One row read a token; no FLOPs."""
        row_bytes = self.num_experts_per_tok * self.precision.buffer.bits_per_weight / 8
        return Cost(weight_read_bytes=row_bytes * step.tokens, launches=1.0)


@dataclass(frozen=True, slots=True)
class Experts(Operator):
    """The routed experts of one layer, each a feed-forward network.

    Attributes:
        hidden_size: Width in and out (D).
        moe_intermediate_size: Width of one expert (F).
        num_experts: Experts of the layer (E).
        num_experts_per_tok: Experts a token uses (k).
        is_gated: Three matrices (gate, up, down) instead of two.
        has_bias: Each matrix of each expert has a bias (gpt-oss).
        routed_among: Experts of the whole layer where a rank holds some of them; 0 for all.
        token_groups: Data-parallel groups whose tokens meet here; a step counts those of one.
        label: Origin of the width in and out in words of the spec's keys.
    """

    hidden_size: int
    moe_intermediate_size: int
    num_experts: int
    num_experts_per_tok: int
    is_gated: bool = True
    has_bias: bool = False
    routed_among: int = 0
    token_groups: int = 1
    label: str = field(default="hidden_size", compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Stacks over experts."""
        E, F, D = self.num_experts, self.moe_intermediate_size, self.hidden_size
        up = ("num_experts", "moe_intermediate_size", self.label)
        down = ("num_experts", self.label, "moe_intermediate_size")
        matrices = [("up_proj", (E, F, D), up), ("down_proj", (E, D, F), down)]
        if self.is_gated:
            matrices.insert(0, ("gate_proj", (E, F, D), up))
        active = (self.num_experts_per_tok, self.routed_among or E)
        stacks = [Weight(n, shape, Role.EXPERTS, of, active) for n, shape, of in matrices]
        if self.has_bias:
            stacks += [
                Weight(f"{n}.bias", shape[:2], Role.BIAS, of[:2], active)
                for n, shape, of in matrices
            ]
        return tuple(stacks)

    def experts_hit(self, tokens: Array) -> Array:
        """Expected distinct experts that so many tokens use under even routing.

        E·(1 - (1 - k/A)ᵗ): each token leaves an expert out with probability 1 - k/A, where A are
        the experts of the whole layer and E those held here.
        """
        E, k = self.num_experts, self.num_experts_per_tok
        among = self.routed_among or E
        if k >= among:
            return np.where(tokens > 0, float(E), 0.0)
        hit: Array = -E * np.expm1(tokens * np.log1p(-k / among))
        return hit

    def cost(self, step: Step) -> Cost:
        """2·(3 or 2)·D·F·k FLOPs a token; weights of the experts hit are read once.

        A rank that holds E of A experts does E/A of that, for the tokens of all groups.

        Shapes: step fields [..., G]; result [...].
        """
        D, F = self.hidden_size, self.moe_intermediate_size
        k = self.num_experts_per_tok * self.num_experts / (self.routed_among or self.num_experts)
        matrices = 3 if self.is_gated else 2
        tokens = step.tokens * self.token_groups
        expert_bytes = self.weights_bytes / self.num_experts
        moved = k * (2 * D + matrices * F) * self.activation_width_bytes
        return Cost(
            matmul_flops=2.0 * matrices * D * F * k * tokens,
            vector_flops=(2.0 * F + 2.0 * D) * k * tokens,
            weight_read_bytes=expert_bytes * self.experts_hit(tokens),
            activation_bytes=moved * tokens,
            launches=float(matrices),
        )
