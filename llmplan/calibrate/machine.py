"""The device at hand: which it is, and whether the catalogue knows it."""

import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from llmplan.calibrate.cold import host_memory_bytes, last_cache_bytes
from llmplan.calibrate.kernel import Place
from llmplan.calibrate.peaks import MeasuredPeaks
from llmplan.calibrate.watch import Nvml, nvml_of
from llmplan.errors import InputError, MissingPartError, UnknownNameError, printable
from llmplan.hardware.catalogue import load_device
from llmplan.hardware.device import Device

MEMORY_TOLERANCE_FRAC: Final = 0.1
"""Drivers, error correction and the runtime take some of what a device's name says."""
CORES_TOLERANCE_FRAC: Final = 0.05
MARGIN: Final = 1.05
"""Of a peak over the best that was measured: a peak is what no kernel exceeds, tried or not."""
SOURCE: Final = "measured by llmplan calibrate"
_PEAKS_NOTE: Final = f"peaks are the best that was measured, times {MARGIN}; none is published here"
_MOST_OF_A_NOTE: Final = 1000
_VENDORS: Final = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel", "arm": "Arm"}
_CUDA: Final = re.compile(r"cuda(?::(\d{1,3}))?")
_CPUINFO: Final = Path("/proc/cpuinfo")
_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_DRIVER_FILES: Final = (Path("/sys/module/amdgpu/version"), Path("/sys/module/nvidia/version"))
_TRADEMARKS: Final = re.compile(r"\((?:r|tm|c)\)|@.*|\b(?:cpu|processor)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Machine:
    """A device, its host, and the software that runs kernels on it.

    Attributes:
        place: Where kernels run.
        name: As the driver or the processor calls it.
        slug: In the catalogue; ``None`` where it has no such device.
        unmatched: Why there is no slug; empty where there is one.
        memory_bytes: What the driver gives a process; of a processor, what the host or the
            container has.
        cache_bytes: Last cache before memory.
        cores: Streaming multiprocessors or compute units; of a processor, the threads of torch.
        capability: CUDA compute capability or gfx target; ``None`` for a processor.
        driver: Its version, where it can be read.
        runtime: CUDA or ROCm with its version, ``None`` in a torch without them.
        torch_version: With its build.
        host: The processor beside the device, or the device itself.
    """

    place: Place
    name: str
    slug: str | None
    unmatched: str
    memory_bytes: int
    cache_bytes: int
    cores: int
    capability: str | None
    driver: str | None
    runtime: str | None
    torch_version: str
    host: str


def machine_at_hand(word: str | None) -> Machine:
    """The machine that ``--device`` means: ``cuda``, ``cuda:1``, ``cpu``; nothing is the GPU.

    Raises:
        InputError: Another word, or a GPU that torch does not see.
        MissingPartError: Torch sees no GPU at all.
    """
    if word == "cpu":
        return _processor(Place(torch.device("cpu")))
    match = _CUDA.fullmatch("cuda" if word is None else word)
    if match is None:
        raise InputError(
            f"--device {printable(str(word))}: write cuda, cuda:1 (the second GPU) or cpu."
        )
    if not torch.cuda.is_available():
        raise MissingPartError(
            f"torch {torch.__version__} sees no GPU. `--device cpu` runs on the processor, at its "
            "own speed; a GPU needs its driver and a torch built for CUDA or ROCm."
        )
    index = int(match[1] or torch.cuda.current_device())
    if index >= torch.cuda.device_count():
        raise InputError(
            f"--device {word}: torch sees {torch.cuda.device_count()} GPUs, counted from 0."
        )
    device = torch.device("cuda", index)
    return _gpu(Place(device, torch.cuda.get_device_capability(device)))


def own_slug(name: str, cores: int, *, is_cpu: bool) -> str:
    """A catalogue name for a device that the catalogue does not have.

    It holds the number of cores: one name of a processor stands for virtual machines of any size,
    and a slice of a GPU may have the name of the whole. It never equals a shipped name.
    """
    words = re.sub(r"[^a-z0-9.]+", "-", _TRADEMARKS.sub(" ", name).lower())
    stem = words.strip("-.")[:50].strip("-.") or "unknown"
    return f"cpu-{stem}-{cores}-threads" if is_cpu else f"{stem}-{cores}-cores"


def device_document(machine: Machine, measured: MeasuredPeaks) -> dict[str, Any]:
    """The content of ``hardware/devices/SLUG.yaml`` for a machine, SLUG being ``document_slug``."""
    today = datetime.now(UTC).date().isoformat()
    is_cpu = not machine.place.is_cuda
    cores = "threads" if is_cpu else "cores"
    capability = {"compute_capability": machine.capability} if machine.capability else {}
    return {
        "vendor": _vendor(machine.name),
        # with its size: two devices may not share a name, and this one differs from a listed one
        "name": f"{machine.name}, {machine.cores} {cores}",
        "architecture": "processor" if is_cpu else str(machine.capability),
        **capability,
        "status": "available",
        "memory": {
            "capacity_bytes": machine.memory_bytes,
            "capacity_source": "memory of the host" if is_cpu else "torch.cuda.mem_get_info",
            "capacity_date": today,
            "marketing_gb": round(machine.memory_bytes / 1e9, 1),
            "type": "host memory" if is_cpu else "not known",
            "bandwidth_bytes_per_s": measured.bytes_per_s * MARGIN,
            "l2_bytes": machine.cache_bytes,
        },
        "peak_flops_per_s": {
            "fp32": measured.fp32_flops_per_s * MARGIN,
            "bf16": measured.bf16_flops_per_s * MARGIN,
        },
        "measured_flops_per_s": {
            "bf16": measured.bf16_flops_per_s,
            "source": SOURCE,
            "source_date": today,
        },
        "sm_count": machine.cores,
        "note": "; ".join(filter(None, (_PEAKS_NOTE, measured.note)))[:_MOST_OF_A_NOTE],
        "source": f"{SOURCE}, torch {machine.torch_version}",
        "source_date": today,
    }


def document_slug(machine: Machine) -> str:
    """The catalogue name of the machine's own device file."""
    return own_slug(machine.name, machine.cores, is_cpu=not machine.place.is_cuda)


def catalogue_match(name: str, memory_bytes: int, cores: int) -> Device | str:
    """The device of the catalogue that goes by the name and has its size, or why there is none.

    A virtual function of an AMD GPU says VF. Each of the two dies of an MI250X is a device with the
    name of both, and may add that of the MI250 after a slash.
    """
    reasons: list[str] = []
    for candidate in (name, name.removesuffix(" VF"), f"{name.partition('/')[0]} GCD"):
        try:
            device = load_device(candidate)
        except UnknownNameError:
            continue
        reason = _disagreement(device, memory_bytes, cores)
        if not reason:
            return device
        reasons.append(reason)
    return reasons[0] if reasons else f"the catalogue has no {name}"


def _disagreement(device: Device, memory_bytes: int, cores: int) -> str:
    """How the device at hand differs from that of the catalogue; empty where it does not."""
    if abs(memory_bytes / device.capacity_bytes - 1) > MEMORY_TOLERANCE_FRAC:
        return (
            f"it has {memory_bytes:,} bytes of memory and {device.slug} has "
            f"{device.capacity_bytes:,}: a part of it, or another product"
        )
    known = device.sm_count
    if known and abs(cores / known - 1) > CORES_TOLERANCE_FRAC:
        return (
            f"it has {cores} multiprocessors and {device.slug} has {known}: a part of it, or "
            "another product"
        )
    return ""


def _gpu(place: Place) -> Machine:
    properties = torch.cuda.get_device_properties(place.device)
    name = torch.cuda.get_device_name(place.device)
    hip = torch.version.hip
    # what the driver gives a process, which is less than the total of the properties
    memory_bytes = torch.cuda.mem_get_info(place.device)[1]
    slug, unmatched = _slug(name, memory_bytes, properties.multi_processor_count, is_cpu=False)
    return Machine(
        place=place,
        name=name,
        slug=slug,
        unmatched=unmatched,
        memory_bytes=memory_bytes,
        cache_bytes=last_cache_bytes(place),
        cores=properties.multi_processor_count,
        capability=(
            properties.gcnArchName.partition(":")[0] if hip else "{}.{}".format(*place.capability)
        ),
        driver=_driver(place),
        runtime=f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}",
        torch_version=torch.__version__,
        host=_host(),
    )


