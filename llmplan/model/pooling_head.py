"""SigLIP's pooling head as operators: one learned query over all patches of an image."""

from dataclasses import replace

from llmplan.model import spec
from llmplan.model.feed_forward_blocks import mlp
from llmplan.model.frame import Frame, Width
from llmplan.ops.base import Operator
from llmplan.ops.embedding import LearnedVectors
from llmplan.ops.linear import Linear, Tokens
from llmplan.ops.norm import Norm
from llmplan.ops.precision import Role


def pooling_head(tower: spec.VisionSpec, frame: Frame) -> list[Operator]:
    """Keys and values of all patches; query, output, norm and network for one vector.

    The network is that of the tower's layers. The scores of the one query are left out of the
    work: 4 x width FLOPs a patch, where a layer takes more than 24 x width x width.
    """
    precision, width = frame.precision, frame.hidden_size
    labels = ("1", "hidden_size")
    network = next(b for b in tower.blocks.values() if isinstance(b, spec.MlpBlock))
    stream, both = Width(width, "hidden_size"), Width(2 * width, "2 x hidden_size")
    once = [
        frame.column("head.q_proj", stream, Role.ATTENTION, bias=True),
        frame.column("head.out_proj", stream, Role.ATTENTION, bias=True),
        frame.stream_norm("head.layernorm"),
        *mlp(network, frame),
    ]
    return [
        LearnedVectors("head.probe", precision, 1, width, Role.VISION, labels=labels),
        frame.column("head.kv_proj", both, Role.ATTENTION, bias=True),
        *map(_for_one_vector, once),
    ]


def _for_one_vector(operator: Operator) -> Operator:
    if isinstance(operator, Linear | Norm):
        return replace(operator, tokens=Tokens.LAST)
    return operator
