"""Which device is at hand, what the catalogue knows of it, and under what conditions it runs."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs the calibrate extra")

from llmplan.calibrate.kernel import Place  # noqa: E402
from llmplan.calibrate.machine import (  # noqa: E402
    MARGIN,
    Machine,
    catalogue_match,
    device_document,
    document_slug,
    machine_at_hand,
    own_slug,
)
from llmplan.calibrate.memory import context_bytes  # noqa: E402
from llmplan.calibrate.peaks import MeasuredPeaks, measured_peaks  # noqa: E402
from llmplan.calibrate.timing import Limits  # noqa: E402
from llmplan.calibrate.watch import (  # noqa: E402
    ClockRange,
    Sample,
    conditions_of,
    nvml_of,
    watched,
)
from llmplan.errors import InputError, MissingPartError  # noqa: E402
from llmplan.hardware import catalogue  # noqa: E402
from llmplan.hardware.device import Device  # noqa: E402

MIB = 2**20
CPU = Place(torch.device("cpu"))
CUDA = Place(torch.device("cuda", 0), (9, 0))
PEAKS = MeasuredPeaks(bytes_per_s=40e9, fp32_flops_per_s=200e9, bf16_flops_per_s=400e9)

# name, total_memory in MiB and multi_processor_count, as torch.cuda.get_device_properties prints
# them in logs and notes of public repositories, read 2026-11
SEEN = [
    ("NVIDIA H200", 143156, 132, "h200-sxm"),
    ("NVIDIA H100 80GB HBM3", 81089, 132, "h100-sxm"),
    ("NVIDIA H100 PCIe", 81008, 114, "h100-pcie"),
    ("NVIDIA A100-SXM4-80GB", 81920, 108, "a100-80gb-sxm"),
    ("NVIDIA A100-PCIE-40GB", 40326, 108, "a100-40gb-pcie"),
    ("NVIDIA B200", 182642, 148, "b200"),
    ("NVIDIA L40S", 45589, 142, "l40s"),
    ("NVIDIA GeForce RTX 4090", 24563, 128, "rtx-4090"),
    (
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        97250,
        188,
        "rtx-pro-6000-blackwell-server",
    ),
    ("Tesla T4", 15102, 40, "t4"),
    ("Tesla V100-SXM2-16GB", 16160, 80, "v100-16gb-sxm"),
    ("AMD Instinct MI300X", 196592, 304, "mi300x"),
    ("AMD Instinct MI300X VF", 196592, 304, "mi300x"),
    ("AMD Instinct MI250X", 65520, 110, "mi250x-gcd"),
    ("AMD Instinct MI250X/MI250", 65520, 110, "mi250x-gcd"),
]


@pytest.mark.parametrize(("name", "memory_mib", "cores", "slug"), SEEN)
def test_a_gpu_is_found_by_the_name_that_torch_gives(name, memory_mib, cores, slug):
    found = catalogue_match(name, memory_mib * MIB, cores)
    assert isinstance(found, Device)
    assert found.slug == slug


@pytest.mark.parametrize(
    ("name", "memory_mib", "cores", "reason"),
    [
        ("NVIDIA A100 80GB PCIe MIG 1g.10gb", 9728, 14, "the catalogue has no NVIDIA A100 80GB"),
        ("Tesla P100-PCIE-16GB", 16280, 56, "the catalogue has no Tesla P100-PCIE-16GB"),
        # the name of the whole, the size of a slice
        ("NVIDIA H200", 17664, 16, "18,522,046,464 bytes of memory and h200-sxm has 150,753,352"),
        ("NVIDIA H100 80GB HBM3", 81089, 66, "66 multiprocessors and h100-sxm has 132"),
        # Hopper of 94 GB in SXM form
        ("NVIDIA H100", 95830, 132, "of memory and h100-sxm has 85,029,615,043"),
    ],
)
def test_another_gpu_is_told_with_the_reason(name, memory_mib, cores, reason):
    assert reason in catalogue_match(name, memory_mib * MIB, cores)


@pytest.mark.parametrize(
    ("name", "cores", "is_cpu", "slug"),
    [
        (
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            26,
            True,
            "cpu-intel-xeon-platinum-8481c-26-threads",
        ),
        ("AMD EPYC 7B13 64-Core Processor", 8, True, "cpu-amd-epyc-7b13-64-core-8-threads"),
        ("AMD EPYC", 2, True, "cpu-amd-epyc-2-threads"),
        ("aarch64", 4, True, "cpu-aarch64-4-threads"),
        ("", 4, True, "cpu-unknown-4-threads"),
        (
            "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
            14,
            False,
            "nvidia-a100-sxm4-40gb-mig-1g.5gb-14-cores",
        ),
        ("x" * 49 + " y", 4, True, f"cpu-{'x' * 49}-4-threads"),
    ],
)
def test_a_device_of_ones_own_has_a_name_with_its_size(name, cores, is_cpu, slug):
    assert own_slug(name, cores, is_cpu=is_cpu) == slug


def test_the_processor_is_described():
    machine = machine_at_hand("cpu")
    assert machine.place == CPU
    assert machine.name == machine.host
    assert machine.memory_bytes > 2**29
    assert machine.cores == torch.get_num_threads()
    assert machine.torch_version == torch.__version__
    assert machine.capability is None


@pytest.mark.parametrize("word", [None, "cuda", "cuda:1"])
def test_without_a_gpu_the_processor_is_offered(word, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        MissingPartError, match=r"sees no GPU. `--device cpu` runs on the processor"
    ):
        machine_at_hand(word)


@pytest.mark.parametrize("word", ["tpu", "cuda:", "cuda:-1", "gpu", ""])
def test_another_word_is_refused(word):
    with pytest.raises(InputError, match="write cuda, cuda:1"):
        machine_at_hand(word)


@pytest.fixture
def h200(monkeypatch):
    """What torch says on a machine of two H200, without one."""
    properties = SimpleNamespace(
        multi_processor_count=132,
        L2_cache_size=60 * MIB,
        gcnArchName="",
        uuid="91a535d7-4157-249a-65e5-73883afa626e",
    )
    fakes = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: 0,
        "get_device_capability": lambda _: (9, 0),
        "get_device_name": lambda _: "NVIDIA H200",
        "get_device_properties": lambda _: properties,
        "mem_get_info": lambda _: (140_000 * MIB, 143_156 * MIB),
        "memory_reserved": lambda _: 500 * MIB,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


@pytest.mark.usefixtures("h200")
def test_a_gpu_is_described():
    machine = machine_at_hand("cuda:1")
    assert machine.place == Place(torch.device("cuda", 1), (9, 0))
    assert (machine.slug, machine.unmatched) == ("h200-sxm", "")
    assert machine.memory_bytes == 143_156 * MIB
    assert machine.cache_bytes == 60 * MIB
    assert machine.capability == "9.0"
    assert machine.runtime == "CUDA 13.0"
    assert machine_at_hand(None).place.device == torch.device("cuda", 0)


@pytest.mark.usefixtures("h200")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="sees 2 GPUs, counted from 0"):
        machine_at_hand("cuda:2")


@pytest.fixture
def own_catalogue(tmp_path, monkeypatch):
    """An empty catalogue of one's own, and nothing remembered of others."""
    folder = tmp_path / "hardware" / "devices"
    folder.mkdir(parents=True)
    monkeypatch.setenv("LLMPLAN_CATALOG", str(tmp_path))
    remembered = catalogue._shipped_device, catalogue._slugs_by_key, catalogue._default_nodes
    for function in remembered:
        function.cache_clear()
    yield folder
    for function in remembered:
        function.cache_clear()


