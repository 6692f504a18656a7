"""Recurrences of all kinds as torch runs them here: right, rows of work, FLOPs as stated."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest

from llmplan.dtypes import FP8, FP32
from llmplan.ops.base import Step
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.linear_attention import (
    ChunkedDeltaRule,
    ChunkedLightningAttention,
    DeltaRule,
    LightningAttention,
    MatrixLstm,
    MatrixStateAttention,
)
from llmplan.ops.precision import Precision
from llmplan.ops.ssm import (
    GatedLinearRecurrence,
    Mamba1Scan,
    Mamba2Scan,
    RecurrentScan,
    Rwkv6Recurrence,
    TokenShift,
)

torch = pytest.importorskip("torch")

from llmplan.calibrate.kernel import Kernel, Place, Refused, kernels  # noqa: E402
from llmplan.calibrate.runners import recurrent, scans  # noqa: E402
from llmplan.calibrate.runners.packages import missing, no_convolution  # noqa: E402
from llmplan.calibrate.runners.recurrent import chunked, closed_form, rows, walk  # noqa: E402
from llmplan.calibrate.runners.requests import WALKED_TOKENS  # noqa: E402
from tests.ran_kernels import (  # noqa: E402
    PROCESSOR,
    assert_is_a_row,
    assert_is_right,
    counted_flops,
    drawn_inputs,
    each_changed,
    error,
    ran,
)

RUNNERS = (recurrent, scans)
"""Importing them registers them."""
BF16 = Precision()
STEPS = {
    "prefill": Step.of(2, 24, 0),
    "chunk": Step.of(2, 16, 13),
    "decode": Step.of(3, 1, 29),
    "drafts": Step.of(2, 3, 29),
}
CHUNKED = {
    "lightning by chunks": ChunkedLightningAttention("a", BF16, 2, 4, 8, 12, chunk_size=8),
    "delta rule by chunks": ChunkedDeltaRule("a", BF16, 2, 4, 8, 12, chunk_size=8),
    "kda by chunks": ChunkedDeltaRule("a", BF16, 2, 4, 8, 12, True, chunk_size=8),
}
WALKED = {
    "lightning": LightningAttention("a", BF16, 4, 4, 8, 12),
    "shared keys": LightningAttention("a", BF16, 2, 4, 8, 12),
    "delta rule": DeltaRule("a", BF16, 2, 4, 8, 12),
    "kda": DeltaRule("a", BF16, 4, 4, 8, 12, decay_per_channel=True),
    "mlstm": MatrixLstm("a", BF16, 4, 4, 8, 12),
    "mamba": Mamba1Scan("a", BF16, 12, 5),
    "mamba of heads": Mamba1Scan("a", BF16, 12, 5, 2),
    "mamba 2": Mamba2Scan("a", BF16, 6, 4, 2, 5),
    "rg-lru": GatedLinearRecurrence("a", BF16, 12, 3),
    "rwkv 6": Rwkv6Recurrence("a", BF16, 3, 8),
    "token shift": TokenShift("a", BF16, 12, 3),
    "convolution": ShortConvolution("a", BF16, 12, 4, has_bias=True, split_units=1),
    "no bias": ShortConvolution("a", BF16, 12, 4, has_bias=False, split_units=1),
    "one tap": ShortConvolution("a", BF16, 12, 1, has_bias=False, split_units=1),
}
EVERY = [
    pytest.param(operator, step, id=f"{name}-{phase}")
    for name, operator in {**WALKED, **CHUNKED}.items()
    for phase, step in STEPS.items()
    if name in WALKED or phase in {"prefill", "chunk"}
]


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_results_are_those_of_another_algorithm_in_float64(operator, step):
    for kernel in ran(operator, step):
        assert_is_right(kernel)


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_states_may_be_wider_than_activations(operator, step):
    wide = replace(operator, precision=replace(BF16, recurrent=FP32, convolution_columns=FP32))

    for kernel in ran(wide, step):
        assert_is_right(kernel)


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_in_float32_results_agree_to_its_rounding(operator, step):
    exact = replace(BF16, activations=FP32, recurrent=FP32, convolution_columns=FP32)

    for kernel in ran(replace(operator, precision=exact), step):
        assert kernel.tolerance == 1e-4
        assert_is_right(kernel)


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_kernels_are_rows_by_the_work_that_operators_state(operator, step):
    (kernel,) = ran(operator, step)

    assert_is_a_row(kernel)
    assert kernel.labels["op"] == type(operator).__name__
    assert kernel.is_reference
    assert kernel.columns["bytes"] == operator.cost(step).moved_bytes


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_flops_are_those_that_the_operator_states_and_that_torch_counts(operator, step):
    (kernel,) = ran(operator, step)

    assert kernel.flops == operator.cost(step).model_flops
    assert counted_flops(kernel) == kernel.flops


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_a_kernel_that_reads_another_input_is_caught(operator, step):
    exact = replace(BF16, activations=FP32, recurrent=FP32, convolution_columns=FP32)

    (kernel,) = ran(replace(operator, precision=exact), step)

    for number, off in each_changed(kernel):
        if drawn_inputs(kernel)[number].numel():
            assert off > 10 * kernel.tolerance, number


def broken(form):
    """A form of the recurrence with one thing wrong with it."""
    return {
        "no decay": lambda q, k, v, g, beta, state: form(q, k, v, g * 0, beta, state),
        "no state": lambda q, k, v, g, beta, state: form(q, k, v, g, beta, state * 0),
        "late": lambda q, k, v, g, beta, state: form(q, k.roll(1, 1), v, g, beta, state),
        "swapped heads": lambda q, k, v, g, beta, state: form(q, k.roll(1, 0), v, g, beta, state),
    }


@pytest.mark.parametrize("what", ["no decay", "no state", "late", "swapped heads"])
@pytest.mark.parametrize("name", ["lightning", "delta rule", "kda"])
def test_a_wrong_recurrence_is_caught(name, what):
    (kernel,) = ran(WALKED[name], Step.of(2, 24, 0))
    maker = recurrent._lightning_run if name == "lightning" else recurrent._delta_run

    wrong = maker(broken(walk)[what], torch.float32)

    assert error(kernel, drawn_inputs(kernel), wrong) > kernel.tolerance


def test_a_delta_rule_that_does_not_recall_is_caught():
    (kernel,) = ran(WALKED["delta rule"], STEPS["prefill"])

    wrong = recurrent._delta_run(
        lambda q, k, v, g, beta, state: walk(q, k, v * beta, g, None, state), torch.float32
    )

    assert error(kernel, drawn_inputs(kernel), wrong) > 10 * kernel.tolerance


@pytest.mark.parametrize("with_recall", [False, True])
@pytest.mark.parametrize("channels", [1, 8])
def test_all_forms_of_a_recurrence_agree(with_recall, channels):
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    q, k, v = (numbers(3, 24, width) - 0.5 for width in (8, 8, 12))
    g, beta, state = -numbers(3, 24, channels), numbers(3, 24, 1), numbers(3, 8, 12)
    beta = beta if with_recall else None

    walked = walk(q, k, v, g, beta, state)

    for form in (closed_form(q, k, v, g, beta, state), chunked(q, k, v, g, beta, state, 8)):
        for ours, theirs in zip(form, walked, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("operator", CHUNKED.values(), ids=CHUNKED)
def test_a_part_of_a_chunk_is_refused(operator):
    (refused,) = kernels(operator, Step.of(2, 20, 0), PROCESSOR)

    assert isinstance(refused, Refused)
    assert "multiple" in refused.reason


@pytest.mark.parametrize(
    "operator",
    [WALKED[name] for name in ("lightning", "delta rule", "mlstm", "mamba", "convolution")],
)
def test_states_in_formats_without_arithmetic_are_refused(operator):
    stored = replace(BF16, recurrent=FP8, convolution_columns=FP8)

    (refused,) = kernels(replace(operator, precision=stored), STEPS["decode"], PROCESSOR)

    assert isinstance(refused, Refused)
    assert "fp8" in refused.reason


@pytest.mark.parametrize(
    "operator", [MatrixStateAttention("a", BF16, 4, 4, 8, 12), RecurrentScan("a", BF16)]
)
def test_operators_that_state_no_recurrence_are_refused(operator):
    (refused,) = kernels(operator, STEPS["decode"], PROCESSOR)

    assert isinstance(refused, Refused)


GPU = Place(torch.device("cuda"), (9, 0))
"""Kernels for it are made here, not run."""


def fla_stand_in(*, scale, initial_state, output_final_state, **given):
    """fla's gated delta rule by its documentation: [B, T, H, d], log decay and β [B, T, H]."""
    assert output_final_state
    q, k, v, g, beta = (given[name] for name in ("q", "k", "v", "g", "beta"))
    assert q.shape[2] == k.shape[2] == v.shape[2] == g.shape[2] == beta.shape[2]
    B, T, H = v.shape[:3]
    parts = (rows(part, H, torch.float32) for part in (q * scale, k, v, g[..., None]))
    betas = rows(beta[..., None], H, torch.float32)
    outputs, left = walk(*parts, betas, initial_state.float().flatten(0, 1))
    return outputs.view(B, H, T, -1).transpose(1, 2).to(q.dtype), left.view(initial_state.shape)


