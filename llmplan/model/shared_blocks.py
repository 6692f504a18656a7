"""The transformer that several layers share, as operators."""

from dataclasses import replace
from typing import Final

from llmplan.model import spec
from llmplan.model.feed_forward_blocks import mlp
from llmplan.model.frame import Frame, Operators, Width
from llmplan.model.softmax_blocks import attention
from llmplan.ops.norm import Elementwise
from llmplan.ops.precision import Role
from llmplan.ops.reused import Reused

JOINED: Final = 2
"""The attention reads the stream and the output of the input table, side by side."""


def shared_transformer(block: spec.SharedTransformerBlock, frame: Frame) -> Operators:
    """Attention and a network in a row, adapters and an output matrix of the layer's own.

    Source: Glorioso et al. 2024 (Zamba2), figure 2.
    """
    joined = replace(frame, joined=JOINED)
    queries = (
        joined.stream_norm("input_layernorm"),
        *attention(block.attention, joined),
    )
    network = (frame.stream_norm("pre_ff_layernorm"), *mlp(block.mlp, frame))
    shared = (*queries, *network)
    width = Width(frame.hidden_size, "hidden_size")
    return (
        *(map(Reused.of, shared) if frame.is_stored else shared),
        *_attention_adapters(block, joined),
        *_network_adapter(block, frame),
        frame.column("linear", width, Role.ATTENTION),
    )


def _attention_adapters(block: spec.SharedTransformerBlock, joined: Frame) -> Operators:
    if not block.attention_adapters:
        return ()
    H, h = block.attention.num_attention_heads, block.attention.head_dim
    K = block.attention.num_key_value_heads
    query = Width(H * h, "num_attention_heads x head_dim", H)
    keys = Width(K * h, "num_key_value_heads x head_dim", K, may_replicate=True)
    named = (("linear_q_adapter", query), ("linear_k_adapter", keys), ("linear_v_adapter", keys))
    return tuple(op for name, out in named for op in _adapter(name, block, joined, out))


def _network_adapter(block: spec.SharedTransformerBlock, frame: Frame) -> Operators:
    if block.adapter_rank is None:
        return ()
    F = block.mlp.intermediate_size
    branches = 1 + block.mlp.gated
    label = "2 x intermediate_size" if block.mlp.gated else "intermediate_size"
    return _adapter("gate_up_proj_adapter", block, frame, Width(branches * F, label, F))


def _adapter(name: str, block: spec.SharedTransformerBlock, frame: Frame, out: Width) -> Operators:
    """Two thin matrices whose product is added to that of a shared one."""
    rank = block.adapter_rank or 0
    return (
        frame.column(f"{name}.0", Width(rank, "adapter_rank"), Role.ATTENTION),
        frame.between(f"{name}.1", (rank, "adapter_rank"), out, Role.ATTENTION),
        Elementwise(
            f"{name}.sum",
            frame.precision,
            out.size,
            1.0,
            2,
            split_units=out.units,
            may_replicate=out.may_replicate,
        ),
    )
