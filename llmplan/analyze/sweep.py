"""Many points of one model in one call: memory and cost over arrays of batch and context."""

from dataclasses import dataclass

import numpy as np

from llmplan.analyze.flops import decoder_only, step_cost
from llmplan.analyze.memory import weights_bytes
from llmplan.analyze.state import request_state
from llmplan.model.compiled import Model
from llmplan.ops.base import Cost, IntArray, Step


@dataclass(frozen=True, slots=True)
class DecodeSweep:
    """Every point of a sweep; arrays have the broadcast shape of batch and context.

    Attributes:
        memory_bytes: Weights and the state of all requests; exact, int64.
        cost: One decode step of all requests.
    """

    memory_bytes: IntArray
    cost: Cost


def decode_sweep(model: Model, batch: IntArray, context: IntArray) -> DecodeSweep:
    """Memory and one decode step of the language model at every (batch, context).

    Args:
        model: The model, in the formats it is served in.
        batch: Requests, int64 of any shape.
        context: Tokens each request holds, int64 that broadcasts with ``batch``.
    """
    text = decoder_only(model)
    state = request_state(text).bytes_over(np.asarray(context, dtype=np.int64))
    memory = weights_bytes(text) + np.asarray(batch, dtype=np.int64) * state
    return DecodeSweep(memory, step_cost(text, Step.decode(batch, context)))
