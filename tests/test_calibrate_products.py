"""Products, experts and vector work that torch runs: right results, FLOPs and rows of tables."""

from dataclasses import replace

import numpy as np
import pytest

from llmplan.dtypes import FP32, format_named
from llmplan.errors import InputError
from llmplan.model.catalogue import load_model
from llmplan.ops.base import Step
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.cross_attention import ImageLinear, ImageNorm
from llmplan.ops.embedding import (
    Embedding,
    LayerInputTable,
    LearnedVectors,
    PositionTable,
    TiedHead,
)
from llmplan.ops.hyper import HyperConnection, StreamMean
from llmplan.ops.linear import GroupedLinear, Linear, Split, Tokens
from llmplan.ops.moe import Experts, ExpertTable, Router
from llmplan.ops.norm import (
    Elementwise,
    LearnedActivation,
    LearnedScale,
    Norm,
    NormKind,
    StoredScale,
)
from llmplan.ops.precision import Precision, Role
from llmplan.ops.residual import AttentionResidual
from llmplan.ops.reused import Reused
from llmplan.ops.routed_linear import OutputBias, RoutedLinear
from llmplan.perf.operators.expert_load import rank_load

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402  (after torch is there)

from llmplan.calibrate.checking import relative_error  # noqa: E402
from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels  # noqa: E402
from llmplan.calibrate.runners import (  # noqa: E402
    experts,
    look_ups,
    norms,
    pixels,
    products,
    scaled_products,
    streams,
    vectors,
)
from llmplan.calibrate.runners.elements import (  # noqa: E402
    dequantised,
    mx_quantised,
    nvfp4_dequantised,
    nvfp4_quantised,
    quantised,
    tiled_scales,
    whole,
)
from llmplan.calibrate.runners.expert_rows import Routing, routing_under  # noqa: E402
from llmplan.calibrate.runners.experts import Mlp, expert_kernels  # noqa: E402
from llmplan.calibrate.runners.integer_products import int4_packed  # noqa: E402
from llmplan.calibrate.runners.product import Product  # noqa: E402
from tests.ran_kernels import (  # noqa: E402
    PROCESSOR,
    assert_is_a_row,
    assert_is_right,
    counted_flops,
    drawn_inputs,
    ran,
)

RUNNERS = (experts, look_ups, norms, pixels, products, streams, vectors)
"""Importing them registers them."""
P = Precision()
STEP = Step.of(2, 6, 0)
UNCOUNTED = {
    "grouped_mm", "grouped_mm_nongated", "int_mm", "weight_int8pack_mm", "weight_int4pack_mm",
}  # fmt: skip
"""Torch's counter knows no FLOPs of these; they are counted by shape."""


def linear(name: str = "bf16", n: int = 48, k: int = 128) -> Linear:
    return Linear("x", replace(P, ffn=format_named(name)), k, n, Role.FFN)


