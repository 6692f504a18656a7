"""What engines hold: versions, defaults, blocks and pools, against figures that engines printed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmplan.analyze.loaded import rotary_table_bytes
from llmplan.analyze.serving import serving
from llmplan.analyze.starting import why_not
from llmplan.dtypes import state_format_named
from llmplan.engines.facts import LayerCache
from llmplan.engines.pools import BlockGroup, BlockPool, ExactPool, SplitPool
from llmplan.engines.profile import Ranks, Where, profile_of
from llmplan.engines.settings import EngineName, Settings
from llmplan.engines.versions import read_version, version_of_day
from llmplan.engines.vllm import capture_sizes
from llmplan.engines.vllm_groups import Blocks, block_pool
from llmplan.engines.words import kv_words, weight_words
from llmplan.errors import InputError, LayoutError, UnknownNameError
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model
from llmplan.parallel.layout import Layout, check_layout, stage_sizes
from llmplan.parallel.precision import StateFormats, lowered
from llmplan.parallel.rank import Splits, stage_ranks
from llmplan.units import GIB
from tests.program import llmplan

BF16 = StateFormats(*[state_format_named("bf16")] * 3)


# -- versions ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.19.0", (0, 19, 0)),
        ("v0.8.5.post1", (0, 8, 5)),
        ("0.10.1.1", (0, 10, 1, 1)),
        ("0.10.x", (0, 10)),
        ("0.24-0.25", (0, 24)),
        ("0.26.1rc1.dev608", (0, 26, 1)),
        ("0.1.dev15917 (main, 2026-04)", None),
        ("dev branch (2026-05)", None),
        ("gemma4-unified image", None),
    ],
)
def test_versions_are_read_as_people_and_builds_write_them(text, version):
    assert read_version(text) == version


def test_a_day_leads_to_the_release_that_was_out():
    assert profile_of("vllm@2026-04-25").version == (0, 19, 0)
    assert profile_of("vllm@2026-04-27").version == (0, 20, 0)
    assert profile_of("vllm@2025").version == (0, 13, 0)
    assert version_of_day("never", ()) is None


def test_a_version_outside_the_profile_is_answered_with_a_warning():
    assert not profile_of("vllm@0.19").remarks
    assert "outside the versions" in profile_of("vllm@0.99").remarks[0]
    outcome = llmplan("memory", "qwen3-8b", "--gpus", "h100", "--engine", "vllm@0.99")
    assert "outside the versions" in outcome.stderr


@pytest.mark.parametrize("engine", ["vlm", "tgi", ""])
def test_an_unknown_engine_is_refused_with_its_neighbours(engine):
    with pytest.raises(UnknownNameError, match="vllm"):
        profile_of(engine)


@pytest.mark.parametrize("asked", ["vllm@new", "generic@1.0", "llama.cpp@b1234"])
def test_a_version_that_cannot_be_read_is_refused(asked):
    with pytest.raises(InputError):
        profile_of(asked)


def test_every_profile_is_valid_and_has_what_its_policy_reads():
    device, model = load_device("h100-sxm"), load_model("qwen3-8b")
    for engine in EngineName:
        layout = Layout(pp=2) if engine is EngineName.LLAMACPP else Layout(tp=2)
        served = serving(model, layout, device, profile_of(engine.value), Settings())
        assert served.worst.plan.held.pool_bytes > 0


# -- terms ---------------------------------------------------------------------------------------


def test_narrower_terms_win_over_wider_and_later_over_earlier():
    old, new = profile_of("vllm@0.17"), profile_of("vllm@0.19")
    one = Where(Ranks.ONE, 9.0, switched=True)

    assert old.number("non_torch_bytes", one) < new.number("non_torch_bytes", one)
    many = Where(Ranks.MANY, 9.0, switched=True)
    apart = Where(Ranks.MANY, 8.6, switched=False)
    assert new.number("non_torch_bytes", many) > 3 * new.number("non_torch_bytes", apart)
    t4 = Where(Ranks.ONE, 7.5, switched=False)
    assert new.number("non_torch_bytes", t4) < new.number("non_torch_bytes", one)


def test_default_batches_follow_the_device_and_the_release():
    """vLLM 0.19.0 and 0.33.0, engine/arg_utils.py."""

    def defaults(gpu: str, engine: str) -> tuple[int, int]:
        served = serving(
            load_model("qwen3-0.6b"), Layout(), load_device(gpu), profile_of(engine), Settings()
        )
        settings = served.worst.plan.settings
        return settings.max_num_batched_tokens, settings.max_num_seqs

    assert defaults("h100-sxm", "vllm@0.19") == (8192, 1024)
    assert defaults("a100-80gb-sxm", "vllm@0.19") == (2048, 256)
    assert defaults("a100-80gb-sxm", "vllm@0.8.5") == (8192, 1024)
    assert defaults("l4", "vllm@0.19") == (2048, 256)
    assert defaults("b200", "vllm@0.19") == (8192, 1024)
    assert defaults("b200", "vllm@0.33") == (16384, 1024)


def test_the_usual_capture_has_51_sizes():
    """1, 2, 4, 8 to 248 by 8, 256 to 512 by 16 (vLLM 0.19.0, config/vllm.py)."""
    assert capture_sizes(512) == 3 + 31 + 17
    assert capture_sizes(4) == 3
    assert capture_sizes(0) == 0


# -- blocks, against what vLLM printed -----------------------------------------------------------


def pool_of(name: str, kv: str, layout: Layout, **blocks: object) -> BlockPool:
    states = StateFormats(
        state_format_named(kv), state_format_named("fp32"), state_format_named("bf16"),
        state_format_named("bf16"),
    )  # fmt: skip
    model = lowered(load_model(name).served(), "native", states)
    served = serving(model, layout, load_device("h100-sxm"), profile_of("vllm@0.19"), Settings())
    return block_pool(
        served.worst.facts.caches,
        Blocks(
            **{
                "tokens": 16,
                "in_flight": 8192,
                "padding_ratio": 1.5,
                "has_groups": True,
                "recurrent_blocks": 1,
                "tokens_by_concurrency": False,
                **blocks,
            }
        ),
    )


def test_windows_and_full_layers_share_blocks_as_gpt_oss_printed():
    """330,018 blocks, 2,640,144 tokens, 284.25 requests of 16,384: vLLM 0.10.1.1, 4 x A100."""
    pool = pool_of("gpt-oss-120b", "bf16", Layout(tp=4), in_flight=2048, padding_ratio=1.0)

    assert len(pool.groups) == 2
    assert pool.request_blocks(16384) == 1024 + 137
    free = 330_018 * pool.block_bytes
    assert pool.printed_tokens(free, 16384) == 2_640_144
    assert pool.printed_concurrency(free, 16384) == pytest.approx(284.25, abs=0.005)


@pytest.mark.parametrize(
    ("name", "bytes_per_token"),
    [
        # vLLM 0.19.0 on one H100: alternating layers in two groups, tokens as if all were full
        ("gemma-2-27b", 376_832),
        ("gemma-2-9b", 344_064),
        ("gemma-2-2b", 106_496),
        ("llama-3.1-8b", 131_072),
        ("deepseek-v2-lite", 31_104),
    ],
)
def test_a_printed_token_takes_the_bytes_of_all_layers(name, bytes_per_token):
    pool = pool_of(name, "bf16", Layout())

    free = 50 * GIB
    tokens = pool.printed_tokens(free, 8192)

    assert free / tokens == pytest.approx(bytes_per_token, rel=2e-4)


def test_recurrent_layers_stretch_attention_blocks_as_qwen_printed():
    """17.02 GiB, 3,382,054 tokens at 262,144: vLLM, Qwen3.6-35B-A3B, fp8 cache, 2 x RTX 5090."""
    pool = pool_of(
        "qwen3.6-35b-a3b", "fp8", Layout(tp=2), recurrent_blocks=2, tokens_by_concurrency=True
    )

    assert len(pool.groups) == 4
    assert pool.groups[0].tokens > 2000
    tokens = pool.printed_tokens(round(17.02 * GIB), 262_144)
    assert tokens == pytest.approx(3_382_054, rel=0.005)


def test_latents_are_shared_out_by_decode_context_parallelism():
    """46.8 GiB: 715,072 tokens with one rank, 5,721,088 with eight (Kimi-K2-Thinking, tp 8)."""
    one = pool_of("kimi-k2-thinking", "bf16", Layout(tp=8))
    eight = pool_of("kimi-k2-thinking", "bf16", Layout(tp=8, decode_cp=8), ways=8)

    free = round(46.8 * GIB)
    assert one.printed_tokens(free, 262_144) == pytest.approx(715_072, rel=1e-3)
    assert eight.printed_tokens(free, 262_144) == 8 * one.printed_tokens(free, 262_144)


def test_old_releases_expand_latents():
    """DeepSeek-Coder-V2 on 8 x 80 GB: 64,000 tokens do not start (vLLM 0.5.4, public issue)."""

    def tokens(version: str) -> int:
        served = serving(
            load_model("deepseek-ai/DeepSeek-Coder-V2-Instruct"), Layout(tp=8),
            load_device("h100-sxm"), profile_of(version),
            Settings(memory_frac=0.95, max_model_len=64_000),
        )  # fmt: skip
        return served.printed_tokens

    assert tokens("vllm@0.5.4") < 64_000
    assert tokens("vllm@0.8") > 64_000


# -- budgets, against what engines printed -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout", "version", "kv_gib", "tokens"),
    [
        # vLLM 0.19.0, H100, utilisation 0.95, max_model_len 8,192; public start-up logs, 2026-04
        ("llama-3.1-8b", Layout(), "0.19.0", 58.11, 476_016),
        ("qwen2.5-7b", Layout(tp=4), "0.19.0", 67.34, 5_043_280),
        ("mixtral-8x7b", Layout(tp=2), "0.19.0", 28.44, 465_936),
        ("gemma-2-9b", Layout(), "0.19.0", 54.12, 168_880),
        ("qwen3-14b", Layout(), "0.15.0", 41.94, 274_848),
    ],
)
def test_a_pool_is_what_vllm_printed(name, layout, version, kv_gib, tokens):
    asked = Settings(memory_frac=0.95, max_model_len=8192)
    device = load_device("h100-sxm")

    served = serving(load_model(name), layout, device, profile_of(f"vllm@{version}"), asked)

    assert served.worst.plan.held.pool_bytes / GIB == pytest.approx(kv_gib, rel=0.01)
    assert served.printed_tokens == pytest.approx(tokens, rel=0.01)


def test_the_rank_that_ends_first_is_named():
    outcome = llmplan(
        "memory", "llama-3.1-8b", "--gpus", "2xh100", "--pp", "2", "--tp", "1",
        "--engine", "vllm@0.19", "--format", "json",
    )  # fmt: skip
    answer = json.loads(outcome.stdout)

    assert answer["result"]["per_gpu"]["stage"] == 1
    assert any("stage 2 of 2" in warning for warning in answer["warnings"])


def test_sglang_shares_what_is_free_before_loading():
    """22.91 GiB free, 11.07 of weights, share 0.85: 8.32 GiB of pools; the rest is for steps."""
    served = serving(
        load_model("gemma-4-31b"), Layout(tp=2), load_device("rtx-3090"),
        profile_of("sglang@2026-06"), Settings(memory_frac=0.85),
    )  # fmt: skip
    held = served.worst.plan.held

    free = served.gpu.capacity_bytes - held.non_torch.bytes
    assert free / GIB == pytest.approx(22.91, abs=0.02)
    assert held.pool_bytes == int(free * 0.85) - held.weights.bytes
    assert held.budget_bytes / GIB - 11.07 == pytest.approx(8.32, rel=0.02)


def test_sglang_cuts_windows_a_pool_of_their_own():
    """24,248 and 19,398 tokens at a ratio of 0.8 share 8.3 GiB (Gemma 4 31B, tp 2, bf16)."""
    pool = SplitPool(10 * 2 * 512 * 2 * 2, 50 * 8 * 256 * 2 * 2, 0.8, 1024, 0, 0, 0.9)

    free = 19_398 * 50 * 8 * 256 * 4 + 24_248 * 10 * 2 * 512 * 4
    assert pool.printed_tokens(free, 262_144) == pytest.approx(24_248, abs=2)


def test_llama_cpp_takes_what_the_context_asks_for():
    """n_ctx 32,768: 1,952 MiB of f16 for GLM-Z1 32B, 1,098 MiB at 16,384 for DeepSeek's latents."""

    def cache(name: str, context: int) -> float:
        states = StateFormats(*[state_format_named("fp16")] * 3)
        served = serving(
            lowered(load_model(name).served(), "native", states), Layout(),
            load_device("rtx-a6000"), profile_of("llama.cpp"), Settings(max_model_len=context),
        )  # fmt: skip
        return served.worst.plan.held.pool_bytes / 2**20

    assert cache("glm-4-32b-0414", 32_768) == 1952.0
    assert cache("deepseek-r1", 16_384) == pytest.approx(1098.0)


