"""The blocks of a layer as operators, with the norms around them and the residual sums.

The kinds of block stand in ``softmax_blocks``, ``recurrent_blocks`` and ``feed_forward_blocks``.
"""

from dataclasses import replace
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
    short_convolution,
)
from llmplan.model.softmax_blocks import attention, latent_attention
from llmplan.ops.norm import Elementwise

Branches = tuple[tuple[str, spec.BlockSpec], ...]
"""Names and blocks that run side by side; in most layers one alone."""


def layer_operators(blocks: tuple[Branches, ...], frame: Frame) -> Operators:
    """The blocks of a layer, one after the other or side by side."""
    if frame.norm.placement in ("parallel", "parallel_pre"):
        blocks = (tuple(block for branches in blocks for block in branches),)
    return tuple(operator for branches in blocks for operator in _branch_operators(branches, frame))


def _branch_operators(branches: Branches, frame: Frame) -> Operators:
    """Blocks side by side with the norms around them and the residual sum."""
    placement = frame.norm.placement
    norm = (frame.stream_norm("pre_norm"),)
    own = norm if placement == "parallel_pre" else ()
    before = norm if placement not in ("post", "parallel_pre") else ()
    after = (frame.stream_norm("post_norm"),) if placement in ("post", "sandwich") else ()
    inner = tuple(op for named in branches for op in (*own, *_named_operators(*named, frame)))
    sums = len(branches)
    residual = Elementwise(
        "residual", frame.precision, frame.hidden_size, float(sums), reads=1 + sums
    )
    return (*before, *inner, *after, residual)


def _named_operators(name: str, block: spec.BlockSpec, frame: Frame) -> Operators:
    """The operators of a block, each with the name of the block that states it."""
    return tuple(replace(operator, block=name) for operator in operators_of(block, frame))


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
operators_of.register(spec.ShortConvolutionBlock, short_convolution)
operators_of.register(spec.RgLruBlock, rg_lru)
operators_of.register(spec.Rwkv6Block, rwkv6)
operators_of.register(spec.MlpBlock, mlp)
operators_of.register(spec.MoeBlock, mixture_of_experts)
operators_of.register(spec.Rwkv6ChannelMixBlock, channel_mix)
