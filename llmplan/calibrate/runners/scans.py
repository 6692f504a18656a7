"""Diagonal recurrences, token shifts and short convolutions in torch's plain arithmetic.

Recurrences are walked token by token and checked against a scan by doubling in float64. States are
held in float32 within a step; a result is the outputs and the state that is left. Nothing here but
the gates of RG-LRU and convolutions is a product, so the FLOPs of all others are none.

Symbols: B requests, T new tokens, C channels, H heads, N state size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import torch
from torch.nn.functional import conv1d, silu, softplus

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.packages import convolution, joined, no_convolution
from llmplan.calibrate.runners.requests import TOLERANCE, Requests, drawn, torch_dtype, work_row
from llmplan.dtypes import Format, divide_exactly
from llmplan.ops.base import Operator, Step
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.ssm import (
    GatedLinearRecurrence,
    Mamba1Scan,
    Mamba2Scan,
    RecurrentScan,
    Rwkv6Recurrence,
    TokenShift,
)

RG_LRU_POWER: Final = 8.0
"""c of a^(c·r). Source: De et al. 2024 (Griffin), section 2.4."""

WALK: Final = "reference_walk"
"""What goes from token to token."""
Shape: TypeAlias = tuple[int, ...]
Run: TypeAlias = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """Shapes of what a call reads: tokens [B, T, ·], weights, and states [B, ·]."""

    tokens: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    states: tuple[Shape, ...]


def _kernels(  # noqa: PLR0913, PLR0917 - a kernel consists of these
    operator: Operator,
    step: Step,
    place: Place,
    state: Format,
    shapes: _Inputs,
    name: str,
    token_flops: float,
    run: Run,
    reference: Run,
) -> tuple[Kernel | Refused, ...]:
    activations = operator.precision.activations
    dtype, state_dtype = torch_dtype(activations), torch_dtype(state)
    if dtype is None or state_dtype is None:
        formats = f"{activations.name} with a state in {state.name}"
        return (Refused(type(operator).__name__, f"torch has no arithmetic of {formats}"),)
    requests = Requests.of(step)
    if name == WALK and requests.too_long:
        return (Refused(type(operator).__name__, requests.too_long),)
    per_token = (requests.count, requests.new_tokens)

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        wanted = [(dtype, (*per_token, *shape)) for shape in shapes.tokens]
        wanted += [(dtype, shape) for shape in shapes.weights]
        wanted += [(state_dtype, (requests.count, *shape)) for shape in shapes.states]
        return tuple(drawn(place, generator, fmt, *shape) for fmt, shape in wanted)

    row = work_row(operator, step, name)
    tolerance = max(TOLERANCE[dtype], TOLERANCE[state_dtype])
    return (Kernel(*row, token_flops * requests.tokens, inputs, run, reference, tolerance),)


def doubled(decay: torch.Tensor, added: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """All of h_t = decay_t·h_(t-1) + added_t, over axis 1, by doubling the reach of each sum."""
    added = torch.cat((added[:, :1] + decay[:, :1] * state[:, None], added[:, 1:]), 1)
    reach = 1
    while reach < added.shape[1]:
        further = added[:, reach:] + decay[:, reach:] * added[:, :-reach]
        added = torch.cat((added[:, :reach], further), 1)
        decay = torch.cat((decay[:, :reach], decay[:, reach:] * decay[:, :-reach]), 1)
        reach *= 2
    return added


@kernels.register
def _recurrent_scan(
    operator: RecurrentScan, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    del step, place
    return (Refused(type(operator).__name__, "states no recurrence: its kinds do"),)


@kernels.register
def _mamba1(operator: Mamba1Scan, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    C, N, H = operator.intermediate_size, operator.state_size, operator.num_heads
    shapes = _Inputs(((C,), (C,), (C,), (H, N), (H, N)), ((C, N), (C,)), ((C, N),))
    recurrent = operator.precision.recurrent
    return _kernels(operator, step, place, recurrent, shapes, WALK, 0.0, mamba1, exact_mamba1)


def mamba1(*parts: torch.Tensor) -> torch.Tensor:
    """H ← exp(dt·A)·h + dt·x·B, y = (C·h + D·x)·SiLU(z).

    Inputs: x, dt, z [B, T, C], B, C [B, T, H, N], A_log [C, N], D [C], h [B, C, N].
    """
    x, dt, z, entering, leaving, A_log, D = (part.float() for part in parts[:7])
    state, channels = parts[7].float(), x.shape[-1] // entering.shape[2]
    dt, A = softplus(dt), -A_log.exp()
    outputs = []
    for t in range(x.shape[1]):
        into, out_of = (part[:, t].repeat_interleave(channels, 1) for part in (entering, leaving))
        state = (dt[:, t, :, None] * A).exp() * state + (dt[:, t] * x[:, t])[..., None] * into
        outputs.append((state * out_of).sum(-1))
    y = (torch.stack(outputs, 1) + D * x) * silu(z)
    return joined(y.to(parts[0].dtype), state.to(parts[7].dtype))


def exact_mamba1(*parts: torch.Tensor) -> torch.Tensor:
    """The same in float64, all tokens at once."""
    x, dt, z, entering, leaving, A_log, D, state = (part.double() for part in parts)
    head = torch.arange(x.shape[-1], device=x.device) * entering.shape[2] // x.shape[-1]
    dt = (1 + dt.exp()).log()
    decay = torch.exp(-torch.einsum("btc,cn->btcn", dt, A_log.exp()))
    states = doubled(decay, torch.einsum("btc,btcn->btcn", dt * x, entering[:, :, head]), state)
    y = torch.einsum("btcn,btcn->btc", states, leaving[:, :, head]) + D * x
    return joined(y * z * z.sigmoid(), states[:, -1])


@kernels.register
def _mamba2(operator: Mamba2Scan, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    H, P, G, N = operator.num_heads, operator.head_dim, operator.n_groups, operator.state_size
    shapes = _Inputs(((H, P), (H,), (G, N), (G, N)), ((H,), (H,), (H,)), ((H, P, N),))
    recurrent = operator.precision.recurrent
    return _kernels(operator, step, place, recurrent, shapes, WALK, 0.0, mamba2, exact_mamba2)


def mamba2(*parts: torch.Tensor) -> torch.Tensor:
    """As ``mamba1`` with one decay a head, and no gate.

    Inputs: x [B, T, H, P], dt [B, T, H], B, C [B, T, G, N], A_log, dt_bias, D [H], h [B, H, P, N].
    """
    x, dt, entering, leaving, A_log, dt_bias, D = (part.float() for part in parts[:7])
    state, heads = parts[7].float(), x.shape[2] // entering.shape[2]
    dt, A = softplus(dt + dt_bias), -A_log.exp()
    decay = (dt * A).exp()
    outputs = []
    for t in range(x.shape[1]):
        into, out_of = (
            part[:, t].repeat_interleave(heads, 1)[:, :, None] for part in (entering, leaving)
        )
        state = decay[:, t, :, None, None] * state + (dt[:, t, :, None] * x[:, t])[..., None] * into
        outputs.append((state * out_of).sum(-1))
    y = torch.stack(outputs, 1) + D[:, None] * x
    return joined(y.to(parts[0].dtype), state.to(parts[7].dtype))


def exact_mamba2(*parts: torch.Tensor) -> torch.Tensor:
    """The same in float64, all tokens at once."""
    x, dt, entering, leaving, A_log, dt_bias, D, state = (part.double() for part in parts)
    group = torch.arange(x.shape[2], device=x.device) * entering.shape[2] // x.shape[2]
    dt = (1 + (dt + dt_bias).exp()).log()
    decay = (-dt * A_log.exp()).exp()[..., None, None]
    added = torch.einsum("bth,bthp,bthn->bthpn", dt, x, entering[:, :, group])
    states = doubled(decay, added, state)
    y = torch.einsum("bthpn,bthn->bthp", states, leaving[:, :, group])
    return joined(y + torch.einsum("h,bthp->bthp", D, x), states[:, -1])


@kernels.register
def _rg_lru(
    operator: GatedLinearRecurrence, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    C, blocks = operator.lru_width, operator.num_blocks
    block = divide_exactly(C, blocks)
    gate: tuple[Shape, ...] = ((blocks, block, block), (blocks, block))
    shapes = _Inputs(((C,),), (*gate, *gate, (C,)), ((C,),))
    recurrent, flops = operator.precision.recurrent, 2.0 * 2.0 * C * block
    return _kernels(operator, step, place, recurrent, shapes, WALK, flops, rg_lru, exact_rg_lru)


def rg_lru(*parts: torch.Tensor) -> torch.Tensor:
    """H ← a·h + √(1 - a²)·σ(i)·x, where a = exp(-c·softplus(Λ)·σ(r)); i, r by blocks of x.

    Inputs: x [B, T, C], weight [blocks, C/blocks, C/blocks] and bias, of i and of r,
    Λ [C], h [B, C].
    """
    x, W_i, b_i, W_r, b_r, rate = parts[:6]
    blocks = x.reshape(-1, *b_i.shape).transpose(0, 1)
    gates = [
        torch.baddbmm(bias[:, None], blocks, weight).transpose(0, 1).reshape(x.shape).float()
        for weight, bias in ((W_i, b_i), (W_r, b_r))
    ]
    entering, decay = (gate.sigmoid() for gate in gates)
    decay = (-RG_LRU_POWER * softplus(rate.float()) * decay).exp()
    added = (1 - decay * decay).sqrt() * entering * x.float()
    state, outputs = parts[6].float(), []
    for t in range(x.shape[1]):
        state = decay[:, t] * state + added[:, t]
        outputs.append(state)
    return joined(torch.stack(outputs, 1).to(x.dtype), state.to(parts[6].dtype))


def exact_rg_lru(*parts: torch.Tensor) -> torch.Tensor:
    """The same in float64, block by block."""
    x, W_i, b_i, W_r, b_r, rate, state = (part.double() for part in parts)
    width = W_i.shape[-1]
    gates = []
    for weight, bias in ((W_i, b_i), (W_r, b_r)):
        columns = [
            x[..., block * width : (block + 1) * width] @ weight[block] + bias[block]
            for block in range(len(weight))
        ]
        gates.append(1 / (1 + (-torch.cat(columns, -1)).exp()))
    log_decay = -RG_LRU_POWER * (1 + rate.exp()).log() * gates[1]
    added = (-torch.expm1(2 * log_decay)).sqrt() * gates[0] * x
    states = doubled(log_decay.exp(), added, state)
    return joined(states, states[:, -1])


@kernels.register
def _rwkv6(operator: Rwkv6Recurrence, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    H, d = operator.num_heads, operator.head_dim
    shapes = _Inputs(((H, d),) * 4, ((H, d),), ((H, d, d),))
    recurrent = operator.precision.recurrent
    return _kernels(operator, step, place, recurrent, shapes, WALK, 0.0, rwkv6, exact_rwkv6)


def rwkv6(*parts: torch.Tensor) -> torch.Tensor:
    """O = r·(S + u·kᵀv), S ← exp(-exp(w))·S + kᵀv.

    Inputs: r, k, v, w [B, T, H, d], u [H, d], S [B, H, d, d].
    """
    r, k, v, w, bonus = (part.float() for part in parts[:5])
    state, decay, outputs = parts[5].float(), (-w.exp()).exp(), []
    for t in range(r.shape[1]):
        added = k[:, t, :, :, None] * v[:, t, :, None]
        outputs.append(((state + bonus[..., None] * added) * r[:, t, :, :, None]).sum(-2))
        state = decay[:, t, :, :, None] * state + added
    return joined(torch.stack(outputs, 1).to(parts[0].dtype), state.to(parts[5].dtype))


def exact_rwkv6(*parts: torch.Tensor) -> torch.Tensor:
    """The same in float64, all tokens at once."""
    r, k, v, w, bonus, state = (part.double() for part in parts)
    added = torch.einsum("bthk,bthv->bthkv", k, v)
    states = doubled((-w.exp()).exp()[..., None], added, state)
    before = torch.cat((state[:, None], states[:, :-1]), 1)
    outputs = torch.einsum("bthk,bthkv->bthv", r, before)
    outputs = outputs + torch.einsum("bthk,hk,bthk,bthv->bthv", r, bonus, k, v)
    return joined(outputs, states[:, -1])


@kernels.register
def _token_shift(operator: TokenShift, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    width = operator.width
    shapes = _Inputs(((width,),), ((operator.mixes, width),), ((width,),))
    columns = operator.precision.convolution_columns
    return _kernels(
        operator, step, place, columns, shapes, "reference_shift", 0.0, shifted, exact_shifted
    )


def shifted(x: torch.Tensor, mixes: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """X + μ·(token before - x) for each μ: x [B, T, C], mixes [M, C], last [B, C]."""
    before = torch.cat((last[:, None].to(x.dtype), x[:, :-1]), 1)
    mixed = x + mixes[:, None, None] * (before - x)
    return joined(mixed, x[:, -1].to(last.dtype))


def exact_shifted(x: torch.Tensor, mixes: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The same in float64, as a weighted mean of both."""
    x, mixes, last = x.double(), mixes.double(), last.double()
    before = torch.roll(x, 1, 1)
    before[:, 0] = last
    mean = torch.einsum("mc,btc->mbtc", mixes, before) + torch.einsum("mc,btc->mbtc", 1 - mixes, x)
    return joined(mean, x[:, -1])


