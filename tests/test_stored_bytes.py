"""Stored bytes of published checkpoints: block scales, packed 4 bits, routing biases."""

import pytest

from llmplan.model.catalogue import load_model

PUBLISHED_BYTES = {
    # follows from config.json to the byte: attention and feed-forward in fp8, one fp32 scale per
    # 128x128 block, bf16 elsewhere, 14848 routing biases in fp32; without the MTP module
    "deepseek-v3": 673_150_611_808,
    # follows from config.json to the byte: as above, 23040 routing biases
    "kimi-k2": 1_029_173_249_888,
    # size of the published checkpoint, huggingface.co/openai/gpt-oss-120b: experts in mxfp4, bf16
    # elsewhere
    "gpt-oss-120b": 65_248_815_744,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED_BYTES.items())
def test_native_precision_stores_the_published_bytes(name, published):
    model = load_model(name).served()

    stored = sum(operator.weights_bytes * repeats for operator, repeats in model.counted())

    assert stored == published


def test_the_mtp_module_of_deepseek_v3_adds_its_bytes():
    model = load_model("deepseek-v3").served(mtp=True)

    stored = sum(operator.weights_bytes * repeats for operator, repeats in model.counted())

    assert stored == 688_574_839_360


def test_an_output_projection_may_have_its_own_format():
    # MiMo-V2-Flash keeps o_proj in bf16 beside fp8 projections: 48 layers of 4096 x 64 x 128
    o_proj, others = (
        sum(
            operator.weights_bytes * repeats
            for operator, repeats in load_model("mimo-v2-flash").decoder.counted
            if operator.name == name
        )
        for name in ("o_proj", "q_proj")
    )

    assert o_proj == 48 * 4096 * 64 * 128 * 2
    assert others == 48 * (4096 * 64 * 192 + 4 * 32 * 96)  # e4m3, one fp32 scale per 128x128
