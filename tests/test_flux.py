"""FLUX.1 as operators: parameters and FLOPs of every part equal those of its class.

The counter sees matmuls, attention and convolutions of whatever really ran, on small configs. The
one difference is the causal mask of the CLIP text encoder, which it ignores: llmplan counts the
full square there. Nothing is compared with a tolerance.
"""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from llmplan.analyze.explain_image import explained_image
from llmplan.analyze.image import Image, component_cost, image_flops, published_image
from llmplan.documents import parse_document
from llmplan.errors import DocumentError, InputError
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Component, Model, Part
from llmplan.model.pipeline import check_pipeline, compile_pipeline
from llmplan.model.pipeline_spec import PipelineSpec
from llmplan.model.reading import load_spec
from llmplan.ops.base import Step, Stream
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.counting import as_full_square
from llmplan.ops.precision import Role
from llmplan.validation import validated
from tests.program import llmplan
from tests.small_models import needs_transformers

needs_diffusers = pytest.mark.skipif(
    find_spec("diffusers") is None or find_spec("torch") is None, reason="diffusers is not here"
)
quiet = pytest.mark.filterwarnings("ignore")  # diffusers and torch warn of their own ways

SPECS = Path(__file__).parents[1] / "specs"

# diffusers 0.42.1 and transformers 5.23.0 on the meta device, 2026-11
PUBLISHED = {
    "flux.1-dev": (11_901_408_320, 123_060_480, 4_762_310_656, 83_819_683),
    "flux.1-schnell": (11_891_178_560, 123_060_480, 4_762_310_656, 83_819_683),
}


def number(text: str) -> int:
    return int(text.replace(",", ""))


def parameters(component: Component) -> int:
    return sum(operator.parameters * repeats for operator, repeats in component.counted)


def part(model: Model, wanted: Part) -> Component:
    return next(component for component in model.components if component.part is wanted)


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items())
def test_each_part_has_its_published_parameters(name, expected):
    assert tuple(parameters(component) for component in load_model(name).components) == expected


# -- the classes of the published size -----------------------------------------------------------


def meta_parameters(build) -> int:
    import torch

    with torch.device("meta"):
        module = build()
    return sum(tensor.numel() for tensor in module.parameters())


def transformer_config(spec: dict) -> dict:
    """Arguments of ``FluxTransformer2DModel``; rope axes need only add up to a head."""
    head = spec["attention_head_dim"]
    return {**spec, "axes_dims_rope": (head - 4, 2, 2)}


def vae_config(spec: dict) -> dict:
    levels = len(spec["block_out_channels"])
    return {
        "in_channels": spec["image_channels"],
        "out_channels": spec["image_channels"],
        "latent_channels": spec["latent_channels"],
        "block_out_channels": spec["block_out_channels"],
        "layers_per_block": spec["layers_per_block"],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": min(32, *spec["block_out_channels"]),
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }


def clip_config(spec: dict):
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=spec["vocab_size"],
        hidden_size=spec["hidden_size"],
        intermediate_size=spec["blocks"]["mlp"]["intermediate_size"],
        num_hidden_layers=spec["num_hidden_layers"],
        num_attention_heads=spec["blocks"]["attention"]["num_attention_heads"],
        max_position_embeddings=spec["num_positions"],
        bos_token_id=0,
        eos_token_id=1,
        attn_implementation="eager",
    )


def t5_config(spec: dict):
    from transformers import T5Config

    attention = spec["blocks"]["attention"]
    return T5Config(
        vocab_size=spec["vocab_size"],
        d_model=spec["hidden_size"],
        d_kv=attention["head_dim"],
        d_ff=spec["blocks"]["mlp"]["intermediate_size"],
        num_layers=spec["num_hidden_layers"],
        num_heads=attention["num_attention_heads"],
        relative_attention_num_buckets=spec["relative_attention_num_buckets"],
        feed_forward_proj="gated-gelu",
        attn_implementation="eager",
    )


def document(name: str) -> dict:
    return yaml.safe_load((SPECS / f"{name}.yaml").read_text())