@kernels.register
def _convolution(
    operator: ShortConvolution, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """By torch's convolution over kept columns and new ones."""
    C, taps = operator.channels, operator.kernel
    bias: tuple[Shape, ...] = ((C,),) if operator.has_bias else ()
    shapes = _Inputs(((C,),), ((C, taps), *bias), ((C, taps - 1),))
    columns, flops = operator.precision.convolution_columns, 2.0 * taps * C
    name = "reference_conv1d"
    found = _kernels(
        operator, step, place, columns, shapes, name, flops, convolved, exact_convolved
    )
    return (*found, *_by_causal_conv1d(operator, place, found[0]))


def _by_causal_conv1d(
    operator: ShortConvolution, place: Place, plain: Kernel | Refused
) -> Iterator[Kernel | Refused]:
    """The same by the causal-conv1d package."""
    reason = no_convolution(operator.kernel, operator.channels, place)
    if isinstance(plain, Kernel) and not reason:
        yield replace(plain, labels={**plain.labels, "kernel": "causal_conv1d"}, run=convolution())
    elif place.is_cuda:
        yield Refused("causal_conv1d", reason or "torch has no inputs in such formats")


def convolved(*parts: torch.Tensor) -> torch.Tensor:
    """Inputs: x [B, T, C], filters [C, taps], bias [C] or none, columns [B, C, taps - 1]."""
    x, filters, *bias, columns = parts
    T = x.shape[1]
    padded = torch.cat((columns.to(x.dtype), x.mT), -1)
    y = conv1d(padded, filters[:, None], bias[0] if bias else None, groups=len(filters))
    return joined(y, padded[..., T:].to(columns.dtype))


def exact_convolved(*parts: torch.Tensor) -> torch.Tensor:
    """The same in float64, tap by tap."""
    x, filters, *bias, columns = (part.double() for part in parts)
    T, taps = x.shape[1], filters.shape[1]
    padded = torch.cat((columns, x.mT), -1)
    y = sum(
        (padded[..., tap : tap + T] * filters[:, tap, None] for tap in range(taps)),
        start=torch.zeros_like(padded[..., :T]),
    )
    if bias:
        y = y + bias[0][:, None]
    return joined(y, padded[..., T:])
