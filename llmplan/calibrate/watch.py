"""Clocks, power and temperature while kernels are timed, and what held a GPU back.

NVIDIA's management library is asked (the package nvidia-ml-py); nothing here fails a run. What
cannot be read is None, and the note says why.
"""

import os
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

from llmplan.calibrate.kernel import Place

INTERVAL_S: Final = 0.05
"""Between samples: a reading takes the driver milliseconds."""
GPU_IDLE: Final = 0x1
REASONS: Final = {
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "thermal",
    0x40: "hardware thermal",
    0x80: "power brake",
}
"""Bits of what lowers clocks. Source: nvml.h, nvmlClocksEventReasons."""
ODD_ERRORS: Final = (TypeError, ValueError, AttributeError, OSError)
"""Of a package and a driver that are years apart, or of a sandbox around the driver."""
_HOST_CLOCKS: Final = Path("/sys/devices/system/cpu")
_CPUINFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class ClockRange:
    """Clocks of all samples."""

    least_hz: float
    median_hz: float
    most_hz: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what conditions kernels were timed; ``None`` where it could not be read.

    Samples of an idle GPU are left out where others are there.

    Attributes:
        sm_clock_hz: Of the GPU's multiprocessors.
        memory_clock_hz: Median.
        power_w: Median.
        power_limit_w: What the driver enforces.
        temperature_c: Highest.
        throttled: What lowered the clocks in any sample; empty where nothing did.
        host_clock_hz: Mean over the host's cores, after the run.
        load: Processes of the host that ran or waited to, mean of the last minute.
        samples: Readings of the GPU.
        note: Why fields are unknown; empty where none is.
    """

    sm_clock_hz: ClockRange | None = None
    memory_clock_hz: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    throttled: tuple[str, ...] | None = None
    host_clock_hz: float | None = None
    load: float | None = None
    samples: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of a GPU."""

    sm_hz: float | None
    memory_hz: float | None
    power_w: float | None
    temperature_c: float | None
    reasons: int | None

    @property
    def is_idle(self) -> bool:
        """Whether the driver says that nothing ran."""
        return bool((self.reasons or 0) & GPU_IDLE)


@dataclass(slots=True)
class Nvml:
    """One GPU in NVIDIA's management library.

    Attributes:
        module: ``pynvml``.
        handle: Of the GPU.
        unread: What the driver refused to say, and how.
    """

    module: Any
    handle: Any
    unread: dict[str, str] = field(default_factory=dict)

    def read(self, names: tuple[str, ...], *arguments: Any) -> Any:
        """The first of several functions that answers; newer drivers have other names."""
        refusal = "not in this version of nvidia-ml-py"
        for name in names:
            function: Callable[..., Any] | None = getattr(self.module, name, None)
            if function is None:
                continue
            try:
                return function(self.handle, *arguments)
            except (self.module.NVMLError, *ODD_ERRORS) as error:
                refusal = str(error)
        self.unread[names[0]] = refusal
        return None

    def driver(self) -> str | None:
        """Version of the driver."""
        try:
            version = self.module.nvmlSystemGetDriverVersion()
        except (self.module.NVMLError, *ODD_ERRORS):
            return None
        return version.decode() if isinstance(version, bytes) else str(version)

    def sample(self) -> Sample:
        """What the GPU is doing now."""
        m = self.module
        sm_mhz = self.read(("nvmlDeviceGetClockInfo",), m.NVML_CLOCK_SM)
        memory_mhz = self.read(("nvmlDeviceGetClockInfo",), m.NVML_CLOCK_MEM)
        power_mw = self.read(("nvmlDeviceGetPowerUsage",))
        return Sample(
            sm_hz=_scaled(sm_mhz, 1e6),
            memory_hz=_scaled(memory_mhz, 1e6),
            power_w=_scaled(power_mw, 1e-3),
            temperature_c=self.read(
                ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"), m.NVML_TEMPERATURE_GPU
            ),
            reasons=self.read(
                (
                    "nvmlDeviceGetCurrentClocksEventReasons",
                    "nvmlDeviceGetCurrentClocksThrottleReasons",
                )
            ),
        )

    def power_limit_w(self) -> float | None:
        """What the driver enforces."""
        return _scaled(self.read(("nvmlDeviceGetEnforcedPowerLimit",)), 1e-3)


