"""Attention with a matrix state of fixed size: lightning, gated delta net, Kimi delta attention.

Symbols: H value heads, d_k and d_v key and value head sizes, C chunk length. Each head keeps a
d_k x d_v matrix. *Recurrent* realisations update it token by token (decode); *chunked* ones turn a
chunk of C tokens into dense products (prefill).
"""

from dataclasses import dataclass, field

from llmplan.ops.base import Array, Cost, Operator, State, StateKind, Step, Weight
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class MatrixStateAttention(Operator):
    """What all share: a matrix a head, read and written once a request and step.

    Attributes:
        num_key_heads: Heads of queries and keys.
        num_value_heads: Heads of values and of the state (H).
        key_head_dim: d_k.
        value_head_dim: d_v.
        labels: Origin of (H, d_k, d_v) in words of the spec's keys.
    """

    num_key_heads: int
    num_value_heads: int
    key_head_dim: int
    value_head_dim: int
    labels: tuple[str, str, str] = field(
        default=("num_attention_heads", "head_dim", "head_dim"), compare=False, kw_only=True
    )

    @property
    def state_width(self) -> int:
        """Elements of the state of one request."""
        return self.num_value_heads * self.key_head_dim * self.value_head_dim

    @property
    def states(self) -> tuple[State, ...]:
        """The matrices of all heads."""
        formula = " x ".join(self.labels)
        return (State(StateKind.RECURRENT, self.state_width, self.precision.recurrent, formula),)

    def token_flops(self) -> float:
        """FLOPs of one token in dense products."""
        raise NotImplementedError

    def cost(self, step: Step) -> Cost:
        """``token_flops`` a token, the decay once a state element and token.

        Shapes: step fields [..., G]; result [...].
        """
        state_bytes = self.state_width * self.precision.recurrent.bits_per_weight / 8
        width = 2 * self.num_key_heads * self.key_head_dim
        width += 2 * self.num_value_heads * self.value_head_dim
        return Cost(
            attention_flops=self.token_flops() * step.tokens,
            vector_flops=self.decay_flops(step.tokens),
            weight_read_bytes=float(self.weights_bytes),
            state_read_bytes=state_bytes * step.sequences,
            state_written_bytes=state_bytes * step.sequences,
            activation_bytes=width * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )

    def decay_flops(self, tokens: Array) -> Array:
        """One multiplication a state element and token."""
        return float(self.state_width) * tokens


@dataclass(frozen=True, slots=True)
class LightningAttention(MatrixStateAttention):
    """S ← λS + kᵀv, o = qS. Source: MiniMax 2025 (MiniMax-01)."""

    def token_flops(self) -> float:
        """4·d_k·d_v a head: the outer product and the product with the query."""
        return 4.0 * self.state_width


@dataclass(frozen=True, slots=True)
class ChunkedLightningAttention(LightningAttention):
    """Lightning attention by chunks: scores inside a chunk, the state between chunks.

    Attributes:
        chunk_size: C.
    """

    chunk_size: int = 256

    def token_flops(self) -> float:
        """4·d_k·d_v + 2·C·(d_k + d_v) a head; a chunk is computed as a full square."""
        inside = 2.0 * self.chunk_size * (self.key_head_dim + self.value_head_dim)
        return 4.0 * self.state_width + self.num_value_heads * inside


@dataclass(frozen=True, slots=True)
class MatrixLstm(MatrixStateAttention):
    """C ← fC + i·kvᵀ, n ← fn + i·k, o = qC / max(|q·n|, e⁻ᵐ): the mLSTM of xLSTM.

    Beside the matrix C a head keeps a vector n of d_k and the running maximum m of its gates.

    Source: Beck et al. 2025 (xLSTM 7B); transformers' mlstm_recurrent_step_native.
    """

    @property
    def state_width(self) -> int:
        """C, n and m of all heads."""
        d_k, d_v = self.key_head_dim, self.value_head_dim
        return self.num_value_heads * (d_k * d_v + d_k + 1)

    @property
    def states(self) -> tuple[State, ...]:
        """The same as one state."""
        heads, d_k, d_v = self.labels
        formula = f"{heads} x ({d_k} x {d_v} + {d_k} + 1)"
        return (State(StateKind.RECURRENT, self.state_width, self.precision.recurrent, formula),)

    def token_flops(self) -> float:
        """4·d_k·d_v + 2·d_k a head: the outer product, and the query with C and with n."""
        d_k, d_v = self.key_head_dim, self.value_head_dim
        return self.num_value_heads * (4.0 * d_k * d_v + 2.0 * d_k)


@dataclass(frozen=True, slots=True)
class DeltaRule(MatrixStateAttention):
    """S ← αS; S ← S + βkᵀ(v - kS); o = qS: gated delta net, and KDA with a decay per channel.

    Attributes:
        decay_per_channel: α is a vector of d_k a head (KDA) instead of a scalar (gated delta net).

    Source: Yang et al. 2024 (Gated Delta Networks); Kimi Team 2025 (Kimi Linear).
    """

    decay_per_channel: bool = False

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Decay rate a head, and its bias a head or a channel."""
        heads = self.num_value_heads
        bias = heads * self.key_head_dim if self.decay_per_channel else heads
        heads_label, channels_label, _ = self.labels
        channel = f"{heads_label} x {channels_label}" if self.decay_per_channel else heads_label
        return (
            Weight("A_log", (heads,), Role.STATE, (heads_label,)),
            Weight("dt_bias", (bias,), Role.STATE, (channel,)),
        )

    def token_flops(self) -> float:
        """6·d_k·d_v a head: recall kS, outer product, product with the query."""
        return 6.0 * self.state_width


@dataclass(frozen=True, slots=True)
class ChunkedDeltaRule(DeltaRule):
    """The delta rule by chunks (WY representation).

    Attributes:
        chunk_size: C.
    """

    chunk_size: int = 64

    def token_flops(self) -> float:
        """6·d_k·d_v + 2·C·(3·d_k + 2·d_v) a head.

        In a chunk: βk·kᵀ, T·(βk), q·kᵀ are C x C x d_k, T·(βv) and scores·v are C x C x d_v. The
        triangular solve that forms T is vector work and not counted.
        """
        inside = 2.0 * self.chunk_size * (3 * self.key_head_dim + 2 * self.value_head_dim)
        return 6.0 * self.state_width + self.num_value_heads * inside
