"""Multi-head latent attention: heads expanded in prefill, absorbed in decode.

An operator's work is run in two parts, each of which has its kernels: attention, and ``kv_b_proj``,
which is a product of new tokens (expanded) or one product a head of queries and of outputs
(absorbed). Their FLOPs sum to the operator's.

Attention is a row of ``mla`` where its widths are those that this table's curves are of, and one of
``by_work`` with the work of attention alone where they are not, where queries see chosen keys or a
sink, and for chunks of a prompt behind earlier ones.

Symbols: B requests, T new tokens, n keys at hand, H heads, c latent rank, r rotary width.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.nn.functional import pad

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.requests import (
    TOLERANCE,
    Requests,
    Row,
    drawn,
    drawn_sinks,
    torch_dtype,
    work_row,
)
from llmplan.calibrate.runners.softmax import (
    Run,
    Shape,
    by_products,
    exact,
    folded,
    fused,
    half_precision,
    offered,
)
from llmplan.calibrate.runners.sparse import Blocks, gathered, listed, over_gathered, unlisted
from llmplan.ops.attention import Mask
from llmplan.ops.base import Step
from llmplan.ops.latent import AbsorbedLatentAttention, ExpandedLatentAttention, LatentAttention
from llmplan.ops.precision import Role
from llmplan.perf.operators.mla import MODEL, latent_attention

Inputs: TypeAlias = Callable[[torch.Generator], tuple[torch.Tensor, ...]]


@kernels.register
def _latent(operator: LatentAttention, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    del step, place
    name = type(operator).__name__
    return (Refused(name, "states no realisation: run it expanded or absorbed"),)


@kernels.register
def _expanded(
    operator: ExpandedLatentAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused("ExpandedLatentAttention", dtype),)
    query = operator.qk_nope_head_dim + operator.qk_rope_head_dim
    call = _Call(operator, step, place, dtype, (query, operator.v_head_dim))
    return (*_expanded_attention(call), _up_projection(call, absorbed=False))


@kernels.register
def _absorbed(
    operator: AbsorbedLatentAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused("AbsorbedLatentAttention", dtype),)
    widths = (operator.latent_width, operator.kv_lora_rank)
    call = _Call(operator, step, place, dtype, widths)
    return (*_absorbed_attention(call), _up_projection(call, absorbed=True))


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, and what its queries see.

    Attributes:
        operator: Latent attention, expanded or absorbed.
        step: Its step.
        place: Where it runs.
        dtype: Of queries and cache.
        widths: Of keys and values that scores touch.
    """

    operator: LatentAttention
    step: Step
    place: Place
    dtype: torch.dtype
    widths: tuple[int, int]

    @property
    def requests(self) -> Requests:
        """The only group of the step."""
        return Requests.of(self.step)

    @property
    def chooses(self) -> bool:
        """Whether an indexer leaves some keys to each query."""
        return bool(self.operator.index_topk) and self.operator.mask is Mask.CAUSAL

    @property
    def blocks(self) -> Blocks:
        """Pools of keys that are chosen together; without an indexer all of them are."""
        m = self.operator.index_kpool
        most = self.operator.index_topk // m if self.chooses else self.requests.length
        return Blocks(self.requests, m if self.chooses else 1, most, counts_own=True)

    @property
    def sees_all(self) -> bool:
        """Whether every query sees every key at hand."""
        return not self.chooses and (
            self.operator.mask is Mask.FULL or self.requests.new_tokens == 1
        )

    @property
    def scale(self) -> float:
        """One over the root of a query's width before it is absorbed."""
        return 1 / math.sqrt(self.operator.qk_nope_head_dim + self.operator.qk_rope_head_dim)

    @property
    def query(self) -> Shape:
        """[B, H, T, width of keys]."""
        one = self.requests
        return (one.count, self.operator.num_attention_heads, one.new_tokens, self.widths[0])

    def mask(self, generator: torch.Generator) -> torch.Tensor:
        """Keys that each query sees, [B, 1, T, n]."""
        if not self.chooses:
            every = self.visible(self.place.device)
            return every.expand(self.requests.count, 1, -1, -1)
        return self.blocks.mask(generator, self.place, 1)

    def visible(self, device: torch.device) -> torch.Tensor:
        """The same where no keys are chosen, [T, n]: all, or a triangle behind the context."""
        every = torch.ones(
            self.requests.new_tokens, self.requests.length, dtype=torch.bool, device=device
        )
        return every if self.operator.mask is Mask.FULL else every.tril(self.requests.context)

    @property
    def flops(self) -> float:
        """FLOPs of attention: two a pair, head and element of key and value."""
        one = self.requests
        pairs = one.new_tokens * one.length
        if self.operator.mask is not Mask.FULL:
            pairs = self.blocks.pairs
        return float(2 * sum(self.widths) * self.operator.num_attention_heads * one.count * pairs)

    def work_row(self, kernel: str) -> Row:
        """The row of the operator's attention, its projection left out."""
        row = work_row(self.operator, self.step, kernel)
        cost = self.operator.cost(self.step)
        projected = float(self.operator.up_projection_flops(self.step.tokens).item())
        columns = dict(row.columns)
        columns["flops"] -= projected
        columns["bytes"] -= float(cost.weight_read_bytes)
        return row._replace(columns=columns)

    def row(self, kernel: str, phase: str) -> Row:
        """The row of ``mla`` where the widths are its own; new tokens of decode are further heads.

        Everything that this table does not know is a row by its work.
        """
        theirs, ours = latent_attention(MODEL), self.operator
        same = all(
            getattr(theirs, width) == getattr(ours, width)
            for width in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        )
        if not same or self.chooses or ours.has_sinks:
            return self.work_row(kernel)
        one = self.requests
        rows = one.new_tokens if phase == "generation" else 1
        columns = {
            "batch": float(one.count),
            "kv_len": float(one.length),
            "heads": float(ours.num_attention_heads * rows),
        }
        formats = {"dtype": "bfloat16", "kv_dtype": "bfloat16"}
        return Row("mla", {"kernel": kernel, "phase": phase, **formats}, columns)

    def sinks(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Logits of all heads, if there are any."""
        if not self.operator.has_sinks:
            return ()
        heads = self.operator.num_attention_heads
        return (drawn_sinks(self.place, generator, self.dtype, heads),)

    def kernel(self, row: Row, inputs: Inputs, run: Run, reference: Run) -> Kernel:
        """A kernel of attention."""
        return Kernel(*row, self.flops, inputs, run, reference, TOLERANCE[self.dtype])


def _expanded_attention(call: _Call) -> Iterator[Kernel]:
    """Keys and values of every head; a fused causal kernel from an empty cache."""
    one = call.requests
    key = (*call.query[:2], one.length, call.widths[0])
    value = (*call.query[:2], one.length, call.widths[1])

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        shapes = (call.query, key, value)
        return tuple(drawn(call.place, generator, call.dtype, *shape) for shape in shapes)

    def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return exact(q, k, v, call.visible(q.device))

    is_square = not (one.is_decode or one.context or call.chooses or call.operator.has_sinks)
    words = offered(call.place, call.dtype, (call.query, key, value), causal=True)
    pads = call.widths[0] != call.widths[1] and "flash" in offered(
        call.place, call.dtype, (call.query, key, key), causal=True
    )
    if not is_square or call.operator.mask is not Mask.CAUSAL or not (words or pads):
        yield _by_products(call, inputs)
        return
    for word in words:
        row = call.row(f"sdpa_{word}", "context")
        yield call.kernel(row, inputs, fused(word, causal=True), reference)
    if pads:
        row = call.row("sdpa_flash_padded", "context")
        yield call.kernel(row, inputs, _padded, reference)


def _padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Values as wide as keys, as FlashAttention 2 wants them; the rest is cut off again."""
    wide = pad(v, (0, k.shape[-1] - v.shape[-1]))
    return fused("flash", causal=True)(q, k, wide)[..., : v.shape[-1]]


def _by_products(call: _Call, inputs: Inputs) -> Kernel:
    """Expanded heads under any mask."""

    def masked(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return (*inputs(generator), call.mask(generator)[:, :, None], *call.sinks(generator))

    def reference(*parts: torch.Tensor) -> torch.Tensor:
        q, k, v, mask, *sinks = parts
        return exact(q, k, v, mask.squeeze(2), sinks[0] if sinks else None)

    return call.kernel(call.work_row("reference_products"), masked, by_products, reference)


def _absorbed_attention(call: _Call) -> Iterator[Kernel]:
    """All heads read a latent as one key/value head, whose first c elements are the value."""
    one, rank = call.requests, call.operator.kv_lora_rank
    latents = (one.count, 1, one.length, call.widths[0])
    decodes = one.is_decode and not call.chooses

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        shapes = (call.query, latents)
        return tuple(drawn(call.place, generator, call.dtype, *shape) for shape in shapes)

    def masked(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return (*inputs(generator), call.mask(generator), *call.sinks(generator))

    def products(q: torch.Tensor, latent: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        mask, *sinks = rest
        logits = sinks[0] if sinks else None
        return by_products(q, latent, latent[..., :rank], mask[:, :, None], logits, call.scale)

    def reference(q: torch.Tensor, latent: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        allowed, logits = call.visible(q.device), None
        if rest:
            allowed, logits = rest[0], rest[1] if len(rest) > 1 else None
        return exact(q, latent, latent[..., :rank], allowed, logits, call.scale)

    if one.is_decode and call.chooses and not call.operator.has_sinks:
        yield _gathering(call, masked, reference)
        return
    if decodes and call.sees_all and not call.operator.has_sinks:
        grouped = (one.count, 1, call.query[1] * one.new_tokens, call.widths[0])
        values = (*latents[:3], rank)
        shapes = (grouped, latents, values)
        for word in offered(call.place, call.dtype, shapes, causal=False):
            name = "sdpa_folded" if word == "flash" else f"sdpa_folded_{word}"
            run = _over_latents(folded(word, call.scale), rank)
            yield call.kernel(call.row(name, "generation"), inputs, run, reference)
    name = "reference_products"
    row = call.row(name, "generation") if decodes else call.work_row(name)
    yield call.kernel(row, masked, products, reference)


def _over_latents(attend: Run, rank: int) -> Run:
    """Attention whose values are the first elements of its keys."""

    def run(q: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        return attend(q, latent, latent[..., :rank])

    return run


def _gathering(call: _Call, masked: Inputs, whole: Run) -> Kernel:
    """Chosen latents side by side, then attention over them."""
    rank = call.operator.kv_lora_rank

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        q, latent, mask = masked(generator)
        return (q, latent, *listed(mask))

    def run(*parts: torch.Tensor) -> torch.Tensor:
        q, latent, index, holds = parts
        chosen = gathered(latent, index)
        return over_gathered(q, chosen, chosen[..., :rank], holds, call.scale)

    def reference(*parts: torch.Tensor) -> torch.Tensor:
        q, latent, index, holds = parts
        return whole(q, latent, unlisted(index, holds, latent.shape[2]))

    return call.kernel(call.work_row("reference_gathered"), inputs, run, reference)


def _up_projection(call: _Call, *, absorbed: bool) -> Kernel | Refused:
    """``kv_b_proj`` as a row of ``gemm``: new tokens (m) by heads' widths (n) and rank (k)."""
    operator, M = call.operator, call.requests.tokens
    stored = operator.precision.of(Role.ATTENTION)
    if torch_dtype(stored) != call.dtype:
        reason = f"weights in {stored.name} are measured as products of linear layers"
        return Refused("kv_b_proj", reason)
    H, n, v = operator.num_attention_heads, operator.qk_nope_head_dim, operator.v_head_dim
    c = operator.kv_lora_rank
    columns = {"m": float(M), "n": float(H * (n + v)), "k": float(c)}
    labels = {"kernel": "aten_bmm" if absorbed else "aten_mm", "dtype": "bfloat16"}
    shapes: tuple[Shape, ...] = ((M, c), (H * (n + v), c))
    run, reference = _product, _exact_product
    if absorbed:
        shapes = ((H, M, n), (H, n, c), (H, c, v))
        run, reference = _head_products, _exact_head_products

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return tuple(drawn(call.place, generator, call.dtype, *shape) for shape in shapes)

    flops = 2.0 * M * H * (n + v) * c
    return Kernel("gemm", labels, columns, flops, inputs, run, reference, TOLERANCE[call.dtype])


def _product(*parts: torch.Tensor) -> torch.Tensor:
    latents, weight = parts
    return latents @ weight.mT


def _exact_product(*parts: torch.Tensor) -> torch.Tensor:
    latents, weight = parts
    return torch.einsum("mc,nc->mn", latents.double(), weight.double())


def _head_products(*parts: torch.Tensor) -> torch.Tensor:
    """Queries into the latent and outputs out of it, with no attention between them."""
    queries, keys, values = parts
    return torch.bmm(torch.bmm(queries, keys), values)


def _exact_head_products(*parts: torch.Tensor) -> torch.Tensor:
    queries, keys, values = (part.double() for part in parts)
    return queries @ (keys @ values)
