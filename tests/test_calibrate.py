"""The whole path: a processor is calibrated, and an estimate says what was measured there."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from llmplan.hardware import catalogue
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model
from llmplan.parallel.layout import Layout
from llmplan.perf.calibration import load, save
from llmplan.perf.points import points_of
from llmplan.perf.rates import rates_of
from llmplan.perf.refit import refitted
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows
from tests.program import llmplan

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")

from llmplan.calibrate import grid as grids  # noqa: E402  (they need torch)
from llmplan.calibrate import layers, question, session, timing  # noqa: E402
from llmplan.calibrate.attempts import Failed  # noqa: E402
from llmplan.calibrate.grid import Point, Room, Sliced  # noqa: E402
from llmplan.calibrate.kernel import Place  # noqa: E402
from llmplan.calibrate.layers import measured_layer, runnable, slices  # noqa: E402
from llmplan.calibrate.timing import Limits, Timing  # noqa: E402

SPEC = """
name: tiny-dense
family: test
hf_ids: []
architecture: LlamaForCausalLM
source: {config: test, date: 2026-11}
license: none
release_date: 2026-11
max_position_embeddings: 8192
hidden_size: 256
num_hidden_layers: 2
vocab_size: 1000
tie_word_embeddings: false
blocks:
  gqa: {kind: attention, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 32}
  ffn: {kind: mlp, intermediate_size: 768}
layers: [{count: 2, blocks: [gqa, ffn]}]
"""
FITTED = ((1, 1, 127), (4, 1, 255), (16, 1, 511), (1, 64, 0), (1, 256, 0), (1, 1024, 0))
"""Requests, new tokens and context of the steps that operators are measured in."""
QUOTED = ((2, 1, 190), (12, 1, 300), (1, 128, 0), (1, 512, 0))
"""Steps of the layers whose errors the profile quotes."""
UNSEEN = (8, 1, 400)
"""Among neither."""
PLACE = Place(torch.device("cpu"))
TRAFFIC = ("--isl", "512", "--osl", "64", "--concurrency", "4", "--scenario", "static")
DECODE = (4, 1, 544)
"""The decode step of that traffic, in the middle of the answer."""
TRIES = 4
REPEATS = 3


@dataclass(frozen=True)
class Done:
    """A calibration that was run.

    Attributes:
        home: XDG_DATA_HOME of it.
        model: The spec that was measured for.
        unseen: Predicted and measured seconds of a layer in a step that nothing was fitted to.
        stderr: What the command said beside its answer.
    """

    home: Path
    model: Path
    unseen: list[tuple[float, float]]
    stderr: str

    @property
    def profile(self) -> Path:
        (path,) = self.home.glob("llmplan/hardware/profiles/*.calibrated.yaml")
        return path

    @property
    def slug(self) -> str:
        return load(self.profile).device.slug


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """One calibration for all workers of a test run: two at once would disturb each other."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "calibrated"
    folder.mkdir(exist_ok=True)
    said = folder / "said.json"
    with (folder / "lock").open("w") as lock, at_home(folder):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.write_text(json.dumps(calibrated(folder)))
    found = json.loads(said.read_text())
    return Done(folder, folder / "tiny.yaml", found["unseen"], found["stderr"])


@pytest.fixture
def done(once: Done) -> Iterator[Done]:
    """The same, found as a user's own for the time of a test."""
    with at_home(once.home):
        yield once


