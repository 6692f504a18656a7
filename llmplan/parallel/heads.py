"""Which heads of a token mixer a rank holds."""

from dataclasses import dataclass
from functools import singledispatch

from llmplan.dtypes import divide_exactly
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.cross_attention import CrossAttention
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear_attention import MatrixStateAttention
from llmplan.ops.reused import Reused
from llmplan.ops.ssm import GatedLinearRecurrence, Mamba1Scan, Mamba2Scan, Rwkv6Recurrence


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of a whole mixer.

    Attributes:
        query: Query heads; value heads of linear attention, heads of a recurrence.
        kv: Key and value heads; key heads or groups likewise. A latent counts as one.
    """

    query: int
    kv: int


@singledispatch
def heads_of(_operator: Operator) -> Heads | None:
    """Heads of an operator; None where it has none to tell apart."""
    return None


@heads_of.register
def _softmax(operator: Attention | CrossAttention) -> Heads:
    return Heads(operator.num_attention_heads, operator.num_key_value_heads)


@heads_of.register
def _latent(operator: LatentAttention | CompressedAttention) -> Heads:
    return Heads(operator.num_attention_heads, 1)


@heads_of.register
def _matrix_state(operator: MatrixStateAttention) -> Heads:
    return Heads(operator.num_value_heads, operator.num_key_heads)


@heads_of.register
def _mamba1(operator: Mamba1Scan) -> Heads | None:
    """Channels without heads are split by number, and need no names."""
    return Heads(operator.num_heads, operator.num_heads) if operator.num_heads > 1 else None


@heads_of.register
def _mamba2(operator: Mamba2Scan) -> Heads:
    return Heads(operator.num_heads, operator.n_groups)


@heads_of.register
def _blocks(operator: GatedLinearRecurrence) -> Heads:
    return Heads(operator.num_blocks, operator.num_blocks)


@heads_of.register
def _rwkv6(operator: Rwkv6Recurrence) -> Heads:
    return Heads(operator.num_heads, operator.num_heads)


@heads_of.register
def _reused(operator: Reused) -> Heads | None:
    return heads_of(operator.used)


def part(units: int, tp: int, index: int) -> range:
    """Units that rank ``index`` of ``tp`` holds: an even run, or one that others hold as well.

    Fewer units than ranks are held in copies by neighbours, as the shard rules have it.
    """
    if units >= tp:
        size = divide_exactly(units, tp, "heads")
        return range(index * size, (index + 1) * size)
    held = index // divide_exactly(tp, units, "ranks")
    return range(held, held + 1)