PRODUCTS = [
    linear(),
    linear("fp16"),
    linear("fp8_tensor"),
    linear("fp8_e5m2"),
    linear("fp8_channel"),
    linear("int8"),
    linear("int4_awq_g128"),
    linear("int4_sym_g32"),
    Linear("head", P, 64, 80, Role.HEAD, tokens=Tokens.LAST),
    GroupedLinear("o", P, 24, 40, Role.ATTENTION, split_units=5),
    TiedHead("head", P, 96, 64),
    Router("router", P, 64, 16),
    RoutedLinear("q", P, 32, 16, 8, 2, Split.COLUMN, 4),
    Experts("e", P, 32, 24, 8, 2),
    Experts("e", replace(P, experts=format_named("fp16")), 32, 24, 8, 3),
    Experts("e", P, 32, 24, 8, 2, is_gated=False),
    Experts("e", P, 32, 24, 4, 2, routed_among=8, token_groups=2),
    ImageLinear("k", P, 32, 24, Role.ATTENTION, image_tokens=5),
    Convolution2d("c", P, 8, 12, 3, 4, Role.VISION),
    HyperConnection("h", P, 4, 32),
    HyperConnection("h", P, 4, 32, is_last=True, tokens=Tokens.LAST),
]
VECTORS = [
    Embedding("embed", P, 50, 32, is_tied=False, extra_rows=3),
    LayerInputTable("inputs", P, 50, 3, 8),
    PositionTable("positions", P, 40, 32),
    LearnedVectors("vectors", P, 6, 32, Role.VISION),
    ExpertTable("table", P, 50, 3),
    Norm("norm", P, 32),
    Norm("norm", P, 32, vectors=3, has_weight=False),
    Norm("norm", P, 16, vectors=4, weight_width=64),
    Norm("norm", P, 32, kind=NormKind.LAYER, has_bias=True),
    Norm("norm", P, 32, kind=NormKind.LAYER, has_weight=False, tokens=Tokens.LAST),
    ImageNorm("norm", P, 32, image_tokens=5),
    *(Elementwise("act", P, 32, flops) for flops in (1.0, 2.0, 3.0, 4.0, 8.0, 12.0)),
    *(Elementwise("gate", P, 32, flops, reads=2) for flops in (1.0, 5.0, 9.0, 10.0)),
    Elementwise("residual", P, 32, 2.0, reads=3),
    Elementwise("rotary", P, 32, 3.0, split_units=4),
    StoredScale("scale", P, 32, 1.0),
    StoredScale("scale", P, 32, 2.0, entries=64),
    LearnedScale("scale", P, 32, 1.0, entries=8),
    LearnedActivation("act", P, 32, 6.0, scalars=2),
    OutputBias("bias", P, 32, 1.0),
    StreamMean("mean", P, 4, 32),
    AttentionResidual("residual", P, 32, 5),
]


@pytest.mark.parametrize("operator", [*PRODUCTS, *VECTORS], ids=lambda o: type(o).__name__)
def test_results_are_right_and_rows_are_of_their_table(operator) -> None:
    for kernel in ran(operator, STEP):
        assert_is_right(kernel)
        assert_is_a_row(kernel)


@pytest.mark.parametrize("operator", [*PRODUCTS, *VECTORS], ids=lambda o: type(o).__name__)
def test_flops_are_those_of_the_operator(operator) -> None:
    expected = float(np.sum(operator.cost(STEP).model_flops))
    for kernel in ran(operator, STEP):
        is_selection = kernel.labels["kernel"] == "reference_softmax_topk"
        assert kernel.flops == (0.0 if is_selection else expected)
        counted = 0.0 if kernel.labels["kernel"] in UNCOUNTED else kernel.flops
        assert counted_flops(kernel) == counted


@pytest.mark.parametrize("name", ["deepseek-v3", "gpt-oss-120b", "gemma-3-27b", "qwen3-235b-a22b"])
def test_flops_at_the_sizes_of_published_models(name: str) -> None:
    """Kernels are made without tensors, so that full sizes cost nothing."""
    step = Step.of(8, 1, 1024)
    for operator, _ in load_model(name).counted():
        known = kernels.dispatch(type(operator)).__module__
        if known not in {module.__name__ for module in RUNNERS}:
            continue
        for kernel in kernels(operator, step, Place(torch.device("cuda"), (9, 0))):
            if isinstance(kernel, Kernel) and kernel.labels["kernel"] != "reference_softmax_topk":
                assert kernel.flops == float(np.sum(operator.cost(step).model_flops)), operator


@pytest.mark.parametrize(
    ("operator", "weight"),
    [
        (linear(n=128), 1),
        (linear("fp8_tensor", n=128), 2),
        (linear("int8", n=128), 1),
        (Experts("e", P, 32, 32, 8, 2), 2),
        (GroupedLinear("o", P, 24, 120, Role.ATTENTION, split_units=5), 1),
    ],
    ids=str,
)
def test_a_transposed_weight_is_caught(operator, weight: int) -> None:
    for kernel in ran(operator, STEP):
        given = list(drawn_inputs(kernel))
        wrong = list(given)
        wrong[weight] = given[weight].transpose(-1, -2).contiguous()
        assert given[weight].shape == wrong[weight].shape
        difference = relative_error(kernel.run(*wrong), kernel.reference(*given))
        assert difference > 10 * kernel.tolerance


