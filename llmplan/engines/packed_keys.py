"""How serving engines store keys of compressed attention, and tokens that wait to become entries.

Source: vLLM 0.20 to 0.33, v1/kv_cache_interface.py and the compressor of DeepSeek V4; SGLang
0.5.12, srt/model_executor/pool_configurator.py, DSV4PoolConfigurator.
"""

from typing import Final

from llmplan.dtypes import divide_exactly, divide_up
from llmplan.engines.facts import LayerCache

HEAD: Final = 512
"""Width of a key that the kernels know."""
ROTARY: Final = 64
"""Elements of it that are kept in 16 bits."""
PACKED_ROW_BYTES: Final = (HEAD - ROTARY) + 2 * ROTARY + 8
"""An 8-bit key: fp8 but for the rotary part, and eight bytes of scales."""
OVERLAPPING: Final = 4
"""Tokens of an entry for which entries overlap: each is formed of twice as many."""
STATE_ELEMENT_BYTES: Final = 4
INDEXER_SCALE_GROUP: Final = 128
INDEXER_SCALE_BYTES: Final = 4


def waiting_token_bytes(elements: int) -> int:
    """Bytes of a token that waits: a value and a score for each element projected, in fp32."""
    return 2 * elements * STATE_ELEMENT_BYTES


def indexer_key_bytes(cache: LayerCache) -> int:
    """Bytes of an indexer key in fp8 with its scales; 0 for a layer without an indexer.

    Its compressor is the narrower of a layer's two.
    """
    if len(cache.compressors) < 2:
        return 0
    ratio, elements = min(cache.compressors, key=lambda compressor: compressor[1])
    head = divide_exactly(elements, 2) if ratio == OVERLAPPING else elements
    return head + divide_up(head, INDEXER_SCALE_GROUP) * INDEXER_SCALE_BYTES
