"""Every spec of the catalogue: readable, sourced, and exact to the parameter."""

from pathlib import Path

import pytest
import yaml

from llmplan.model.catalogue import check_hub_ids, load_model, spec_paths
from llmplan.model.compiled import Model, Part
from llmplan.ops.base import StateKind

ORACLES = yaml.safe_load((Path(__file__).parent / "oracles" / "models.yaml").read_text())
NAMES = [path.stem for path in spec_paths()]


def counts(model: Model) -> dict[str, int]:
    """The columns of the oracle table, as sums over operators."""
    published = model.served()
    states = [
        (state, repeats) for operator, repeats in published.counted() for state in operator.states
    ]

    def parameters(*parts: Part) -> int:
        return sum(o.parameters * n for c in model.parts(*parts) for o, n in c.counted)

    def state_bytes(kind: StateKind) -> int:
        return sum(s.width_bytes * max(s.window, 1) * n for s, n in states if s.kind is kind)

    mtp_buffers = sum(o.buffers * n for c in model.parts(Part.MTP) for o, n in c.counted)
    return {
        "total": sum(o.parameters * n for o, n in published.counted()),
        "buffers": sum(o.buffers * n for o, n in published.counted()),
        "mtp": parameters(Part.MTP) + mtp_buffers,
        "vision": parameters(Part.VISION, Part.PROJECTOR),
        "active": sum(o.active_parameters * n for o, n in model.decoder.counted),
        "kv": state_bytes(StateKind.KV),
        "indexer": state_bytes(StateKind.INDEXER),
        "recurrent": state_bytes(StateKind.RECURRENT),
        "convolution": state_bytes(StateKind.CONVOLUTION),
        "window": state_bytes(StateKind.WINDOW),
    }


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