BLOCKED = {
    "fp8": scaled_products.blockwise_kernel,
    "mxfp8": scaled_products.mxfp8_kernel,
    "nvfp4": scaled_products.nvfp4_kernel,
}
SCALES = {"fp8": (1, 3), "mxfp8": (4, 5), "nvfp4": (6, 7)}
"""Inputs of a kernel that its reference takes the scales of both operands from."""


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_out_of_place_is_more_than_the_tolerance(name: str) -> None:
    kernel = BLOCKED[name](Product(40, 272, 768, format_named(name), PROCESSOR))
    given = drawn_inputs(kernel)
    right = kernel.reference(*given)
    for index in SCALES[name]:
        for axis in (0, 1):
            moved = given[index].view(torch.uint8).unflatten(1, (-1, given[index].itemsize))
            wrong = list(given)
            wrong[index] = moved.roll(1, axis).flatten(1).view(given[index].dtype)
            assert relative_error(kernel.reference(*wrong), right) > 4 * kernel.tolerance


def test_a_scale_of_another_row_is_caught() -> None:
    (kernel,) = ran(linear("fp8_channel"), STEP)
    given = drawn_inputs(kernel)
    for index in (1, 3):
        wrong = list(given)
        wrong[index] = given[index].roll(1, 0)
        difference = relative_error(kernel.run(*wrong), kernel.reference(*given))
        assert difference > 10 * kernel.tolerance


@pytest.mark.parametrize("is_gated", [True, False])
def test_experts_run_one_by_one_where_no_grouped_product_does(*, is_gated: bool) -> None:
    operator = Experts("e", P, 36, 28, 8, 2, is_gated=is_gated, routed_among=16)
    refused, kernel = kernels(operator, STEP, PROCESSOR)
    assert isinstance(refused, Refused)
    assert "16 bytes" in refused.reason
    assert isinstance(kernel, Kernel)
    assert_is_right(kernel)
    assert_is_a_row(kernel)
    assert counted_flops(kernel) == kernel.flops == operator.cost(STEP).matmul_flops
    assert ("nongated" in kernel.labels["kernel"]) is not is_gated


def test_a_row_given_to_another_token_is_caught() -> None:
    for kernel in ran(Experts("e", P, 32, 24, 8, 2), STEP):
        given = list(drawn_inputs(kernel))
        wrong = [*given[:3], given[3].roll(1), *given[4:]]
        difference = relative_error(kernel.run(*wrong), kernel.reference(*given))
        assert difference > 10 * kernel.tolerance


