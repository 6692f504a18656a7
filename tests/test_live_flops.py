"""FLOPs of llmplan's operators equal what torch's ``FlopCounterMode`` counts in transformers.

The counter sees matmuls and convolutions of whatever really ran, one prefill or one decode step of
a small model. It ignores masks, so llmplan counts the full square here; transformers forms logits
at every position, so the output head does too. Each further difference is a function of this file
whose name and docstring say what is counted otherwise and why; nothing is compared with a
tolerance.

Experts run one by one (``_experts_implementation = "eager"``): each token passes exactly its top k.
"""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Final, TypeVar

import pytest

from llmplan.model.compiled import Model
from llmplan.ops.base import Operator, Step
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.counting import as_full_square
from llmplan.ops.hyper import HyperConnection
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import Tokens
from llmplan.ops.linear_attention import (
    ChunkedDeltaRule,
    ChunkedLightningAttention,
    DeltaRule,
    LightningAttention,
)
from llmplan.ops.sparse import Indexer
from llmplan.ops.ssm import Mamba1Scan, Mamba2Scan
from tests.small_models import SMALL, built, compiled, needs_transformers, ran

pytestmark = [pytest.mark.oracle, needs_transformers]

AnyOperator = TypeVar("AnyOperator", bound=Operator)

DELTA_CHUNK: Final = 64
"""Chunk of the delta rules in transformers, a default of its functions."""
BLOCK: Final = 16
"""Chunk of lightning attention and Mamba-2 in the small configs."""

STEPS: Final = [(1, 5), (3, 16)]
"""Requests and prompt tokens, below and above the windows of 8."""
CHUNKED_STEPS: Final = [(1, BLOCK), (3, 3 * BLOCK)]
DELTA_STEPS: Final = [(1, DELTA_CHUNK), (3, 2 * DELTA_CHUNK)]

SOFTMAX_ATTENTION: Final = [
    "llama",
    "olmo2",
    "gemma3",
    "mixtral",
    "qwen3-moe",
    "glm4-moe",
    "gpt-oss",
]


def counted_prefill(name: str, requests: int, prompt: int) -> int:
    """FLOPs that torch counts for whole prompts from an empty cache."""
    from torch.utils.flop_counter import FlopCounterMode

    network = built(SMALL[name])
    with FlopCounterMode(display=False) as counter:
        ran(network, requests, prompt)
    return counter.get_total_flops()


def counted_decode(name: str, requests: int, context: int) -> int:
    """FLOPs that torch counts for one token on top of a cache of ``context`` tokens."""
    from torch.utils.flop_counter import FlopCounterMode

    network = built(SMALL[name])
    cache = ran(network, requests, context)
    with FlopCounterMode(display=False) as counter:
        ran(network, requests, 1, cache)
    return counter.get_total_flops()


def as_counted(name: str) -> Model:
    """The small model with full squares and logits at all positions."""
    return compiled(SMALL[name]).rewritten(as_full_square).rewritten(at_all_positions)


def at_all_positions(operator: Operator) -> Operator:
    """The output head and its norm on every token."""
    if getattr(operator, "tokens", Tokens.ALL) is Tokens.ALL:
        return operator
    return replace(operator, tokens=Tokens.ALL)


def model_flops(model: Model, step: Step) -> int:
    """Matmuls, attention and convolutions of a step, summed over operators."""
    total = sum(float(o.cost(step).model_flops) * n for o, n in model.decoder.counted)
    assert total == int(total)
    return int(total)


def each(model: Model, kind: type[AnyOperator]) -> Iterator[AnyOperator]:
    """Every operator of a kind, as often as it stands."""
    for operator, repeats in model.decoder.counted:
        if isinstance(operator, kind):
            yield from [operator] * repeats


def padded_columns(model: Model, requests: int) -> int:
    """Prefill convolves kernel - 1 columns more: it pads both ends and cuts one off again."""
    return extra_columns(model, requests, lambda convolution: convolution.kernel - 1)


def stale_column(model: Model, requests: int) -> int:
    """Decode convolves one column more: the cache keeps kernel columns where kernel - 1 do."""
    return extra_columns(model, requests, lambda _: 1)


def extra_columns(model, requests, columns_of):
    return sum(
        2 * convolution.kernel * convolution.channels * columns_of(convolution) * requests
        for convolution in each(model, ShortConvolution)
    )


def latents_expanded_again(model: Model, requests: int, context: int) -> int:
    """Decode expands the keys and values of every kept latent again; engines absorb instead."""
    kept = Step.prefill(requests, context).tokens
    return int(sum(float(o.up_projection_flops(kept)) for o in each(model, LatentAttention)))


def head_weighting(model: Model, requests: int, queries: int, keys: int) -> int:
    """The indexer's sum over heads is a matmul there and vector work in llmplan."""
    heads = sum(indexer.index_n_heads for indexer in each(model, Indexer))
    return 2 * heads * requests * queries * keys


def solved_by_substitution(model: Model, tokens: int) -> int:
    """``solve_triangular`` stands for T·(βv) and T·(βk), and the counter does not know it."""
    return sum(
        2 * DELTA_CHUNK * o.num_value_heads * (o.key_head_dim + o.value_head_dim) * tokens
        for o in each(model, DeltaRule)
    )


