"""Every spec of the catalogue: readable, sourced, and exact to the parameter."""

import pytest

from llmplan.model.catalogue import check_hub_ids, load_model, spec_paths
from tests.published import ORACLES, counts

NAMES = [path.stem for path in spec_paths()]


@pytest.mark.parametrize("name", NAMES)
def test_counts_equal_the_published_ones(name):
    expected = ORACLES[name]

    got = counts(load_model(name))

    assert {key: got[key] for key in expected} == expected


def test_no_hub_id_stands_twice():
    check_hub_ids()


@pytest.mark.parametrize("name", NAMES)
def test_every_hub_id_resolves_to_its_model(name):
    model = load_model(name)

    found = {load_model(hub_id).identity.name for hub_id in model.identity.hf_ids[:2]}

    assert found == {name}


def test_one_model_of_each_kind_is_there():
    wanted = [
        "llama-3.1-8b",
        "llama-3.1-405b",
        "llama-3.2-1b",
        "olmo-2-7b",
        "mistral-7b-v0.1",
        "gemma-3-27b",
        "gpt-oss-120b",
        "llama-4-scout",
        "qwen3-235b-a22b",
        "qwen3-next-80b-a3b",
        "deepseek-v3",
        "deepseek-v3.2",
        "kimi-k2",
        "kimi-linear-48b-a3b",
        "minimax-text-01",
        "glm-4.5",
        "nemotron-3-nano-30b-a3b",
        "mixtral-8x7b",
        "mamba-2.8b",
        "jamba-v0.1",
        "recurrentgemma-9b",
        "rwkv6-finch-7b",
    ]

    assert set(wanted) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_spec_says_where_it_comes_from_and_when_it_was_released(name):
    identity = load_model(name).identity

    assert identity.source
    assert identity.release_date
    assert identity.license != "not stated in the config"
