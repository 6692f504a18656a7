"""How SGLang shares its memory out for a window beside entries that stand for several tokens.

DeepSeek V4: every pool is sized by the tokens of the full one. Windowed keys of all layers have a
share of them, and for each window of that pool the compressors keep rings of tokens that wait.

Source: SGLang 0.5.12, srt/model_executor/pool_configurator.py, DSV4PoolConfigurator;
mem_cache/deepseek_v4_memory_pool.py; arg_groups/deepseek_v4_hook.py.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

from llmplan.dtypes import divide_up
from llmplan.engines.facts import LayerCache, RankFacts
from llmplan.engines.packed_keys import PACKED_ROW_BYTES, indexer_key_bytes, waiting_token_bytes
from llmplan.engines.pools import Caches
from llmplan.engines.settings import Settings
from llmplan.errors import InputError

WINDOW_RATIO: Final = 0.1
"""Tokens of the window pool by tokens of the full pool, where nothing is stated."""
GENERAL_WINDOW_RATIO: Final = 0.8
"""The same for other models; stating it has no effect."""
PAGE: Final = 256
"""Tokens of a page."""
RINGS: Final = {4: 8, 128: 128}
"""Tokens that wait, by the tokens of an entry; twice as many where tokens are drafted."""
LISTED_DRAFT_LAYERS: Final = 1
"""Draft layers in a published list of ratios: their windows are counted, drafted or not."""


@dataclass(frozen=True, slots=True)
class CompressedSplitPool:
    """Pools whose sizes all follow from the tokens of the full one.

    Keys are packed 8-bit whatever is asked: the engine refuses others.

    Attributes:
        caches: What each layer keeps, with how many layers keep that.
        num_layers: Layers on the rank, draft layers apart.
        window_ratio: Tokens of the window pool by tokens of the full pool.
        drafts: Tokens are drafted.
    """

    caches: Caches
    num_layers: int
    window_ratio: float = WINDOW_RATIO
    drafts: bool = False

    @property
    def unit(self) -> str:
        """What it is handed out in."""
        return f"pages of {PAGE} tokens, a window pool of {self.window_ratio:g} as many"

    @property
    def entry_token_bytes(self) -> float:
        """Bytes a token of entries and indexer keys."""
        return sum(_entry_token_bytes(cache) * layers for cache, layers in self.caches)

    @property
    def window_token_bytes(self) -> float:
        """Bytes a token of the window pool: keys, and its share of what waits."""
        keys = PACKED_ROW_BYTES * self._listed_layers
        waiting = sum(_waiting_token_bytes(cache) * layers for cache, layers in self.caches)
        return keys + waiting * (2 if self.drafts else 1)

    @property
    def token_bytes(self) -> float:
        """Bytes a token of the full pool, with what the others keep for it.

        A draft layer takes as much as a mean layer more.
        """
        target = self.entry_token_bytes + self.window_ratio * self.window_token_bytes
        drafted = 1 if self.drafts else 0
        return target * (self._listed_layers + drafted) / self._listed_layers

    @property
    def _listed_layers(self) -> int:
        return self.num_layers + LISTED_DRAFT_LAYERS

    def request_bytes(self, context: int) -> int:
        """The share of all pools that a request uses up: of the full one or of the window's.

        The pools are cut once, so what the other has left is of no use.
        """
        of_windows = self._held(context) / self.window_ratio
        return ceil(self.token_bytes * max(_pages(context), of_windows))

    def printed_tokens(self, pool_bytes: int, max_model_len: int) -> int:  # noqa: ARG002
        """Tokens of the full pool, whole pages."""
        return int(max(pool_bytes, 0) / self.token_bytes) // PAGE * PAGE

    def printed_concurrency(self, pool_bytes: int, max_model_len: int) -> float:
        """Full pool over the length, and no more than windows allow."""
        tokens = self.printed_tokens(pool_bytes, max_model_len)
        windows = int(tokens * self.window_ratio) // PAGE * PAGE
        return min(tokens / max_model_len, windows / self._held(max_model_len))

    def _held(self, context: int) -> int:
        """Tokens of the window pool that a request holds: whole pages."""
        return _pages(min(context, max(cache.window for cache, _ in self.caches)))


def _pages(tokens: int) -> int:
    """Tokens of the whole pages that hold so many."""
    return divide_up(tokens, PAGE) * PAGE


def compressed_split_pool(settings: Settings, rank: RankFacts) -> CompressedSplitPool:
    """The pools of a rank; a ratio equal to the engine's general default counts as not stated."""
    stated = settings.swa_full_tokens_ratio
    ratio = WINDOW_RATIO if stated in (None, GENERAL_WINDOW_RATIO) else stated
    drafts = bool(settings.speculative_tokens or settings.speculative_method)
    return CompressedSplitPool(rank.caches, rank.num_layers, ratio, drafts)


def _entry_token_bytes(cache: LayerCache) -> float:
    keys = PACKED_ROW_BYTES + indexer_key_bytes(cache)
    return sum(keys / ratio for ratio, _ in cache.entries)


def _waiting_token_bytes(cache: LayerCache) -> float:
    """Bytes that wait for each token of the window pool: a ring for each window."""
    rings = ((_ring(ratio), elements) for ratio, elements in cache.compressors)
    return sum(ring * waiting_token_bytes(elements) for ring, elements in rings) / cache.window


def _ring(ratio: int) -> int:
    if ratio not in RINGS:
        raise InputError(f"SGLang keeps entries of 4 or 128 tokens, not of {ratio}.")
    return RINGS[ratio]
