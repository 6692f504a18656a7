"""An input of its own for every layer: a second input table beside the first (Gemma 4 E2B)."""

from collections.abc import Iterator

from llmplan.model import spec
from llmplan.model.feed_forward_blocks import ACTIVATION_FLOPS
from llmplan.model.frame import Frame, Operators, Width
from llmplan.ops.base import Operator
from llmplan.ops.embedding import LayerInputTable
from llmplan.ops.norm import Elementwise, Norm
from llmplan.ops.precision import Role

_WIDTH = "hidden_size_per_layer_input"


def inputs_of_all_layers(model: spec.ModelSpec, frame: Frame) -> Iterator[Operator]:
    """A row of the second table, and a projection of the first one's, for all layers at once.

    Ranks share the table by its rows; matrices and norm are held whole.
    """
    width, rows = model.hidden_size_per_layer_input, model.vocab_size_per_layer_input
    if width is None or rows is None:
        return
    layers = model.num_hidden_layers
    label = f"num_hidden_layers x {_WIDTH}"
    precision = frame.precision
    yield LayerInputTable("embed_tokens_per_layer", precision, rows, layers, width)
    yield frame.column("per_layer_model_projection", Width(layers * width, label), Role.FFN)
    yield Norm("per_layer_projection_norm", precision, width, layers, label=_WIDTH)
    yield Elementwise("per_layer_sum", precision, layers * width, 2.0, reads=2)


def own_input(frame: Frame) -> Operators:
    """The gate over the layer's own input, the way back to the stream, a norm and the sum."""
    width = frame.per_layer_input
    if not width:
        return ()
    precision = frame.precision
    flops = ACTIVATION_FLOPS["gelu"] + 1
    stream = Width(frame.hidden_size, "hidden_size")
    return (
        frame.column("per_layer_input_gate", Width(width, _WIDTH), Role.FFN),
        Elementwise("per_layer_gate", precision, width, flops, reads=2),
        frame.between("per_layer_projection", (width, _WIDTH), stream, Role.FFN),
        frame.stream_norm("post_per_layer_input_norm"),
        Elementwise("per_layer_residual", precision, frame.hidden_size, 1.0, reads=2),
    )
