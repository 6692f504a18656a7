"""Stored tensors, whatever file they come from, and the role their name says."""

import re
from dataclasses import dataclass
from math import prod
from typing import Final

from llmplan.ops.precision import Role

SCALE_SUFFIX: Final = re.compile(
    r"[._](?:weight_scale_inv|weight_scale_2|weight_scale|weight_global_scale|input_global_scale"
    r"|input_scale|scales|qzeros|g_idx|weight_zero_point|weight_shape|k_scale|v_scale)$"
)
_COMPUTED: Final = re.compile(
    r"(?:^|\.)(?:rotary_emb\.(?!alpha$)|rope_freqs|rope_factors_)|inv_freq$|\.masked_bias$"
)
"""Tables that follow from the config; some files store them."""
_PACKED: Final = re.compile(r"(_blocks|\.qweight|\.weight_packed)$")
_PER_WORD: Final = {"I32": 8, "U8": 2}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        name: As stored.
        shape: As stored, outermost axis first.
        format: Element format in the words of its file (``BF16``, ``F8_E4M3``, ``Q4_K``).
        stored_bytes: Bytes in the file.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    stored_bytes: int

    @property
    def elements(self) -> int:
        """Stored entries; packed formats count as they are stored."""
        return prod(self.shape)

    @property
    def is_packed(self) -> bool:
        """Whether one stored entry holds several 4-bit ones; matrices of bytes hold two."""
        return _PACKED.search(self.name) is not None or self.format == "U8"

    @property
    def logical_elements(self) -> int:
        """Entries of the matrix that is stored: two a byte, or eight an int32, where packed."""
        return self.elements * (_PER_WORD.get(self.format, 1) if self.is_packed else 1)

    @property
    def is_scale(self) -> bool:
        """Whether it holds scales, zero points or indices of another tensor."""
        return SCALE_SUFFIX.search(self.name) is not None

    @property
    def is_computed(self) -> bool:
        """Whether it is a table that follows from the config, which no model counts."""
        return _COMPUTED.search(self.name) is not None


_RULES: Final = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"e_score_correction_bias|exp_probs_b|expert_bias|correction_bias", Role.BUFFER),
        (r"(?:rotary_emb|lerope)\.alpha$", Role.BUFFER),
        (r"multi_modal_projector|mm_projector|patch_merge_mlp|vision_adapter|merger|connector|^mm\.\d",
         Role.PROJECTOR),
        (r"vision|visual|vit\.|^v\.blk|image_", Role.VISION),
        (r"shared_expert_gate|shexp_gate|ffn_gate_inp_shexp|indexer\.weights_proj", Role.ROUTER),
        (r"shared_expert|share_expert|shared_mlp|_shexp", Role.SHARED_EXPERTS),
        (r"(?:mlp|moe|mixer|ffn|feed_forward|block_sparse_moe)\.gate\.|router|ffn_gate_inp",
         Role.ROUTER),
        (r"experts?\.|_exps", Role.EXPERTS),
        (r"embed_tokens|embed_in\.|wte\.|wpe\.|embed_positions|tok_embeddings", Role.EMBEDDING),
        (r"token_embd\.weight|(?:^|\.)(?:word_)?embeddings?\.weight", Role.EMBEDDING),
        (r"lm_head|^output\.|embed_out|shared_head\.head", Role.HEAD),
        (r"attn_sinks|\.sinks$", Role.BIAS),
        (r"A_log|dt_bias|\.D$|ssm_a$|ssm_d$|ssm_dt\.bias|rg_lru\.", Role.STATE),
        (r"linear_attn\.in_proj_(?:ba|a|b)\.|self_attn\.(?:[fg]_[ab]|b)_proj\.", Role.STATE),
        (r"conv1d|conv_1d|short_conv|shortconv\.conv|ssm_conv|conv\.conv", Role.CONVOLUTION),
        (r"norm_attn_norm\.attn", Role.ATTENTION),
        (r"norm|ln_|(?:^|\.)ln\d", Role.NORM),
        (r"mixer\.(?:up_proj|down_proj|fc\d_latent)", Role.FFN),
        (r"attn|attention|mixer|mamba|ssm|temporal_block|\.conv\.", Role.ATTENTION),
        (r"mlp|ffn|feed_forward|fc\d|dense", Role.FFN),
    )
)  # fmt: skip
_BIAS: Final = re.compile(r"[._]bias$")
_BIASED: Final = (
    Role.ATTENTION, Role.FFN, Role.SHARED_EXPERTS, Role.EXPERTS, Role.HEAD, Role.VISION,
    Role.PROJECTOR,
)  # fmt: skip
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|blk|h|blocks)\.(\d{1,5})\.")
_MTP: Final = re.compile(r"(?:^|\.)mtp(?:_layers|_block)?\.")


def role_of(name: str) -> Role | None:
    """The role of the module that a tensor belongs to; None where no rule knows its name."""
    for pattern, role in _RULES:
        if pattern.search(name):
            return role
    return None


def weight_role(name: str) -> Role | None:
    """The role that decides a tensor's format: biases of matrices are a role of their own."""
    role = role_of(name)
    return Role.BIAS if role in _BIASED and _BIAS.search(name) else role


def layer_of(name: str) -> int | None:
    """The layer number in a tensor's name."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def is_of_mtp(name: str, layers: int) -> bool:
    """Whether a tensor belongs to a multi-token-prediction module behind so many layers."""
    layer = layer_of(name)
    return _MTP.search(name) is not None or (layer is not None and layer >= layers)
