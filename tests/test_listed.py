"""Models that are known by name only: listed with a reason, refused with the same one."""

import json
from pathlib import Path

import pytest

from llmplan.errors import UnverifiedModelError
from llmplan.model.catalogue import load_model, model_names
from llmplan.model.listed import listed_model, listed_models
from tests.program import llmplan

SMALL = Path(__file__).parent / "golden" / "files" / "small.yaml"
NAMES = [model.name for model in listed_models()]


def test_no_listed_model_has_a_spec():
    assert not set(NAMES) & set(model_names())
    assert len(set(NAMES)) == len(NAMES)


def test_every_reason_and_source_is_a_sentence_with_a_date():
    for model in listed_models():
        assert model.reason.endswith("."), model.name
        assert model.source.date, model.name
        assert (model.status == "announced") == (model.published is not None), model.name


@pytest.mark.parametrize("name", NAMES)
def test_a_listed_model_is_refused_with_its_reason(name):
    model = listed_model(name)

    with pytest.raises(UnverifiedModelError, match=r"docs/add-a-model\.md") as caught:
        load_model(name)

    assert str(caught.value).startswith(f"unverified: {model.reason}")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("Qwen/Qwen3.8-27B", "qwen3.8-27b"),
        ("qwen/qwen3.8-27b", "qwen3.8-27b"),
        ("unsloth/Qwen3.8-27B-NVFP4", "qwen3.8-27b"),
        ("Qwen/Qwen3.8-27B-FP8", "qwen3.8-27b"),
        ("Qwen3.8-Flash-Next", "qwen3.8-flash-next"),
        ("stepfun-ai/Step-3.7-Flash", "step-3.7-flash"),
        ("HAWK", "hawk"),
    ],
)
def test_ids_and_quantised_repositories_lead_to_it(asked, name):
    assert listed_model(asked).name == name


@pytest.mark.parametrize(
    "command",
    [
        "params",
        "flops",
        "memory",
        "fit --gpus 8xH100",
        "models --compare kimi-k2",
        "verify --against small.yaml",
    ],
)
def test_every_command_that_needs_numbers_refuses_it(command):
    name, *options = command.split()

    outcome = llmplan(name, "Qwen/Qwen3.8-27B", *options)

    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: unverified: no copy of its config.json was found;")


def test_the_list_names_them_apart_from_the_models():
    result = json.loads(llmplan("models", "--format", "json").stdout)["result"]

    assert [row["name"] for row in result["listed"]] == NAMES
    assert not {row["name"] for row in result["models"]} & set(NAMES)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--family", "griffin"), ["hawk", "griffin-7b"]),
        (("--family", "muse"), ["muse-glimmer-30b"]),
        (("--min-context", "1k"), []),
        (("--max-weights", "80GB"), []),
        (("--attention", "gqa"), []),
    ],
)
def test_filters_that_ask_for_numbers_leave_them_out(options, names):
    result = json.loads(llmplan("models", *options, "--format", "json").stdout)["result"]

    assert [row["name"] for row in result["listed"]] == names


def test_what_was_announced_is_shown_in_words():
    outcome = llmplan("models", "llama-4-behemoth")

    assert outcome.exit_code == 0
    for text in ("announced", "about 2 T", "288 B", "16", "2025-04-05"):
        assert text in outcome.stdout


def test_rows_to_compare_are_skipped_with_that_reason(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("slug,config_confidence,meta_total_params\nstep-3.7-flash,partial,1000\n")

    outcome = llmplan("validate", "params", "--data", str(table), "--format", "json")
    (row,) = json.loads(outcome.stdout)["result"]["rows"]

    assert row["status"] == "skipped"
    assert row["reason"] == f"unverified: {listed_model('step-3.7-flash').reason}"


def test_an_own_spec_of_that_name_is_used(tmp_path, monkeypatch):
    spec = tmp_path / "specs" / "hawk.yaml"
    spec.parent.mkdir()
    spec.write_text(SMALL.read_text().replace("name: small", "name: hawk"))
    monkeypatch.setenv("LLMPLAN_CATALOG", str(tmp_path))

    assert load_model("hawk").identity.name == "hawk"
    listed = json.loads(llmplan("models", "hawk", "--format", "json").stdout)["result"]
    assert [row["name"] for row in listed["models"]] == ["hawk"]
    assert listed["listed"] == []
