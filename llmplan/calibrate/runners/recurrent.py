"""Attention with a matrix state, token by token and by chunks, in torch's plain arithmetic.

Recurrent realisations are checked against the closed form of a whole prompt, chunked ones against
the walk over its tokens, both in float64. States are held in float32 within a step, as fused
kernels do, and a result is the outputs and the state that is left, one after the other. Inputs
decay gently, so that closed forms stay within float64; time does not depend on it.

Symbols: B requests, T new tokens, H heads, d_k and d_v head sizes, C chunk length, g log decay.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import torch
from torch.nn.functional import logsigmoid, normalize, softplus

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.packages import FLA_CHUNK, gated_delta_rule, joined, missing
from llmplan.calibrate.runners.requests import TOLERANCE, Requests, drawn, torch_dtype, work_row
from llmplan.ops.base import Step
from llmplan.ops.linear_attention import (
    ChunkedDeltaRule,
    ChunkedLightningAttention,
    DeltaRule,
    LightningAttention,
    MatrixLstm,
    MatrixStateAttention,
)

GENTLE: Final = 0.01
"""Scale of log decays a token."""
Run: TypeAlias = Callable[..., torch.Tensor]
Inputs: TypeAlias = Callable[[torch.Generator], tuple[torch.Tensor, ...]]


@dataclass(frozen=True, slots=True)
class _Call:
    """One call: shapes, formats, and where it runs."""

    operator: MatrixStateAttention
    step: Step
    place: Place
    dtype: torch.dtype
    state_dtype: torch.dtype

    @classmethod
    def of(cls, operator: MatrixStateAttention, step: Step, place: Place) -> "_Call | Refused":
        activations, recurrent = operator.precision.activations, operator.precision.recurrent
        dtype, state_dtype = torch_dtype(activations), torch_dtype(recurrent)
        if dtype is None or state_dtype is None:
            formats = f"{activations.name} with a state in {recurrent.name}"
            return Refused(type(operator).__name__, f"torch has no arithmetic of {formats}")
        return cls(operator, step, place, dtype, state_dtype)

    @property
    def requests(self) -> Requests:
        return Requests.of(self.step)

    def drawn(self, generator: torch.Generator, *shape: int) -> torch.Tensor:
        return drawn(self.place, generator, self.dtype, *shape)

    def tokens(self, generator: torch.Generator, *widths: int) -> torch.Tensor:
        """[B, T, ·]."""
        return self.drawn(generator, self.requests.count, self.requests.new_tokens, *widths)

    def state(self, generator: torch.Generator, *widths: int) -> torch.Tensor:
        """[B, H, ·]."""
        shape = (self.requests.count, self.operator.num_value_heads, *widths)
        return drawn(self.place, generator, self.state_dtype, *shape)

    def heads(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Queries, keys of length one, and values."""
        o = self.operator
        q = self.tokens(generator, o.num_key_heads, o.key_head_dim)
        k = normalize(self.tokens(generator, o.num_key_heads, o.key_head_dim), dim=-1)
        return q, k, self.tokens(generator, o.num_value_heads, o.value_head_dim)

    def kernel(self, name: str, flops: float, inputs: Inputs, run: Run, reference: Run) -> Kernel:
        """A row by work; ``flops`` are those of one token."""
        row = work_row(self.operator, self.step, name)
        tolerance = max(TOLERANCE[self.dtype], TOLERANCE[self.state_dtype])
        return Kernel(*row, flops * self.requests.tokens, inputs, run, reference, tolerance)

    def walked(self, plain: Kernel) -> Kernel | Refused:
        """A kernel that goes from token to token, where they are few enough."""
        too_long = self.requests.too_long
        return Refused(type(self.operator).__name__, too_long) if too_long else plain