@pytest.mark.oracle
@needs_diffusers
@quiet
@pytest.mark.parametrize("name", PUBLISHED)
def test_transformer_and_autoencoder_equal_those_of_diffusers(name):
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    stated, model = document(name)["pipeline"], load_model(name)

    transformer = meta_parameters(
        lambda: FluxTransformer2DModel(**transformer_config(stated["transformer"]))
    )
    autoencoder = meta_parameters(lambda: AutoencoderKL(**vae_config(stated["vae"])))

    assert parameters(part(model, Part.TRANSFORMER)) == transformer
    assert parameters(part(model, Part.VAE)) == autoencoder


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("name", PUBLISHED)
def test_text_encoders_equal_those_of_transformers(name):
    from transformers import CLIPTextModel, T5EncoderModel

    stated, model = document(name)["pipeline"], load_model(name)

    clip = meta_parameters(lambda: CLIPTextModel(clip_config(stated["text_encoder"])))
    t5 = meta_parameters(lambda: T5EncoderModel(t5_config(stated["text_encoder_2"])))

    assert parameters(part(model, Part.TEXT_ENCODER)) == clip
    assert parameters(part(model, Part.TEXT_ENCODER_2)) == t5


# -- FLOPs of small ones -------------------------------------------------------------------------

WIDTH, HEIGHT, PROMPT, CLIP_PROMPT = 32, 24, 7, 9


def small() -> dict:
    """FLUX.1-dev in small: every number another one, so that none can stand in for another."""
    spec = document("flux.1-dev")
    parts = spec["pipeline"]
    spec |= {"image_size": 32}
    parts["transformer"] |= {
        "num_attention_heads": 3,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_single_layers": 3,
        "in_channels": 20,
        "joint_attention_dim": 40,
        "pooled_projection_dim": 24,
    }
    clip, t5 = parts["text_encoder"], parts["text_encoder_2"]
    clip |= {"max_length": CLIP_PROMPT, "hidden_size": 24, "num_hidden_layers": 2,
             "vocab_size": 50, "num_positions": CLIP_PROMPT}  # fmt: skip
    clip["blocks"]["attention"] |= {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 12,
    }
    clip["blocks"]["mlp"]["intermediate_size"] = 30
    clip["layers"][0]["count"] = 2
    t5 |= {"max_length": PROMPT, "hidden_size": 40, "num_hidden_layers": 3, "vocab_size": 60}
    t5["blocks"]["attention"] |= {
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "head_dim": 6,
    }
    t5["blocks"]["mlp"]["intermediate_size"] = 70
    t5["layers"][0]["count"] = 3
    parts["vae"] |= {"latent_channels": 5, "block_out_channels": [4, 8, 16], "layers_per_block": 2}
    return spec


def compiled(spec: dict) -> Model:
    written = parse_document(yaml.safe_dump(spec), "small.yaml")
    read = validated(written, PipelineSpec)
    check_pipeline(read, written)
    return compile_pipeline(read, written)


