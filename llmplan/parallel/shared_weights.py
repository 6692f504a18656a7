"""Weights that layers share, where the layers stand on several pipeline stages."""

from llmplan.model.compiled import Layer
from llmplan.ops.base import Operator
from llmplan.ops.reused import Reused


def with_shared_weights(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers of one stage, where the first use of shared weights stores them.

    A stage cannot read weights that another one holds, so each keeps a copy of what its layers use.
    """
    distinct = {id(layer): layer for layer in layers}.values()
    if not any(isinstance(o, Reused) for layer in distinct for o in layer.operators):
        return layers
    stored: set[str] = set()
    held: list[Layer] = []
    for layer in layers:
        missing = {o.block for o in layer.operators if isinstance(o, Reused)} - stored
        if missing:
            operators = tuple(_stored(operator, missing) for operator in layer.operators)
            held.append(Layer(layer.name, operators))
        else:
            held.append(layer)
        stored |= {operator.block for operator in layer.operators}
    return tuple(held)


def _stored(operator: Operator, missing: set[str]) -> Operator:
    if isinstance(operator, Reused) and operator.block in missing:
        return operator.used
    return operator
