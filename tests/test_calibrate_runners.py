"""Every operator has a runner; what is measured is the work that a model asks for, and no other."""

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import llmplan.ops
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model, model_names
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Operator, Step
from llmplan.ops.latent import LatentAttention
from llmplan.ops.linear import Linear, Tokens
from llmplan.ops.linear_attention import MatrixStateAttention
from llmplan.ops.moe import Experts
from llmplan.ops.norm import Norm
from llmplan.ops.precision import Precision, Role
from llmplan.ops.ssm import RecurrentScan
from llmplan.perf.choice import Curve, KernelShelf
from llmplan.perf.own_kernels import OwnKernels, is_reference
from llmplan.perf.parts import TIMED_IN
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.perf.timed import timed
from tests.small_models import SMALL, compiled

torch = pytest.importorskip("torch")

from llmplan.calibrate import runners  # noqa: E402  (they need torch)
from llmplan.calibrate.kernel import SOURCE, Kernel, Place, Refused, kernels  # noqa: E402
from llmplan.calibrate.layers import curve_seconds  # noqa: E402

PLACE = Place(torch.device("cpu"))
ENTERED = TIMED_IN
"""Operators with fitted kernels are entered by being imported."""
ABSTRACT = {LatentAttention, MatrixStateAttention, RecurrentScan}
"""What several operators share; no model is made of these."""
STEPS = (Step.of(2, 5, 0), Step.of(3, 1, 9), Step.of(1, 64, 0), Step.of(2, 1, 4096))
PARTS_REFUSED = {"kv_b_proj"}
"""Of an operator of two kernels; the other is measured alone, and has not all of its FLOPs."""
P = Precision()
H100 = load_device("h100-sxm")


def concrete() -> list[type[Operator]]:
    """All operator classes, as their modules have them: slots leave an earlier one behind."""
    for module in pkgutil.iter_modules(llmplan.ops.__path__):
        importlib.import_module(f"{llmplan.ops.__name__}.{module.name}")
    every = dict.fromkeys(below(Operator))
    named = [k for k in every if getattr(importlib.import_module(k.__module__), k.__name__) is k]
    return [kind for kind in named if kind not in ABSTRACT]


