"""The blocks of a layer as operators, with the norms around them and the residual sums.

The kinds of block stand in ``softmax_blocks``, ``recurrent_blocks`` and ``feed_forward_blocks``.
"""

from dataclasses import replace
from functools import singledispatch

from llmplan.model import spec
from llmplan.model.compressed_blocks import compressed_attention
from llmplan.model.cross_blocks import cross_attention, output_scale
from llmplan.model.feed_forward_blocks import channel_mix, mixture_of_experts, mlp
from llmplan.model.frame import Frame, Operators
from llmplan.model.per_layer_inputs import own_input
from llmplan.model.recurrent_blocks import (
    gated_delta_net,
    kimi_delta_attention,
    lightning,
    mamba,
    mamba2,
    mlstm,
    rg_lru,
    rwkv6,
    short_convolution,
)
from llmplan.model.shared_blocks import shared_transformer
from llmplan.model.softmax_blocks import attention, latent_attention
from llmplan.ops.hyper import HyperConnection
from llmplan.ops.norm import Elementwise, StoredScale
from llmplan.ops.residual import AttentionResidual

Branches = tuple[tuple[str, spec.BlockSpec], ...]
"""Names and blocks that run side by side; in most layers one alone."""


def layer_operators(blocks: tuple[Branches, ...], frame: Frame) -> Operators:
    """The blocks of a layer, one after the other or side by side; none in an empty layer."""
    if blocks and frame.norm.placement in ("parallel", "parallel_pre"):
        blocks = (tuple(block for branches in blocks for block in branches),)
    inside = (operator for branches in blocks for operator in _branch_operators(branches, frame))
    return (*inside, *own_input(frame), *_layer_scalar(frame))


def _layer_scalar(frame: Frame) -> Operators:
    if not frame.layer_scalar:
        return ()
    return (StoredScale("layer_scalar", frame.precision, frame.hidden_size, 1.0),)


def _branch_operators(branches: Branches, frame: Frame) -> Operators:
    """Blocks side by side with the norms around them and the residual sum."""
    placement = frame.norm.placement
    norm = (frame.stream_norm("pre_norm"),)
    has_own = any(isinstance(block, spec.SharedTransformerBlock) for _, block in branches)
    before = () if has_own or placement in ("post", "parallel_pre") else norm
    after = (frame.stream_norm("post_norm"),) if placement in ("post", "sandwich") else ()
    inner = tuple(
        operator
        for index, named in enumerate(branches)
        for operator in _normed_branch(named, frame, is_first=not index, is_alone=len(branches) < 2)
    )
    return (*_into_the_block(frame), *before, *inner, *after, _residual(frame, len(branches)))


def _normed_branch(
    named: tuple[str, spec.BlockSpec], frame: Frame, *, is_first: bool, is_alone: bool
) -> Operators:
    """A block with the norms that only its own branch has."""
    has_own = frame.norm.branch_norms and not is_alone
    before = frame.norm.placement == "parallel_pre" or (has_own and not is_first)
    return (
        *((frame.stream_norm("pre_norm"),) * before),
        *_named_operators(*named, frame),
        *((frame.stream_norm("branch_norm"),) * has_own),
    )


def _into_the_block(frame: Frame) -> Operators:
    """The weighted sum of streams, or of earlier sums of the one stream, that it works on."""
    if frame.residual_sums:
        sums, width = frame.residual_sums, frame.hidden_size
        return (AttentionResidual("attention_residual", frame.precision, width, sums),)
    if frame.streams == 1:
        return ()
    name, precision = "hyper_connection", frame.precision
    width, mixes = frame.hidden_size, frame.mixes_streams
    return (HyperConnection(name, precision, frame.streams, width, mixes=mixes),)


def _residual(frame: Frame, branches: int) -> Elementwise:
    """The sum of the stream and its branches; several streams are mixed with each other first."""
    name, precision = "residual", frame.precision
    if frame.streams == 1:
        flops, reads = float(branches), 1 + branches
        return Elementwise(name, precision, frame.hidden_size, flops, reads=reads)
    flops = 2.0 * (frame.streams * frame.mixes_streams + branches)
    return Elementwise(name, precision, frame.streams * frame.hidden_size, flops, reads=2)


def _named_operators(name: str, block: spec.BlockSpec, frame: Frame) -> Operators:
    """The operators of a block, each with the name of the block that states it."""
    inside = replace(frame, is_stored=name in frame.stored)
    operators = (*operators_of(block, inside), *output_scale(block, frame))
    return tuple(replace(operator, block=name) for operator in operators)


@singledispatch
def operators_of(block: object, _frame: Frame) -> Operators:
    """The operators of one block, without norms around it; names are the checkpoint's."""
    raise TypeError(f"no operators are registered for {type(block).__name__}")


operators_of.register(spec.AttentionBlock, attention)
operators_of.register(spec.CrossAttentionBlock, cross_attention)
operators_of.register(spec.MlaBlock, latent_attention)
operators_of.register(spec.CompressedAttentionBlock, compressed_attention)
operators_of.register(spec.GatedDeltaNetBlock, gated_delta_net)
operators_of.register(spec.KdaBlock, kimi_delta_attention)
operators_of.register(spec.LightningBlock, lightning)
operators_of.register(spec.MatrixLstmBlock, mlstm)
operators_of.register(spec.MambaBlock, mamba)
operators_of.register(spec.Mamba2Block, mamba2)
operators_of.register(spec.ShortConvolutionBlock, short_convolution)
operators_of.register(spec.RgLruBlock, rg_lru)
operators_of.register(spec.Rwkv6Block, rwkv6)
operators_of.register(spec.MlpBlock, mlp)
operators_of.register(spec.MoeBlock, mixture_of_experts)
operators_of.register(spec.Rwkv6ChannelMixBlock, channel_mix)
operators_of.register(spec.SharedTransformerBlock, shared_transformer)
