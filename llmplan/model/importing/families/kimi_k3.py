"""Kimi K3: delta attention beside gated latent attention, with experts in a narrower width."""

from typing import Final

from llmplan.model.importing.families.delta import kimi_linear
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.view import ConfigView

LEFT_OUT: Final = "Text model only: the vision tower and its projector are left out."


def kimi_k3(config: ConfigView) -> Spec:
    """The text model of Kimi K3; its files store the short convolutions in fp32."""
    config.ignore("image_placeholder")  # of the prompt
    config.part("vision_config").ignore_all()  # counted in no reference total; the note says so
    text = config.part("text_config")
    text.require("model_type", "kimi_linear")
    config.require("tie_word_embeddings", False, default=False)
    body = kimi_linear(text)
    return {
        **body,
        "notes": [LEFT_OUT],
        "attn_res_block_size": text.count("attn_res_block_size"),
        "precision": {"convolution": "fp32"},
        "blocks": _blocks(text, body["blocks"]),
    }


def _blocks(text: ConfigView, blocks: Spec) -> Spec:
    """The blocks of Kimi Linear with the gates and the latent width that K3 adds."""
    linear = text.part("linear_attn_config")
    linear.ignore("gate_lower_bound")  # form of the decay
    text.ignore("activation_situ_beta", "activation_situ_linear_beta")  # factors of the activation
    gated = text.flag("mla_use_output_gate", False)
    more: Spec = {
        "linear": {"full_rank_output_gate": linear.flag("use_full_rank_gate", False)},
        "full": {"output_gate": "elementwise"} if gated else {},
        "moe": _latent(text),
    }
    return {name: {**block, **more.get(name, {})} for name, block in blocks.items()}


def _latent(text: ConfigView) -> Spec:
    """The width that routed experts work at, and the norm before the way back."""
    normed = text.flag("latent_moe_use_norm", False)
    if not text.has("routed_expert_hidden_size"):
        return {}
    width = text.count("routed_expert_hidden_size")
    return {"moe_latent_size": width, "moe_latent_norm": normed}


READERS: Final = {"KimiK3ForConditionalGeneration": kimi_k3}
MODEL_TYPES: Final = {"kimi_k3": "KimiK3ForConditionalGeneration"}
