"""Operators as a counter sees them that ignores masks.

Counters that hook tensor operations (torch's ``FlopCounterMode``, fvcore) cannot see which scores a
causal mask throws away: they count every new token against every key at hand.
"""

from dataclasses import replace
from functools import singledispatch

from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Operator
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.latent import LatentAttention
from llmplan.ops.reused import Reused
from llmplan.ops.sparse import Indexer


@singledispatch
def as_full_square(operator: Operator) -> Operator:
    """The operator with the full square of its mask counted; only ``cost`` changes.

    A window still limits the keys at hand, because a window cache holds no more.
    """
    return operator


@as_full_square.register(Attention)
@as_full_square.register(LatentAttention)
@as_full_square.register(CompressedAttention)
@as_full_square.register(Indexer)
def _unmasked(
    operator: Attention | LatentAttention | CompressedAttention | Indexer,
) -> Operator:
    return replace(operator, mask=Mask.FULL)


@as_full_square.register
def _reused(operator: Reused) -> Operator:
    return replace(operator, operator=as_full_square(operator.operator))
