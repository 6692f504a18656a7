"""Timing on the device at hand: more work takes longer, wrong results and failures are told."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the calibrate extra")

from llmplan.calibrate import timing  # noqa: E402
from llmplan.calibrate.attempts import Failed, LostDeviceError, guarded  # noqa: E402
from llmplan.calibrate.checking import check, relative_error, verified  # noqa: E402
from llmplan.calibrate.cold import (  # noqa: E402
    CACHE_MULTIPLE,
    MOST_COPIES,
    affordable_copies,
    copies_for,
    distinct_bytes,
    last_cache_bytes,
    room_for_inputs,
)
from llmplan.calibrate.kernel import Kernel, Place  # noqa: E402
from llmplan.calibrate.memory import MemoryConstants, memory_constants  # noqa: E402
from llmplan.calibrate.timing import (  # noqa: E402
    MOST_CALLS,
    Limits,
    Timing,
    _gpu_seconds,
    _side_stream,
    calls_for,
    captured,
    measure,
    measure_together,
    median_error_frac,
    spread_frac,
)
from llmplan.errors import InputError  # noqa: E402

MIB = 2**20
CPU = Place(torch.device("cpu"))
QUICK = Limits(seconds=0.1, error_frac=0.05)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads wait for each other, which takes longer than these kernels where others run too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gpu() -> Place:
    return Place(torch.device("cuda", 0), torch.cuda.get_device_capability(0))


def kernel_of(run, inputs=None, reference=None) -> Kernel:
    """A kernel of one small vector, unless its inputs are given."""
    return Kernel(
        table="matmul",
        labels={"kernel": "tried"},
        columns={},
        flops=0.0,
        inputs=inputs
        or (lambda generator: (torch.randn(8, generator=generator, device=generator.device),)),
        run=run,
        reference=reference or run,
        tolerance=1e-3,
    )


def matmul(rows: int, inner: int = 256, columns: int = 256) -> Kernel:
    def inputs(generator):
        shapes = (rows, inner), (inner, columns)
        return tuple(torch.randn(s, generator=generator, device=generator.device) for s in shapes)

    return kernel_of(torch.matmul, inputs, lambda a, b: a.double() @ b.double())


def test_sixteen_times_the_flops_take_more_than_four_times_as_long():
    few, many = (measure(matmul(rows), CPU, QUICK) for rows in (128, 2048))
    assert isinstance(few, Timing)
    assert isinstance(many, Timing)
    # 4, not 16: a small multiply fills fewer threads and vectors, and others use the machine
    assert many.seconds > 4 * few.seconds


def test_a_timing_is_consistent():
    timing = measure(matmul(128), CPU, QUICK)
    assert 0 < timing.least_seconds <= timing.seconds
    assert timing.spread_frac >= 0
    assert timing.calls % timing.copies == 0
    assert not timing.is_graph


def test_kernels_together_take_longer_than_one_of_them():
    one = measure(matmul(256), CPU, QUICK)
    layer = measure_together((matmul(256), matmul(1), matmul(256), matmul(256)), CPU, QUICK)
    assert layer.least_seconds > 1.5 * one.least_seconds


def test_kernels_run_one_after_the_other_on_sets_of_their_own():
    calls: list[tuple[str, int]] = []

    def noted(name: str) -> Kernel:
        def run(tensor):
            calls.append((name, tensor.data_ptr()))
            return tensor

        return kernel_of(run)

    timing = measure_together((noted("a"), noted("b")), CPU, replace(QUICK, replay_s=1e-6))
    assert {name for name, _ in calls[0::2]} == {"a"}
    assert {name for name, _ in calls[1::2]} == {"b"}
    assert len({pointer for _, pointer in calls}) == 2 * timing.copies


def test_sets_of_inputs_exceed_the_cache_and_take_turns():
    cache_bytes, set_bytes = last_cache_bytes(CPU), 8 * MIB
    assert cache_bytes > MIB
    seen: set[int] = set()

    def run(tensor):
        seen.add(tensor.data_ptr())
        return tensor[:8].sum()

    kernel = kernel_of(run, lambda _: (torch.zeros(set_bytes // 4),))
    timing = measure(kernel, CPU, Limits(error_frac=1.0))
    assert len(seen) == timing.copies
    assert timing.copies * set_bytes > min(cache_bytes, room_for_inputs(CPU) - set_bytes)


def test_inputs_that_stay_in_the_cache_are_noted():
    timing = measure(kernel_of(torch.neg), CPU, QUICK)
    assert timing.copies == MOST_COPIES
    assert f"inputs stay in the cache: {MOST_COPIES * 8 * 4:,} of" in timing.note


@pytest.mark.parametrize(
    ("set_bytes", "cache_bytes", "room_bytes", "copies"),
    [
        # H200: 50 MiB of L2 take 150 sets of 1 MiB, as 3 times the cache is asked for
        (MIB, 50 * MIB, 70 * 2**30, 150),
        (40 * MIB, 50 * MIB, 70 * 2**30, 4),  # 160 MiB, the first multiple above 150
        (150 * MIB, 50 * MIB, 70 * 2**30, 1),
        (10 * 2**30, 50 * MIB, 70 * 2**30, 1),
        (1024, 50 * MIB, 70 * 2**30, MOST_COPIES),
        (40 * MIB, 50 * MIB, 100 * MIB, 2),  # room for two
        (40 * MIB, 50 * MIB, 10 * MIB, 1),  # the first set is there already
        (0, 50 * MIB, 70 * 2**30, 1),
    ],
)
def test_copies_exceed_the_cache_within_the_room(set_bytes, cache_bytes, room_bytes, copies):
    assert CACHE_MULTIPLE == 3
    assert copies_for(set_bytes, cache_bytes, room_bytes) == copies


@pytest.mark.parametrize(
    ("pass_s", "copies", "calls"),
    [
        (7e-6, 1, 286),
        (3e-6, 1, 667),
        (3e-6, 150, 750),  # a multiple of the sets
        (10.0, 1, 1),
        (10.0, 4, 4),
        (1e-9, 1, MOST_CALLS),
        (0.0, 1, MOST_CALLS),
    ],
)
def test_a_replay_lasts_two_milliseconds(pass_s, copies, calls):
    assert calls_for(pass_s, copies, 2e-3) == calls


def test_a_slow_kernel_has_few_sets():
    # a quarter of 1 s runs a kernel of 0.1 s twice
    assert affordable_copies(64, 0.1, 1.0) == 2
    assert affordable_copies(64, 5.0, 1.0) == 1
    assert affordable_copies(64, 1e-6, 1.0) == 64
    assert affordable_copies(64, 0.0, 1.0) == 64


def test_views_of_one_tensor_count_once():
    weights = torch.zeros(1024, dtype=torch.float32)
    assert distinct_bytes(((weights, weights[:512]), (weights.view(32, 32),))) == 4096
    assert distinct_bytes(((weights, torch.zeros(2, dtype=torch.float64)),)) == 4096 + 16


def test_spread_is_the_interquartile_range_over_the_median():
    assert spread_frac([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert spread_frac([7.0] * 5) == 0


def test_the_error_of_a_median_is_that_of_drawn_medians():
    draws = np.random.default_rng(1).normal(100, 1, (2000, 101))
    drawn_frac = np.median(draws, axis=1).std() / 100
    stated_frac = np.mean([median_error_frac(row) for row in draws[:200].tolist()])
    # rel=0.1: an interquartile range of 101 draws is known to about 11 %, the mean of 200 better
    assert stated_frac == pytest.approx(drawn_frac, rel=0.1)


def test_repeats_end_at_their_number_and_the_uncertainty_is_noted():
    limits = Limits(seconds=60, error_frac=0.0, least_repeats=5, most_repeats=10, replay_s=1e-4)
    timing = measure(matmul(64), CPU, limits)
    assert "after 10 repeats" in timing.note


def test_repeats_end_with_the_time():
    limits = Limits(seconds=0.0, error_frac=0.0, least_repeats=3)
    timing = measure(matmul(64), CPU, limits)
    assert timing.copies == 1
    assert "after 3 repeats" in timing.note


def test_a_right_kernel_is_verified():
    assert verified(matmul(64), CPU) < 1e-5


def test_a_wrong_result_is_found():
    doubled = replace(matmul(64), run=lambda a, b: 2 * (a @ b))
    assert check(doubled, CPU) == pytest.approx(1.0, rel=1e-5)
    failed = verified(doubled, CPU)
    assert failed == Failed("tried", "wrong result: relative error 1 is above 0.001")


def test_a_result_that_is_not_finite_is_wrong():
    for value in (math.nan, math.inf):
        spoilt = replace(matmul(64), run=lambda a, b, v=value: (a @ b).fill_(v))
        assert isinstance(verified(spoilt, CPU), Failed)


def test_a_result_of_another_shape_is_wrong():
    failed = verified(replace(matmul(64), run=lambda a, b: (a @ b)[0]), CPU)
    assert failed == Failed("tried", "the result has shape (256,), not (64, 256)")


def test_a_kernel_that_writes_into_its_inputs_is_compared_with_what_they_were():
    kernel = kernel_of(lambda tensor: tensor.mul_(3), reference=lambda tensor: tensor.double() * 3)
    assert check(kernel, CPU) < 1e-6


def test_nothing_differs_from_a_result_of_zeros_only():
    zeros = torch.zeros(4)
    assert relative_error(zeros, zeros) == 0
    assert relative_error(zeros + 1, zeros) == math.inf


def fails_with(error: BaseException) -> Kernel:
    def run(_):
        raise error

    return kernel_of(run)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("\n  shapes do not match  \nTraceback of C++"), "shapes do not match"),
        (NotImplementedError("no bf16 on this device"), "no bf16 on this device"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("strides (1, 1) wanted\nC++"), "failed: ValueError: strides (1, 1) wanted"),
        (IndexError(), "failed: IndexError"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "out of memory"),
    ],
)
def test_a_failing_kernel_is_a_value(error, reason):
    assert measure(fails_with(error), CPU, QUICK) == Failed("tried", reason)
    assert verified(fails_with(error), CPU) == Failed("tried", reason)


def test_a_kernel_that_needs_a_petabyte_is_out_of_memory():
    kernel = kernel_of(lambda _: torch.empty(2**50, dtype=torch.uint8))
    assert measure(kernel, CPU, QUICK) == Failed("tried", "out of memory")


def test_the_names_of_failed_kernels_are_told():
    kernels = kernel_of(torch.neg), fails_with(RuntimeError("no"))
    assert measure_together(kernels, CPU, QUICK) == Failed("tried + tried", "no")


def test_a_kernel_that_would_take_the_time_of_others_is_given_up(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_PATIENCE_S", 0.01)
    calls = []

    def run(tensor):
        calls.append(time.sleep(0.02))
        return tensor

    failed = measure(kernel_of(run), CPU, Limits(seconds=0.04))
    assert failed.reason.startswith("too slow: one pass takes 0.02")
    assert len(calls) <= 3
    assert isinstance(measure(kernel_of(run), CPU, Limits(seconds=0.4)), Timing)


@pytest.fixture
def emptied(monkeypatch):
    """How often the memory of a GPU that is not there was handed back."""
    count = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: count.append(None))
    return count


@pytest.mark.parametrize(("failures", "found", "times"), [(1, 7, 1), (2, "out of memory", 2)])
def test_too_little_memory_in_one_piece_is_tried_once_more(emptied, failures, found, times):
    left = [torch.OutOfMemoryError("CUDA out of memory.")] * failures

    def work():
        if left:
            raise left.pop()
        return 7

    result = guarded((kernel_of(torch.neg),), Place(torch.device("cuda", 63)), work)
    assert (result.reason if isinstance(result, Failed) else result) == found
    assert len(emptied) == times


@pytest.mark.usefixtures("emptied")
def test_a_gpu_that_runs_nothing_more_is_told_from_a_kernel_that_fails(monkeypatch):
    def fail(_=None):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    with pytest.raises(LostDeviceError, match="tried: CUDA error: an illegal memory access"):
        guarded((kernel_of(torch.neg),), Place(torch.device("cuda", 63)), fail)


def test_the_user_can_stop_it():
    with pytest.raises(KeyboardInterrupt):
        measure(fails_with(KeyboardInterrupt()), CPU, QUICK)


def test_a_device_whose_clock_is_unknown_is_refused():
    with pytest.raises(InputError, match="not timed on meta"):
        measure(matmul(64), Place(torch.device("meta")), QUICK)


def test_kernels_run_without_autograd():
    seen: list[bool] = []

    def run(tensor):
        seen.append(torch.is_inference_mode_enabled())
        return tensor

    measure(kernel_of(run), CPU, QUICK)
    check(kernel_of(run), CPU)
    assert all(seen)


@pytest.fixture
def streams(monkeypatch):
    """Torch's graphs and streams without a GPU: which stream was set, and a capture that fails."""
    set_streams: list[str] = []

    class Graph:
        def __init__(self, _, stream):
            self.inside = stream

        def __enter__(self):
            set_streams.append(self.inside)

        def __exit__(self, *_):
            raise RuntimeError("operation failed due to a previous error during capture")

    fakes = {
        "graph": Graph,
        "CUDAGraph": object,
        "Stream": lambda _: "side",
        "current_stream": lambda _: "main",
        "set_stream": set_streams.append,
        "synchronize": lambda _: None,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    yield set_streams
    _side_stream.cache_clear()


def test_a_failed_capture_says_the_first_cause_and_leaves_the_stream(streams):
    def run():
        raise RuntimeError("operation not permitted when stream is capturing")

    place = Place(torch.device("cuda", 63))
    assert captured(run, place) == "operation not permitted when stream is capturing"
    assert streams == ["side", "main"]


@pytest.mark.usefixtures("streams")
def test_a_capture_that_fails_at_its_end_says_so():
    place = Place(torch.device("cuda", 63))
    assert captured(lambda: None, place).startswith("operation failed due to a previous error")


def test_events_enclose_replays_behind_an_untimed_one(monkeypatch):
    clock_ms, order = iter((5.0, 7.0, 10.0)), []

    def event(*, enable_timing):
        assert enable_timing
        fake = SimpleNamespace(synchronize=lambda: order.append("wait"))
        fake.record = lambda: (order.append("event"), setattr(fake, "ms", next(clock_ms)))
        fake.elapsed_time = lambda end: end.ms - fake.ms
        return fake

    monkeypatch.setattr(torch.cuda, "Event", event)
    seconds = _gpu_seconds(lambda: order.append("replay"), 2)
    assert seconds == pytest.approx([2e-3, 3e-3])
    assert order == ["replay", "event", "replay", "event", "replay", "event", "wait"]


def test_memory_of_a_processor_is_not_counted():
    constants = memory_constants((matmul(64),), CPU)
    assert constants == MemoryConstants(note="torch does not count the memory of cpu")


@needs_gpu
def test_a_gpu_replays_graphs():
    timing = measure(matmul(4096, 4096, 4096), gpu(), Limits())
    assert timing.is_graph
    assert timing.note == ""
    few = measure(matmul(1024, 1024, 1024), gpu(), Limits())
    assert timing.seconds > 8 * few.seconds


@needs_gpu
def test_a_kernel_that_waits_for_the_host_is_launched_eagerly():
    timing = measure(kernel_of(lambda tensor: tensor * float(tensor.sum())), gpu(), QUICK)
    assert not timing.is_graph
    assert timing.note.startswith("launched eagerly: ")
    assert measure(matmul(1024), gpu(), QUICK).is_graph


@needs_gpu
def test_a_gpu_out_of_memory_is_a_value():
    kernel = kernel_of(lambda tensor: torch.empty(2**50, dtype=torch.uint8, device=tensor.device))
    assert measure(kernel, gpu(), QUICK) == Failed("tried", "out of memory")


@needs_gpu
def test_a_gpu_holds_the_result_as_activations():
    constants = memory_constants((matmul(4096, 4096, 4096),), gpu())
    result_bytes = 4096 * 4096 * 4
    assert result_bytes <= constants.activation_bytes < 2 * result_bytes
    assert constants.graph_pool_bytes >= result_bytes