def scores_with_channel_decay(model: Model, tokens: int) -> int:
    """KDA's βk·kᵀ and q·kᵀ are sums of elementwise products there, for the decay's sake."""
    return sum(
        2 * 2 * DELTA_CHUNK * o.num_value_heads * o.key_head_dim * tokens
        for o in each(model, DeltaRule)
    )


def elementwise_delta_rule(model: Model, requests: int) -> int:
    """Decode updates the state by elementwise products and sums, which are not counted."""
    step = Step.decode(requests, 0)
    return int(sum(float(o.cost(step).attention_flops) for o in each(model, DeltaRule)))


def state_readout(model: Model, tokens: int) -> int:
    """``h·C`` is a matmul there and part of the scan, which is counted apart, in llmplan."""
    scans = [*each(model, Mamba1Scan), *each(model, Mamba2Scan)]
    return sum(2 * scan.state_width * tokens for scan in scans)


def chunked_scan(model: Model, requests: int, prompt: int) -> int:
    """Mamba-2's prefill runs as dense products of chunks; llmplan's scan is counted apart.

    For each head: C·B and scores·x inside a chunk, B·x and C·h for its state, and the states of
    all chunks mixed by a matrix. Source: Dao & Gu 2024, listing 1.
    """
    chunks = prompt // BLOCK
    total = 0
    for scan in each(model, Mamba2Scan):
        inside = 2 * BLOCK * (scan.state_size + scan.head_dim) * prompt
        states = 2 * 2 * scan.state_size * scan.head_dim * prompt
        mixing = 2 * (chunks + 1) ** 2 * scan.state_size * scan.head_dim
        total += requests * scan.num_heads * (inside + states + mixing)
    return total


def elementwise_convolution(model: Model, requests: int) -> int:
    """RecurrentGemma's decode convolves by an elementwise product and a sum."""
    step = Step.decode(requests, 0)
    return int(sum(float(o.cost(step).convolution_flops) for o in each(model, ShortConvolution)))


def by_chunks(operator: Operator) -> Operator:
    """The realisation by chunks that prefill runs in transformers."""
    values = {item.name: getattr(operator, item.name) for item in fields(operator)}
    match operator:
        case DeltaRule():
            return ChunkedDeltaRule(**values, chunk_size=DELTA_CHUNK)
        case LightningAttention():
            return ChunkedLightningAttention(**values, chunk_size=BLOCK)
    return operator


@pytest.mark.parametrize(("batch", "prompt"), STEPS)
@pytest.mark.parametrize("name", [*SOFTMAX_ATTENTION, "deepseek-v3"])
def test_prefill_of_softmax_attention(name, batch, prompt):
    model = as_counted(name)

    counted = counted_prefill(name, batch, prompt)

    assert model_flops(model, Step.prefill(batch, prompt)) == counted


@pytest.mark.parametrize(("batch", "context"), STEPS)
@pytest.mark.parametrize("name", SOFTMAX_ATTENTION)
def test_decode_of_softmax_attention(name, batch, context):
    model = as_counted(name)

    counted = counted_decode(name, batch, context)

    assert model_flops(model, Step.decode(batch, context)) == counted


@pytest.mark.parametrize(("batch", "context"), STEPS)
def test_decode_of_latent_attention(batch, context):
    model = as_counted("deepseek-v3")

    counted = counted_decode("deepseek-v3", batch, context)

    again = latents_expanded_again(model, batch, context)
    assert model_flops(model, Step.decode(batch, context)) == counted - again


@pytest.mark.parametrize(("batch", "prompt"), STEPS)
def test_prefill_of_sparse_attention(batch, prompt):
    model = as_counted("deepseek-v3.2")

    counted = counted_prefill("deepseek-v3.2", batch, prompt)

    weighting = head_weighting(model, batch, prompt, prompt)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - weighting


@pytest.mark.parametrize(("batch", "context"), STEPS)
def test_decode_of_sparse_attention(batch, context):
    model = as_counted("deepseek-v3.2")

    counted = counted_decode("deepseek-v3.2", batch, context)

    again = latents_expanded_again(model, batch, context)
    weighting = head_weighting(model, batch, 1, context + 1)
    assert model_flops(model, Step.decode(batch, context)) == counted - again - weighting


def stream_mixing(model: Model, tokens: int) -> int:
    """Mixing N streams with N x N numbers is a matmul there and vector work in llmplan."""
    inner = (operator for operator in each(model, HyperConnection) if not operator.is_last)
    return sum(2 * o.hc_mult * o.hc_mult * o.hidden_size * tokens for o in inner)


@pytest.mark.parametrize(("batch", "prompt"), [*STEPS, (2, 25)])
def test_prefill_of_compressed_attention(batch, prompt):
    model = as_counted("deepseek-v4")

    counted = counted_prefill("deepseek-v4", batch, prompt)

    mixing = stream_mixing(model, batch * prompt)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - mixing


