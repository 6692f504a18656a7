"""Diffusion pipelines from what diffusers writes: a config for each part that holds weights.

Published is a folder with a ``model_index.json`` and one folder a part; the same configs may also
stand side by side in one file, under ``_pipeline``.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from llmplan.documents import Document, parse_document
from llmplan.model.importing.config import refuse_unread, slug
from llmplan.model.importing.json_file import load_json
from llmplan.model.importing.parts import Spec, activation, same_layers, without_defaults
from llmplan.model.importing.view import ConfigView
from llmplan.model.pipeline import check_pipeline
from llmplan.model.pipeline_spec import PIPELINE, PipelineSpec
from llmplan.model.write import spec_text
from llmplan.validation import validated

FLUX: Final = "FluxPipeline"
STEPS: Final = 28
PROMPT: Final = 512
SAMPLE_SIDE: Final = 128
"""What FluxPipeline of diffusers 0.42.1 does unless asked otherwise: denoising steps, tokens of a
prompt, latent pixels a side."""
PACKED_SIDE: Final = 2
"""Latent pixels a side that it joins to one image token."""
MAX_LEVELS: Final = 8
"""Most levels of an autoencoder that a spec takes."""
NOTE: Final = (
    "Image size, steps and prompt length are the defaults of FluxPipeline in diffusers; configs "
    "do not say them."
)
_WITHOUT_WEIGHTS: Final = ("scheduler", "tokenizer", "tokenizer_2", "feature_extractor")


def is_pipeline(data: dict[str, Any]) -> bool:
    """Whether an object is a config of diffusers, which name their class in a way of their own."""
    return "_pipeline" in data or "_class_name" in data


def import_pipeline(data: dict[str, Any], path: Path) -> tuple[PipelineSpec, Document]:
    """The spec of a pipeline's configs, and the document it would be written as.

    Raises:
        DocumentError: Another pipeline, a part that is missing, or a key that no reader knows.
    """
    whole = ConfigView(data, str(path))
    views = _bundled(whole) if "_pipeline" in data else _in_folders(whole, path.parent)
    parts = {part: reader(views[part]) for part, reader in _READERS.items()}
    for view in (whole, *views.values()):
        refuse_unread(view)
    document = parse_document(spec_text(_body(parts, path)), f"{path} as imported")
    spec = validated(document, PipelineSpec)
    check_pipeline(spec, document)
    return spec, document


def _bundled(whole: ConfigView) -> dict[str, ConfigView]:
    """Configs of the parts, side by side in one file."""
    whole.require("_pipeline", FLUX)
    return {part: whole.part(part) for part in _READERS}


def _in_folders(index: ConfigView, folder: Path) -> dict[str, ConfigView]:
    """Configs of the parts, each in the folder of its name; the index names their classes."""
    index.require("_class_name", FLUX)
    index.ignore("_diffusers_version", *_WITHOUT_WEIGHTS)
    index.require("image_encoder", [None, None], None)  # an adapter, which the spec cannot say
    paths = {part: folder / part / "config.json" for part in _READERS}
    index.ignore(*paths)  # library and class; the class stands in the part's config as well
    return {part: ConfigView(load_json(path), str(path)) for part, path in paths.items()}


def _body(parts: dict[str, Spec], path: Path) -> Spec:
    name = path.resolve().parent.name if path.stem == "model_index" else path.stem
    side = 2 ** (len(parts["vae"]["block_out_channels"]) - 1)  # it halves between two levels
    return {
        "kind": PIPELINE,
        "name": slug(name),
        "family": "flux",
        "hf_ids": [],
        "architecture": FLUX,
        "source": {"config": path.name, "date": datetime.now(tz=UTC).date().isoformat()},
        "license": "not stated in the config",
        "notes": [NOTE],
        "image_size": SAMPLE_SIDE * side,
        "num_inference_steps": STEPS,
        "patch_size": PACKED_SIDE,
        "pipeline": parts,
    }


def _flux_transformer(config: ConfigView) -> Spec:
    """FluxTransformer2DModel."""
    _require_class(config, "FluxTransformer2DModel")
    config.require("patch_size", 1, default=1)
    channels, head = config.count("in_channels", 64), config.count("attention_head_dim", 128)
    config.require("out_channels", channels, None)
    if sum(config.counts("axes_dims_rope", [16, 56, 56])) != head:
        raise config.refusal("axes_dims_rope", "does not add up to attention_head_dim")
    return {
        "num_attention_heads": config.count("num_attention_heads", 24),
        "attention_head_dim": head,
        "num_layers": config.count("num_layers", 19),
        "num_single_layers": config.count("num_single_layers", 38),
        "in_channels": channels,
        "joint_attention_dim": config.count("joint_attention_dim", 4096),
        "pooled_projection_dim": config.count("pooled_projection_dim", 768),
        "guidance_embeds": config.flag("guidance_embeds", False),
    }


def _clip(config: ConfigView) -> Spec:
    """CLIPTextModel, which has no projection after its last norm."""
    config.require("architectures", ["CLIPTextModel"])
    config.ignore("dropout", "projection_dim")  # of training, and of a class that projects
    width, positions = config.count("hidden_size"), config.count("max_position_embeddings", 77)
    network = {"intermediate_size": config.count("intermediate_size"), "gated": False}
    return {
        "max_length": positions,
        "hidden_size": width,
        "num_hidden_layers": config.count("num_hidden_layers"),
        "vocab_size": config.count("vocab_size", 49408),
        "num_positions": positions,
        "norm": {"kind": "layernorm", "bias": True},
        **_layers(
            config.count("num_hidden_layers"),
            {**_heads(config, "num_attention_heads", width), "attention_bias": True,
             "o_proj_bias": True},
            {**network, "hidden_act": activation(config, default="quick_gelu"), "mlp_bias": True},
        ),
    }  # fmt: skip


def _heads(config: ConfigView, key: str, width: int) -> Spec:
    count = config.count(key)
    if width % count:
        raise config.refusal(key, f"does not divide the width {width}")
    return {"num_attention_heads": count, "num_key_value_heads": count, "head_dim": width // count}


def _t5(config: ConfigView) -> Spec:
    """T5EncoderModel: a learned bias for each distance, no positions, no biases of matrices."""
    config.require("architectures", ["T5EncoderModel"])
    config.ignore(
        "num_decoder_layers", "output_past", "n_positions", "dropout_rate",
        "relative_attention_max_distance", "tie_word_embeddings", "dense_act_fn", "is_gated_act",
        "scale_decoder_outputs",
    )  # fmt: skip  # of the decoder, of training, or of distances beyond the last
    forms = {"gated-gelu": ("gelu", True), "relu": ("relu", False)}
    form = config.text("feed_forward_proj", "relu")
    if form not in forms:
        raise config.refusal("feed_forward_proj", f"'{form}' is no network that can be read")
    act, gated = forms[form]
    heads, count = config.count("num_heads"), config.count("num_layers")
    attention = {"num_attention_heads": heads, "num_key_value_heads": heads,
                 "head_dim": config.count("d_kv"), "causal": False}  # fmt: skip
    network = {"intermediate_size": config.count("d_ff"), "hidden_act": act, "gated": gated}
    return {
        "max_length": PROMPT,
        "hidden_size": config.count("d_model"),
        "num_hidden_layers": count,
        "vocab_size": config.count("vocab_size"),
        "relative_attention_num_buckets": config.count("relative_attention_num_buckets", 32),
        **_layers(count, attention, network),
    }


def _layers(count: int, attention: Spec, network: Spec) -> Spec:
    """Equal layers without rotated positions."""
    mixer = {"kind": "attention", **attention, "rotary_dim": 0}
    blocks = {"attention": mixer, "mlp": without_defaults({"kind": "mlp", **network})}
    return {"blocks": blocks, "layers": same_layers(count, "attention", "mlp")}


def _autoencoder(config: ConfigView) -> Spec:
    """AutoencoderKL without the two convolutions of one pixel around the latents."""
    _require_class(config, "AutoencoderKL")
    config.ignore(
        "sample_size", "scaling_factor", "shift_factor", "force_upcast", "latents_mean",
        "latents_std",
    )  # fmt: skip  # how latents are scaled, and in which format it runs
    for key in ("use_quant_conv", "use_post_quant_conv"):
        config.require(key, False, default=True)
    config.require("mid_block_add_attention", True, default=True)
    config.require("act_fn", "silu", default="silu")
    colours, levels = config.count("in_channels", 3), config.counts("block_out_channels")
    config.require("out_channels", colours, default=3)
    if not 1 <= len(levels) <= MAX_LEVELS:
        raise config.refusal("block_out_channels", f"must name 1 to {MAX_LEVELS} levels")
    for key, kind in (("down_block_types", "DownEncoderBlock2D"),
                      ("up_block_types", "UpDecoderBlock2D")):  # fmt: skip
        config.require(key, [kind] * len(levels))
    groups = config.count("norm_num_groups", 32)
    if any(width % groups for width in levels):
        raise config.refusal("norm_num_groups", "does not divide block_out_channels")
    return {
        "image_channels": colours,
        "latent_channels": config.count("latent_channels", 4),
        "block_out_channels": levels,
        "layers_per_block": config.count("layers_per_block", 1),
    }


def _require_class(config: ConfigView, name: str) -> None:
    config.require("_class_name", name)
    config.ignore("_diffusers_version")


_READERS: Final[dict[str, Callable[[ConfigView], Spec]]] = {
    "transformer": _flux_transformer,
    "text_encoder": _clip,
    "text_encoder_2": _t5,
    "vae": _autoencoder,
}
