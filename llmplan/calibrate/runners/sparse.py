"""Attention over chosen keys, and the indexers that choose them.

torch has no fused kernels for these, so all are plain products: references, not what engines run.
Choices of keys are drawn at random, one for each query, as good as any indexer's for time. Prefill
masks a whole square of scores; decode gathers what is chosen. FLOPs are those of chosen pairs.

Symbols: B requests, T new tokens, S context, H query heads, K key/value heads, n keys at hand,
m tokens a block or an entry.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels
from llmplan.calibrate.runners.attention import Call, attention_kernels
from llmplan.calibrate.runners.requests import (
    HALVES,
    TOLERANCE,
    Requests,
    drawn,
    torch_dtype,
    work_row,
)
from llmplan.calibrate.runners.softmax import Run, Shape, by_products, exact, half_precision
from llmplan.dtypes import divide_up
from llmplan.ops.attention import Mask
from llmplan.ops.base import Step
from llmplan.ops.block_sparse import BlockSparseAttention
from llmplan.ops.sparse import MAXIMUM_FLOPS_PER_SCORE, Indexer


@dataclass(frozen=True, slots=True)
class Blocks:
    """Which keys queries see that stand in blocks of ``size``, of which some are chosen.

    Attributes:
        requests: Of the step.
        size: Keys of a block (m).
        most: Complete blocks that a query chooses at most.
        counts_own: Whether the block that a query completes is one to choose from; else only those
            before its own are.
    """

    requests: Requests
    size: int
    most: int
    counts_own: bool

    def complete(self, position: torch.Tensor) -> torch.Tensor:
        """Blocks that a query at ``position`` chooses from."""
        return (position + self.counts_own) // self.size

    def positions(self, device: torch.device) -> torch.Tensor:
        """Of the new tokens, [T]."""
        return torch.arange(self.requests.context, self.requests.length, device=device)

    @property
    def pairs(self) -> int:
        """Query-key pairs of one request: chosen blocks, and what follows the complete ones."""
        position = self.positions(torch.device("cpu"))
        complete = self.complete(position)
        seen = complete.clamp(max=self.most) * self.size + position + 1 - complete * self.size
        return int(seen.sum())

    def mask(self, generator: torch.Generator, place: Place, heads: int) -> torch.Tensor:
        """A choice of each query and head as keys that it sees, [B, heads, T, S + T]."""
        position = self.positions(place.device)
        complete = self.complete(position)
        blocks = divide_up(self.requests.length, self.size)
        shape = (self.requests.count, heads, self.requests.new_tokens, blocks)
        chosen = chosen_at_random(generator, place, shape, complete, self.most)
        keys = torch.arange(self.requests.length, device=place.device)
        rest = keys >= (complete * self.size)[:, None]
        seen = chosen.repeat_interleave(self.size, -1)[..., : self.requests.length] | rest
        return seen & (keys <= position[:, None])


def chosen_at_random(
    generator: torch.Generator,
    place: Place,
    shape: tuple[int, ...],
    available: torch.Tensor,
    most: int,
) -> torch.Tensor:
    """Up to ``most`` of the first ``available`` [T] items for each query, [..., T, items]."""
    scores = torch.rand(shape, generator=generator, device=place.device)
    items = torch.arange(shape[-1], device=place.device)
    scores = scores.masked_fill(items >= available[:, None], -1.0)
    best, index = scores.topk(min(most, shape[-1]), -1)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, index, best >= 0)


def listed(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A mask as lists of keys, and which places of a list hold one: both [..., T, longest]."""
    longest = int(mask.sum(-1).max())
    holds, index = mask.int().topk(longest, -1)
    return index, holds.bool()


def unlisted(index: torch.Tensor, holds: torch.Tensor, keys: int) -> torch.Tensor:
    """``listed`` undone."""
    mask = torch.zeros(*index.shape[:-1], keys, dtype=torch.bool, device=index.device)
    return mask.scatter_(-1, index, holds)


