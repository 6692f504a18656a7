"""Windows beside entries of several tokens (DeepSeek V4), against what engines printed.

Sources: rows V146 to V153 and V164 of ``hardware/measured/engine_memory.csv``, whose cells name
the logs; github.com/vllm-project/vllm/pull/48993 for strides of DeepSeek-V4-Pro;
github.com/sgl-project/sglang/pull/28620 for SGLang on eight L20.
"""

import csv
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmplan.analyze.measured_rows import asked_by
from llmplan.engines.facts import LayerCache
from llmplan.engines.packed_keys import indexer_key_bytes
from llmplan.engines.pools import BlockPool
from llmplan.engines.profile import profile_of
from llmplan.engines.sglang_compressed import CompressedSplitPool
from llmplan.engines.vllm_compressed import CompressedLayout, compressed_pool
from llmplan.errors import InputError
from llmplan.units import GIB

MEASURED = Path(__file__).parents[1] / "hardware" / "measured" / "engine_memory.csv"
TUPLES, SLOTS, OVERLAY = CompressedLayout

Kept = list[tuple[LayerCache, int]]


def layers(
    windows: int, sparse: int, heavy: int, key_bytes: int = 512, indexer_bytes: int = 132
) -> Kept:
    """Layers with a window, of which some keep entries of 4 tokens and some of 128."""
    w = key_bytes
    return [
        (LayerCache((), 128, w), windows - sparse - heavy),
        (LayerCache(((4, w + indexer_bytes),), 128, w, 0, ((4, 1024), (4, 256))), sparse),
        (LayerCache(((128, w),), 128, w, 0, ((128, 512),)), heavy),
    ]


FLASH = layers(43, 21, 20)
ONE_DRAFT_LAYER = layers(44, 21, 20)
THREE_DRAFT_LAYERS = layers(46, 21, 20)


def vllm(kept: Kept, layout: CompressedLayout, in_flight: int) -> BlockPool:
    return compressed_pool(kept, layout, 256, in_flight, by_concurrency=True)


