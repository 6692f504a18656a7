"""The ledger: entries and bytes one by one, so that published totals can be rebuilt."""

import json

import pytest

from llmplan.analyze.ledger import ledger
from llmplan.analyze.memory import weights_bytes
from llmplan.model.catalogue import load_model, model_names
from tests.program import llmplan


def test_deepseek_v3_is_the_hub_total_part_by_part():
    counted = ledger(load_model("deepseek-v3"))

    # hub totals of DeepSeek-R1 (bf16 count) and of DeepSeek-V3 (scales counted), read 2026-11
    assert counted.logical + counted.buffers + counted.mtp == 684_489_845_504
    assert counted.with_mtp.entries == 684_489_845_504
    assert counted.with_mtp.entries + counted.with_mtp.scale_entries == 684_531_386_000
    assert counted.with_mtp.scale_entries == 41_540_496
    assert counted.with_mtp.scales_bytes == 41_540_496 * 4  # fp32
    assert counted.without_mtp.buffers_bytes == 14_848 * 4  # fp32
    assert counted.without_mtp.total_bytes == 673_150_611_808
    assert counted.with_mtp.total_bytes == 688_574_839_360


def test_kimi_k2_has_no_mtp_modules():
    counted = ledger(load_model("kimi-k2"))

    assert counted.without_mtp == counted.with_mtp
    assert counted.logical == 1_026_408_209_408
    assert counted.without_mtp.entries == counted.logical + 23_040
    assert counted.without_mtp.total_bytes == 1_029_173_249_888


def test_gpt_oss_120b_is_its_published_size():
    counted = ledger(load_model("gpt-oss-120b"))

    experts = 36 * 128 * (2 * 2880 + 2880) * 2880
    assert counted.without_mtp.scale_entries == experts // 32
    assert counted.without_mtp.scales_bytes == experts // 32  # one e8m0 byte a scale
    assert counted.without_mtp.total_bytes == 65_248_815_744


def test_minimax_m2_5_is_the_hub_total_with_its_scales():
    counted = ledger(load_model("minimax-m2.5"))

    assert counted.mtp == 0
    assert counted.without_mtp.scale_entries == 13_880_064
    # hub total read 2026-11
    stored = counted.without_mtp.entries + counted.without_mtp.scale_entries
    assert counted.logical == 228_689_748_992
    assert stored == 228_703_644_928


def test_a_tied_head_may_be_stored_twice():
    counted = ledger(load_model("qwen3-0.6b"))

    assert counted.tied_copy == 151_936 * 1024
    # hub total 751,632,384, read 2026-11
    assert counted.logical + counted.tied_copy == 751_632_384


def test_padding_is_stated_where_a_config_states_it():
    assert ledger(load_model("mamba2-2.7b")).padding == (50_288 - 50_277) * 2560
    assert ledger(load_model("llama-3.1-8b")).padding is None


@pytest.mark.parametrize("name", model_names())
def test_the_parts_add_up(name):
    model = load_model(name)

    counted = ledger(model)

    assert counted.without_mtp.entries == counted.logical + counted.buffers
    assert counted.with_mtp.entries == counted.logical + counted.buffers + counted.mtp
    assert counted.without_mtp.total_bytes == weights_bytes(model.served())
    assert counted.with_mtp.total_bytes == weights_bytes(model.served(mtp=True))


def test_the_command_prints_it():
    result = json.loads(llmplan("params", "deepseek-v3", "--format", "json").stdout)["result"]

    held = result["ledger"]["with_mtp"]
    parts = ("elements_bytes", "scales_bytes", "buffers_bytes")
    assert sum(held[part] for part in parts) == held["total_bytes"] == 688_574_839_360
    assert "688,574,839,360" in llmplan("params", "deepseek-v3").stdout
    assert (
        "ledger.with_mtp.total_bytes,688574839360"
        in llmplan("params", "deepseek-v3", "--format", "csv").stdout
    )