# -- pools ---------------------------------------------------------------------------------------

caches = st.builds(
    LayerCache,
    entries=st.just(()) | st.tuples(st.tuples(st.just(1), st.integers(1, 4096))),
    window=st.sampled_from([0, 128, 1024]),
    window_token_bytes=st.integers(1, 4096),
    fixed_bytes=st.sampled_from([0, 65_536]),
).map(lambda c: c if c.window else LayerCache(c.entries, 0, 0, c.fixed_bytes))
kept = st.lists(st.tuples(caches, st.integers(1, 64)), min_size=1, max_size=3).filter(
    lambda rows: any(cache.entries for cache, _ in rows)
)


@given(kept=kept, context=st.integers(1, 200_000), more=st.integers(0, 10_000))
def test_blocks_hold_what_layers_keep_and_grow_with_context(kept, context, more):
    blocks = Blocks(16, 2048, 1.5, has_groups=True, recurrent_blocks=1, tokens_by_concurrency=True)
    pool, exact = block_pool(tuple(kept), blocks), ExactPool(tuple(kept))

    assert pool.request_bytes(context) >= exact.request_bytes(context)
    assert pool.request_bytes(context) <= pool.request_bytes(context + more)


@given(free=st.integers(-(10**9), 10**12), more=st.integers(0, 10**10))
def test_more_memory_never_holds_fewer_tokens(free, more):
    group = BlockGroup(16)
    for pool in (
        ExactPool(((LayerCache(((1, 4096),)), 32),)),
        BlockPool(16 * 4096 * 32, (group,), 8192),
        SplitPool(4096, 8192, 0.8, 1024, 0, 0, 0.9),
    ):
        assert 0 <= pool.printed_tokens(free, 8192) <= pool.printed_tokens(free + more, 8192)


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "formats"),
    [
        ("bf16", "bf16"),
        ("fp8-dynamic (compressed-tensors)", "fp8_channel"),
        ("w8a8-int8 (compressed-tensors)", "int8"),
        ("awq int4", "int4_awq"),
        ("int4 (auto-round)", "int4_sym"),
        ("nvfp4+fp8 mixed", "nvfp4"),
        ("fp4/fp8 mixed (native)", "native"),
        ("bnb-4bit", "nf4"),
        ("three bits", None),
    ],
)
def test_formats_are_read_in_the_words_of_logs(said, formats):
    assert weight_words(said) == formats


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("auto (bf16)", "bf16"),
        ("auto", "bf16"),
        ("fp8_e5m2", "fp8"),
        ("fp8 (fp8_ds_mla)", "fp8_ds_mla"),
        ("K q8_0 / V q4_0", "q8_0/q4_0"),
        ("q8_0 (MLA)", "q8_0"),
        ("turbo", None),
    ],
)
def test_cache_formats_are_read_in_the_words_of_logs(said, name):
    assert kv_words(said) == name
    if name:
        assert state_format_named(name)