def gathered(entries: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Listed rows of [B, K, n, h], as [B, K, T, longest, h]."""
    B, K, T, longest = index.shape
    rows = index.reshape(B, K, T * longest, 1).expand(-1, -1, -1, entries.shape[-1])
    return entries.gather(2, rows).view(B, K, T, longest, -1)


def over_gathered(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, holds: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention of q [B, H, T, h] over keys and values of its own, [B, K, T, longest, ·]."""
    B, H, T, h = q.shape
    K = keys.shape[1]
    queries = q.view(B, K, H // K, T, h).transpose(2, 3)
    scores = (queries @ keys.mT).float() * scale
    weights = scores.masked_fill(~holds[..., None, :], -math.inf).softmax(-1).to(values.dtype)
    return (weights @ values).transpose(2, 3).reshape(B, H, T, values.shape[-1])


@kernels.register
def _block_sparse(
    operator: BlockSparseAttention, step: Step, place: Place
) -> tuple[Kernel | Refused, ...]:
    if operator.mask is not Mask.CAUSAL:
        return attention_kernels(operator, step, place)
    dtype = half_precision(operator.precision)
    if isinstance(dtype, str):
        return (Refused("BlockSparseAttention", dtype),)
    if operator.has_sinks:
        return (Refused("BlockSparseAttention", "no model has sinks beside chosen blocks"),)
    call = Call(operator, Requests.of(step), dtype)
    most = operator.index_topk_blocks - 1
    blocks = Blocks(call.requests, operator.index_block_size, most, counts_own=False)
    H, K = operator.num_attention_heads, operator.num_key_value_heads
    widths = operator.head_dim + operator.v_head_dim
    flops = float(2 * widths * H * call.requests.count * blocks.pairs)
    scale = 1 / math.sqrt(operator.head_dim)

    def masked_inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        parts = [drawn(place, generator, dtype, *shape) for shape in call.shapes]
        return (*parts, blocks.mask(generator, place, K)[:, :, None])

    def masked_reference(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        return exact(q, k, v, mask.squeeze(2).repeat_interleave(H // K, 1))

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        *parts, mask = masked_inputs(generator)
        return (*parts, *listed(mask.squeeze(2)))

    def run(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *chosen: torch.Tensor
    ) -> torch.Tensor:
        index, holds = chosen
        return over_gathered(q, gathered(k, index), gathered(v, index), holds, scale)

    def reference(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *chosen: torch.Tensor
    ) -> torch.Tensor:
        return masked_reference(q, k, v, unlisted(chosen[0], chosen[1], call.keys)[:, :, None])

    if call.requests.is_decode:
        row = work_row(operator, step, "reference_gathered")
        return (Kernel(*row, flops, inputs, run, reference, TOLERANCE[dtype]),)
    row = work_row(operator, step, "reference_products")
    return (Kernel(*row, flops, masked_inputs, by_products, masked_reference, TOLERANCE[dtype]),)


@kernels.register
def _indexer(operator: Indexer, step: Step, place: Place) -> tuple[Kernel | Refused, ...]:
    """Scores of all entries at hand; the best entries are not picked, as in the operator's cost."""
    keys, activations = operator.precision.indexer_keys, operator.precision.activations
    dtype = torch_dtype(keys)
    if dtype not in HALVES or torch_dtype(activations) != dtype:
        formats = f"{activations.name} and {keys.name}"
        return (Refused("Indexer", f"queries and keys are in {formats}, not in one of 16 bits"),)
    requests, H, d = Requests.of(step), operator.index_n_heads, operator.index_head_dim
    m = operator.tokens_per_entry
    entries = requests.length // m
    position = torch.arange(requests.context, requests.length)
    complete = (position + 1) // m
    if operator.mask is Mask.FULL:
        complete = torch.full_like(position, entries)
    if not int(complete.sum()):
        return (Refused("Indexer", f"no entry of {m} tokens is complete in this step"),)
    flops = float(2 * d * H * requests.count * int(complete.sum()))
    takes_maximum = operator.flops_per_score == MAXIMUM_FLOPS_PER_SCORE

    def inputs(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        B, T = requests.count, requests.new_tokens
        shapes: tuple[Shape, ...] = ((B, T, H, d), (B, entries, d))
        shapes += () if takes_maximum else ((B, T, H),)
        visible = (torch.arange(entries) < complete[:, None]).to(place.device)
        return (*(drawn(place, generator, dtype, *shape) for shape in shapes), visible)

    def reference(*parts: torch.Tensor) -> torch.Tensor:
        q, k, *weights, _visible = parts
        rows = []
        for query, seen in enumerate(complete.tolist()):
            scores = q[:, query].double() @ k[:, :seen].double().mT
            if takes_maximum:
                rows.append(scores.amax(-1) if seen else scores.sum(-1))
                continue
            summed = (scores.relu() * weights[0][:, query, :, None].double()).sum(1)
            rows.append(pad(summed, (0, entries - seen)))
        return torch.stack(rows, 1)

    run: Run = largest_scores if takes_maximum else weighted_scores
    row = work_row(operator, step, "reference_products")
    return (Kernel(*row, flops, inputs, run, reference, TOLERANCE[dtype]),)


def _scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """[B, T, H, d] with [B, n, d] to [B, T, H, n]."""
    B, T, H, d = q.shape
    return (q.view(B, T * H, d) @ k.mT).view(B, T, H, -1)


def weighted_scores(
    q: torch.Tensor, k: torch.Tensor, weights: torch.Tensor, visible: torch.Tensor
) -> torch.Tensor:
    """Σ over heads of weight · ReLU(score), 0 for keys out of sight: [B, T, n]."""
    summed = (_scores(q, k).relu() * weights[..., None]).sum(2, dtype=torch.float32)
    return summed.masked_fill(~visible, 0.0)


def largest_scores(q: torch.Tensor, k: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """The largest score of each head among all keys in sight, 0 where there are none: [B, T, H].

    An engine takes it block by block; the comparisons are as many.
    """
    scores = _scores(q, k).masked_fill(~visible[:, None], -math.inf)
    return scores.amax(-1).nan_to_num(neginf=0.0)
