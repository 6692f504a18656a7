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