def test_keys_and_values_may_be_kept_apart():
    """64 layers x 8 heads x 128 at 34/32 and 18/32 bytes: 106,496 a token (llama.cpp log)."""
    mixed = state_format_named("q8_0/q4_0")
    assert 64 * 8 * 128 * 2 * mixed.bits_per_weight / 8 == 106_496


def test_rotary_tables_are_part_of_what_is_loaded():
    """10,485,760 positions of Llama 4 Scout in bf16: 2.5 GiB; vLLM 0.19 loads 53.12 GiB a rank."""
    model = load_model("llama-4-scout")
    assert rotary_table_bytes(model, profile_of("vllm@0.19")) == 10_485_760 * 128 * 2
    served = serving(
        model, Layout(tp=4), load_device("h100-sxm"), profile_of("vllm@0.19"), Settings()
    )
    assert served.worst.plan.held.weights.bytes / GIB == pytest.approx(53.12, rel=0.005)


def test_deepseek_v4_does_not_fit_eight_h200_in_sglang():
    """125.65 GiB of weights a rank; share 0.88 leaves nothing (public benchmark log, 2026-07)."""
    served = serving(
        load_model("deepseek-v4-pro").served(), Layout(tp=8), load_device("h200-sxm"),
        profile_of("sglang@2026-07-09"), Settings(memory_frac=0.88),
    )  # fmt: skip
    assert served.worst.plan.held.weights.bytes / GIB == pytest.approx(125.65, rel=0.01)
    assert why_not(served) == "weights and reserve leave nothing for a cache"