def rows(part: torch.Tensor, heads: int, dtype: torch.dtype) -> torch.Tensor:
    """[B, T, H or fewer, d] to [B·H, T, d]: neighbouring heads share a key."""
    shared = part.to(dtype).repeat_interleave(heads // part.shape[2], 2)
    return shared.transpose(1, 2).flatten(0, 1)


def unrolled(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``rows`` undone, for values [B, T, H, d_v]."""
    B, T, H = like.shape[:3]
    return part.view(B, H, T, -1).transpose(1, 2).to(like.dtype)


def walk(  # noqa: PLR0913, PLR0917 - what the recurrence consists of
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor | None,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """S ← αS + kᵀv, o = qS; with β, kᵀv is that of what S does not recall: β(v - kS).

    Shapes: q, k [N, T, d_k], v [N, T, d_v], g [N, T, 1 or d_k], beta [N, T, 1], state
    [N, d_k, d_v].
    """
    outputs, decay = [], g.exp()
    for t in range(q.shape[1]):
        key, value = k[:, t, :, None], v[:, t, None]
        state = state * decay[:, t, :, None]
        if beta is not None:
            value = (value - key.mT @ state) * beta[:, t, None]
        state = torch.baddbmm(state, key, value)
        outputs.append(q[:, t, None] @ state)
    return torch.cat(outputs, 1), state


def closed_form(  # noqa: PLR0913, PLR0917 - as above
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor | None,
    state: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for all tokens at once: a triangle of scores; β asks for a triangular solve."""
    G = g.cumsum(1)
    from_start, back = q * G.exp(), k * (-G).exp()
    if beta is not None:
        recall = k * G.exp() * beta
        unit = torch.eye(q.shape[1], dtype=q.dtype, device=q.device)
        system = unit + (recall @ back.mT).tril(-1)
        rest = v * beta - recall @ state
        v = torch.linalg.solve_triangular(system, rest, upper=False, unitriangular=True)
    outputs = (from_start @ back.mT).tril() @ v + from_start @ state
    last = G[:, -1:]
    return outputs, last.exp().mT * state + (k * (last - G).exp()).mT @ v


def chunked(  # noqa: PLR0913, PLR0917 - as above, and C
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor | None,
    state: torch.Tensor,
    chunk: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in chunks of C tokens (WY representation): dense products, a state between them."""
    q, k, v, g = (_in_chunks(part, chunk) for part in (q, k, v, g))
    G = g.cumsum(2)
    last = G[:, :, -1:]
    from_start, back, to_end = q * G.exp(), k * (-G).exp(), k * (last - G).exp()
    scores = (from_start @ back.mT).tril()
    recall = None
    if beta is not None:
        beta = _in_chunks(beta, chunk)
        recall = k * G.exp() * beta
        unit = torch.eye(chunk, dtype=q.dtype, device=q.device)
        system = unit + (recall @ back.mT).tril(-1)
        solved = torch.linalg.solve_triangular(
            system, unit.expand_as(system), upper=False, unitriangular=True
        )
        recall, v = solved @ recall, solved @ (v * beta)
    outputs = []
    for n in range(q.shape[1]):
        value = v[:, n] if recall is None else v[:, n] - recall[:, n] @ state
        outputs.append(scores[:, n] @ value + from_start[:, n] @ state)
        state = last[:, n].exp().mT * state + to_end[:, n].mT @ value
    return torch.cat(outputs, 1), state


def _in_chunks(part: torch.Tensor, chunk: int) -> torch.Tensor:
    """[N, T, d] to [N, T/C, C, d]."""
    return part.reshape(part.shape[0], -1, chunk, part.shape[-1])


Form: TypeAlias = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def _lightning_run(form: Form, dtype: torch.dtype) -> Run:
    """A form of the recurrence on inputs as they are stored."""

    def run(*parts: torch.Tensor) -> torch.Tensor:
        q, k, v, rate, state = parts
        H, B, T = v.shape[2], v.shape[0], v.shape[1]
        g = (-GENTLE * rate.to(dtype).exp()).repeat(B)[:, None, None].expand(-1, T, 1)
        heads = (rows(part, H, dtype) for part in (q, k, v))
        outputs, left = form(*heads, g, None, state.to(dtype).flatten(0, 1))
        return _result(outputs, left, v, state)

    return run


def _result(
    outputs: torch.Tensor, left: torch.Tensor, v: torch.Tensor, state: torch.Tensor
) -> torch.Tensor:
    """In the formats of values and state; in float64 where it was computed so."""
    if left.dtype is torch.float64:
        return joined(unrolled(outputs, v.double()), left)
    return joined(unrolled(outputs, v), left.to(state.dtype))


def _by_chunks(chunk: int) -> Form:
    return partial(chunked, chunk=chunk)


def _part_of_a_chunk(call: _Call, chunk: int) -> Refused | None:
    if call.requests.new_tokens % chunk == 0:
        return None
    name = type(call.operator).__name__
    return Refused(name, f"computes whole chunks of {chunk} tokens: choose a multiple of them")


@kernels.register
def _matrix_state(
    operator: MatrixStateAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    del step, place
    name = type(operator).__name__
    return (Refused(name, "states no recurrence: its kinds do"),)


@kernels.register
def _lightning(
    operator: LightningAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    call = _Call.of(operator, step, place)
    if isinstance(call, Refused):
        return (call,)
    d_k, d_v, H = operator.key_head_dim, operator.value_head_dim, operator.num_value_heads

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        rate = call.drawn(generator, H)
        return (*call.heads(generator), rate, call.state(generator, d_k, d_v))

    flops = 4.0 * H * d_k * d_v
    if not isinstance(operator, ChunkedLightningAttention):
        run = _lightning_run(walk, torch.float32)
        reference = _lightning_run(closed_form, torch.float64)
        return (call.walked(call.kernel("reference_walk", flops, inputs, run, reference)),)
    C = operator.chunk_size
    refused = _part_of_a_chunk(call, C)
    if refused:
        return (refused,)
    flops += 2.0 * H * C * (d_k + d_v)
    run = _lightning_run(_by_chunks(C), torch.float32)
    reference = _lightning_run(walk, torch.float64)
    return (call.kernel("reference_chunked", flops, inputs, run, reference),)


def delta_gates(
    a: torch.Tensor,
    b: torch.Tensor,
    A_log: torch.Tensor,
    dt_bias: torch.Tensor,
    *,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log decay and β of each token and head.

    Shapes: a [B, T, H, 1 or d_k], b [B, T, H, 1], A_log [H], dt_bias as one token of a.
    """
    steps = softplus(a.to(dtype) + dt_bias.to(dtype).view(a.shape[2:]))
    return -GENTLE * A_log.to(dtype).exp()[:, None] * steps, b.to(dtype).sigmoid()


def _delta_run(form: Form, dtype: torch.dtype) -> Run:
    def run(*parts: torch.Tensor) -> torch.Tensor:
        q, k, v, a, b, A_log, dt_bias, state = parts
        H = v.shape[2]
        g, beta = delta_gates(a, b, A_log, dt_bias, dtype=dtype)
        heads = (rows(part, H, dtype) for part in (q, k, v, g, beta))
        outputs, left = form(*heads, state.to(dtype).flatten(0, 1))
        return _result(outputs, left, v, state)

    return run


@kernels.register
def _delta_rule(operator: DeltaRule, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    call = _Call.of(operator, step, place)
    if isinstance(call, Refused):
        return (call,)
    d_k, d_v, H = operator.key_head_dim, operator.value_head_dim, operator.num_value_heads
    channels = d_k if operator.decay_per_channel else 1

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        gates = (call.tokens(generator, H, channels), call.tokens(generator, H, 1))
        weights = (call.drawn(generator, H), call.drawn(generator, H * channels))
        return (*call.heads(generator), *gates, *weights, call.state(generator, d_k, d_v))

    flops = 6.0 * H * d_k * d_v
    if not isinstance(operator, ChunkedDeltaRule):
        run = _delta_run(walk, torch.float32)
        reference = _delta_run(closed_form, torch.float64)
        plain = call.kernel("reference_walk", flops, inputs, run, reference)
        return (call.walked(plain), *_by_fla(call, plain, "fused_recurrent_gated_delta_rule"))
    C = operator.chunk_size
    refused = _part_of_a_chunk(call, C)
    if refused:
        return (refused,)
    flops += 2.0 * H * C * (3 * d_k + 2 * d_v)
    run = _delta_run(_by_chunks(C), torch.float32)
    reference = _delta_run(walk, torch.float64)
    plain = call.kernel("reference_chunked", flops, inputs, run, reference)
    if C != FLA_CHUNK:
        return (plain,)
    return (plain, *_by_fla(call, plain, "chunk_gated_delta_rule"))


def _by_fla(call: _Call, plain: Kernel, name: str) -> Iterator[Kernel | Refused]:
    """The same by a kernel of flash-linear-attention, which has one decay a head."""
    reason = missing("fla", call.place)
    if isinstance(call.operator, DeltaRule) and call.operator.decay_per_channel:
        reason = "its gated delta rule has one decay a head"
    if not reason:
        run = gated_delta_rule(name, delta_gates)
        yield replace(plain, labels={**plain.labels, "kernel": f"fla_{name}"}, run=run)
    elif call.place.is_cuda:
        yield Refused(f"fla_{name}", reason)


@kernels.register
def _matrix_lstm(operator: MatrixLstm, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    call = _Call.of(operator, step, place)
    if isinstance(call, Refused):
        return (call,)
    d_k, d_v, H = operator.key_head_dim, operator.value_head_dim, operator.num_value_heads

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        gates = (call.tokens(generator, H), call.tokens(generator, H))
        states = (
            call.state(generator, d_k, d_v),
            call.state(generator, d_k),
            call.state(generator),
        )
        return (*call.heads(generator), *gates, *states)

    flops = H * (4.0 * d_k * d_v + 2.0 * d_k)
    plain = call.kernel("reference_walk", flops, inputs, matrix_lstm, exact_matrix_lstm)
    return (call.walked(plain),)


def matrix_lstm(*parts: torch.Tensor) -> torch.Tensor:
    """C ← fC + i·kvᵀ, n ← fn + i·k, o = qC / max(|q·n|, e⁻ᵐ), gates scaled by e⁻ᵐ.

    Inputs: q, k [B, T, ·, d_k], v [B, T, H, d_v], i, f [B, T, H], C, n, m [B, H, ·].
    """
    H, d_k = parts[2].shape[2], parts[0].shape[-1]
    q, k, v = (rows(part, H, torch.float32) for part in parts[:3])
    entering, kept = (rows(part[..., None], H, torch.float32) for part in parts[3:5])
    kept = logsigmoid(kept)
    C, n, m = (state.float().flatten(0, 1) for state in parts[5:])
    n, m = n[..., None], m[:, None]
    outputs = []
    for t in range(q.shape[1]):
        new = torch.maximum(kept[:, t] + m, entering[:, t])
        f, i = (kept[:, t] + m - new).exp(), (entering[:, t] - new).exp()
        m, key, query = new, (k[:, t] * i)[..., None], q[:, t, None] / math.sqrt(d_k)
        C = torch.baddbmm(C * f[..., None], key, v[:, t, None])
        n = n * f[..., None] + key
        outputs.append(query @ C / torch.maximum((query @ n).abs(), (-m).exp()[..., None]))
    left = (state.to(part.dtype) for state, part in zip((C, n, m), parts[5:], strict=True))
    return joined(unrolled(torch.cat(outputs, 1), parts[2]), *left)


def exact_matrix_lstm(*parts: torch.Tensor) -> torch.Tensor:
    """The sum over all earlier tokens, in float64, not scaled until the end."""
    H, d_k = parts[2].shape[2], parts[0].shape[-1]
    q, k, v = (rows(part, H, torch.float64) for part in parts[:3])
    entering, kept = (rows(part[..., None], H, torch.float64) for part in parts[3:5])
    C, n, m = (state.double().flatten(0, 1) for state in parts[5:])
    F = logsigmoid(kept).cumsum(1)
    later = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool, device=q.device).tril()
    gates = torch.where(later, F - F.mT + entering.mT, -math.inf)  # [N, T, s]
    first = (F + m[:, None, None]).exp()
    scores = q @ k.mT / math.sqrt(d_k) * gates.exp()
    numerator = scores @ v + first * (q @ C) / math.sqrt(d_k)
    norm = scores.sum(-1, keepdim=True) + first * (q @ n[..., None]) / math.sqrt(d_k)
    outputs = numerator / norm.abs().clamp(min=1.0)
    largest = torch.maximum((F[:, -1, 0] + m), gates[:, -1].amax(-1))
    ending = (gates[:, -1] - largest[:, None]).exp()[..., None]
    old = (F[:, -1, 0] + m - largest).exp()
    left_C = old[:, None, None] * C + (k * ending).mT @ v
    left_n = old[:, None] * n + (k * ending).sum(1)
    return joined(unrolled(outputs, parts[2].double()), left_C, left_n, largest)
