"""Tensor parallelism as a rewrite: every operator has a rule, and ranks together hold the whole."""

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import llmplan.ops
from llmplan.analyze.arrange import Wanted
from llmplan.analyze.fit import Question, answer
from llmplan.analyze.memory import Load, weights_bytes
from llmplan.analyze.serving import serving
from llmplan.analyze.state import RequestState, request_state
from llmplan.dtypes import state_format_named
from llmplan.engines.profile import profile_of
from llmplan.engines.settings import Settings
from llmplan.errors import LayoutError
from llmplan.hardware.catalogue import load_device, parse_gpus
from llmplan.model.catalogue import load_model, model_names
from llmplan.model.compiled import Model, Part
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, Step
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.embedding import Embedding
from llmplan.ops.latent import AbsorbedLatentAttention, LatentAttention
from llmplan.ops.linear import Linear, Split
from llmplan.ops.linear_attention import ChunkedDeltaRule, ChunkedLightningAttention
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout
from llmplan.parallel.precision import StateFormats, lowered, weight_formats, with_weight_formats
from llmplan.parallel.shard import sharded, sharded_model

# the first draw of a model compiles it, which a busy machine may take long over
on_whole_models = settings(deadline=None, max_examples=200)

BF16_STATES = StateFormats(*[state_format_named("bf16")] * 3)

models = st.sampled_from(model_names())
degrees = st.sampled_from([2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32])


@cache
def model(name: str) -> Model:
    return load_model(name)


@cache
def rank(name: str, tp: int) -> Model | None:
    """What each of ``tp`` ranks holds; None where the layout is refused."""
    try:
        return sharded_model(model(name), tp)
    except LayoutError:
        return None


def pairs(name: str, tp: int, *without: Part) -> Iterator[tuple[Operator, Operator]]:
    """Every operator with what one rank holds of it, some components left out."""
    split = rank(name, tp)
    assume(split is not None)
    for whole, part in zip(model(name).components, split.components, strict=True):
        if whole.part in without:
            continue
        layers = zip(whole.distinct_layers, part.distinct_layers, strict=True)
        yield from zip((*whole.before, *whole.after), (*part.before, *part.after), strict=True)
        for (layer, _), (shard, _) in layers:
            yield from zip(layer.operators, shard.operators, strict=True)


# -- every operator has a rule -------------------------------------------------------------------

MADE_BY_ANALYSIS = {AbsorbedLatentAttention, ChunkedDeltaRule, ChunkedLightningAttention}
"""Realisations that replace an operator of the spec while it is analysed."""

OUTSIDE_THE_CATALOGUE = {
    "PositionTable", "LearnedActivation", "LayerInputTable", "Reused", "RoutedLinear", "OutputBias",
    "MatrixLstm", "DifferentialAttention",
}  # fmt: skip
"""What only specs beyond the catalogue use, such as learned positions and shared weights."""


def subclasses(of: type) -> Iterator[type[Operator]]:
    for child in of.__subclasses__():
        yield child
        yield from subclasses(child)


def operator_classes() -> list[type[Operator]]:
    """Every operator class of the package, bases of others left out."""
    for module in pkgutil.iter_modules(llmplan.ops.__path__, "llmplan.ops."):
        importlib.import_module(module.name)
    shipped = [cls for cls in subclasses(Operator) if cls.__module__.startswith("llmplan.")]
    # dataclasses with slots leave the class they were made from behind
    return list({cls.__qualname__: cls for cls in shipped}.values())


def produced() -> set[type[Operator]]:
    """Operator classes that some model of the catalogue uses."""
    return {type(o) for name in model_names() for o, _ in model(name).counted()}


def test_every_operator_class_has_a_shard_rule():
    no_rule = sharded.dispatch(object)
    concrete = {cls for cls in operator_classes() if not cls.__subclasses__()} | produced()

    assert [cls.__name__ for cls in concrete if sharded.dispatch(cls) is no_rule] == []


def test_every_operator_class_is_used_by_a_model_of_the_catalogue():
    leaves = {cls for cls in operator_classes() if not cls.__subclasses__()}

    unused = {cls.__name__ for cls in leaves - produced() - MADE_BY_ANALYSIS}
    assert unused <= OUTSIDE_THE_CATALOGUE


def test_an_operator_without_a_rule_is_an_error():
    class Unknown(Operator):
        pass

    with pytest.raises(TypeError, match="no shard rule is registered for Unknown"):
        sharded(Unknown("unknown", model("llama-3.1-8b").decoder.before[0].precision), 2)


# -- ranks together hold the whole ---------------------------------------------------------------


@on_whole_models
@given(name=models, tp=degrees)
def test_ranks_hold_no_less_than_the_whole(name, tp):
    for whole, part in pairs(name, tp):
        assert tp * part.weights_bytes >= whole.weights_bytes, whole.name
        assert tp * part.parameters >= whole.parameters, whole.name
        assert part.weights_bytes <= whole.weights_bytes, whole.name


