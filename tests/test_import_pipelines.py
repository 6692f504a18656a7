"""Configs of diffusers: a pipeline in one file or in folders, counted as its classes are."""

import copy
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model, Part
from llmplan.model.reading import load_config, load_spec
from tests.program import llmplan

needs_diffusers = pytest.mark.skipif(
    find_spec("diffusers") is None or find_spec("torch") is None, reason="diffusers is not here"
)

FLUX: dict[str, Any] = {
    "_pipeline": "FluxPipeline",
    "transformer": {"_class_name": "FluxTransformer2DModel", "guidance_embeds": True},
    "text_encoder": {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
    },
    "text_encoder_2": {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "d_ff": 10240,
        "d_kv": 64,
        "d_model": 4096,
        "feed_forward_proj": "gated-gelu",
        "num_heads": 64,
        "num_layers": 24,
        "vocab_size": 32128,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "latent_channels": 16,
        "layers_per_block": 2,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
}
INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.30.0.dev0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
PARTS = ("transformer", "text_encoder", "text_encoder_2", "vae")


def written(data: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def in_folders(data: dict[str, Any], folder: Path, index: dict[str, Any] = INDEX) -> Path:
    """The bundle as diffusers publishes it."""
    for part in PARTS:
        written(data[part], folder / part / "config.json")
    return written(index, folder / "model_index.json")


def parameters(model: Model) -> list[int]:
    return [sum(o.parameters * n for o, n in part.counted) for part in model.components]


@pytest.mark.parametrize(("name", "guided"), [("flux.1-dev", True), ("flux.1-schnell", False)])
def test_a_bundle_is_the_model_of_the_catalogue(tmp_path, name, guided):
    data = copy.deepcopy(FLUX)
    data["transformer"]["guidance_embeds"] = guided

    bundle = load_config(written(data, tmp_path / f"{name}.json"))
    folder = load_config(in_folders(data, tmp_path / name))

    shipped = load_model(name)
    for imported in (bundle, folder):
        assert imported.identity.name == name
        assert parameters(imported) == parameters(shipped)
    assert [part.counted for part in bundle.components] == [p.counted for p in shipped.components]


def test_what_no_config_says_is_said(tmp_path):
    model = load_config(written(FLUX, tmp_path / "bundle.json"))

    assert model.identity.assumptions == model.identity.notes
    assert "defaults of FluxPipeline" in model.identity.notes[0]


def test_the_spec_that_import_writes_is_the_same_model(tmp_path):
    source = written(FLUX, tmp_path / "bundle.json")

    outcome = llmplan("import", str(source), "-o", str(tmp_path / "bundle.yaml"))

    assert outcome.exit_code == 0, outcome.stderr
    spec = load_spec(tmp_path / "bundle.yaml")
    assert [p.counted for p in spec.components] == [
        p.counted for p in load_config(source).components
    ]


def test_verify_compares_part_by_part(tmp_path):
    data = copy.deepcopy(FLUX)
    data["transformer"]["num_single_layers"] = 37

    same = llmplan("verify", "flux.1-dev", "--against", str(written(FLUX, tmp_path / "a.json")))
    other = llmplan("verify", "flux.1-dev", "--against", str(written(data, tmp_path / "b.json")))

    assert (same.exit_code, other.exit_code) == (0, 1)
    assert [part in other.stdout for part in PARTS] == [True] * 4


@pytest.mark.oracle
@needs_diffusers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["gated-gelu", "relu"])
def test_each_part_has_the_parameters_of_its_class(tmp_path, form):
    import torch
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip = CLIPTextConfig(
        vocab_size=70, hidden_size=24, intermediate_size=40, num_hidden_layers=3,
        num_attention_heads=3, max_position_embeddings=11, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    t5 = T5Config(
        vocab_size=90, d_model=32, d_kv=6, d_ff=52, num_layers=2, num_heads=5,
        relative_attention_num_buckets=7, feed_forward_proj=form,
    )  # fmt: skip
    with torch.device("meta"):
        built = {
            "transformer": FluxTransformer2DModel(
                in_channels=20, num_layers=2, num_single_layers=3, attention_head_dim=16,
                num_attention_heads=3, joint_attention_dim=32, pooled_projection_dim=24,
                axes_dims_rope=(4, 6, 6),
            ),
            "text_encoder": CLIPTextModel(clip),
            "text_encoder_2": T5EncoderModel(t5),
            "vae": AutoencoderKL(
                block_out_channels=(8, 16, 24), down_block_types=["DownEncoderBlock2D"] * 3,
                up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=5, layers_per_block=1,
                norm_num_groups=4, use_quant_conv=False, use_post_quant_conv=False,
            ),
        }  # fmt: skip
    data: dict[str, Any] = {"_pipeline": "FluxPipeline"}
    for part in ("transformer", "vae"):
        data[part] = json.loads(built[part].to_json_string())
    for part in ("text_encoder", "text_encoder_2"):
        architectures = [type(built[part]).__name__]
        data[part] = {**built[part].config.to_dict(), "architectures": architectures}

    model = load_config(written(data, tmp_path / "small.json"))

    assert {component.part for component in model.components} == {Part(part) for part in PARTS}
    assert parameters(model) == [
        sum(p.numel() for p in built[component.part.value].parameters())
        for component in model.components
    ]


REFUSALS = {
    "_pipeline": (None, "_pipeline", "StableDiffusionPipeline"),
    "vae.use_quant_conv": ("vae", "use_quant_conv", True),
    "vae.block_out_channels": ("vae", "block_out_channels", [32] * 9),
    "vae.secret_layers": ("vae", "secret_layers", 3),
    "text_encoder.architectures": (
        "text_encoder",
        "architectures",
        ["CLIPTextModelWithProjection"],
    ),
    "text_encoder_2.feed_forward_proj": ("text_encoder_2", "feed_forward_proj", "gated-silu"),
    "transformer.out_channels": ("transformer", "out_channels", 128),
    "transformer.axes_dims_rope": ("transformer", "axes_dims_rope", [16, 16, 16]),
    "transformer.quantization_config": ("transformer", "quantization_config", {"bits": 4}),
}


@pytest.mark.parametrize("key", REFUSALS)
def test_what_cannot_be_read_is_refused(tmp_path, key):
    part, name, value = REFUSALS[key]
    data = copy.deepcopy(FLUX)
    (data[part] if part else data)[name] = value

    with pytest.raises(DocumentError) as caught:
        load_config(written(data, tmp_path / "bundle.json"))
    assert caught.value.key == key


def test_a_part_that_is_not_there_is_named(tmp_path):
    index = in_folders(FLUX, tmp_path)
    (tmp_path / "vae" / "config.json").unlink()

    with pytest.raises(DocumentError, match=r"vae.config\.json: cannot be read"):
        load_config(index)


def test_other_pipelines_and_adapters_are_refused(tmp_path):
    other = in_folders(FLUX, tmp_path / "a", {**INDEX, "_class_name": "PixArtAlphaPipeline"})
    adapted = in_folders(FLUX, tmp_path / "b", {**INDEX, "image_encoder": ["transformers", "X"]})

    with pytest.raises(DocumentError, match="_class_name"):
        load_config(other)
    with pytest.raises(DocumentError, match="image_encoder"):
        load_config(adapted)