def counted(run) -> dict[str, int]:
    """FLOPs that torch counts, by its operator."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return {str(name): flops for name, flops in counter.get_flop_counts()["Global"].items()}


def products(found: dict[str, int]) -> int:
    """Products with weights, with a bias or without; what is left are scores and values."""
    return sum(found.pop(name, 0) for name in ("aten.addmm", "aten.mm"))


def cost_of(wanted: Part):
    model = compiled(small())
    component = part(model, wanted).rewritten(as_full_square)
    return component_cost(component, model.diffusion, Image(WIDTH, HEIGHT, 1))


@pytest.mark.oracle
@needs_diffusers
@quiet
def test_a_step_of_the_transformer_equals_the_counter():
    import torch
    from diffusers import FluxTransformer2DModel

    stated = small()["pipeline"]["transformer"]
    network = FluxTransformer2DModel(**transformer_config(stated)).eval()
    # three levels: a latent pixel is 4 pixels a side, an image token 8
    tokens = (WIDTH // 8) * (HEIGHT // 8)

    found = counted(
        lambda: network(
            hidden_states=torch.zeros(1, tokens, stated["in_channels"]),
            encoder_hidden_states=torch.zeros(1, PROMPT, stated["joint_attention_dim"]),
            pooled_projections=torch.zeros(1, stated["pooled_projection_dim"]),
            timestep=torch.zeros(1),
            guidance=torch.zeros(1),
            img_ids=torch.zeros(tokens, 3),
            txt_ids=torch.zeros(PROMPT, 3),
        )
    )

    cost = cost_of(Part.TRANSFORMER)
    assert cost.matmul_flops == products(found)
    assert cost.attention_flops == sum(found.values())


@pytest.mark.oracle
@needs_diffusers
@quiet
def test_decoding_an_image_equals_the_counter():
    import torch
    from diffusers import AutoencoderKL

    stated = small()["pipeline"]["vae"]
    network = AutoencoderKL(**{**vae_config(stated), "norm_num_groups": 4}).eval()
    latents = torch.zeros(1, stated["latent_channels"], HEIGHT // 4, WIDTH // 4)

    found = counted(lambda: network.decode(latents))

    cost = cost_of(Part.VAE)
    assert cost.convolution_flops == found.pop("aten.convolution")
    assert cost.matmul_flops == products(found)
    assert cost.attention_flops == sum(found.values())


@pytest.mark.oracle
@needs_diffusers
@quiet
def test_reading_an_image_equals_the_counter():
    import torch
    from diffusers import AutoencoderKL

    stated = small()["pipeline"]["vae"]
    network = AutoencoderKL(**{**vae_config(stated), "norm_num_groups": 4}).eval()
    pixels = torch.zeros(1, stated["image_channels"], HEIGHT, WIDTH)

    found = counted(lambda: network.encode(pixels))

    step = Step.prefill(1, (WIDTH // 4) * (HEIGHT // 4))
    component = part(compiled(small()), Part.VAE)
    reading = [(o, n) for o, n in component.counted if o.stream is Stream.ENCODING]
    assert sum(float(o.cost(step).model_flops) * n for o, n in reading) == sum(found.values())


@pytest.mark.oracle
@needs_transformers
def test_the_clip_text_encoder_equals_the_counter():
    import torch
    from transformers import CLIPTextModel

    network = CLIPTextModel(clip_config(small()["pipeline"]["text_encoder"])).eval()

    found = counted(lambda: network(torch.zeros(1, CLIP_PROMPT, dtype=torch.long)))

    assert cost_of(Part.TEXT_ENCODER).model_flops == sum(found.values())


@pytest.mark.oracle
@needs_transformers
def test_the_t5_encoder_equals_the_counter():
    import torch
    from transformers import T5EncoderModel

    network = T5EncoderModel(t5_config(small()["pipeline"]["text_encoder_2"])).eval()

    found = counted(lambda: network(torch.zeros(1, PROMPT, dtype=torch.long)))

    assert cost_of(Part.TEXT_ENCODER_2).model_flops == sum(found.values())


# -- one image -----------------------------------------------------------------------------------


def test_a_convolution_by_hand():
    # 3 x 3 filters, 4 channels to 8, at 16 pixels for each of 10 tokens: 2 MACs a tap and pixel
    precision = load_model("flux.1-dev").decoder.before[0].precision
    convolution = Convolution2d("conv", precision, 4, 8, 3, 16, Role.VISION)

    assert convolution.cost(Step.prefill(1, 10)).convolution_flops == 2 * 9 * 4 * 8 * 16 * 10
    assert convolution.parameters == 9 * 4 * 8 + 8


def test_an_image_is_its_parts_as_often_as_they_run():
    model = load_model("flux.1-dev")

    once = image_flops(model, model.diffusion, published_image(model.diffusion))
    guided = image_flops(model, model.diffusion, Image(1024, 1024, 28, true_cfg=True))

    runs = {found.value: number for found, _, number in once.parts}
    assert runs == {"transformer": 28, "text_encoder": 1, "text_encoder_2": 1, "vae": 1}
    others = {found.value: flops.total for found, flops, _ in once.parts}
    assert once.per_image == sum(others.values()) + 27 * once.per_step
    assert guided.per_step == 2 * once.per_step
    assert guided.per_image == 2 * once.per_image - others["vae"]


def test_an_explained_image_adds_up_and_can_be_worked_out_by_hand():
    model, image = load_model("flux.1-dev"), Image(512, 512, 1)

    rows = explained_image(model, model.diffusion, image)

    figures = [re.fullmatch(r"([\d,]+) x \d+ = ([\d,]+) FLOPs", row.result) for row in rows]
    assert sum(number(found[2]) for found in figures) == sum(
        flops.total for _, flops, _ in image_flops(model, model.diffusion, image).parts
    )
    for row, found in zip(rows, figures, strict=True):
        if not re.search("[a-z]{2}", row.values):
            assert eval(row.values.replace(",", "").replace(" x ", " * ")) == number(found[1]), row  # noqa: S307  figures only


def test_the_program_counts_an_image():
    arguments = ("--width", "512", "--height", "768", "--steps", "4", "--format", "json")

    answer = json.loads(llmplan("flops", "flux.1-schnell", *arguments).stdout)

    model = load_model("flux.1-schnell")
    expected = image_flops(model, model.diffusion, Image(512, 768, 4))
    assert answer["result"]["flops_per_step"] == expected.per_step
    assert answer["result"]["flops_per_image"] == expected.per_image
    assert answer["inputs"]["steps"] == 4


def test_an_image_of_part_of_a_token_is_refused():
    model = load_model("flux.1-dev")

    with pytest.raises(InputError, match="--width 1,000 is no multiple of 16 pixels"):
        image_flops(model, model.diffusion, Image(1000, 1024, 28))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("flops", "flux.1-dev", "--context", "4k"), "--context does not apply to it"),
        (("flops", "llama-3.1-8b", "--steps", "4"), "llama-3.1-8b makes no images"),
        (("models", "flux.1-dev", "llama-3.1-8b"), "it has no growth to compare"),
        (("memory", "flux.1-dev", "--gpus", "2xh100", "--tp", "2"), "is a diffusion pipeline"),
    ],
)
def test_what_does_not_apply_is_refused(arguments, message):
    finished = llmplan(*arguments)

    assert finished.exit_code == 2
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("memory", "flux.1-dev", "--gpus", "h100"), 0),
        (("memory", "flux.1-dev", "--gpus", "rtx-4090"), 1),
        (("fit", "flux.1-dev", "--gpus", "h100", "--explain"), 0),
        (("fit", "flux.1-dev", "--gpus", "rtx-4090"), 1),
        (("params", "flux.1-dev", "--explain"), 0),
        (("flops", "flux.1-dev", "--explain"), 0),
        (("memory", "flux.1-dev", "--explain"), 0),
    ],
)
def test_every_command_answers(arguments, code):
    finished = llmplan(*arguments)

    assert finished.exit_code == code, finished.stderr
    assert "Traceback" not in finished.stderr


def test_memory_is_weights_by_part_and_no_cache():
    result = json.loads(llmplan("memory", "flux.1-dev", "--format", "json").stdout)["result"]

    names = ("transformer", "text_encoder", "text_encoder_2", "vae")
    sizes = (2 * count for count in PUBLISHED["flux.1-dev"])
    assert result["weights_by_component"] == dict(zip(names, sizes, strict=True))
    assert set(result["kv_cache"].values()) == {0}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("transformer", "in_channels"), 21, "differs from latent_channels x patch_size"),
        (("transformer", "joint_attention_dim"), 41, "differs from hidden_size 40"),
        (("text_encoder_2", "num_hidden_layers"), 4, "the pattern has 3 layers"),
    ],
)
def test_a_contradiction_names_its_key(tmp_path, path, value, message):
    spec = small()
    spec["pipeline"][path[0]][path[1]] = value
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(spec))

    with pytest.raises(DocumentError, match=message):
        load_spec(file)