@on_whole_models
@given(name=models, tp=degrees)
def test_what_divides_is_held_once(name, tp):
    for whole, part in pairs(name, tp, Part.VISION):
        matrix, shard = whole.weights[:1], part.weights[:1]
        match whole:
            case Linear(split=Split.COLUMN | Split.ROW, split_units=units) if units % tp == 0:
                assert tp * shard[0].elements == matrix[0].elements, whole.name
            case Linear(split=Split.VOCABULARY) | Embedding() if matrix[0].shape[0] % tp == 0:
                assert tp * part.parameters == whole.parameters, whole.name
            case Experts(has_bias=False) | LatentAttention():
                assert tp * part.parameters == whole.parameters, whole.name
            case ShortConvolution(split_units=units) if units % tp == 0:
                assert tp * part.parameters == whole.parameters, whole.name


@on_whole_models
@given(name=models, tp=degrees)
def test_a_rank_computes_no_less_than_its_share(name, tp):
    step = Step.decode(3, 700)
    for whole, part in pairs(name, tp):
        alone, shared = whole.cost(step), part.cost(step)
        for field in ("model_flops", "state_read_bytes", "scan_flops"):
            assert tp * getattr(shared, field) >= getattr(alone, field) * (1 - 1e-12), whole.name
            assert getattr(shared, field) <= getattr(alone, field), whole.name


@on_whole_models
@given(name=models)
def test_one_rank_holds_the_model_itself(name):
    assert sharded_model(model(name), 1) is model(name)


# -- what requests keep --------------------------------------------------------------------------

STATE_FIELDS = (
    "growing_bytes_per_token",
    "indexer_bytes_per_token",
    "recurrent_bytes",
    "convolution_bytes",
    "window_bytes_per_token",
)


@on_whole_models
@given(name=models, tp=degrees)
def test_ranks_keep_no_less_state_than_the_whole(name, tp):
    assume(rank(name, tp) is not None)

    whole, part = request_state(model(name)), request_state(rank(name, tp))

    for field in STATE_FIELDS:
        assert getattr(whole, field) <= tp * getattr(part, field)
        assert getattr(part, field) <= getattr(whole, field)


def kv_heads(name: str, tp: int) -> set[int]:
    split = rank(name, tp)
    assert split is not None
    return {
        operator.num_key_value_heads
        for operator, _ in split.decoder.counted
        if isinstance(operator, Attention)
    }


@pytest.mark.parametrize(("tp", "heads"), [(1, 8), (2, 4), (4, 2), (8, 1), (16, 1), (32, 1)])
def test_kv_heads_are_divided_then_copied(tp, heads):
    # llama-3.1-8b has 8 KV heads (its config.json); beyond that, ranks hold copies as in vLLM:
    # num_kv_heads = max(1, total_num_kv_heads // tp_size), vllm/model_executor/models/llama.py
    assert kv_heads("llama-3.1-8b", tp) == {heads}
    per_token = request_state(rank("llama-3.1-8b", tp)).growing_bytes_per_token
    assert per_token == 32 * 2 * heads * 128 * 2


@pytest.mark.parametrize("tp", [2, 8, 16])
@pytest.mark.parametrize("name", ["deepseek-v3", "kimi-k2", "deepseek-v3.2"])
def test_the_latent_is_copied_to_every_rank(name, tp):
    whole, part = request_state(model(name)), request_state(rank(name, tp))

    assert part.growing_bytes_per_token == whole.growing_bytes_per_token
    assert part.indexer_bytes_per_token == whole.indexer_bytes_per_token


@on_whole_models
@given(
    name=models,
    tp=degrees,
    context=st.integers(1, 200_000),
    more=st.integers(0, 50_000),
)
def test_memory_never_falls_with_context(name, tp, context, more):
    assume(rank(name, tp) is not None)
    state = request_state(rank(name, tp))

    assert 0 <= state.bytes_at(context) <= state.bytes_at(context + more)
    assert state.bytes_at(context) <= state.bytes_reserved_as_full(context)


# -- GPUs ----------------------------------------------------------------------------------------

H100, H200 = "h100-sxm", "h200-sxm"


def best_concurrency(name: str, dtype: str, gpus: str, context: int) -> int:
    """Requests of the best layout, all replicas."""
    load = Load(context, 1)
    found = answer(
        Question(
            model=model(name),
            weights=dtype,
            states=BF16_STATES,
            group=parse_gpus(gpus),
            load=load,
            wanted=Wanted(),
            profile=profile_of("generic"),
            settings=Settings(),
        )
    )
    return max((d.max_concurrency for d in found.deployments), default=0)


@on_whole_models
@given(
    name=models,
    dtype=st.sampled_from(["native", "fp8_channel"]),
    context=st.sampled_from([1024, 8192, 100_000]),
    step=st.sampled_from(
        [
            ("1xH100", "2xH100"),
            ("2xH100", "4xH100"),
            ("2xH100", "6xH100"),
            ("4xH100", "8xH100"),
            ("8xH100", "2n8xH100"),
            ("2n8xH100", "4n8xH100"),
        ]
    ),
)
def test_more_gpus_never_hold_less(name, dtype, context, step):
    fewer, more = step

    fit_fewer = best_concurrency(name, dtype, fewer, context)

    assert best_concurrency(name, dtype, more, context) >= fit_fewer