@lru_cache(maxsize=1)
def rows() -> dict[str, dict[str, str]]:
    with MEASURED.open(encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(("row", "kept"), [("V148", FLASH), ("V149", ONE_DRAFT_LAYER)])
def test_the_catalogue_model_keeps_what_these_tests_write_out(row, kept):
    ranks = asked_by(rows()[row]).answer().ranks
    assert dict(ranks[0].facts.caches) == dict(kept)


@pytest.mark.parametrize(
    ("kept", "in_flight", "pool_bytes", "tokens"),
    [
        # V152: 20 GB with steps of 16,384 tokens, two under way
        (FLASH, 2 * 16384, 20_000_000_000, 652_465),
        (THREE_DRAFT_LAYERS, 2 * 16384, 20_000_000_000, 652_465),
        # V152's notes: 10 GB with smaller steps
        (THREE_DRAFT_LAYERS, 2 * 8192, 10_000_000_000, 577_640),
    ],
)
def test_overlaid_groups_print_the_measured_tokens(kept, in_flight, pool_bytes, tokens):
    assert vllm(kept, OVERLAY, in_flight).printed_tokens(pool_bytes, 500_000) == tokens


def test_vllm_0_26_prints_the_measured_tokens():
    """V164: both figures were rounded by the reporter, 150K tokens in 7.7 GiB."""
    pool = vllm(FLASH, SLOTS, 2 * 8192)
    assert pool.printed_tokens(int(7.7 * GIB), 121_344) == pytest.approx(150_000, rel=0.01)


@pytest.mark.parametrize(
    ("row", "kept", "request_blocks"),
    [
        ("V146", FLASH, 3225),
        ("V147", ONE_DRAFT_LAYER, 3230),
        ("V148", FLASH, 3097),
        ("V149", ONE_DRAFT_LAYER, 3102),
        ("V151", FLASH, 3097),
    ],
)
def test_builds_of_may_2026_divide_by_the_blocks_of_a_request(row, kept, request_blocks):
    """The printed tokens are length x whole blocks over these, with steps of 8,192 tokens.

    No bytes enter: of two nodes the poorer one decides the blocks, and the log shows one of them.
    """
    length, tokens = int(rows()[row]["max_model_len"]), int(rows()[row]["kv_tokens"])
    pool = vllm(kept, TUPLES, 8192)
    blocks = -(-tokens * request_blocks // length)
    assert pool.printed_tokens(blocks * pool.block_bytes, length) == tokens
    assert blocks / pool.printed_concurrency(blocks * pool.block_bytes, length) == pytest.approx(
        request_blocks, rel=1e-12
    )


@pytest.mark.parametrize("row", ["V147", "V148", "V149", "V151"])
def test_the_printed_pool_gives_the_tokens_but_for_the_poorer_node(row):
    """3.9 to 4.9 % more than printed; V146, 20 % more, started with one node far poorer."""
    length, tokens = int(rows()[row]["max_model_len"]), int(rows()[row]["kv_tokens"])
    kept = ONE_DRAFT_LAYER if "MTP 2" in rows()[row]["notes"] else FLASH
    pool_bytes = int(float(rows()[row]["kv_available_gib_per_gpu"]) * GIB)
    predicted = vllm(kept, TUPLES, 8192).printed_tokens(pool_bytes, length)
    assert tokens < predicted < 1.05 * tokens


@pytest.mark.parametrize(
    ("layout", "indexer_bytes", "stride"),
    [(SLOTS, 68, 1_473_408), (OVERLAY, 68, 1_315_008)],
)
def test_strides_of_deepseek_v4_pro(layout, indexer_bytes, stride):
    """vLLM pull 48993, FlashMLA with indexer keys in fp4: before and after."""
    kept = layers(61, 30, 31, indexer_bytes=indexer_bytes)
    assert vllm(kept, layout, 8192).block_bytes == stride


def test_a_block_before_it_was_packed_is_whole_tuples():
    """22 tuples of pages of 64 keys, 64 indexer keys and 2 keys, each rounded up to 576 bytes."""
    assert vllm(FLASH, TUPLES, 8192).block_bytes == 22 * (37_440 + 8_640 + 1_728)


def test_keys_in_16_bits_have_plain_rows():
    """64 keys of 1,024 bytes; indexer keys stay in fp8, rounded up to 512 bytes."""
    kept = layers(43, 21, 20, key_bytes=1024, indexer_bytes=256)
    assert vllm(kept, TUPLES, 8192).block_bytes == 22 * (65_536 + 8_704 + 2_048)


def test_a_block_size_that_holds_no_whole_entries_is_not_used():
    stated = compressed_pool(FLASH, OVERLAY, 16, 8192, by_concurrency=True)
    assert stated == vllm(FLASH, OVERLAY, 8192)


def test_releases_differ_in_layout_and_steps_under_way():
    found = [
        (int(profile.number("compressed_layout")), int(profile.number("steps_ahead")))
        for profile in map(profile_of, ("vllm@0.21", "vllm@0.24", "vllm@0.26", "vllm@0.28"))
    ]
    assert found == [(TUPLES, 0), (SLOTS, 0), (SLOTS, 1), (OVERLAY, 1)]


def test_entries_and_formats_without_a_kernel_are_refused():
    sixteen = [(LayerCache(((16, 512),), 128, 512, 0, ((16, 512),)), 4)]
    with pytest.raises(InputError, match="4 or 128 tokens"):
        vllm(sixteen, OVERLAY, 8192)
    with pytest.raises(InputError, match="8 or 16 bits"):
        vllm(layers(43, 21, 20, key_bytes=288), OVERLAY, 8192)
    with pytest.raises(InputError, match="4 or 128 tokens"):
        CompressedSplitPool(tuple(sixteen), 4).printed_tokens(GIB, 4096)


@given(
    layout=st.sampled_from(list(CompressedLayout)),
    context=st.integers(1, 1_000_000),
    more=st.integers(0, 100_000),
    in_flight=st.sampled_from([512, 8192, 32768]),
)
def test_a_longer_context_never_takes_less(layout, context, more, in_flight):
    pool = vllm(FLASH, layout, in_flight)
    assert pool.request_bytes(context) <= pool.request_bytes(context + more)


@given(
    layout=st.sampled_from(list(CompressedLayout)),
    pool_bytes=st.integers(-GIB, 100 * GIB),
    more=st.integers(0, GIB),
)
def test_a_larger_pool_never_holds_less(layout, pool_bytes, more):
    pool = vllm(FLASH, layout, 8192)
    assert pool.printed_tokens(pool_bytes, 65536) <= pool.printed_tokens(pool_bytes + more, 65536)


def test_an_indexer_key_is_fp8_with_a_scale():
    assert [indexer_key_bytes(cache) for cache, _ in FLASH] == [0, 132, 0]


SGLANG = CompressedSplitPool(tuple(FLASH), 43)
SGLANG_DRAFTS = CompressedSplitPool(tuple(ONE_DRAFT_LAYER), 43, drafts=True)


def test_sglang_with_and_without_a_drafter_fill_the_same_pool():
    """The same eight L20: 120,576 tokens without a drafter (S018's thread), 73,472 with one.

    Pool bytes are not printed; the two agree within the page and the drafter's graphs.
    """
    plain, drafting = 120_576 * SGLANG.token_bytes, 73_472 * SGLANG_DRAFTS.token_bytes
    assert plain == pytest.approx(drafting, rel=0.005)
    assert plain / GIB == pytest.approx(1.79, abs=0.01)


def test_sglang_prints_whole_pages():
    assert SGLANG.printed_tokens(int(1.792 * GIB), 32768) == 120_576
    assert SGLANG.printed_tokens(-1, 32768) == 0


@given(context=st.integers(1, 1_000_000), more=st.integers(0, 100_000))
def test_sglang_grows_with_context_and_pool(context, more):
    assert SGLANG.request_bytes(context) <= SGLANG.request_bytes(context + more)
    least, most = (SGLANG.printed_tokens(size * 1000, 65536) for size in (context, context + more))
    assert least <= most


def test_sglang_concurrency_is_bounded_by_windows():
    """A tenth as many tokens of windows: short requests run out of these first."""
    tokens = SGLANG.printed_tokens(10 * GIB, 65536)
    assert SGLANG.printed_concurrency(10 * GIB, 65536) == tokens / 65536
    assert SGLANG.printed_concurrency(10 * GIB, 256) == int(tokens * 0.1) // 256


def test_a_request_to_sglang_uses_up_the_pool_that_binds():
    assert SGLANG.request_bytes(65536) == pytest.approx(65536 * SGLANG.token_bytes, abs=1)
    assert SGLANG.request_bytes(1) == pytest.approx(2560 * SGLANG.token_bytes, abs=1)
