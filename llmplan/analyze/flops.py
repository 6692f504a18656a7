"""FLOPs of a step and of a token, apart by the unit that does them."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np

from llmplan.model.compiled import Model
from llmplan.ops.base import Array, Cost, Number, Operator, Step
from llmplan.ops.cross_attention import ImageLinear, ImageNorm
from llmplan.ops.latent import AbsorbedLatentAttention, ExpandedLatentAttention


@dataclass(frozen=True, slots=True)
class TokenFlops:
    """FLOPs per token of one phase.

    Attributes:
        matmul: Products with weights.
        attention: Scores and values; the recurrence of linear attention.
        convolution: Short convolutions.
        scan: State-space scans, elementwise.
        vector: Norms, activations, softmax, rotary.
    """

    matmul: float
    attention: float
    convolution: float
    scan: float
    vector: float

    @property
    def total(self) -> float:
        """Matmuls, attention and convolutions; scan and vector work stay apart."""
        return self.matmul + self.attention + self.convolution


@dataclass(frozen=True, slots=True)
class FlopsReport:
    """FLOPs per token of a model at one context.

    Attributes:
        decode: One new token attending to ``context`` + 1 keys.
        prefill: Mean over a prompt of ``context`` tokens, output head at the last position.
        decode_absorbed: Decode with absorbed MLA, as engines run it; equals ``decode`` elsewhere.
    """

    decode: TokenFlops
    prefill: TokenFlops
    decode_absorbed: TokenFlops


def step_cost(model: Model, step: Step) -> Cost:
    """Cost of one forward step of all components of ``model``; arrays broadcast."""
    costs = (operator.cost(step).times(repeats) for operator, repeats in model.counted())
    return reduce(add, costs, Cost())


def decoder_only(model: Model) -> Model:
    """The language model alone: vision and MTP take no part in a token's FLOPs.

    Nor do the keys and values of an image, which are projected once a request, not once a token.

    A pipeline has none, and so no FLOPs a token; ``analyze.image`` counts those of an image.
    """
    if model.diffusion:
        return replace(model, components=())
    return model.served(mtp=False, vision=False).rewritten(_without_image)


def _without_image(operator: Operator) -> Operator:
    if isinstance(operator, ImageLinear | ImageNorm):
        return replace(operator, image_tokens=0)
    return operator


def flops_report(model: Model, context: int) -> FlopsReport:
    """FLOPs per token of the language model at ``context`` tokens."""
    text = decoder_only(model)
    decode, prefill = Step.decode(1, context), Step.prefill(1, context)
    return FlopsReport(
        decode=flops_by_unit(step_cost(text, decode), 1),
        prefill=flops_by_unit(step_cost(text, prefill), context),
        decode_absorbed=flops_by_unit(step_cost(text.rewritten(absorbed), decode), 1),
    )


def absorbed(operator: Operator) -> Operator:
    """Latent attention in the realisation that engines decode with; others unchanged."""
    if not isinstance(operator, ExpandedLatentAttention):
        return operator
    return AbsorbedLatentAttention(
        operator.name,
        operator.precision,
        operator.num_attention_heads,
        operator.kv_lora_rank,
        operator.qk_nope_head_dim,
        operator.qk_rope_head_dim,
        operator.v_head_dim,
        operator.index_topk,
        operator.mask,
        operator.index_kpool,
        operator.has_sinks,
        block=operator.block,
    )


def flops_by_unit(cost: Cost, tokens: int) -> TokenFlops:
    """FLOPs apart by unit, a share for each of ``tokens``."""
    return TokenFlops(
        _scalar(cost.matmul_flops) / tokens,
        _scalar(cost.attention_flops) / tokens,
        _scalar(cost.convolution_flops) / tokens,
        _scalar(cost.scan_flops) / tokens,
        _scalar(cost.vector_flops) / tokens,
    )


def _scalar(value: Number) -> float:
    array: Array = np.asarray(value, dtype=np.float64)
    return float(array)