@on_whole_models
@given(name=models, tp=degrees, context=st.integers(1, 100_000), budget=st.booleans())
def test_requests_and_tokens_agree_with_the_memory_that_is_free(name, tp, context, budget):
    assume(rank(name, tp) is not None)
    device = load_device(H200 if budget else H100)

    served = serving(model(name), Layout(tp=tp), device, profile_of("generic"), Settings())

    held = served.worst.plan.held
    free, requests = held.pool_bytes, served.requests(context)
    one = request_state(rank(name, tp)).bytes_at(context)
    assert one == served.worst.plan.cache.request_bytes(context)
    assert requests * one <= max(free, 0)
    assert requests == 0 or (requests + 1) * one > free
    assert held.weights.bytes == weights_bytes(rank(name, tp))


# -- layouts that are refused --------------------------------------------------------------------


# model, format, tp, and what engines said (read 2026-11-22); widths are from each config.json
CUT_BLOCKS = [
    # "The output_size of gate's and up's weight = 192 is not divisible by weight quantization
    # block_n = 128", github.com/vllm-project/vllm/issues/17569; 1536 / 8 = 192, 1536 / 4 = 3 x 128
    ("qwen3-235b-a22b", "fp8", 4, 8, r"\bexperts 192\b.*\b128"),
    # "Weight output_partition_size = 576 is not divisible by weight quantization block_n = 128",
    # github.com/sgl-project/sglang/issues/3491; 18432 / 32 = 576, 18432 / 16 = 9 x 128
    ("deepseek-r1", "native", 16, 32, r"\bgate_proj 576\b.*\b128"),
    # "The input size is not aligned with the quantized weight shape" at tp 2,
    # github.com/QwenLM/Qwen3-VL/issues/831; 29568 / 128 = 231 groups, an odd number
    ("qwen2.5-72b", "int4", 1, 2, r"\bdown_proj 14784\b.*\b128"),
]


@pytest.mark.parametrize(("name", "dtype", "legal", "refused", "message"), CUT_BLOCKS)
def test_a_split_may_not_cut_scale_blocks(name, dtype, legal, refused, message):
    lower = with_weight_formats(model(name), weight_formats(dtype))

    assert sharded_model(lower, legal)
    with pytest.raises(LayoutError, match=rf"\b{refused}\b.*{message}"):
        sharded_model(lower, refused)


@pytest.mark.parametrize("dtype", ["bf16", "fp8_channel", "fp8_tensor"])
def test_formats_without_blocks_may_be_cut_anywhere(dtype):
    assert sharded_model(with_weight_formats(model("qwen3-235b-a22b"), weight_formats(dtype)), 8)


REFUSED = [
    # heads and widths from each model's config.json
    ("qwen2.5-7b", 8, r"8 does not split q_proj: its 28"),
    ("phi-4-14b", 4, r"4 does not split k_proj: its 10"),
    ("llama-3.1-8b", 3, r"3 does not split q_proj: its 32"),
    ("llama-3.1-8b", 64, r"64 does not split q_proj: its 32"),
    ("deepseek-v3", 7, r"7 does not split q_b_proj: its 128"),
]


@pytest.mark.parametrize(("name", "tp", "message"), REFUSED)
def test_a_refusal_names_the_operator_and_its_units(name, tp, message):
    with pytest.raises(LayoutError, match=message):
        sharded_model(model(name), tp)


def vision_bytes(split: Model) -> int:
    return sum(o.weights_bytes * n for c in split.parts(Part.VISION) for o, n in c.counted)


def test_a_vision_tower_that_does_not_divide_is_copied():
    # gemma-3-27b: 32 query and 16 KV heads in the decoder, 16 heads in the tower (config.json)
    whole, split, copied = (
        vision_bytes(m)
        for m in (model("gemma-3-27b"), rank("gemma-3-27b", 8), rank("gemma-3-27b", 32))
    )

    assert split < whole / 7
    assert copied == whole


def test_a_language_model_that_does_not_divide_is_refused_with_its_tower():
    with pytest.raises(LayoutError, match="q_proj"):
        sharded_model(model("gemma-3-27b"), 64)


# -- precision -----------------------------------------------------------------------------------


@on_whole_models
@given(name=models, dtype=st.sampled_from(["fp8_channel", "int4_sym_g32", "fp32"]), tp=degrees)
def test_precision_and_splitting_commute(name, dtype, tp):
    formats = weight_formats(dtype)
    try:
        first = sharded_model(with_weight_formats(model(name), formats), tp)
    except LayoutError:
        assume(False)

    split = rank(name, tp)
    assume(split is not None)
    assert list(first.counted()) == list(with_weight_formats(split, formats).counted())


def test_lowering_to_the_published_formats_changes_nothing():
    for name in model_names():
        states: RequestState = request_state(model(name))
        same = lowered(model(name), "native", BF16_STATES)
        assert weights_bytes(same) == weights_bytes(model(name))
        assert request_state(same) == states