GPU = {"fp8": (9, 0), "fp8_tensor": (9, 0), "fp8_channel": (8, 9), "mxfp8": (10, 0)} | {
    "nvfp4": (10, 0), "int8": (8, 0), "bf16": (8, 0), "int4_awq_g128": (8, 0),
}  # fmt: skip
REASONS = {
    "fp8": "9.x", "fp8_tensor": "8.9", "fp8_channel": "8.9", "mxfp8": "10.0", "nvfp4": "10.0",
    "int4_awq_g128": "8.0",
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_what_a_gpu_lacks_is_refused_with_where_it_runs(name: str) -> None:
    (found,) = kernels(linear(name, 256, 384), STEP, Place(torch.device("cuda"), (7, 5)))
    assert isinstance(found, Refused)
    assert REASONS[name] in found.reason


@pytest.mark.parametrize("name", GPU)
def test_torch_accepts_types_and_strides_on_a_gpu(name: str) -> None:
    """Its checks for CUDA run without one, on tensors that hold nothing."""
    place = Place(torch.device("cuda"), GPU[name])
    n, k, m = 256, 384, 40
    found = kernels(linear(name, n, k), Step.of(m, 1, 5), place)
    (kernel, *_) = found
    assert isinstance(kernel, Kernel), kernel
    with FakeTensorMode():
        given = int4_inputs(m, n, k) if name.startswith("int4") else drawn_inputs(kernel)
        result = kernel.run(*on_gpu(given))
    assert result.shape == (m, n)
    assert result.dtype is (torch.int32 if name == "int8" else torch.bfloat16)


@pytest.mark.parametrize(("m", "n"), [(1, 272), (1, 256), (40, 272)])
@pytest.mark.parametrize("name", ["fp8", "fp8_tensor", "fp8_channel"])
def test_a_gpu_takes_one_token_and_outputs_that_are_no_whole_block(name, m, n) -> None:
    """Scales of one token are laid out as those of many; 2,112 outputs are 16.5 blocks of 128."""
    (kernel,) = kernels(linear(name, n, 384), Step.of(m, 1, 5), Place(torch.device("cuda"), (9, 0)))
    with FakeTensorMode():
        result = kernel.run(*on_gpu(drawn_inputs(kernel)))
    assert result.shape == (m, n)


def test_blocks_of_activations_are_whole() -> None:
    place = Place(torch.device("cuda"), (9, 0))
    (found,) = kernels(linear("fp8", 256, 400), STEP, place)
    assert isinstance(found, Refused)
    assert "128" in found.reason


def int4_inputs(m: int, n: int, k: int) -> tuple:
    codes = torch.zeros((n, k), dtype=torch.uint8)
    scales = torch.zeros((k // 128, n, 2), dtype=torch.bfloat16)
    x = torch.zeros((m, k), dtype=torch.bfloat16)
    return x, int4_packed(codes, cuda=True), scales, scales


def on_gpu(tensors) -> list:
    """Tensors of the same shapes and strides there, empty."""
    return [
        torch.empty_strided(each.shape, each.stride(), dtype=each.dtype, device="cuda")
        for each in tensors
    ]


@pytest.mark.parametrize(("name", "least", "most"), [("fp8", 0.01, 0.05), ("mxfp8", 0.01, 0.08),
                                                     ("nvfp4", 0.05, 0.2)])  # fmt: skip
def test_references_of_block_formats_are_products(name: str, least: float, most: float) -> None:
    """Against the unquantised operands: as far as 3 bits, or 1 bit, of significand round."""
    product = Product(40, 272, 384, format_named(name), PROCESSOR)
    kernel = BLOCKED[name](product)
    x, w = product.varied(torch.Generator().manual_seed(0))
    plain = x.double() @ w.double().t()
    assert least < relative_error(kernel.reference(*drawn_inputs(kernel)), plain) < most
    assert_is_a_row(kernel)


def test_fp8_experts_are_those_of_their_weights() -> None:
    operator = Experts("e", replace(P, experts=format_named("fp8_channel")), 32, 48, 4, 2)
    mlp = Mlp(operator, routing_under(operator, 12, 0.0), 0.0, torch.bfloat16)
    kernel = experts.scaled_grouped_kernel(mlp)
    plain = experts.loop(mlp)

    off = relative_error(
        kernel.reference(*drawn_inputs(kernel)), plain.reference(*drawn_inputs(plain))
    )

    assert 0.01 < off < 0.1
    assert_is_a_row(kernel)
    inputs = drawn_inputs(kernel)
    with FakeTensorMode() as fake:
        result = kernel.run(*map(fake.from_tensor, inputs))
    assert result.shape == (12, 32)


@pytest.mark.parametrize("shape", [(40, 384), (272, 200), (1, 128)])
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 0), (1, 128), (128, 128)])
def test_quantised_numbers_are_near(shape, rows: int, columns: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x[: shape[0] // 2] *= 100
    for dtype, unit in ((torch.float8_e4m3fn, 2.0**-4), (torch.int8, 0.05)):
        codes, scales = quantised(x, dtype, rows, columns)
        assert relative_error(dequantised(codes, scales, rows, columns), x) < unit
    assert torch.isfinite(scales).all()


def test_zeros_stay_zeros() -> None:
    zeros = torch.zeros(4, 64)
    for dequantise, parts in (
        (lambda q, s: dequantised(q, s, 1, 0), quantised(zeros, torch.float8_e4m3fn, 1, 0)),
        (lambda q, s: dequantised(q, s, 1, 32), mx_quantised(zeros)),
        (nvfp4_dequantised, nvfp4_quantised(zeros)),
    ):
        assert not dequantise(*parts).any()


def test_block_scales_lie_in_tiles() -> None:
    """Within a tile, row r and column c stand at 16 (r mod 32) + 4 floor(r / 32) + c (cuBLAS)."""
    scales = torch.randint(1, 255, (200, 10), dtype=torch.uint8)
    tiled = tiled_scales(scales).view(2, 3, 512)
    for row, column in ((0, 0), (31, 3), (33, 2), (127, 9), (128, 4), (199, 7)):
        r = row % 128
        place = 16 * (r % 32) + 4 * (r // 32) + column % 4
        assert tiled[row // 128, column // 4, place] == scales[row, column]
    assert tiled.count_nonzero() == scales.numel()


def test_a_power_law_fills_the_rank_that_the_curve_expects() -> None:
    operator = Experts("e", P, 32, 24, 8, 4, routed_among=32)
    step = Step.of(1, 64, 0)
    found = expert_kernels(operator, step, PROCESSOR, 1.2)
    assert all(isinstance(kernel, Kernel) for kernel in found)
    routing = routing_under(operator, 64, 1.2)
    columns = {name: np.array([value]) for name, value in found[0].columns.items()}
    load = rank_load(columns)
    assert routing.rows == pytest.approx(load.rows[0], rel=0.1)
    assert sum(count > 0 for count in routing.counts) == pytest.approx(load.hit[0], abs=1)
    for kernel in found:
        assert kernel.columns["distribution"] == 1.2
        assert kernel.flops == 2 * 3 * 32 * 24 * routing.rows
        assert_is_right(kernel)


def test_no_expert_sees_a_token_twice() -> None:
    routing = Routing(10, (10, 0, 7, 3, 5))
    tokens = routing.token_of_row(torch.Generator().manual_seed(0))
    for _, start, end in routing.spans():
        assert len(set(tokens[start:end].tolist())) == end - start
    rows, present = routing.rows_of_token(tokens)
    assert sorted(rows[present].tolist()) == list(range(25))
    for token in range(10):
        assert all(tokens[row] == token for row in rows[token][present[token]])


REFUSED = [
    (linear("q4_k"), "q4_k"),
    (linear("fp32"), "fp32"),
    (linear("fp8"), "9.x"),
    (linear("int4_awq_g16"), "16"),
    (Experts("e", replace(P, experts=format_named("fp8")), 32, 24, 8, 2), "fp8"),
    (Experts("e", P, 32, 24, 3, 2, routed_among=8), "8 experts"),
    (Experts("e", P, 32, 24, 1, 1, routed_among=8), "1.5 rows"),
    (Reused.of(linear()), "Linear"),
    (PositionTable("p", P, 4, 32), "4"),
    (Norm("n", replace(P, activations=format_named("fp8")), 32), "fp8"),
    (Convolution2d("c", P, 8, 12, 2, 4, Role.VISION), "2 x 2"),
    (LearnedScale("s", P, 32, 1.0, entries=5), "5"),
    (LearnedActivation("a", P, 32, 6.0, scalars=3), "3 scalars"),
]


@pytest.mark.parametrize(("operator", "said"), REFUSED, ids=str)
def test_what_torch_cannot_run_is_refused_with_a_reason(operator, said: str) -> None:
    found = kernels(operator, STEP, PROCESSOR)
    refused = [each for each in found if isinstance(each, Refused)]
    assert refused
    assert said in refused[0].reason


def test_an_image_is_projected_once_a_request() -> None:
    operator = ImageLinear("k", P, 32, 24, Role.ATTENTION, image_tokens=5)
    (found,) = kernels(operator, Step.of(2, 1, 30), PROCESSOR)
    assert isinstance(found, Refused)


def test_parts_of_a_token_are_an_error() -> None:
    assert whole(np.array([3.0]), "tokens") == 3
    for wrong in (np.array([0.5]), np.array([1.0, 2.0])):
        with pytest.raises(InputError, match="whole number of tokens"):
            whole(wrong, "tokens")


def test_a_router_in_32_bits_still_selects() -> None:
    product, selection = kernels(Router("r", replace(P, router=FP32), 64, 16), STEP, PROCESSOR)
    assert isinstance(product, Refused)
    assert isinstance(selection, Kernel)
