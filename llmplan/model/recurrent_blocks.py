"""Linear attention, state-space and recurrent mixers as operators."""

from llmplan.dtypes import divide_exactly
from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.linear import GroupedLinear, Linear, Split
from llmplan.ops.linear_attention import DeltaRule, LightningAttention, MatrixLstm
from llmplan.ops.norm import GATE_FLOPS, GELU_GATE_FLOPS, ROTARY_FLOPS, Elementwise, Norm, NormKind
from llmplan.ops.precision import Role
from llmplan.ops.ssm import (
    GatedLinearRecurrence,
    Mamba1Scan,
    Mamba2Scan,
    Rwkv6Recurrence,
    TokenShift,
)


def gated_delta_net(block: spec.GatedDeltaNetBlock, frame: Frame) -> Operators:
    """Gated delta net; every width follows the key heads, as the checkpoint packs it."""
    Hk, Hv = block.linear_num_key_heads, block.linear_num_value_heads
    d_k, d_v = block.linear_key_head_dim, block.linear_value_head_dim
    precision = frame.precision
    keys = "linear_num_key_heads x linear_key_head_dim"
    values = "linear_num_value_heads x linear_value_head_dim"
    inner = Width(2 * Hk * d_k + 2 * Hv * d_v, f"2 x ({keys} + {values})", Hk)
    channels = 2 * Hk * d_k + Hv * d_v
    output = Width(Hv * d_v, values, Hk)
    gates = Width(2 * Hv, "2 x linear_num_value_heads", Hk)
    return (
        frame.column("in_proj_qkvz", inner, Role.ATTENTION),
        frame.column("in_proj_ba", gates, Role.STATE),
        ShortConvolution(
            "conv1d",
            precision,
            channels,
            block.linear_conv_kernel_dim,
            has_bias=False,
            split_units=Hk,
            labels=(f"2 x {keys} + {values}", "linear_conv_kernel_dim"),
        ),
        DeltaRule(
            "delta_rule",
            precision,
            Hk,
            Hv,
            d_k,
            d_v,
            labels=("linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
        ),
        Norm("norm", precision, d_v, Hv, label="linear_value_head_dim"),
        Elementwise("gate", precision, Hv * d_v, GATE_FLOPS, 2, split_units=Hk),
        frame.row("out_proj", output, Role.ATTENTION),
    )


def kimi_delta_attention(block: spec.KdaBlock, frame: Frame) -> Operators:
    """Kimi delta attention."""
    H, h = block.num_heads, block.head_dim
    precision = frame.precision
    heads = Width(H * h, "num_heads x head_dim", H)
    return (
        *(frame.column(f"{name}_proj", heads, Role.ATTENTION) for name in "qkv"),
        *(
            ShortConvolution(
                f"{name}_conv1d",
                precision,
                H * h,
                block.short_conv_kernel_size,
                has_bias=False,
                split_units=H,
                labels=(heads.label, "short_conv_kernel_size"),
            )
            for name in "qkv"
        ),
        *_kda_gate("f", block, frame),
        frame.column("b_proj", Width(H, "num_heads", H), Role.STATE),
        DeltaRule(
            "delta_rule",
            precision,
            H,
            H,
            h,
            h,
            decay_per_channel=True,
            labels=("num_heads", "head_dim", "head_dim"),
        ),
        *_kda_gate("g", block, frame),
        Norm("o_norm", precision, h, H, label="head_dim"),
        Elementwise("gate", precision, H * h, GATE_FLOPS, 2, split_units=H),
        frame.row("o_proj", heads, Role.ATTENTION),
    )


def _kda_gate(name: str, block: spec.KdaBlock, frame: Frame) -> Operators:
    """Projection of the decay or of the output gate, in two steps or in one."""
    H, h = block.num_heads, block.head_dim
    heads, rank = Width(H * h, "num_heads x head_dim", H), (h, "head_dim")
    if not block.low_rank_gates or (name == "g" and block.full_rank_output_gate):
        return (frame.column(f"{name}_proj", heads, Role.ATTENTION),)
    return (
        frame.column(f"{name}_a_proj", Width(*rank), Role.STATE),
        frame.between(f"{name}_b_proj", rank, heads, Role.STATE),
    )


def lightning(block: spec.LightningBlock, frame: Frame) -> Operators:
    """Lightning attention with its gate and norm."""
    H, h = block.num_attention_heads, block.head_dim
    precision = frame.precision
    heads = Width(H * h, "num_attention_heads x head_dim", H)
    return (
        frame.column("qkv_proj", Width(3 * H * h, f"3 x {heads.label}", H), Role.ATTENTION),
        *(
            Norm(name, precision, h, H, label="head_dim")
            for name in ("q_norm", "k_norm")
            if block.qk_norm == "head"
        ),
        *(
            Elementwise(name, precision, H * block.rotary_dim, ROTARY_FLOPS, split_units=H)
            for name in ("rotary_q", "rotary_k")
            if block.rotary_dim
        ),
        LightningAttention("lightning", precision, H, H, h, h),
        frame.column("output_gate", heads, Role.ATTENTION),
        Norm("norm", precision, H * h, label=heads.label),
        Elementwise("gate", precision, H * h, GATE_FLOPS, 2, split_units=H),
        frame.row("out_proj", heads, Role.ATTENTION),
    )


def mlstm(block: spec.MatrixLstmBlock, frame: Frame) -> Operators:
    """The recurrence of xLSTM with its gates and norm."""
    H, d_k, d_v, precision = block.num_heads, block.qk_head_dim, block.v_head_dim, frame.precision
    keys, values = Width(H * d_k, "num_heads x qk_head_dim", H), _mlstm_values(block)
    return (
        *(frame.column(name, keys, Role.ATTENTION) for name in ("q", "k")),
        *(frame.column(name, values, Role.ATTENTION) for name in ("v", "ogate_preact")),
        *(
            frame.column(name, Width(H, "num_heads", H), Role.STATE, bias=True)
            for name in ("igate_preact", "fgate_preact")
        ),
        MatrixLstm(
            "mlstm", precision, H, H, d_k, d_v, labels=("num_heads", "qk_head_dim", "v_head_dim")
        ),
        Norm(
            "multihead_norm",
            precision,
            d_v,
            H,
            NormKind.LAYER,
            weight_width=H * d_v,
            label=values.label,
        ),
        Elementwise("gate", precision, H * d_v, GATE_FLOPS, 2, split_units=H),
        frame.row("out_proj", values, Role.ATTENTION),
    )


def _mlstm_values(block: spec.MatrixLstmBlock) -> Width:
    heads = block.num_heads
    return Width(heads * block.v_head_dim, "num_heads x v_head_dim", heads)


def mamba(block: spec.MambaBlock, frame: Frame) -> Operators:
    """Mamba, with the inner norms of Jamba where asked for."""
    inner, state, rank = block.intermediate_size, block.state_size, block.time_step_rank
    precision = frame.precision
    channels = Width(inner, "intermediate_size", inner)
    both = Width(2 * inner, "2 x intermediate_size", inner)
    norms = (
        ("dt_layernorm", rank, "time_step_rank"),
        ("b_layernorm", state, "state_size"),
        ("c_layernorm", state, "state_size"),
    )
    return (
        frame.column("in_proj", both, Role.ATTENTION, bias=block.use_bias),
        ShortConvolution(
            "conv1d",
            precision,
            inner,
            block.conv_kernel,
            has_bias=block.use_conv_bias,
            split_units=inner,
            labels=(channels.label, "conv_kernel"),
        ),
        _mamba_inputs(block, frame),
        *(
            Norm(name, precision, width, has_weight=block.inner_norm_weights, label=of)
            for name, width, of in norms
            if block.inner_norms
        ),
        _mamba_step_size(block, frame),
        Mamba1Scan("scan", precision, inner, state, block.num_heads),
        frame.row("out_proj", channels, Role.ATTENTION, bias=block.use_bias),
    )


def _mamba_inputs(block: spec.MambaBlock, frame: Frame) -> Linear:
    """From the channels to step size, B and C: once, or by each head from its own channels."""
    inner, heads = block.intermediate_size, block.num_heads
    out = block.time_step_rank + 2 * block.state_size
    label, channels = "time_step_rank + 2 x state_size", "intermediate_size"
    if heads == 1:
        return Linear(
            "x_proj",
            frame.precision,
            inner,
            out,
            Role.ATTENTION,
            split=Split.ROW,
            split_units=inner,
            labels=(label, channels),
        )
    return GroupedLinear(
        "x_proj",
        frame.precision,
        divide_exactly(inner, heads),
        heads * out,
        Role.ATTENTION,
        split=Split.COLUMN,
        split_units=heads,
        labels=(f"num_heads x ({label})", f"{channels} / num_heads"),
    )


def _mamba_step_size(block: spec.MambaBlock, frame: Frame) -> Linear:
    """From the rank of the step size to the channels; heads stay apart."""
    rank, inner, heads = block.time_step_rank, block.intermediate_size, block.num_heads
    grouped = heads > 1
    return (GroupedLinear if grouped else Linear)(
        "dt_proj",
        frame.precision,
        rank,
        inner,
        Role.ATTENTION,
        has_bias=True,
        split=Split.COLUMN,
        split_units=heads if grouped else inner,
        labels=("intermediate_size", "time_step_rank"),
    )


def mamba2(block: spec.Mamba2Block, frame: Frame) -> Operators:
    """The published ``in_proj`` and ``conv1d``, apart by heads and groups, which split apart."""
    H, G = block.num_heads, block.n_groups
    inner, shared = H * block.head_dim, 2 * G * block.state_size
    precision, bias = frame.precision, block.use_bias
    zxdt = Width(2 * inner + H, "2 x num_heads x head_dim + num_heads", H)
    bc = Width(shared, "2 x n_groups x state_size", G, may_replicate=True)
    output = Width(inner, "num_heads x head_dim", H)
    taps, conv_bias = block.conv_kernel, block.use_conv_bias
    return (
        frame.column("in_proj.zxdt", zxdt, Role.ATTENTION, bias=bias),
        frame.column("in_proj.bc", bc, Role.ATTENTION, bias=bias),
        ShortConvolution(
            "conv1d.x", precision, inner, taps, conv_bias, H, labels=(output.label, "conv_kernel")
        ),
        ShortConvolution(
            "conv1d.bc",
            precision,
            shared,
            taps,
            conv_bias,
            G,
            may_replicate=True,
            labels=(bc.label, "conv_kernel"),
        ),
        Mamba2Scan("scan", precision, H, block.head_dim, G, block.state_size),
        *((Norm("norm", precision, inner, label=output.label),) * block.gated_norm),
        Elementwise("gate", precision, inner, GATE_FLOPS, 2, split_units=H),
        frame.row("out_proj", output, Role.ATTENTION, bias=bias),
    )


def short_convolution(block: spec.ShortConvolutionBlock, frame: Frame) -> Operators:
    """A convolution between two gates, over the width of the stream."""
    D, precision, bias = frame.hidden_size, frame.precision, block.conv_bias
    width = Width(D, "hidden_size", D)
    return (
        frame.column("in_proj", Width(3 * D, "3 x hidden_size", D), Role.ATTENTION, bias=bias),
        Elementwise("gate_b", precision, D, 1.0, 2, split_units=D),
        ShortConvolution(
            "conv", precision, D, block.conv_kernel, bias, D, labels=(width.label, "conv_kernel")
        ),
        Elementwise("gate_c", precision, D, 1.0, 2, split_units=D),
        frame.row("out_proj", width, Role.ATTENTION, bias=bias),
    )


def rg_lru(block: spec.RgLruBlock, frame: Frame) -> Operators:
    """The recurrent block of Griffin."""
    heads, precision = block.num_attention_heads, frame.precision
    width = Width(block.lru_width, "lru_width", heads)
    return (
        frame.column("linear_y", width, Role.ATTENTION, bias=True),
        frame.column("linear_x", width, Role.ATTENTION, bias=True),
        ShortConvolution(
            "conv_1d",
            precision,
            block.lru_width,
            block.conv1d_width,
            has_bias=True,
            split_units=heads,
            labels=("lru_width", "conv1d_width"),
        ),
        GatedLinearRecurrence("rg_lru", precision, block.lru_width, heads),
        Elementwise("gate", precision, block.lru_width, GELU_GATE_FLOPS, 2, split_units=heads),
        frame.row("linear_out", width, Role.ATTENTION, bias=True),
    )


def rwkv6(block: spec.Rwkv6Block, frame: Frame) -> Operators:
    """RWKV-6 time mixing."""
    H, h, precision = block.num_heads, block.head_dim, frame.precision
    D, low, gate = frame.hidden_size, block.proj_low_rank_dim, block.gate_low_rank_dim
    heads = Width(H * h, "num_heads x head_dim", H)
    return (
        TokenShift("token_shift", precision, D, 6),
        frame.column("x_proj.down", Width(5 * low, "5 x proj_low_rank_dim"), Role.STATE),
        frame.between(
            "x_proj.up", (5 * low, "5 x proj_low_rank_dim"), Width(D, "hidden_size"), Role.STATE
        ),
        *(frame.column(f"{name}_proj", heads, Role.ATTENTION) for name in "rkvg"),
        frame.column("w_proj.down", Width(gate, "gate_low_rank_dim"), Role.STATE),
        frame.between("w_proj.up", (gate, "gate_low_rank_dim"), heads, Role.STATE, bias=True),
        Rwkv6Recurrence("wkv", precision, H, h),
        Norm(
            "g_norm",
            precision,
            h,
            H,
            NormKind.LAYER,
            has_bias=True,
            weight_width=H * h,
            label=heads.label,
        ),
        Elementwise("gate", precision, H * h, GATE_FLOPS, 2, split_units=H),
        frame.row("o_proj", heads, Role.ATTENTION),
    )