# -- layouts -------------------------------------------------------------------------------------


def test_layers_left_over_go_before_the_last_stage():
    """61 layers over 4 stages: 15, 15, 16, 15 (vLLM 0.19.0, distributed/utils.py)."""
    assert stage_sizes(61, Layout(pp=4)) == (15, 15, 16, 15)
    assert stage_sizes(61, Layout(pp=3, stage_layers=(20, 20, 21))) == (20, 20, 21)


@pytest.mark.parametrize(
    ("name", "layout", "rule"),
    [
        ("llama-3.1-8b", Layout(pp=33), "more than the 32 layers"),
        ("llama-3.1-8b", Layout(ep=True, tp=2), "no routed experts"),
        ("mixtral-8x7b", Layout(dp=16, ep=True), "ranks without any"),
        ("deepseek-v3", Layout(dp=8), "needs expert parallelism"),
        ("deepseek-v3", Layout(dp=8, ep=True, redundant_experts=3), "must divide"),
        ("llama-3.1-8b", Layout(tp=8, decode_cp=2), "copies"),
        ("gemma-2-9b", Layout(prefill_cp=2), "grow with every token"),
        ("llama-3.1-8b", Layout(pp=2, stage_layers=(20, 20)), "no split of 32"),
    ],
)
def test_an_illegal_layout_is_refused_with_its_rule(name, layout, rule):
    with pytest.raises(LayoutError, match=rule):
        stage_ranks(load_model(name), layout)