def convolution_stand_in(*, x, weight, bias, initial_states, return_final_states):
    """causal_conv1d_fn by its documentation: [B, C, T], channels innermost."""
    assert return_final_states
    assert x.stride(1) == initial_states.stride(1) == 1
    padded = torch.cat((initial_states, x), -1)
    out = torch.nn.functional.conv1d(padded, weight[:, None], bias, groups=len(weight))
    return out, padded[..., x.shape[-1] :]


@pytest.fixture
def packages(monkeypatch):
    """Both packages as their documentation has them."""
    fla, convolution = ModuleType("fla.ops.gated_delta_rule"), ModuleType("causal_conv1d")
    fla.chunk_gated_delta_rule = fla.fused_recurrent_gated_delta_rule = fla_stand_in
    convolution.causal_conv1d_fn = convolution_stand_in
    monkeypatch.setitem(sys.modules, fla.__name__, fla)
    monkeypatch.setitem(sys.modules, convolution.__name__, convolution)
    monkeypatch.setattr(recurrent, "missing", lambda *_asked: "")
    monkeypatch.setattr(scans, "no_convolution", lambda *_asked: "")


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (WALKED["delta rule"], "fla_fused_recurrent_gated_delta_rule"),
        (replace(CHUNKED["delta rule by chunks"], chunk_size=64), "fla_chunk_gated_delta_rule"),
        (WALKED["convolution"], "causal_conv1d"),
        (WALKED["no bias"], "causal_conv1d"),
    ],
)
def test_kernels_of_packages_get_what_they_document(operator, name):
    step = Step.of(2, 64, 0)

    plain, fused = ran(operator, step)

    assert fused.labels == {"kernel": name, "op": type(operator).__name__}
    assert (fused.columns, fused.flops) == (plain.columns, plain.flops)
    assert_is_right(fused)


