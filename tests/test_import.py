"""Importing config.json: equal to the catalogue and to transformers, or refused."""

from pathlib import Path

import pytest

from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_config
from llmplan.model.compiled import Part
from tests.published import ORACLES, counts

HERE = Path(__file__).parent
CONFIGS = {path.stem: path for path in sorted((HERE / "oracles" / "configs").glob("*.json"))}


REFUSED = {
    "glm-5.3-flash": "hyper-connections and pooled indexers have no block yet",
    "mistral-large-4": "its class is new; the spec language was not checked against it",
}
"""Official configs that are not read yet, with what is missing."""


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(REFUSED)))
def test_an_official_config_gives_the_counts_of_its_model(name):
    expected = {key: value for key, value in ORACLES[name].items() if key != "mtp"}

    got = counts(load_config(CONFIGS[name]))

    assert {key: got[key] for key in expected} == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_beyond_the_spec_language_is_refused(name):
    with pytest.raises(DocumentError):
        load_config(CONFIGS[name])


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
