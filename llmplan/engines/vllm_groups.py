"""How vLLM lays layers of several kinds out in blocks of one size.

Source: vLLM's get_kv_cache_groups and its page-size rules, releases 0.10 to 0.33.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from llmplan.dtypes import divide_up
from llmplan.engines.facts import LayerCache
from llmplan.engines.pools import BlockGroup, BlockPool, Caches
from llmplan.engines.vllm_compressed import CompressedLayout, compressed_pool

PAGE_ALIGNMENT: Final = 16
"""Tokens that a stretched attention block is rounded up to."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What decides the layout beside the layers.

    Attributes:
        tokens: Tokens of a block as configured.
        in_flight: Most tokens of a step.
        padding_ratio: Largest layer type over smallest below which groups are padded to it.
        has_groups: Windowed layers get groups of their own.
        recurrent_blocks: Blocks of a request in a recurrent group.
        tokens_by_concurrency: How tokens are printed.
        ways: Ranks over which tokens are shared out.
        compressed: How wide blocks of compressed entries are; none where the engine has no such.
    """

    tokens: int
    in_flight: int
    padding_ratio: float
    has_groups: bool
    recurrent_blocks: int
    tokens_by_concurrency: bool
    ways: int = 1
    compressed: CompressedLayout | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of layer: its page, what a block of it stands for, and how many there are."""

    page_bytes: int
    group: BlockGroup
    layers: int


def block_pool(caches: Caches, blocks: Blocks) -> BlockPool:
    """The blocks that these layers are laid out in.

    Layers that all keep every token share one group, whatever their widths. Otherwise layer types
    get groups of equal layer counts, the last one padded with dummy layers, and pages are made
    equal: by longer blocks where they divide, else by padding.
    """
    kept = [(cache, layers) for cache, layers in caches if cache != LayerCache()]
    if blocks.compressed is not None and any(
        cache.is_compressed_beside_windows for cache, _ in kept
    ):
        return compressed_pool(
            kept,
            blocks.compressed,
            blocks.tokens,
            blocks.in_flight,
            by_concurrency=blocks.tokens_by_concurrency,
        )
    mixed = any(cache.window or cache.fixed_bytes for cache, _ in kept)
    if not mixed or not blocks.has_groups:
        return _one_group(kept, blocks)
    kinds = _equal_pages(_kinds(kept, blocks))
    counts = [kind.layers for kind in kinds]
    size = min(counts)
    if max(counts) < size * blocks.padding_ratio:
        size = max(counts)
    groups = [kind.group for kind in kinds for _ in range(divide_up(kind.layers, size))]
    page = max(kind.page_bytes for kind in kinds)
    return BlockPool(
        page * size, tuple(groups), blocks.in_flight, blocks.ways, blocks.tokens_by_concurrency
    )


def _one_group(kept: list[tuple[LayerCache, int]], blocks: Blocks) -> BlockPool:
    """Every layer keeps every token."""
    per_token = sum(
        (cache.token_bytes + cache.window_token_bytes) * layers for cache, layers in kept
    )
    fixed = sum(cache.fixed_bytes * layers for cache, layers in kept)
    tokens = blocks.tokens
    if fixed and per_token:
        # before groups, state was kept beside the blocks; a request's share of it is counted here
        tokens = max(tokens, divide_up(fixed, per_token))
    return BlockPool(
        max(per_token, 1) * tokens,
        (BlockGroup(tokens),),
        blocks.in_flight,
        blocks.ways,
        blocks.tokens_by_concurrency,
    )


def _kinds(kept: list[tuple[LayerCache, int]], blocks: Blocks) -> list[_Kind]:
    """Layer types with their pages; attention blocks are stretched until recurrent state fits."""
    attention: Counter[tuple[int, int]] = Counter()
    recurrent: Counter[int] = Counter()
    for cache, layers in kept:
        if cache.entries:
            attention[_average_token_bytes(cache), 0] += layers
        if cache.window:
            attention[cache.window_token_bytes, cache.window] += layers
        if cache.fixed_bytes:
            recurrent[cache.fixed_bytes] += layers
    tokens = blocks.tokens
    if recurrent and attention:
        widest = max(per_token for per_token, _ in attention)
        step = PAGE_ALIGNMENT * widest
        tokens = max(tokens, divide_up(max(recurrent), step) * PAGE_ALIGNMENT)
    kinds = [
        _Kind(per_token * tokens, BlockGroup(tokens, window), layers)
        for (per_token, window), layers in attention.items()
    ]
    kinds += [
        _Kind(state, BlockGroup(tokens, fixed_blocks=blocks.recurrent_blocks), layers)
        for state, layers in recurrent.items()
    ]
    return kinds


def _average_token_bytes(cache: LayerCache) -> int:
    """Bytes a token, entries that stand for several by their share."""
    return sum(divide_up(size, tokens) for tokens, size in cache.entries)


def _equal_pages(kinds: list[_Kind]) -> list[_Kind]:
    """The same with blocks of smaller pages made longer where their page divides the largest."""
    largest = max(kind.page_bytes for kind in kinds)
    longer = []
    for kind in kinds:
        times = 1
        if not kind.group.fixed_blocks and largest % kind.page_bytes == 0:
            times = largest // kind.page_bytes
        group = BlockGroup(kind.group.tokens * times, kind.group.window, kind.group.fixed_blocks)
        longer.append(_Kind(largest, group, kind.layers))
    return longer