@contextmanager
def nvml_of(place: Place) -> Iterator[Nvml | str]:
    """The GPU in NVIDIA's management library, or why it cannot be asked."""
    if not place.is_cuda:
        yield f"{place.device.type} is no GPU of NVIDIA"
        return
    if torch.version.hip:
        yield "a GPU of AMD is not in NVIDIA's management library"
        return
    try:
        import pynvml  # noqa: PLC0415 (in the calibrate extra, and absent on other GPUs)
    except ImportError:
        yield 'nvidia-ml-py is not installed: pip install "llmplan[calibrate]"'
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield str(error)
        return
    try:
        yield _found(pynvml, _uuid(place))
    finally:
        pynvml.nvmlShutdown()


class Watch:
    """Readings while a block runs."""

    def __init__(self, source: Nvml | str) -> None:
        self._source = source
        self._samples: list[Sample] = []
        self._limit_w = source.power_limit_w() if isinstance(source, Nvml) else None
        self._stopped = threading.Event()

    def sample(self) -> None:
        """Read the GPU, if it can be."""
        if isinstance(self._source, Nvml):
            self._samples.append(self._source.sample())

    def sample_until_stopped(self, interval_s: float) -> None:
        """Read it again and again."""
        while not self._stopped.wait(interval_s):
            self.sample()

    def stop(self) -> None:
        """End ``sample_until_stopped``."""
        self._stopped.set()

    @property
    def conditions(self) -> Conditions:
        """What was read so far."""
        source = self._source
        refusals = source.unread if isinstance(source, Nvml) else {"GPU": source}
        return conditions_of(
            tuple(self._samples), self._limit_w, "; ".join(f"{k}: {v}" for k, v in refusals.items())
        )


@contextmanager
def watched(place: Place, interval_s: float = INTERVAL_S) -> Iterator[Watch]:
    """Watches the place while the block runs; ``conditions`` of the value hold what was seen."""
    with nvml_of(place) as source:
        watch = Watch(source)
        watch.sample()
        thread = threading.Thread(
            target=watch.sample_until_stopped, args=(interval_s,), daemon=True
        )
        if isinstance(source, Nvml):
            thread.start()
        try:
            yield watch
        finally:
            watch.stop()
            if thread.is_alive():
                thread.join()
            watch.sample()


def conditions_of(samples: tuple[Sample, ...], limit_w: float | None, note: str) -> Conditions:
    """Samples as one value, with what the host says of itself."""
    busy = [sample for sample in samples if not sample.is_idle] or list(samples)
    clocks = [sample.sm_hz for sample in busy if sample.sm_hz is not None]
    temperatures = [sample.temperature_c for sample in samples if sample.temperature_c is not None]
    return Conditions(
        sm_clock_hz=_range(clocks),
        memory_clock_hz=_median([sample.memory_hz for sample in busy]),
        power_w=_median([sample.power_w for sample in busy]),
        power_limit_w=limit_w,
        temperature_c=max(temperatures, default=None),
        throttled=_throttled([sample.reasons for sample in samples]),
        host_clock_hz=_host_clock_hz(),
        load=host_load(),
        samples=len(samples),
        note=note,
    )


def _found(module: Any, uuid: str) -> Nvml | str:
    """By its UUID: indices of torch follow CUDA_VISIBLE_DEVICES, those of the library do not."""
    try:
        return Nvml(module, module.nvmlDeviceGetHandleByUUID(uuid))
    except module.NVMLError as error:
        return f"{uuid}: {error}"


def _uuid(place: Place) -> str:
    uuid = str(torch.cuda.get_device_properties(place.device).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def _throttled(reasons: list[int | None]) -> tuple[str, ...] | None:
    known = [bits for bits in reasons if bits is not None]
    if not known:
        return None
    return tuple(word for bit, word in REASONS.items() if any(bits & bit for bits in known))


def _range(values: list[float]) -> ClockRange | None:
    return ClockRange(min(values), statistics.median(values), max(values)) if values else None


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def _host_clock_hz() -> float | None:
    """Mean over the cores: as the kernel sets it, else as the processor reports it."""
    try:
        paths = sorted(_HOST_CLOCKS.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
        clocks = [float(path.read_text()) * 1e3 for path in paths]
        if not clocks and _CPUINFO.is_file():
            lines = _CPUINFO.read_text().splitlines()
            words = [line.partition(":")[2] for line in lines if line.startswith("cpu MHz")]
            clocks = [float(word) * 1e6 for word in words]
    except (OSError, ValueError):
        return None
    return statistics.fmean(clocks) if clocks else None


def host_load() -> float | None:
    """Processes that ran or waited to, mean of the last minute; ``None`` where it is not kept."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None
