"""State-space and recurrent mixers: Mamba 1 and 2, RG-LRU, RWKV-6.

Scan FLOPs are elementwise work on the state; they are reported apart from matmuls.
"""

from dataclasses import dataclass
from typing import Final

from llmplan.dtypes import divide_exactly
from llmplan.ops.base import Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.precision import Role

MAMBA1_FLOPS_PER_STATE: Final = 7.0
"""dt·A and exp (2), (dt·x)·B (1), a·h + b (2), h·C (2). Source: Gu & Dao 2023."""
MAMBA2_FLOPS_PER_STATE: Final = 5.0
"""(dt·x)·B (1), a·h + b (2), h·C (2); a is one scalar a head. Source: Dao & Gu 2024."""
RG_LRU_FLOPS_PER_CHANNEL: Final = 12.0
"""Sigmoids (4), a^(c·r) (3), √(1 - a²) (3), a·h + gated x (2). Source: De et al. 2024."""
RWKV6_FLOPS_PER_STATE: Final = 6.0
"""k·v (1), u·kv + S (2), r·(…) summed (2), w·S (1). Source: Peng et al. 2024."""


@dataclass(frozen=True, slots=True)
class RecurrentScan(Operator):
    """What all share: a state that each step reads and writes once a request."""

    @property
    def state_width(self) -> int:
        """Elements of the recurrent state of one request."""
        raise NotImplementedError

    @property
    def state_formula(self) -> str:
        """``state_width`` in words of the spec's keys."""
        raise NotImplementedError

    @property
    def token_width(self) -> int:
        """Elements read and written per token."""
        raise NotImplementedError

    def token_scan_flops(self) -> float:
        """Scan FLOPs of one token."""
        raise NotImplementedError

    def token_matmul_flops(self) -> float:
        """Matmul FLOPs of one token inside the operator."""
        return 0.0

    @property
    def states(self) -> tuple[State, ...]:
        """The recurrent state."""
        fmt = self.precision.recurrent
        return (State(StateKind.RECURRENT, self.state_width, fmt, self.state_formula),)

    def cost(self, step: Step) -> Cost:
        """Scan FLOPs a token; the state is read and written once a request and step.

        Shapes: step fields [..., G]; result [...].
        """
        state_bytes = self.state_width * self.precision.recurrent.bits_per_weight / 8
        return Cost(
            matmul_flops=self.token_matmul_flops() * step.tokens,
            scan_flops=self.token_scan_flops() * step.tokens,
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=state_bytes * step.sequences,
            state_written_bytes=state_bytes * step.sequences,
            activation_bytes=self.token_width * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class Mamba1Scan(RecurrentScan):
    """Selective scan of Mamba: every channel has its own ``state_size`` numbers.

    Attributes:
        intermediate_size: Inner width (channels).
        state_size: State numbers a channel.
        num_heads: Heads of channels, each with its own B and C.
    """

    intermediate_size: int
    state_size: int
    num_heads: int = 1

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Decay matrix and skip."""
        channels = self.intermediate_size
        labels = ("intermediate_size", "state_size")
        return (
            Weight("A_log", (channels, self.state_size), Role.STATE, labels),
            Weight("D", (channels,), Role.STATE, labels[:1]),
        )

    @property
    def state_width(self) -> int:
        """Channels times state size."""
        return self.intermediate_size * self.state_size

    @property
    def state_formula(self) -> str:
        """In words."""
        return "intermediate_size x state_size"

    @property
    def token_width(self) -> int:
        """x, dt, z and y by channel; B and C by head."""
        return 4 * self.intermediate_size + 2 * self.num_heads * self.state_size

    def token_scan_flops(self) -> float:
        """Seven a state number."""
        return MAMBA1_FLOPS_PER_STATE * self.state_width


@dataclass(frozen=True, slots=True)
class Mamba2Scan(RecurrentScan):
    """State-space dual layer of Mamba-2: one decay a head.

    Attributes:
        num_heads: Heads.
        head_dim: Channels a head.
        n_groups: Groups that share B and C.
        state_size: State numbers a channel.
    """

    num_heads: int
    head_dim: int
    n_groups: int
    state_size: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Decay, step bias and skip of each head."""
        return tuple(
            Weight(name, (self.num_heads,), Role.STATE, ("num_heads",))
            for name in ("A_log", "dt_bias", "D")
        )

    @property
    def state_width(self) -> int:
        """Heads times head size times state size."""
        return self.num_heads * self.head_dim * self.state_size

    @property
    def state_formula(self) -> str:
        """In words."""
        return "num_heads x head_dim x state_size"

    @property
    def token_width(self) -> int:
        """X and y by channel, dt by head, B and C by group."""
        return (2 * self.head_dim + 1) * self.num_heads + 2 * self.n_groups * self.state_size

    def token_scan_flops(self) -> float:
        """Five a state number."""
        return MAMBA2_FLOPS_PER_STATE * self.state_width


@dataclass(frozen=True, slots=True)
class GatedLinearRecurrence(RecurrentScan):
    """RG-LRU: a diagonal recurrence with block-diagonal input and recurrence gates.

    Attributes:
        lru_width: Channels.
        num_blocks: Blocks of the gate matrices (attention heads of the model).
    """

    lru_width: int
    num_blocks: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Two block-diagonal gates with biases, and the decay of each channel."""
        block = divide_exactly(self.lru_width, self.num_blocks)
        matrix = (self.num_blocks, block, block)
        block_label = "lru_width / num_attention_heads"
        labels = ("num_attention_heads", block_label, block_label)
        gates = tuple(
            weight
            for gate in ("input_gate", "recurrent_gate")
            for weight in (
                Weight(f"{gate}_weight", matrix, Role.STATE, labels),
                Weight(f"{gate}_bias", matrix[:2], Role.STATE, labels[:2]),
            )
        )
        return (*gates, Weight("recurrent_param", (self.lru_width,), Role.STATE, ("lru_width",)))

    @property
    def state_width(self) -> int:
        """One number a channel."""
        return self.lru_width

    @property
    def state_formula(self) -> str:
        """In words."""
        return "lru_width"

    @property
    def token_width(self) -> int:
        """x, both gates and y."""
        return 4 * self.lru_width

    def token_scan_flops(self) -> float:
        """Twelve a channel."""
        return RG_LRU_FLOPS_PER_CHANNEL * self.lru_width

    def token_matmul_flops(self) -> float:
        """Two block-diagonal products: 2 · 2 · width · block."""
        return 4.0 * self.lru_width * self.lru_width / self.num_blocks


@dataclass(frozen=True, slots=True)
class Rwkv6Recurrence(RecurrentScan):
    """WKV of RWKV-6: a head_size x head_size matrix a head with a data-dependent decay.

    Attributes:
        num_heads: Heads.
        head_dim: Width of a head.
    """

    num_heads: int
    head_dim: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The bonus of the current token."""
        shape = (self.num_heads, self.head_dim)
        return (Weight("bonus", shape, Role.STATE, ("num_heads", "head_dim")),)

    @property
    def state_width(self) -> int:
        """Heads times head size squared."""
        return self.num_heads * self.head_dim * self.head_dim

    @property
    def state_formula(self) -> str:
        """In words."""
        return "num_heads x head_dim x head_dim"

    @property
    def token_width(self) -> int:
        """r, k, v, w and the output."""
        return 5 * self.num_heads * self.head_dim

    def token_scan_flops(self) -> float:
        """Six a state number."""
        return RWKV6_FLOPS_PER_STATE * self.state_width


@dataclass(frozen=True, slots=True)
class TokenShift(Operator):
    """RWKV's mix of a token with the one before it; the request keeps that one vector.

    Attributes:
        width: Vector width.
        mixes: Learned mixing vectors.
    """

    width: int
    mixes: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """One mixing vector a use."""
        labels = ("mixes", "hidden_size")
        return (Weight("mu", (self.mixes, self.width), Role.STATE, labels),)

    @property
    def states(self) -> tuple[State, ...]:
        """The last token's vector."""
        fmt = self.precision.convolution_columns
        return (State(StateKind.CONVOLUTION, self.width, fmt, "hidden_size"),)

    def cost(self, step: Step) -> Cost:
        """Difference once, then one multiply-add a mix."""
        state_bytes = self.width * self.precision.convolution_columns.bits_per_weight / 8
        moved = (2 + self.mixes) * self.width * self.activation_width_bytes
        return Cost(
            vector_flops=(1.0 + 2.0 * self.mixes) * self.width * step.tokens,
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=state_bytes * step.sequences,
            state_written_bytes=state_bytes * step.sequences,
            activation_bytes=moved * step.tokens,
            launches=1.0,
        )
