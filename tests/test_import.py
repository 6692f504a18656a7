"""Importing config.json: equal to the catalogue and to transformers, or refused."""

from pathlib import Path

import pytest
import yaml

from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_config
from llmplan.model.compiled import Model, Part
from llmplan.ops.base import StateKind

HERE = Path(__file__).parent
ORACLES = yaml.safe_load((HERE / "oracles" / "models.yaml").read_text())
CONFIGS = {path.stem: path for path in sorted((HERE / "oracles" / "configs").glob("*.json"))}


def counts(model: Model) -> dict[str, int]:
    published = model.served()
    states = [(s, n) for o, n in published.counted() for s in o.states]

    def state_bytes(kind: StateKind) -> int:
        return sum(s.width_bytes * max(s.window, 1) * n for s, n in states if s.kind is kind)

    return {
        "total": sum(o.parameters * n for o, n in published.counted()),
        "buffers": sum(o.buffers * n for o, n in published.counted()),
        "vision": sum(
            o.parameters * n for c in model.parts(Part.VISION, Part.PROJECTOR) for o, n in c.counted
        ),
        "active": sum(o.active_parameters * n for o, n in model.decoder.counted),
        "kv": state_bytes(StateKind.KV),
        "indexer": state_bytes(StateKind.INDEXER),
        "recurrent": state_bytes(StateKind.RECURRENT),
        "convolution": state_bytes(StateKind.CONVOLUTION),
        "window": state_bytes(StateKind.WINDOW),
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_an_official_config_gives_the_counts_of_its_model(name):
    expected = {key: value for key, value in ORACLES[name].items() if key != "mtp"}

    got = counts(load_config(CONFIGS[name]))

    assert {key: got[key] for key in expected} == expected


def test_an_unknown_key_is_refused_with_its_name(tmp_path):
    path = tmp_path / "config.json"
    text = CONFIGS["llama-3.1-8b"].read_text()
    path.write_text(text.replace("{", '{"num_secret_layers": 3, ', 1))

    with pytest.raises(DocumentError, match="num_secret_layers: is not known"):
        load_config(path)


PUBLISHED_BYTES = {
    # these follow from config.json to the byte: fp8 with one fp32 scale a 128x128 block, bf16
    # elsewhere, routing biases in fp32, without MTP modules
    "deepseek-v3": 673_150_611_808,
    "kimi-k2": 1_029_173_249_888,
    # size of the published checkpoint: experts in mxfp4, bf16 elsewhere
    "gpt-oss-120b": 65_248_815_744,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED_BYTES.items())
def test_an_official_config_gives_the_published_bytes(name, published):
    model = load_config(CONFIGS[name]).served()

    assert sum(o.weights_bytes * n for o, n in model.counted()) == published


STATED_MTP = [
    name
    for name, path in CONFIGS.items()
    if "mtp" in ORACLES[name] and "num_nextn_predict_layers" in path.read_text()
]


@pytest.mark.parametrize("name", STATED_MTP)
def test_known_mtp_modules_have_their_published_size(name):
    modules = load_config(CONFIGS[name]).parts(Part.MTP)

    size = sum((o.parameters + o.buffers) * n for part in modules for o, n in part.counted)

    assert size == ORACLES[name]["mtp"]
