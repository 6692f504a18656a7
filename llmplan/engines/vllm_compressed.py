"""How vLLM lays out a window beside entries that stand for several tokens (DeepSeek V4).

Every layer keeps a window; layers that compress keep entries of 4 or 128 tokens too, keys of an
indexer, and tokens that wait to become entries. All of it comes from blocks of one size, in groups
with block tables of their own: entries and indexer keys of all layers are the first group, windows
and waiting tokens are the others. Waiting tokens lie in blocks of 4 and 8 tokens, so that a long
step in flight takes far more blocks than the context does.

Source: vLLM 0.20 to 0.33: v1/core/kv_cache_utils.py (kv_cache_planning.py in 0.33),
v1/kv_cache_interface.py, v1/attention/backends/mla/sparse_swa.py; deepseek_compressor.py, in
models/deepseek_v4/compressor.py since.
"""

from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from llmplan.dtypes import divide_exactly, divide_up
from llmplan.engines.facts import LayerCache
from llmplan.engines.packed_keys import (
    HEAD,
    OVERLAPPING,
    PACKED_ROW_BYTES,
    indexer_key_bytes,
    waiting_token_bytes,
)
from llmplan.engines.pools import BlockGroup, BlockPool
from llmplan.errors import InputError

PREFERRED_BLOCK: Final = 256
"""Tokens of a block of entries where the one configured holds no whole entries."""
WINDOW_BLOCK: Final = 64
"""Tokens of a block of windowed keys: as many as a block of 256 holds entries of 4."""
STATE_BLOCKS: Final = {4: 4, 128: 8}
"""Tokens of a block of those that wait, by the tokens of an entry."""
PACKED_ALIGNMENT: Final = 576
ROW_ALIGNMENT: Final = 512
"""Bytes that pages are rounded up to, of packed keys and of plain 16-bit ones."""


class CompressedLayout(IntEnum):
    """How wide a block is; the numbers stand in the profile."""

    TUPLES = 0
    """As many tuples of one page of each size as the largest group has."""
    SLOTS = 1
    """Of each page size as many as some group has."""
    OVERLAY = 2
    """The widest group; the others overlay it, and pages are not padded to each other."""


@dataclass(frozen=True, slots=True)
class CompressedPool(BlockPool):
    """Blocks of one size, of which each group fills a share.

    Attributes:
        group_bytes: Bytes of a block that each group fills.
        weighs_groups: Whether groups are weighed by these in what is printed, though each takes
            whole blocks.
    """

    group_bytes: tuple[int, ...] = ()
    weighs_groups: bool = False

    @property
    def unit(self) -> str:
        """What it is handed out in."""
        tokens = dict.fromkeys(group.tokens for group in self.groups)
        sizes = ", ".join(str(size) for size in tokens)
        return f"blocks of {sizes} tokens, {len(self.groups)} groups of layers"

    def printed_concurrency(self, pool_bytes: int, max_model_len: int) -> float:
        """Blocks over those of one request of the full length, as the release counts these."""
        blocks = max(pool_bytes, 0) // self.block_bytes
        if not self.weighs_groups:
            return blocks / self.request_blocks(max_model_len)
        filled = sum(
            group.blocks(max_model_len, self.in_flight) * size
            for group, size in zip(self.groups, self.group_bytes, strict=True)
        )
        return blocks / divide_up(filled, self.group_bytes[0])


@dataclass(frozen=True, slots=True)
class _Group:
    """Layers with one block table: pages by their bytes, with how many layers have such a page."""

    block: BlockGroup
    pages: Counter[int]

    @property
    def tuples(self) -> int:
        """Layers of the page size that most have."""
        return max(self.pages.values())

    @property
    def bytes(self) -> int:
        """Bytes of a block over all layers."""
        return sum(size * layers for size, layers in self.pages.items())


def compressed_pool(
    kept: list[tuple[LayerCache, int]],
    layout: CompressedLayout,
    tokens: int,
    in_flight: int,
    *,
    by_concurrency: bool,
) -> BlockPool:
    """The blocks of these layers.

    Args:
        kept: What each layer keeps, with how many layers keep that.
        layout: How wide a block is.
        tokens: Tokens of a block as configured.
        in_flight: Most tokens of the steps under way.
        by_concurrency: Tokens are printed as concurrency times length.

    Raises:
        InputError: vLLM has no kernel for such entries.
    """
    entries = _entries(kept, layout, tokens)
    windows = _windows(kept)
    if layout is not CompressedLayout.OVERLAY:
        windows = [_padded(group, entries) for group in windows]
    groups = _split(entries, windows)
    return CompressedPool(
        _block_bytes(groups, layout),
        tuple(group.block for group in groups),
        in_flight,
        tokens_by_concurrency=by_concurrency,
        group_bytes=tuple(group.bytes for group in groups),
        weighs_groups=layout is not CompressedLayout.OVERLAY,
    )