@contextmanager
def at_home(folder: Path) -> Iterator[None]:
    """A personal catalogue, and nothing remembered of others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(folder))
        patch.delenv("LLMPLAN_CATALOG", raising=False)
        forget()
        yield
    forget()


def forget() -> None:
    """Devices are read once a process."""
    for kept in (catalogue._shipped_device, catalogue._slugs_by_key, catalogue._default_nodes):
        kept.cache_clear()


def calibrated(folder: Path) -> dict[str, object]:
    """Calibrate for the tiny model, and time one more step of its layer at once."""
    model = folder / "tiny.yaml"
    model.write_text(SPEC)
    with pytest.MonkeyPatch.context() as small:
        small.setattr(grids, "MODEL_STEPS", FITTED)
        small.setattr(layers, "LAYER_STEPS", QUOTED)
        for name, few in {
            "WIDTHS": ((256, 256),),
            "TOKENS": (1, 8, 64, 512),
            "HEADS": ((8, 2, 32),),
            "NORM_WIDTHS": (256,),
            "PREFILLS": ((1, 128, 0), (1, 512, 0)),
            "DECODES": ((1, 1, 127), (8, 1, 511)),
        }.items():
            small.setattr(grids, name, few)
        small.setattr(question, "PEAKS", Limits(seconds=0.05))
        # a long budget of which little is used, so that a busy machine measures the same
        small.setattr(session, "MOST_POINT_S", 0.05)
        small.setattr(session, "EXCHANGES_FRAC", 0.03)
        small.setattr(session, "measured_layer", quickly)
        small.setattr(session, "measure", fastest(timing.measure))
        small.setattr(layers, "measure_together", fastest(timing.measure_together))
        # few sets of inputs: filling a large cache again and again takes longer than the kernels
        small.setattr(timing, "last_cache_bytes", lambda _place: 2**20)
        small.setattr(timing, "_WARM_S", 0.005)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # whoever else runs here would stop threads that wait for another
        try:
            outcome = llmplan(
                "calibrate", "--device", "cpu", "--budget", "60s", "--models", str(model),
                "--ranks", "2",
            )  # fmt: skip
            assert outcome.exit_code == 0, outcome.stderr
            unseen = timed_again(Done(folder, model, [], ""))
        finally:
            torch.set_num_threads(threads)
    return {"unseen": unseen, "stderr": outcome.stderr}


def fastest(timed: Callable[..., Timing | Failed]) -> Callable[..., Timing | Failed]:
    """The fastest repeat for the median: other tests run beside this one and slow many repeats."""

    def least(*arguments: object) -> Timing | Failed:
        took = timed(*arguments)
        return took if isinstance(took, Failed) else replace(took, seconds=took.least_seconds)

    return least


def quickly(*arguments: object) -> object:
    """A layer in less time than the budget has for it."""
    *what, _limits = arguments
    return measured_layer(*what, Limits(seconds=0.1))


def timed_again(found: Done) -> list[tuple[float, float]]:
    """Predicted and measured seconds of the layer in the unseen step, several times."""
    profile = load(found.profile)
    rates = rates_of(load_device(found.slug))
    sliced = Sliced(load_model(found.model), Layout())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers, "LAYER_STEPS", (UNSEEN,))
        (layer,) = slices((sliced,), rates, Room(1e9, 10.0))
    took = [
        measured_layer(layer, profile.kernels, rates, PLACE, Limits(seconds=0.1))
        for _ in range(TRIES * REPEATS)
    ]
    return [(each.predicted_s, each.measured_s) for each in took]


def estimated(found: Done, *options: str) -> dict[str, object]:
    outcome = llmplan(
        "estimate", str(found.model), "--gpus", f"1x{found.slug}", *TRAFFIC, "--format", "json",
        *options,
    )  # fmt: skip
    assert outcome.exit_code == 0, outcome.stderr
    return json.loads(outcome.stdout)["result"]


def kernel_seconds(result: dict[str, object], step: str) -> float:
    """What kernels take of a step: all but the host's work."""
    return sum(
        o["seconds"] for o in result["operators"] if o["step"] == step and o["kind"] != "host"
    )


# --- what was measured


def test_a_profile_holds_all_of_a_dense_model_and_of_two_ranks(done):
    profile = load(done.profile)
    kinds = {(k.operator, k.labels.get("op", "")) for k in profile.kernels}
    assert kinds >= {
        ("gemm", ""), ("context_attention", ""), ("generation_attention", ""),
        ("by_work", "Norm"), ("by_work", "Elementwise"), ("by_work", "Embedding"),
        ("collectives", "all_reduce"), ("collectives", "all_gather"),
    }  # fmt: skip
    exchanged = [k for k in profile.kernels if k.operator == "collectives"]
    assert {k.labels["kernel"] for k in exchanged} == {"gloo"}
    assert {k.ranges["gpus"] for k in exchanged} == {(2.0, 2.0)}
    assert profile.device.slug.startswith("cpu-")
    assert profile.device.torch_version == torch.__version__
    assert profile.grid_sha256
    assert not done.profile.with_name(f"{done.profile.name}.partial").exists()


def test_whole_layers_are_quoted_and_no_part_of_the_fit(done):
    profile = load(done.profile)
    steps = {(each.requests, each.new_tokens, each.context) for each in profile.layers}
    assert steps == set(QUOTED)
    assert not steps & {*FITTED, UNSEEN}
    # a layer is measured as one: no row of the points holds its time
    times = {f"{each.measured_s:.6g}" for each in profile.layers}
    rows = [f"{s:.6g}" for points in profile.points for s in points.kernel_rows().measured_s]
    assert not times & set(rows)
    again = [abs(each.predicted_s / each.measured_s - 1) for each in profile.layers]
    assert profile.layer_error == (
        pytest.approx(np.median(again)), pytest.approx(np.quantile(again, 0.9))
    )  # fmt: skip


def test_an_unseen_layer_is_no_further_off_than_the_profile_quotes(done):
    """Noise of the machine is met by repeats, not by width: the median of all of them counts."""
    quoted = load(done.profile).layer_error[1]
    errors = [predicted / measured - 1 for predicted, measured in done.unseen]
    assert len(errors) == TRIES * REPEATS
    off = abs(median(errors))
    assert off <= quoted, (quoted, errors)


# --- what an estimate says with it


@pytest.fixture
def with_profile(done):
    return estimated(done, "--profile", str(done.profile))


def test_a_profile_of_the_device_is_found(done, with_profile):
    found = estimated(done)
    assert found["calibration"]["profile"] == str(done.profile)
    assert found["operators"] == with_profile["operators"]


