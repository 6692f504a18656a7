"""Attention of text over the tokens of an image, and learned factors on what a block gives."""

from llmplan.model import spec
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.cross_attention import CrossAttention, ImageLinear, ImageNorm
from llmplan.ops.linear import Split
from llmplan.ops.norm import LearnedScale, Norm
from llmplan.ops.precision import Role


def cross_attention(block: spec.CrossAttentionBlock, frame: Frame) -> Operators:
    """Queries of the text, keys and values of the image, with norms where there are any."""
    H, K, h = block.num_attention_heads, block.num_key_value_heads, block.head_dim
    query = Width(H * h, "num_attention_heads x head_dim", H)
    norms: Operators = ()
    if block.qk_norm == "head":
        role, precision = frame.role(Role.NORM), frame.precision
        tokens = block.image_tokens
        norms = (
            Norm("q_norm", precision, h, H, role=role, label="head_dim"),
            ImageNorm("k_norm", precision, h, K, role=role, label="head_dim", image_tokens=tokens),
        )
    return (
        frame.column("q_proj", query, Role.ATTENTION),
        _of_the_image("k_proj", block, frame),
        _of_the_image("v_proj", block, frame),
        *norms,
        CrossAttention("attention", frame.precision, H, K, h, block.image_tokens),
        frame.row("o_proj", query, Role.ATTENTION),
    )


def _of_the_image(name: str, block: spec.CrossAttentionBlock, frame: Frame) -> ImageLinear:
    """Keys or values; the projector has brought the image to the width of the stream."""
    heads = block.num_key_value_heads
    return ImageLinear(
        name,
        frame.precision,
        frame.hidden_size,
        heads * block.head_dim,
        frame.role(Role.ATTENTION),
        split=Split.COLUMN if heads > 1 else Split.REPLICATED,
        split_units=heads,
        may_replicate=True,
        labels=("num_key_value_heads x head_dim", "hidden_size"),
        image_tokens=block.image_tokens,
    )


def output_scale(block: spec.BlockSpec, frame: Frame) -> Operators:
    """The learned factor on a block's output, where the block says that it has one."""
    kind = getattr(block, "output_scale", "none")
    if kind == "none":
        return ()
    width = frame.hidden_size
    entries, label = (1, "output_scale") if kind == "scalar" else (width, "hidden_size")
    role = frame.role(Role.NORM)
    return (
        LearnedScale(
            "output_scale", frame.precision, width, 1.0, entries=entries, role=role, label=label
        ),
    )