def _entries(kept: list[tuple[LayerCache, int]], layout: CompressedLayout, tokens: int) -> _Group:
    """Entries and indexer keys of all layers: the one group that grows with the context.

    Before blocks overlaid each other, indexer keys in fp4 had the room of those in fp8.
    """
    ratios = [ratio for cache, _ in kept for ratio, _ in cache.compressors]
    if any(tokens % ratio for ratio in ratios) or not tokens:
        tokens = PREFERRED_BLOCK
    pages: Counter[int] = Counter()
    for cache, layers in kept:
        for ratio, size in cache.entries:
            rows = divide_exactly(tokens, ratio)
            pages[_page(cache, rows * _row_bytes(cache))] += layers
            keys = indexer_key_bytes(cache)
            if layout is CompressedLayout.OVERLAY:
                keys = min(keys, size - cache.window_token_bytes)
            if keys:
                pages[_page(cache, rows * keys)] += layers
    return _Group(BlockGroup(tokens), pages)


def _windows(kept: list[tuple[LayerCache, int]]) -> list[_Group]:
    """Windowed keys, and the tokens that wait for entries of each length."""
    found: dict[tuple[int, int], Counter[int]] = {}
    for cache, layers in kept:
        if cache.window:
            pages = found.setdefault((WINDOW_BLOCK, cache.window), Counter())
            pages[_page(cache, WINDOW_BLOCK * _row_bytes(cache))] += layers
        for ratio, elements in cache.compressors:
            tokens = _state_block(ratio)
            waiting = 2 * ratio if ratio == OVERLAPPING else ratio
            pages = found.setdefault((tokens, waiting), Counter())
            pages[_page(cache, tokens * waiting_token_bytes(elements))] += layers
    return [_Group(BlockGroup(tokens, window), pages) for (tokens, window), pages in found.items()]


def _state_block(ratio: int) -> int:
    if ratio not in STATE_BLOCKS:
        raise InputError(f"vLLM keeps entries of 4 or 128 tokens, not of {ratio}.")
    return STATE_BLOCKS[ratio]


def _row_bytes(cache: LayerCache) -> int:
    """Bytes of a key as the kernels store it."""
    if cache.window_token_bytes == HEAD:
        return PACKED_ROW_BYTES
    if cache.window_token_bytes == 2 * HEAD:
        return cache.window_token_bytes
    raise InputError(
        f"vLLM keeps compressed attention of {HEAD} elements in 8 or 16 bits, not in "
        f"{cache.window_token_bytes} bytes a token."
    )


def _page(cache: LayerCache, size: int) -> int:
    """A page rounded up to what the kernels align to."""
    alignment = PACKED_ALIGNMENT if cache.window_token_bytes == HEAD else ROW_ALIGNMENT
    return divide_up(size, alignment) * alignment


def _padded(group: _Group, entries: _Group) -> _Group:
    """The same with each page as large as the next larger one of the entries."""
    pages: Counter[int] = Counter()
    for size, layers in group.pages.items():
        pages[min((s for s in entries.pages if s >= size), default=size)] += layers
    return _Group(group.block, pages)


def _split(entries: _Group, windows: list[_Group]) -> list[_Group]:
    """The entries, and windows in groups of about as many layers, so that padding is least.

    Of equal paddings the larger groups win.
    """
    counts = [group.tuples for group in (entries, *windows)]
    sizes = range(entries.tuples, max(counts) + 1)
    size = min(sizes, key=lambda d: (sum(-count % d for count in counts), -d))
    groups = [entries]
    for group in windows:
        parts = divide_up(group.tuples, size)
        for part in range(parts):
            pages = Counter(
                {page: len(range(part, layers, parts)) for page, layers in group.pages.items()}
            )
            groups.append(_Group(group.block, pages))
    return groups


def _block_bytes(groups: list[_Group], layout: CompressedLayout) -> int:
    match layout:
        case CompressedLayout.TUPLES:
            return max(group.tuples for group in groups) * sum(groups[0].pages)
        case CompressedLayout.SLOTS:
            most: Counter[int] = Counter()
            for group in groups:
                most |= group.pages
            return sum(size * layers for size, layers in most.items())
        case CompressedLayout.OVERLAY:
            return max(group.bytes for group in groups)
