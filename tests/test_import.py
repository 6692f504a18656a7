"""Importing config.json: equal to the catalogue and to transformers, or refused."""

from pathlib import Path

import pytest

from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Part
from llmplan.model.reading import load_config
from tests.published import ORACLES, counts

HERE = Path(__file__).parent
CONFIGS = {path.stem: path for path in sorted((HERE / "oracles" / "configs").glob("*.json"))}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_an_official_config_gives_the_counts_of_its_model(name):
    expected = {key: value for key, value in ORACLES[name].items() if key != "mtp"}

    got = counts(load_config(CONFIGS[name]))

    assert {key: got[key] for key in expected} == expected


def test_kimi_k3_stores_its_latent_projections_unquantised_though_no_list_says_so():
    # headers of the published files: 1,560,860,324,864 bytes; 2 x 447,358,976 are the tower and its
    # projector, 2 x 863,328 what small tensors take more in fp32, 4 x 2,208 the padding of A_log
    published = 1_560_860_324_864 - 2 * 447_358_976 - 2 * 863_328 - 4 * 2_208

    imported, shipped = load_config(CONFIGS["kimi-k3"]), load_model("kimi-k3")

    for model in (imported, shipped):
        assert sum(o.weights_bytes * n for o, n in model.served().counted()) == published


def test_kimi_k3_in_another_format_must_name_its_latent_projections(tmp_path):
    changes = {
        '"num_bits": 4': '"num_bits": 8',
        '"strategy": "group"': '"strategy": "channel"',
        '"group_size": 32': '"group_size": null',
        '"input_activations": null': '"input_activations": {"num_bits": 8, "type": "float"}',
    }
    text = CONFIGS["kimi-k3"].read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "config.json"
    path.write_text(text)

    with pytest.raises(DocumentError, match="names some modules of ffn only"):
        load_config(path)


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