@pytest.mark.parametrize(("batch", "context"), [*STEPS, (2, 23)])
def test_decode_of_compressed_attention(batch, context):
    model = as_counted("deepseek-v4")

    counted = counted_decode("deepseek-v4", batch, context)

    mixing = stream_mixing(model, batch)
    assert model_flops(model, Step.decode(batch, context)) == counted - mixing


@pytest.mark.parametrize(("batch", "prompt"), DELTA_STEPS)
def test_prefill_of_gated_delta_net(batch, prompt):
    model = as_counted("qwen3-next").rewritten(by_chunks)

    counted = counted_prefill("qwen3-next", batch, prompt)

    padding = padded_columns(model, batch)
    solved = solved_by_substitution(model, batch * prompt)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - padding + solved


@pytest.mark.parametrize(("batch", "context"), STEPS)
def test_decode_of_gated_delta_net(batch, context):
    model = as_counted("qwen3-next")

    counted = counted_decode("qwen3-next", batch, context)

    column = stale_column(model, batch)
    delta = elementwise_delta_rule(model, batch)
    assert model_flops(model, Step.decode(batch, context)) == counted - column + delta


@pytest.mark.parametrize(("batch", "prompt"), DELTA_STEPS)
def test_prefill_of_kimi_delta_attention(batch, prompt):
    model = as_counted("kimi-linear").rewritten(by_chunks)

    counted = counted_prefill("kimi-linear", batch, prompt)

    padding = padded_columns(model, batch)
    scores = scores_with_channel_decay(model, batch * prompt)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - padding + scores


@pytest.mark.parametrize(("batch", "context"), STEPS)
def test_decode_of_kimi_delta_attention(batch, context):
    model = as_counted("kimi-linear")

    counted = counted_decode("kimi-linear", batch, context)

    column = stale_column(model, batch)
    delta = elementwise_delta_rule(model, batch)
    again = latents_expanded_again(model, batch, context)
    stated = model_flops(model, Step.decode(batch, context))
    assert stated == counted - column - again + delta


@pytest.mark.parametrize(("batch", "prompt"), CHUNKED_STEPS)
def test_prefill_of_lightning_attention(batch, prompt):
    model = as_counted("minimax").rewritten(by_chunks)

    counted = counted_prefill("minimax", batch, prompt)

    assert model_flops(model, Step.prefill(batch, prompt)) == counted


@pytest.mark.parametrize(("batch", "context"), STEPS)
def test_decode_of_lightning_attention(batch, context):
    model = as_counted("minimax")

    counted = counted_decode("minimax", batch, context)

    assert model_flops(model, Step.decode(batch, context)) == counted


@pytest.mark.parametrize(("batch", "prompt"), STEPS)
@pytest.mark.parametrize("name", ["mamba", "jamba"])
def test_prefill_of_mamba(name, batch, prompt):
    model = as_counted(name)

    counted = counted_prefill(name, batch, prompt)

    padding = padded_columns(model, batch)
    readout = state_readout(model, batch * prompt)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - padding - readout


@pytest.mark.parametrize(("batch", "prompt"), CHUNKED_STEPS)
@pytest.mark.parametrize("name", ["mamba2", "bamba"])
def test_prefill_of_mamba2(name, batch, prompt):
    model = as_counted(name)

    counted = counted_prefill(name, batch, prompt)

    padding = padded_columns(model, batch)
    scan = chunked_scan(model, batch, prompt)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - padding - scan


@pytest.mark.parametrize(("batch", "context"), STEPS)
@pytest.mark.parametrize("name", ["mamba", "jamba", "mamba2", "bamba"])
def test_decode_of_mamba(name, batch, context):
    model = as_counted(name)

    counted = counted_decode(name, batch, context)

    column = stale_column(model, batch)
    readout = state_readout(model, batch)
    assert model_flops(model, Step.decode(batch, context)) == counted - column - readout


@pytest.mark.parametrize(("batch", "prompt"), STEPS)
def test_prefill_of_the_gated_linear_recurrence(batch, prompt):
    model = as_counted("recurrent-gemma")

    counted = counted_prefill("recurrent-gemma", batch, prompt)

    padding = padded_columns(model, batch)
    assert model_flops(model, Step.prefill(batch, prompt)) == counted - padding


@pytest.mark.parametrize(("batch", "context"), STEPS)
def test_decode_of_the_gated_linear_recurrence(batch, context):
    model = as_counted("recurrent-gemma")

    counted = counted_decode("recurrent-gemma", batch, context)

    convolution = elementwise_convolution(model, batch)
    assert model_flops(model, Step.decode(batch, context)) == counted + convolution


@pytest.mark.parametrize("name", SMALL)
def test_the_small_models_have_equal_parameters(name):
    network = built(SMALL[name])

    model = compiled(SMALL[name])

    assert sum(o.parameters * n for o, n in model.counted()) == sum(
        tensor.numel() for tensor in network.parameters()
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_full_square_changes_neither_weights_nor_state(name):
    model = compiled(SMALL[name])

    square = model.rewritten(as_full_square)

    assert [(o.weights, o.states, n) for o, n in square.counted()] == [
        (o.weights, o.states, n) for o, n in model.counted()
    ]