def test_uncalibrated_figures_are_those_of_none(done, with_profile):
    plain = estimated(done, "--profile", "none")
    assert plain["calibration"] is None
    beside = with_profile["calibration"]["uncalibrated"]
    assert beside["ttft_s"] == plain["ttft_s"]["value"]
    assert beside["tpot_s"] == plain["tpot_s"]["value"]
    assert beside["output_tokens_per_s"] == plain["output_tokens_per_s"]["value"]


def test_what_a_profile_times_is_marked_as_measured(done, with_profile):
    known = {
        (o["step"], o["name"]): o["provenance"]
        for o in with_profile["operators"]
        if o["kind"] != "host"
    }
    for step in ("decode", "prefill"):
        for name in ("attention", "gate_proj, up_proj", "lm_head", "final_norm", "embed_tokens"):
            assert known[step, name] == "measured", (step, name)
    # several operators in one kernel, of which each was measured by itself
    assert known["decode", "residual + pre_norm"] == "fitted"
    plain = estimated(done, "--profile", "none")
    assert "measured" not in {o["provenance"] for o in plain["operators"]}


def test_a_step_is_the_sum_of_what_was_measured(done, with_profile):
    """Each product and attention of the decode step by the profile's curve, by hand."""
    profile = load(done.profile)
    rates = rates_of(load_device(done.slug))
    uncached = replace(rates, l2_bytes=0.0)  # weights and keys of a model do not stay in a cache
    by_name = {o["name"]: o for o in with_profile["operators"] if o["step"] == "decode"}
    sliced = Sliced(load_model(done.model), Layout())
    checked = set()
    for operator in dict.fromkeys(grids._operators(sliced)):
        part = by_name.get(operator.name)
        if part is None or part["kind"] not in ("gemm", "attention"):
            continue
        ((_, seconds),) = runnable(Point(operator, *DECODE, ""), profile.kernels, uncached, PLACE)
        one_s = part["seconds"] / part["count"]
        bound_s = max(part["compute_s"], part["memory_s"]) / part["count"]
        assert one_s == pytest.approx(max(seconds, bound_s), rel=1e-6), operator.name
        checked.add(operator.name)
    assert checked >= {"attention", "o_proj", "down_proj", "lm_head"}


def test_estimates_move_where_the_measurements_are(done, with_profile):
    plain = estimated(done, "--profile", "none")
    for step, figure in (("decode", "tpot_s"), ("prefill", "ttft_s")):
        ours, theirs = kernel_seconds(with_profile, step), kernel_seconds(plain, step)
        assert ours != theirs
        moved = with_profile[figure]["value"] / plain[figure]["value"]
        assert (moved > 1) == (ours > theirs), figure


def scaled(found: Done, times: float, path: Path) -> Path:
    """The profile as if all had taken ``times`` as long, fitted anew."""
    profile = load(found.profile)
    points = []
    for each in profile.points:
        rows = each.kernel_rows()
        slower = KernelRows(rows.labels, rows.columns, rows.measured_s * times, rows.numbers)
        points.append(points_of(OPERATORS[each.operator], slower, each.spread_frac()))
    changed = profile.model_copy(update={"points": tuple(points)})
    save(refitted(changed, rates_of(load_device(found.slug))), path)
    return path


def test_measurements_three_times_as_slow_are_steps_three_times_as_slow(
    done, with_profile, tmp_path
):
    path = scaled(done, 3.0, tmp_path / "slow.yaml")
    slower = estimated(done, "--profile", str(path))
    for step in ("decode", "prefill"):
        times = kernel_seconds(slower, step) / kernel_seconds(with_profile, step)
        assert 2.4 < times < 3.6, step
    assert slower["tpot_s"]["value"] > with_profile["tpot_s"]["value"]
    assert slower["ttft_s"]["value"] > with_profile["ttft_s"]["value"]


def test_measurements_three_times_as_fast_end_at_the_peaks(done, with_profile, tmp_path):
    path = scaled(done, 1 / 3, tmp_path / "fast.yaml")
    faster = estimated(done, "--profile", str(path))
    for step in ("decode", "prefill"):
        times = kernel_seconds(faster, step) / kernel_seconds(with_profile, step)
        assert 0.25 < times < 0.8, step
        assert faster["steps"][step]["seconds"] >= faster["steps"][step]["roofline_s"]
    assert faster["tpot_s"]["value"] < with_profile["tpot_s"]["value"]


def test_what_is_asked_far_beyond_the_points_is_said(done):
    outcome = llmplan(
        "estimate", str(done.model), "--gpus", f"1x{done.slug}", "--isl", "4096", "--osl", "64",
        "--concurrency", "64",
    )  # fmt: skip
    assert outcome.exit_code == 0
    assert "the calibration is extrapolated: " in " ".join(outcome.stderr.split())
    assert "measured up to 1,024" in " ".join(outcome.stderr.split())


def test_the_device_that_was_measured_is_shown(done):
    outcome = llmplan("calibrate", "show", done.slug)
    assert outcome.exit_code == 0, outcome.stderr
    assert "gloo" in outcome.stdout
    assert done.slug in outcome.stdout


def test_a_processor_that_nobody_lists_says_how_it_is_called(done):
    said = " ".join(done.stderr.split())
    assert "Its peaks are those that were measured; --gpus knows it as cpu-" in said
