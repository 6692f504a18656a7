"""Attention over a window and compressed entries, and what compresses them (DeepSeek-V4).

torch has no fused kernels for these, so both are plain arithmetic: references, not what engines
run. Chosen entries are a mask over all entries, in decode too.

Symbols: B requests, T new tokens, S context, H query heads, h width, m tokens an entry.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.requests import (
    TOLERANCE,
    Requests,
    drawn,
    drawn_sinks,
    torch_dtype,
    work_row,
)
from llmplan.calibrate.runners.softmax import by_products, exact, half_precision
from llmplan.calibrate.runners.sparse import chosen_at_random
from llmplan.ops.attention import Mask
from llmplan.ops.base import Step
from llmplan.ops.compressed import CompressedAttention, Compressor


@kernels.register
def _compressed(
    operator: CompressedAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    """Keys of the window, then entries, in one tensor that is keys and values."""
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused("CompressedAttention", dtype),)
    requests, h, H = Requests.of(step), operator.head_dim, operator.num_attention_heads
    sight = _WindowAndEntries(operator, requests)
    flops = float(4 * h * H * requests.count * sight.pairs)

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        q = drawn(place, generator, dtype, requests.count, H, requests.new_tokens, h)
        keys = drawn(
            place,
            generator,
            dtype,
            requests.count,
            1,
            sight.kept + requests.new_tokens + sight.entries,
            h,
        )
        return q, keys, sight.mask(generator, place), drawn_sinks(place, generator, dtype, H)

    def run(*parts: torch.Tensor) -> torch.Tensor:
        q, keys, mask, sinks = parts
        return by_products(q, keys, keys, mask[:, None, None], sinks)

    def reference(*parts: torch.Tensor) -> torch.Tensor:
        q, keys, mask, sinks = parts
        return exact(q, keys, keys, mask[:, None], sinks)

    row = work_row(operator, step, "reference_products")
    return (Kernel(*row, flops, inputs, run, reference, TOLERANCE[dtype]),)


@dataclass(frozen=True, slots=True)
class _WindowAndEntries:
    """Which keys of the window and which entries queries see."""

    operator: CompressedAttention
    requests: Requests

    @property
    def kept(self) -> int:
        """Keys of the window in state that new queries see."""
        return min(self.requests.context, self.operator.sliding_window - 1)

    @property
    def entries(self) -> int:
        """Complete entries after the step."""
        ratio = self.operator.compress_ratio
        return self.requests.length // ratio if ratio else 0

    @property
    def most(self) -> int:
        """Entries that a query chooses at most."""
        topk = self.operator.index_topk
        return topk if topk and self.operator.mask is not Mask.FULL else self.entries

    def _complete(self, position: torch.Tensor) -> torch.Tensor:
        if self.operator.mask is Mask.FULL or not self.entries:
            return torch.full_like(position, self.entries)
        return (position + 1) // self.operator.compress_ratio

    @property
    def pairs(self) -> int:
        """Query-key pairs of one request."""
        position = torch.arange(self.requests.context, self.requests.length)
        window = (position + 1).clamp(max=self.operator.sliding_window)
        if self.operator.mask is Mask.FULL:
            window = torch.full_like(position, self.kept + self.requests.new_tokens)
        return int((window + self._complete(position).clamp(max=self.most)).sum())

    def mask(self, generator: torch.Generator, place: Place) -> torch.Tensor:
        """Window keys, then a choice of entries, [B, T, kept + T + entries]."""
        S, T, B = self.requests.context, self.requests.new_tokens, self.requests.count
        position = torch.arange(S, S + T, device=place.device)[:, None]
        key = torch.arange(S - self.kept, S + T, device=place.device)
        window = (key <= position) & (key > position - self.operator.sliding_window)
        window = window | (self.operator.mask is Mask.FULL)
        complete = self._complete(position[:, 0])
        shape = (B, T, self.entries)
        entries = chosen_at_random(generator, place, shape, complete, self.most)
        return torch.cat((window.expand(B, -1, -1), entries), -1)


@kernels.register
def _compressor(operator: Compressor, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """Tokens that wait for an entry, then the new ones; an entry not complete is pooled so far."""
    dtype = torch_dtype(operator.precision.activations)
    if dtype is None:
        fmt = operator.precision.activations.name
        return (Refused("Compressor", f"torch has no softmax of {fmt}"),)
    requests, m, width = Requests.of(step), operator.compress_ratio, operator.width
    n = requests.context % m + requests.new_tokens

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        shapes = ((requests.count, n, width), (requests.count, n, width), (m, width))
        return tuple(drawn(place, generator, dtype, *shape) for shape in shapes)

    def reference(values: torch.Tensor, gates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        entries = []
        for start in range(0, n, m):
            part = slice(start, min(start + m, n))
            gate = (gates[:, part].double() + bias[: part.stop - start].double()).exp()
            entries.append((gate * values[:, part].double()).sum(1) / gate.sum(1))
        return torch.stack(entries, 1)

    def run(values: torch.Tensor, gates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return pooled(values, gates, bias)

    row = work_row(operator, step, "reference_pooled")
    return (Kernel(*row, 0.0, inputs, run, reference, TOLERANCE[dtype]),)


def pooled(values: torch.Tensor, gates: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A softmax over each m tokens, element by element: [B, n, width] to [B, n/m, width]."""
    B, n, width = values.shape
    m = bias.shape[0]
    missing = (0, 0, 0, -n % m)
    scores = pad(gates, missing, value=-math.inf).view(B, -1, m, width) + bias
    weights = scores.float().softmax(2)
    return (weights * pad(values, missing).view(B, -1, m, width)).sum(2).to(values.dtype)