def slice_of_h200() -> Machine:
    return Machine(
        place=CUDA,
        name="NVIDIA H200",
        slug=None,
        unmatched="a slice of the GPU",
        memory_bytes=17_664 * MIB,
        cache_bytes=8 * MIB,
        cores=16,
        capability="9.0",
        driver="580.95",
        runtime="CUDA 13.0",
        torch_version="2.13.0",
        host="AMD EPYC",
    )


def written(machine: Machine, folder) -> str:
    slug = document_slug(machine)
    text = yaml.safe_dump(device_document(machine, PEAKS), sort_keys=False)
    (folder / f"{slug}.yaml").write_text(text)
    return slug


def test_a_written_processor_can_be_planned_with(own_catalogue):
    machine = machine_at_hand("cpu")
    slug = written(machine, own_catalogue)
    group = catalogue.parse_gpus(f"1x{slug}")
    device = group.device
    assert (group.count, device.slug) == (1, slug)
    assert device.capacity_bytes == machine.memory_bytes
    assert device.bandwidth_bytes_per_s == pytest.approx(40e9 * MARGIN)
    assert device.peak_flops_per_s("bf16") == pytest.approx(400e9 * MARGIN)
    assert device.peak_flops_per_s("fp32") == pytest.approx(200e9 * MARGIN)
    assert device.measured_flops_per_s("bf16") == 400e9
    assert device.source.startswith("measured by llmplan calibrate")
    assert machine_at_hand("cpu").slug == slug