def test_packages_that_are_not_there_are_named():
    for name in ("delta rule", "kda", "convolution", "one tap"):
        _plain, refused = kernels(WALKED[name], STEPS["prefill"], GPU)
        assert isinstance(refused, Refused)
    assert "CUDA" in missing("fla", PROCESSOR)
    assert "not installed" in missing("no_such_package", GPU)
    assert "taps" in no_convolution(1, 16, GPU)
    assert "eights" in no_convolution(4, 12, GPU)


def test_a_convolution_of_unknown_formats_is_refused_in_all_its_kernels():
    stored = replace(BF16, convolution_columns=FP8)
    operator = replace(WALKED["convolution"], precision=stored, channels=16)

    assert all(isinstance(each, Refused) for each in kernels(operator, STEPS["prefill"], GPU))


@pytest.mark.parametrize("name", ["lightning", "kda", "mlstm", "mamba", "rg-lru", "rwkv 6"])
def test_long_prompts_are_not_walked(name):
    (kernel,) = kernels(WALKED[name], Step.of(1, WALKED_TOKENS, 0), PROCESSOR)
    assert isinstance(kernel, Kernel)
    (refused,) = kernels(WALKED[name], Step.of(8, WALKED_TOKENS + 1, 0), PROCESSOR)
    assert "1,024 tokens one after the other, not 1,025" in refused.reason