def test_decode_context_parallelism_needs_copies_of_a_cache():
    """Latents are copied on every rank, two KV heads on four ranks of eight each."""
    check_layout(load_model("deepseek-v3"), Layout(tp=8, decode_cp=8))
    check_layout(load_model("qwen2.5-7b"), Layout(tp=4))
    with pytest.raises(LayoutError):
        check_layout(load_model("qwen3-8b"), Layout(tp=8, decode_cp=2))


def test_layouts_with_the_same_split_share_it():
    splits = Splits(load_model("llama-3.1-8b"))
    one, two = splits.ranks(Layout(tp=2)), splits.ranks(Layout(tp=2, pp=2))

    assert two[0].model.decoder.layers[0] is one[0].model.decoder.layers[0]
    assert [rank.num_layers for rank in two] == [16, 16]


# -- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [[], ["qwen3-32b"]])
def test_a_gguf_that_is_not_read_needs_its_formats(model: list[str]):
    command = "llama-server -hf unsloth/Qwen3-32B-GGUF:Q4_K_M -ngl 99"
    asked = ["memory", *model, "--from-command", command, "--gpus", "h100"]

    refused = llmplan(*asked)
    stated = llmplan(*asked, "--dtype", "q8_0")

    assert refused.exit_code == 2
    assert "Q4_K_M" in refused.stderr
    assert "--dtype" in refused.stderr
    assert stated.exit_code == 0


def test_a_pasted_command_is_answered():
    command = (
        "vllm serve meta-llama/Llama-3.1-8B-Instruct --gpu-memory-utilization 0.95 "
        "--max-model-len 8192 --host 0.0.0.0"
    )
    outcome = llmplan(
        "memory", "--from-command", command, "--gpus", "h100", "--engine", "vllm@0.19.0",
        "--format", "json",
    )  # fmt: skip
    answer = json.loads(outcome.stdout)

    assert answer["inputs"]["model"] == "llama-3.1-8b"
    assert answer["inputs"]["gpu_memory_utilization"] == 0.95
    assert answer["result"]["engine_tokens"] == pytest.approx(476_016, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "h100"], "name a model"),
        (
            ["--from-command", "vllm serve qwen3-8b", "--gpus", "h100", "--engine", "sglang"],
            "sglang",
        ),
        (["qwen3-8b", "--engine", "vllm"], "--gpus"),
        (["qwen3-8b", "--gpus", "h100", "--engine", "vllm", "--reserve", "4GiB"], "--reserve"),
        (["qwen3-8b", "--gpus", "8xh100", "--tp", "2", "--dp", "2", "--ep", "8"], "--ep 8"),
        (["flux.1-dev", "--gpus", "h100", "--engine", "vllm"], "diffusion"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments, words):
    outcome = llmplan("memory", *arguments)

    assert outcome.exit_code == 2
    assert words in outcome.stderr


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "llama.cpp"])
def test_every_model_of_the_catalogue_is_answered_under_every_engine(engine):
    outcome = llmplan("fit", "--gpus", "8xH200", "--engine", engine, "--format", "json")
    rows = json.loads(outcome.stdout)["result"]["deployments"]

    refused = {row["model"] for row in rows if row["binding"] == "layout"}
    assert refused == {"flux.1-dev", "flux.1-schnell"}
    assert all(row["kv_tokens"] for row in rows if row["fits"])