def test_what_went_wrong_with_peaks_stands_in_the_file():
    noted = replace(PEAKS, note="the processor was busy")
    note = device_document(slice_of_h200(), noted)["note"]
    assert note.startswith(f"peaks are the best that was measured, times {MARGIN}")
    assert note.endswith("; the processor was busy")


def test_a_written_slice_leaves_the_whole_gpu_as_it_is(own_catalogue):
    slug = written(slice_of_h200(), own_catalogue)
    assert slug == "nvidia-h200-16-cores"
    device = catalogue.parse_gpus(slug).device
    assert (device.vendor, device.compute_capability) == ("NVIDIA", "9.0")
    assert catalogue.parse_gpus("NVIDIA H200").device.slug == "h200-sxm"


def test_peaks_of_the_processor_are_measured():
    peaks = measured_peaks(CPU, Limits(seconds=0.05, least_repeats=3))
    # no processor of today is outside these: 0.1 GB/s to 10 TB/s, 0.1 GFLOP/s to 1 PFLOP/s
    assert 1e8 < peaks.bytes_per_s < 1e13
    assert 1e8 < peaks.fp32_flops_per_s <= peaks.bf16_flops_per_s < 1e15


def test_the_precision_of_fp32_is_put_back():
    torch.set_float32_matmul_precision("high")
    try:
        measured_peaks(CPU, Limits(seconds=0.0, least_repeats=2))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


class NVMLError(Exception):
    """As in pynvml."""


def library(**changes) -> SimpleNamespace:
    """NVIDIA's management library with a busy H200 behind it."""

    def handle(uuid):
        if uuid != "GPU-91a535d7-4157-249a-65e5-73883afa626e":
            raise NVMLError("Not Found")
        return "handle"

    readings = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "580.95.05",
        "nvmlDeviceGetHandleByUUID": handle,
        "nvmlDeviceGetClockInfo": lambda _, clock: {1: 1755, 2: 3201}[clock],
        "nvmlDeviceGetPowerUsage": lambda _: 612_500,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700_000,
        "nvmlDeviceGetTemperature": lambda *_: 61,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda _: 0x4,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: [
            SimpleNamespace(pid=1, usedGpuMemory=1000 * MIB)
        ],
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
    }
    return SimpleNamespace(**readings | changes)


def refusal(*_):
    raise NVMLError("Not Supported")


@pytest.mark.usefixtures("h200")
def test_a_gpu_is_watched_while_it_runs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    with watched(CUDA, interval_s=0.001) as watch:
        while len(watch._samples) < 4:
            pass
    seen = watch.conditions
    assert seen.samples >= 5
    assert seen.sm_clock_hz == ClockRange(1755e6, 1755e6, 1755e6)
    assert seen.memory_clock_hz == 3201e6
    assert seen.power_w == 612.5
    assert seen.power_limit_w == 700
    assert seen.temperature_c == 61
    assert seen.throttled == ("software power cap",)
    assert seen.note == ""