def _processor(place: Place) -> Machine:
    name, memory_bytes, cores = _host(), _host_capacity_bytes(), torch.get_num_threads()
    slug, unmatched = _slug(name, memory_bytes, cores, is_cpu=True)
    return Machine(
        place=place,
        name=name,
        slug=slug,
        unmatched=unmatched,
        memory_bytes=memory_bytes,
        cache_bytes=last_cache_bytes(place),
        cores=cores,
        capability=None,
        driver=None,
        runtime=None,
        torch_version=torch.__version__,
        host=name,
    )


def _slug(name: str, memory_bytes: int, cores: int, *, is_cpu: bool) -> tuple[str | None, str]:
    """The catalogue name and nothing, or none and why; a file of one's own comes first."""
    reason = ""
    for candidate in (own_slug(name, cores, is_cpu=is_cpu), *(() if is_cpu else (name,))):
        found = catalogue_match(candidate, memory_bytes, cores)
        if isinstance(found, Device):
            return found.slug, ""
        reason = found
    return None, reason


def _host() -> str:
    """The processor's name; those of Arm do not say it in this file."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named and named[0]) or platform.processor() or platform.machine()


def _host_capacity_bytes() -> int:
    """Memory of the host, or of the container where that is less."""
    total = host_memory_bytes("MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    limits = [path.read_text().strip() for path in _CGROUP_LIMITS if path.is_file()]
    return min([total, *(int(limit) for limit in limits if limit.isdecimal())])


def _vendor(name: str) -> str:
    words = re.findall(r"[a-z]+", name.lower())
    return next((_VENDORS[word] for word in words if word in _VENDORS), "not known")


def _driver(place: Place) -> str | None:
    with nvml_of(place) as source:
        version = source.driver() if isinstance(source, Nvml) else None
    if version:
        return version
    files = [path for path in _DRIVER_FILES if path.is_file()]
    return files[0].read_text().strip() if files else None
