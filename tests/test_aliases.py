"""Names of quantised and fine-tuned repositories: what they lead to, and that it is said aloud."""

import json

import pytest

from llmplan.dtypes import format_named
from llmplan.errors import UnknownNameError
from llmplan.model.aliases import readings, short_name
from llmplan.model.catalogue import load_model
from llmplan.ops.precision import LINEAR_ROLES
from tests.program import llmplan

QUANTISED = [
    ("RedHatAI/Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b", "fp8_channel"),
    ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b", "fp8_tensor"),
    ("unsloth/Qwen3-8B-FP8", "qwen3-8b", "fp8"),
    ("acme/Qwen3-8B-FP8-block", "qwen3-8b", "fp8"),
    ("amd/Llama-3.1-70B-Instruct-FP8-KV", "llama-3.1-70b", "fp8_tensor"),
    ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b", "int8"),
    ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", "llama-3.1-8b", "int4_sym_g128"),
    ("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", "llama-3.1-8b", "int4_awq_g128"),
    ("acme/Qwen3-8B-AWQ", "qwen3-8b", "int4_awq_g128"),
    ("acme/Qwen3-8B-GPTQ-Int4", "qwen3-8b", "int4_gptq_g128"),
    ("acme/Qwen3-8B-GPTQ-Int8", "qwen3-8b", "int8"),
    ("acme/Qwen3-8B-MXFP4", "qwen3-8b", "mxfp4"),
    ("acme/Mixtral-8x7B-Instruct-v0.1-NVFP4", "mixtral-8x7b", "nvfp4"),
    ("acme/kimi-k2-instruct-bf16", "kimi-k2", "bf16"),
]


@pytest.mark.parametrize(("asked", "base", "formats"), QUANTISED)
def test_a_quantised_name_leads_to_its_base_and_format(asked, base, formats):
    model = load_model(asked)

    stored = {o.precision.of(role).name for o, _ in model.decoder.counted for role in LINEAR_ROLES}
    (remark,) = model.identity.assumptions
    assert model.identity.name == base
    assert stored == {formats}
    assert remark.startswith(f"{asked} is read as {base}, linear weights in {formats} (by its name")


@pytest.mark.parametrize("formats", sorted({formats for _, _, formats in QUANTISED}))
def test_every_format_that_a_name_may_state_is_one(formats):
    assert format_named(formats).name == formats


def test_what_a_name_does_not_state_stays_as_published():
    asked, base = load_model("acme/Qwen3-8B-AWQ"), load_model("qwen3-8b")

    for quantised, published in zip(asked.decoder.counted, base.decoder.counted, strict=True):
        assert quantised[0].precision.norm == published[0].precision.norm
        assert quantised[0].precision.embedding == published[0].precision.embedding
        assert quantised[0].precision.head == published[0].precision.head


@pytest.mark.parametrize("command", ["params", "flops", "memory", "models"])
def test_every_command_says_what_was_assumed(command):
    table = llmplan(command, "acme/Qwen3-8B-AWQ")
    answer = json.loads(llmplan(command, "acme/Qwen3-8B-AWQ", "--format", "json").stdout)

    assert "note: acme/Qwen3-8B-AWQ is read as qwen3-8b, linear weights in int4" in table.stderr
    assert any("acme/Qwen3-8B-AWQ is read as qwen3-8b" in text for text in answer["warnings"])


def test_another_publisher_of_the_same_name_is_said_as_well():
    (remark,) = load_model("unsloth/Qwen3-8B").identity.assumptions

    assert "is read as qwen3-8b (by its name alone, another publisher's)" in remark


def test_a_fine_tuned_name_keeps_the_published_formats():
    model = load_model("acme/Qwen3-8B-Chat")

    (remark,) = model.identity.assumptions
    assert "is read as qwen3-8b (by its name alone, without -chat" in remark
    assert model.decoder.counted == load_model("qwen3-8b").decoder.counted


def test_gguf_names_one_of_several_formats():
    (remark,) = load_model("unsloth/Qwen3-8B-GGUF").identity.assumptions

    assert "GGUF repositories hold several formats, so name one: --dtype q4_k" in remark


def test_an_id_of_the_catalogue_is_no_assumption():
    assert load_model("Qwen/Qwen3-8B").identity.assumptions == ()
    assert load_model("qwen/qwen3-8b").identity.assumptions == ()


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("acme/Qwen3-8B-Merge", "qwen/qwen3-8b"),
        ("qwen3-8bb", "qwen3-8b"),
        ("kimi-2k", "kimi-k2"),
    ],
)
def test_an_unknown_name_stays_unknown_with_the_nearest(asked, nearest):
    with pytest.raises(UnknownNameError, match="Did you mean") as caught:
        load_model(asked)

    assert nearest in " ".join(caught.value.nearest)


@pytest.mark.parametrize(
    "asked", ["acme/kimi-k2-ultra-72b", "Qwen3-8B-AWQ", "acme/-fp8", "/", "a/b/"]
)
def test_no_word_is_taken_off_that_is_not_known(asked):
    with pytest.raises(UnknownNameError):
        load_model(asked)


def test_words_are_taken_off_one_by_one_and_one_format_at_most():
    found = readings("org/NAME-Instruct-AWQ-FP8")

    assert [reading.base for reading in found] == ["name-instruct-awq-fp8", "name-instruct-awq"]
    assert [reading.base for reading in readings("org/x-instruct-gguf")] == [
        "x-instruct-gguf",
        "x-instruct",
        "x",
    ]


def test_short_names_have_no_publisher_and_no_meta():
    assert short_name("meta-llama/Meta-Llama-3-8B") == "llama-3-8b"
    assert short_name("Qwen/Qwen3-8B") == "qwen3-8b"