@pytest.mark.usefixtures("h200")
def test_what_a_driver_refuses_is_unknown_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetPowerUsage=refusal))
    with watched(CUDA) as watch:
        pass
    seen = watch.conditions
    assert seen.power_w is None
    assert seen.note == "nvmlDeviceGetPowerUsage: Not Supported"
    assert seen.temperature_c == 61


@pytest.mark.usefixtures("h200")
@pytest.mark.parametrize(
    ("module", "note"),
    [
        (None, 'GPU: nvidia-ml-py is not installed: pip install "llmplan[calibrate]"'),
        (library(nvmlInit=refusal), "GPU: Not Supported"),
        (
            library(nvmlDeviceGetHandleByUUID=refusal),
            "GPU: GPU-91a535d7-4157-249a-65e5-73883afa626e: Not Supported",
        ),
    ],
)
def test_a_gpu_that_cannot_be_asked_fails_nothing(module, note, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with watched(CUDA) as watch:
        pass
    seen = watch.conditions
    assert seen.sm_clock_hz is None
    assert seen.throttled is None
    assert seen.note == note


def test_a_processor_is_watched():
    with watched(CPU) as watch:
        pass
    seen = watch.conditions
    assert seen.sm_clock_hz is None
    assert seen.note == "GPU: cpu is no GPU of NVIDIA"
    assert seen.load is None or seen.load >= 0
    assert seen.host_clock_hz is None or seen.host_clock_hz > 1e8


def test_an_error_passes_through_the_watch():
    with pytest.raises(KeyboardInterrupt), watched(CPU):
        raise KeyboardInterrupt


def test_samples_of_an_idle_gpu_do_not_count():
    busy = Sample(1500e6, 3000e6, 650.0, 70.0, reasons=0x4 | 0x20)
    faster = replace(busy, sm_hz=1700e6, power_w=690.0, reasons=0)
    idle = Sample(345e6, 3000e6, 90.0, 75.0, reasons=0x1)
    seen = conditions_of((idle, busy, faster, faster, idle), 700.0, "")
    assert seen.sm_clock_hz == ClockRange(1500e6, 1700e6, 1700e6)
    assert seen.power_w == 690
    assert seen.temperature_c == 75
    assert seen.throttled == ("software power cap", "thermal")
    assert conditions_of((idle,), None, "").sm_clock_hz == ClockRange(345e6, 345e6, 345e6)


@pytest.mark.usefixtures("h200")
def test_the_context_is_what_the_driver_counts_beside_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", library())
    # 1000 MiB of the only process, less 500 MiB that torch reserved
    assert context_bytes(CUDA) == 500 * MIB


@pytest.mark.usefixtures("h200")
@pytest.mark.parametrize(
    ("processes", "reason"),
    [
        ([], "the driver does not say what this process uses"),
        ([SimpleNamespace(pid=1, usedGpuMemory=None)], "the driver does not say"),
        ([SimpleNamespace(pid=n, usedGpuMemory=MIB) for n in (1, 2)], "2 processes use the GPU"),
        ([SimpleNamespace(pid=1, usedGpuMemory=MIB)], "and torch alone has 524,288,000"),
    ],
)
def test_an_unknown_context_has_a_reason(processes, reason, monkeypatch):
    asked = library(nvmlDeviceGetComputeRunningProcesses=lambda _: processes)
    monkeypatch.setitem(sys.modules, "pynvml", asked)
    assert reason in context_bytes(CUDA)


@pytest.mark.usefixtures("h200")
def test_a_driver_of_another_age_fails_nothing(monkeypatch):
    def odd(*_):
        raise TypeError("takes 2 positional arguments but 3 were given")

    module = library(nvmlDeviceGetTemperature=odd, nvmlSystemGetDriverVersion=lambda: b"535.1")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with watched(CUDA, 1e-3) as watch:
        pass
    assert watch.conditions.temperature_c is None
    assert "takes 2 positional arguments" in watch.conditions.note
    with nvml_of(CUDA) as source:
        assert source.driver() == "535.1"
