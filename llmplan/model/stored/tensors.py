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


_PACKED: Final = re.compile(r"(_blocks|\.qweight|\.weight_packed)$")


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
    def logical_elements(self) -> int:
        """Entries of the matrix that is stored: two a byte, or eight an int32, where packed."""
        if not _PACKED.search(self.name):
            return self.elements
        return self.elements * (8 if self.format == "I32" else 2)

    @property
    def is_scale(self) -> bool:
        """Whether it holds scales, zero points or indices of another tensor."""
        return SCALE_SUFFIX.search(self.name) is not None


_RULES: Final = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"e_score_correction_bias|exp_probs_b|expert_bias|correction_bias", Role.BUFFER),
        (r"multi_modal_projector|mm_projector|vision_adapter|merger|connector", Role.PROJECTOR),
        (r"vision|visual|vit\.|^v\.blk|image_", Role.VISION),
        (r"shared_expert_gate|shexp_gate|ffn_gate_inp_shexp", Role.ROUTER),
        (r"shared_expert|shared_mlp|_shexp", Role.SHARED_EXPERTS),
        (r"mlp\.gate\.|router|block_sparse_moe\.gate\.|ffn_gate_inp|mixer\.gate\.|moe\.gate\.",
         Role.ROUTER),
        (r"experts?\.|_exps|local_experts", Role.EXPERTS),
        (r"embed_tokens|wte\.|tok_embeddings|token_embd|embeddings?\.weight|word_embeddings",
         Role.EMBEDDING),
        (r"lm_head|^output\.weight|embed_out", Role.HEAD),
        (r"A_log|dt_bias|\.D$|ssm_a$|ssm_d$|\.sinks$", Role.STATE),
        (r"conv1d|conv_1d|short_conv|ssm_conv", Role.CONVOLUTION),
        (r"norm|ln_|layernorm", Role.NORM),
        (r"attn|attention|mixer|ssm|linear_attn|self_attention", Role.ATTENTION),
        (r"mlp|ffn|feed_forward|fc\d|dense", Role.FFN),
    )
)  # fmt: skip


def role_of(name: str) -> Role | None:
    """The role that a tensor's name says; None where no rule knows it."""
    for pattern, role in _RULES:
        if pattern.search(name):
            return role
    return None


def layer_of(name: str) -> int | None:
    """The layer number in a tensor's name."""
    found = re.search(r"(?:layers|blk|h|blocks)\.(\d{1,5})\.", name)
    return int(found[1]) if found else None
