"""Dense networks, mixtures of experts and RWKV's channel mixing as operators."""

from functools import partial
from typing import Final

from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.moe import Experts, ExpertTable, Router
from llmplan.ops.norm import GATE_FLOPS, Elementwise, LearnedActivation, Norm
from llmplan.ops.precision import Role
from llmplan.ops.routed_linear import OutputBias
from llmplan.ops.ssm import TokenShift

ACTIVATION_FLOPS: Final = {
    "silu": 4.0,
    "gelu": 8.0,
    "relu": 1.0,
    "relu2": 2.0,
    "xielu": 6.0,
    "situ": 12.0,
}
"""Vector FLOPs of one activation: exp, add, divide, multiply for silu; the tanh form for gelu;
expm1, subtract, two products, a sum and the choice of branch for xielu; a sigmoid, two scaled
tanh and a product for situ."""
LEARNED_SCALARS: Final = {"xielu": 2}
"""Scalars that an activation stores: alpha_p and alpha_n of xIELU (Huang and Schlag 2024)."""


def channel_mix(block: spec.Rwkv6ChannelMixBlock, frame: Frame) -> Operators:
    """RWKV-6 channel mixing."""
    F, D = block.intermediate_size, frame.hidden_size
    width = Width(F, "intermediate_size", F)
    return (
        TokenShift("token_shift", frame.precision, D, 2),
        frame.column("key", width, Role.FFN),
        Elementwise("activation", frame.precision, F, ACTIVATION_FLOPS["relu2"], split_units=F),
        frame.row("value", width, Role.FFN),
        frame.column("receptance", Width(D, "hidden_size"), Role.FFN),
        Elementwise("gate", frame.precision, D, GATE_FLOPS, 2),
    )


def mlp(block: spec.MlpBlock, frame: Frame) -> Operators:
    """A dense feed-forward network."""
    width = Width(block.intermediate_size, "intermediate_size", block.intermediate_size)
    operators = _feed_forward(block, frame, width, Role.FFN, bias=block.mlp_bias)
    if not block.inner_norm:
        return operators
    norm = Norm("ffn_sub_norm", frame.precision, width.size, label=width.label)
    return (*operators[:-1], norm, operators[-1])


def _feed_forward(
    block: spec.MlpBlock | spec.MoeBlock,
    frame: Frame,
    width: Width,
    role: Role,
    *,
    bias: bool,
) -> Operators:
    """Gate (where gated), up, activation and down of a dense or shared network."""
    prefix = "shared_experts." if role is Role.SHARED_EXPERTS else ""
    flops = ACTIVATION_FLOPS[block.hidden_act] + block.gated
    scalars = LEARNED_SCALARS.get(block.hidden_act, 0)
    activation = partial(LearnedActivation, scalars=scalars) if scalars else Elementwise
    gate = (frame.column(f"{prefix}gate_proj", width, role, bias=bias),) if block.gated else ()
    return (
        *gate,
        frame.column(f"{prefix}up_proj", width, role, bias=bias),
        activation(
            f"{prefix}activation",
            frame.precision,
            width.size,
            flops,
            1 + block.gated,
            split_units=width.units,
        ),
        frame.row(f"{prefix}down_proj", width, role, bias=bias),
    )


def mixture_of_experts(block: spec.MoeBlock, frame: Frame) -> Operators:
    """Router, routed experts and shared experts."""
    D, E = frame.hidden_size, block.num_experts
    idle = block.zero_expert_num or 0
    into, out_of = _latent_projections(block, frame)
    return (
        Router(
            "router",
            frame.precision,
            D,
            E + idle,
            has_bias=block.router_bias,
            has_correction_bias=block.e_score_correction_bias,
            has_scales=block.router_scales,
            label="num_experts + zero_expert_num" if idle else "num_experts",
        ),
        *_expert_table(block, frame),
        *into,
        Experts(
            "experts",
            frame.precision,
            block.moe_latent_size or D,
            block.moe_intermediate_size,
            E,
            block.num_experts_per_tok,
            is_gated=block.gated,
            has_bias=block.expert_bias,
            routed_among=E + idle if idle else 0,
            label="moe_latent_size" if block.moe_latent_size else "hidden_size",
        ),
        *out_of,
        *_shared_experts(block, frame),
        *((frame.stream_norm("post_mlp_layernorm"),) * block.output_norm),
        *((OutputBias("bias", frame.precision, D, 1.0),) * block.output_bias),
    )


def _expert_table(block: spec.MoeBlock, frame: Frame) -> Operators:
    if block.expert_table_rows is None:
        return ()
    rows, k = block.expert_table_rows, block.num_experts_per_tok
    return (ExpertTable("expert_table", frame.precision, rows, k),)


def _latent_projections(block: spec.MoeBlock, frame: Frame) -> tuple[Operators, Operators]:
    """From the stream to the width of the routed experts, and back."""
    if block.moe_latent_size is None:
        return (), ()
    latent = (block.moe_latent_size, "moe_latent_size")
    norm = (
        (Norm("latent_norm", frame.precision, latent[0], label=latent[1]),)
        if block.moe_latent_norm
        else ()
    )
    stream = Width(frame.hidden_size, "hidden_size")
    return (
        (frame.column("fc1_latent_proj", Width(*latent), Role.FFN),),
        (*norm, frame.between("fc2_latent_proj", latent, stream, Role.FFN)),
    )


def _shared_experts(block: spec.MoeBlock, frame: Frame) -> Operators:
    if block.shared_expert_intermediate_size:
        size, label = block.shared_expert_intermediate_size, "shared_expert_intermediate_size"
    elif block.n_shared_experts:
        size = block.n_shared_experts * block.moe_intermediate_size
        label = "n_shared_experts x moe_intermediate_size"
    else:
        return ()
    gate = frame.column("shared_expert_gate", Width(1, "1"), Role.ROUTER)
    network = _feed_forward(block, frame, Width(size, label, size), Role.SHARED_EXPERTS, bias=False)
    return (*network, gate) if block.shared_expert_gate else network