def below(kind: type[Operator]) -> Iterator[type[Operator]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


@cache
def catalogue() -> dict[Operator, str]:
    """Every distinct operator of the catalogue and of small models of every kind, and of which."""
    found: dict[Operator, str] = {}
    for name in model_names():
        found |= {operator: name for operator, _ in load_model(name).counted()}
    for name, small in SMALL.items():
        found |= {operator: name for operator, _ in compiled(small).counted()}
    return found


# --- no operator is forgotten


@pytest.mark.parametrize("kind", concrete(), ids=lambda kind: kind.__name__)
def test_every_operator_class_has_a_runner(kind):
    assert kernels.dispatch(kind) is not kernels.dispatch(object)


def test_the_default_says_where_a_runner_is_missing():
    class Unheard(Operator):
        """Of no model."""

    (refused,) = kernels.dispatch(object)(Unheard, STEPS[0], PLACE)
    assert isinstance(refused, Refused)
    assert "no runner knows" in refused.reason
    assert kernels.dispatch(Unheard) is kernels.dispatch(object)


def test_every_module_of_runners_is_entered():
    named = {module.__name__.rpartition(".")[2] for module in runners.RUNNERS}
    folder = Path(runners.__file__).parent
    registering = {p.stem for p in folder.glob("*.py") if "@kernels.register" in p.read_text()}
    assert registering == named


def test_no_operator_of_the_catalogue_is_unknown():
    for operator, model in catalogue().items():
        for step in STEPS:
            found = kernels(operator, step, PLACE)
            assert found, (model, operator.name)
            for each in found:
                assert isinstance(each, Kernel) or each.reason, (model, operator.name)
                assert "no runner knows" not in getattr(each, "reason", "")


def test_kernels_have_the_flops_of_their_operator():
    """Kernels of one table are alternatives; those of several tables are parts of an operator."""
    kinds = set()
    for operator, model in catalogue().items():
        for step in STEPS:
            found = kernels(operator, step, PLACE)
            refused = {each.name for each in found if isinstance(each, Refused)}
            tables: dict[str, set[float]] = defaultdict(set)
            for each in found:
                if isinstance(each, Kernel):
                    tables[each.table].add(each.flops)
            if not tables or refused & PARTS_REFUSED:
                continue
            about = (model, operator.name, dict(tables))
            assert {len(alike) for alike in tables.values()} == {1}, about
            wanted = float(np.sum(operator.cost(step).model_flops))
            assert sum(flops for (flops,) in tables.values()) == pytest.approx(wanted), about
            kinds.add(type(operator))
    assert len(kinds) > 30


def test_kernels_are_rows_of_their_tables():
    for operator, model in catalogue().items():
        for each in kernels(operator, STEPS[0], PLACE):
            if isinstance(each, Kernel):
                table = OPERATORS[each.table]
                assert {"src", *each.labels} == set(table.labels), (model, operator.name)
                assert set(each.columns) == set(table.numbers), (model, operator.name)


# --- what is measured is what is predicted

LINEAR = Linear("x", P, 4096, 6144, Role.FFN)
HEAD = Linear("head", P, 2048, 32000, Role.HEAD, tokens=Tokens.LAST)
GROUPED = Attention("attention", P, 32, 8, 128, 128)
SLIDING = Attention("attention", P, 16, 4, 64, 64, span=128, mask=Mask.WINDOW)
EXPERTS = Experts("experts", P, 2048, 768, 128, 8)
NORM = Norm("norm", P, 4096)
CASES = [
    (LINEAR, Step.of(4, 1, 100)), (LINEAR, Step.of(2, 300, 0)),
    (HEAD, Step.of(4, 1, 100)), (HEAD, Step.of(2, 300, 0)),
    (GROUPED, Step.of(4, 1, 1000)), (GROUPED, Step.of(2, 512, 0)),
    (SLIDING, Step.of(4, 1, 1000)), (SLIDING, Step.of(2, 512, 0)),
    (EXPERTS, Step.of(1, 2048, 0)), (EXPERTS, Step.of(4, 512, 0)),
    (NORM, Step.of(4, 1, 100)), (NORM, Step.of(1, 2048, 0)),
]  # fmt: skip


def curve_of(table: str, labels: dict[str, str]) -> Fitted:
    """A kernel with the parameters that its fit would start from."""
    operator, named = OPERATORS[table], {"src": SOURCE, **labels}
    return Fitted(
        operator=table, labels=named,
        parameters={p.name: p.start for p in operator.parameters(named)},
        rows=9, median_error=0.0, p90_error=0.0, low_error=0.0, high_error=0.0,
        ranges=dict.fromkeys(operator.numbers, (0.0, 1e18)),
    )  # fmt: skip


def own_shelf(operator: Operator) -> tuple[KernelShelf, tuple[Fitted, ...]]:
    """A device on which this operator's kernels for prompts and for decoding were measured."""
    fitted = {}
    for step in (Step.of(4, 1, 1000), Step.of(2, 512, 0)):
        for kernel in kernels(operator, step, PLACE):
            if isinstance(kernel, Kernel):
                key = (kernel.table, *sorted(kernel.labels.items()))
                fitted[key] = curve_of(kernel.table, dict(kernel.labels))
    own = OwnKernels(tuple(fitted.values()), H100.slug, "measured here", Path("x.yaml"))
    return KernelShelf(H100, "any", own=own), own.kernels


@pytest.mark.parametrize(("operator", "step"), CASES)
def test_a_row_that_is_measured_is_the_row_that_is_asked_for(operator, step, monkeypatch):
    asked = []
    seconds = Curve.seconds

    def recorded(curve, columns):
        asked.append((curve.operator.name, {n: float(v[0]) for n, v in columns.items()}))
        return seconds(curve, columns)

    monkeypatch.setattr(Curve, "seconds", recorded)
    shelf, _ = own_shelf(operator)
    timed(operator, with_rows(step), shelf)
    measured = [
        (kernel.table, dict(kernel.columns))
        for kernel in kernels(operator, step, PLACE)
        if isinstance(kernel, Kernel)
    ]
    assert measured
    if isinstance(operator, Experts):
        assert not asked  # its curve is asked for loads, not for a row: see the times below
        return
    assert asked == [asked[0]]
    for row in measured:
        assert row == asked[0]


def with_rows(step: Step) -> Step:
    """The same with an axis of rows before that of groups."""
    return Step(*(part[None, :] for part in (step.requests, step.new_tokens, step.context)))


@pytest.mark.parametrize(("operator", "step"), CASES)
def test_times_are_those_of_the_fitted_curve(operator, step):
    shelf, fitted = own_shelf(operator)
    uncached = replace(rates_of(H100), l2_bytes=0.0)
    by_hand = [
        curve_seconds(kernel, fitted, uncached)
        for kernel in kernels(operator, step, PLACE)
        if isinstance(kernel, Kernel)
    ]
    found = timed(operator, with_rows(step), shelf)
    plain = {kernel.operator for kernel in fitted if is_reference(kernel.labels)}
    is_plain = plain - {kernel.operator for kernel in fitted if not is_reference(kernel.labels)}
    assert found.provenance.value == ("fitted" if is_plain else "measured")
    assert found.seconds[0] == pytest.approx(min(by_hand), rel=1e-9)


def test_few_tokens_meet_fewer_experts_by_chance_than_in_a_measured_row():
    """Rows deal 4 x 8 copies to 32 experts; tokens that choose meet 128 (1 - (15/16)^4) = 29.1."""
    shelf, fitted = own_shelf(EXPERTS)
    step = Step.of(4, 1, 100)
    uncached = replace(rates_of(H100), l2_bytes=0.0)
    (kernel,) = kernels(EXPERTS, step, PLACE)
    found = timed(EXPERTS, with_rows(step), shelf).seconds[0]
    share = 128 * (1 - (15 / 16) ** 4) / 32
    assert share < found / curve_seconds(kernel, fitted, uncached) < 1
