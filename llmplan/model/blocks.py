"""The blocks of a layer as operators, with the norms around them and the residual sums.

The kinds of block stand in ``softmax_blocks``, ``recurrent_blocks`` and ``feed_forward_blocks``.
"""

from functools import singledispatch

from llmplan.model import spec
from llmplan.model.feed_forward_blocks import channel_mix, mixture_of_experts, mlp
from llmplan.model.frame import Frame, Operators
from llmplan.model.recurrent_blocks import (
    gated_delta_net,
    kimi_delta_attention,
    lightning,
    mamba,
    mamba2,
    rg_lru,
    rwkv6,
)
from llmplan.model.softmax_blocks import attention, latent_attention
from llmplan.ops.norm import Elementwise


def layer_operators(blocks: tuple[spec.BlockSpec, ...], frame: Frame) -> Operators:
    """The blocks of a layer, one after the other or side by side."""
    if frame.norm.placement != "parallel":
        return tuple(operator for block in blocks for operator in _block_operators(block, frame))
    inner = tuple(operator for block in blocks for operator in operators_of(block, frame))
    residual = Elementwise(
        "residual", frame.precision, frame.hidden_size, float(len(blocks)), reads=1 + len(blocks)
    )
    return (frame.stream_norm("pre_norm"), *inner, residual)


def _block_operators(block: spec.BlockSpec, frame: Frame) -> Operators:
    """A block with the norms around it and the residual sum."""
    placement = frame.norm.placement
    before = (frame.stream_norm("pre_norm"),) if placement in ("pre", "sandwich") else ()
    after = (frame.stream_norm("post_norm"),) if placement in ("post", "sandwich") else ()
    residual = Elementwise("residual", frame.precision, frame.hidden_size, 1.0, reads=2)
    return (*before, *operators_of(block, frame), *after, residual)


@singledispatch
def operators_of(block: object, _frame: Frame) -> Operators:
    """The operators of one block, without norms around it; names are the checkpoint's."""
    raise TypeError(f"no operators are registered for {type(block).__name__}")


operators_of.register(spec.AttentionBlock, attention)
operators_of.register(spec.MlaBlock, latent_attention)
operators_of.register(spec.GatedDeltaNetBlock, gated_delta_net)
operators_of.register(spec.KdaBlock, kimi_delta_attention)
operators_of.register(spec.LightningBlock, lightning)
operators_of.register(spec.MambaBlock, mamba)
operators_of.register(spec.Mamba2Block, mamba2)
operators_of.register(spec.RgLruBlock, rg_lru)
operators_of.register(spec.Rwkv6Block, rwkv6)
operators_of.register(spec.MlpBlock, mlp)
operators_of.register(spec.MoeBlock, mixture_of_experts)
operators_of.register(spec.Rwkv6ChannelMixBlock, channel_mix)
