"""Which fitted kernel a model's operator runs as: the best graph-launched one of the engine.

Operator tables hold several kernels of the same work. A serving engine picks one by trying, and
launches it from a captured graph, so what the host takes to launch is no part of it.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np

from llmplan.hardware.device import Device
from llmplan.perf.family import as_published, relatives
from llmplan.perf.kernels import Column, Columns, Labels, Operator, Parameters
from llmplan.perf.operators.collectives import LIBRARIES
from llmplan.perf.own_kernels import BATCHED, OwnKernels, is_library, is_ours, is_reference
from llmplan.perf.profile import Fitted, kernels_of
from llmplan.perf.rates import BITS, UNITS, Rates, is_16_bit, rates_of
from llmplan.perf.registry import OPERATORS
from llmplan.units import Provenance

EAGER_US: Final = 10.0
"""Launch by the host beyond which a table says little of what a graph of the kernel takes."""
GRAPH_LAUNCHED: Final = {"host_us": 0.0}
FORMATS: Final = ("dtype", "kv_dtype")
NEAR_BITS: Final = 0.1
TRTLLM_TIMED: Final = "torch_flow"
LIBRARY: Final = "NCCL"
"""What the library of collectives is asked for by."""
ABSORBED_PROMPTS: Final = ("flash_attention", "triton")
"""SGLang's kernels of latents whose tables reach a third or less of what expanded heads do."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A fitted kernel on a device.

    Attributes:
        operator: Whose work it does.
        fitted: Its parameters, and how far they are off.
        rates: Of the device it is asked for.
        compared: Of the same device as published: what kernels are compared by.
        provenance: Fitted on this device and engine, or assumed to be alike.
        reason: What it stands for where it is assumed.
        floor_us: Launch where the table's holds more than that; None where it does not.
        own: The calibration that it is of; None where it is of a shipped table.
    """

    operator: Operator
    fitted: Fitted
    rates: Rates
    compared: Rates
    provenance: Provenance
    reason: str = ""
    floor_us: float | None = None
    own: OwnKernels | None = None

    @property
    def labels(self) -> Labels:
        """What tells the kernel apart."""
        return self.fitted.labels

    @property
    def parameters(self) -> Parameters:
        """As launched from a graph, activations quantised where they are made.

        Own measurements were: what a fit took for the host's part is the kernel's.
        """
        if self.own and is_ours(self.labels):
            return self.fitted.parameters
        found = {**self.fitted.parameters, **GRAPH_LAUNCHED}
        if self.floor_us is not None:
            found["floor_us"] = min(found["floor_us"], self.floor_us)
        return found

    def seconds(self, columns: Columns) -> Column:
        """Time of one call, shape [rows]."""
        self.note(columns)
        return self.operator.seconds(self.parameters, columns, self.labels, self.rates)

    def note(self, columns: Columns) -> None:
        """Remember where a kernel that was measured here is asked far beyond what it was."""
        if self.own:
            self.own.note(self.fitted, columns)

    def pace(self, probe: Columns) -> float:
        """Mean logarithm of the time of some work; of two kernels the lower is the faster.

        It does not change where somebody asks what higher rates of the device would bring.
        """
        times = self.operator.seconds(self.parameters, probe, self.labels, self.compared)
        return float(np.log(times).mean())


@dataclass(frozen=True)
class KernelShelf:
    """The kernels that an engine may run on a device.

    Attributes:
        device: The device.
        engine: ``vllm``, ``sglang``, ``trtllm``; another word for any.
        skew: Spread of the popularity of experts, as in ``perf.routing``.
        own: Kernels that were measured on this device; None where it was not calibrated.
    """

    device: Device
    engine: str
    skew: float = 0.0
    own: OwnKernels | None = None
    _found: dict[tuple[object, ...], Curve | None] = field(
        default_factory=dict, init=False, compare=False
    )

    @cached_property
    def rates(self) -> Rates:
        """Peaks of the device; weights and keys are too many to be found in its cache."""
        return _uncached(self.device)

    @cached_property
    def compared(self) -> Rates:
        """The same of the device as the catalogue has it."""
        return _uncached(as_published(self.device))

    @cached_property
    def relatives(self) -> tuple[Device, ...]:
        """Devices whose profiles may be used, nearest first."""
        return relatives(self.device)

    def best(self, name: str, wanted: Labels, probe: Columns) -> Curve | None:
        """The fastest kernel on the probe; None where no device has one of these formats.

        Args:
            name: The operator's.
            wanted: Labels that must agree, besides formats, which may be others of the same unit.
            probe: Work to compare kernels by.
        """
        work = tuple((column, values.tobytes()) for column, values in sorted(probe.items()))
        key = (name, tuple(sorted(wanted.items())), work)
        if key not in self._found:
            self._found[key] = self._search(name, wanted, probe)
        return self._found[key]

    def _search(self, name: str, wanted: Labels, probe: Columns) -> Curve | None:
        operator = OPERATORS[name]
        own = self.measured(name, wanted, probe)
        if own and is_library(name, own.labels):
            return own
        shipped = self._shipped(operator, wanted, probe)
        if not (own and shipped) or shipped.provenance is Provenance.ASSUMED:
            return own or shipped
        if is_reference(own.labels):
            return shipped
        return min(own, shipped, key=lambda curve: curve.pace(probe))

    def measured(self, name: str, wanted: Labels, probe: Columns) -> Curve | None:
        """The fastest kernel of the calibration in just these formats; plain arithmetic last.

        Imported tables hold kernels of several engines: those of others are not this one's.
        """
        if not self.own:
            return None
        operator = OPERATORS[name]
        found = [(self._own_mismatch(k, wanted), k) for k in self.own.of(operator.name)]
        least = min((rank for rank, _ in found if rank is not None), default=None)
        fitting = [kernel for rank, kernel in found if rank is not None and rank == least]
        plain = [kernel for kernel in fitting if not is_reference(kernel.labels)]
        curves = [self._own_curve(operator, kernel, self.own) for kernel in plain or fitting]
        return min(curves, key=lambda curve: curve.pace(probe), default=None)

    def _own_curve(self, operator: Operator, kernel: Fitted, own: OwnKernels) -> Curve:
        """Plain arithmetic was measured, and is not what an engine runs."""
        is_measured = is_ours(kernel.labels)
        is_run = is_measured and not is_reference(kernel.labels)
        known = Provenance.MEASURED if is_run else Provenance.FITTED
        said = own.said if is_measured else ""
        return Curve(operator, kernel, self.rates, self.compared, known, said, own=own)

    def _own_mismatch(self, kernel: Fitted, wanted: Labels) -> int | None:
        """None for other work, formats or engines; more than 0 where the host launched it."""
        labels = kernel.labels
        if wanted.get("kernel") == LIBRARY and labels.get("kernel") in LIBRARIES:
            wanted = {**wanted, "kernel": labels["kernel"]}
        rank = self._mismatch(kernel, wanted)
        if labels.get("kernel") == BATCHED != wanted.get("kernel"):
            return None
        if rank is None or any(labels.get(n, "") != wanted[n] for n in FORMATS if n in wanted):
            return None
        is_free = is_ours(labels) or "topology" in labels
        is_anyones = is_free or labels.get("kernel") in LIBRARIES
        is_other_engine = rank % 2
        return None if is_other_engine and not is_anyones else rank - is_other_engine

    def _shipped(self, operator: Operator, wanted: Labels, probe: Columns) -> Curve | None:
        name = operator.name
        for is_timed in (self._times, _any):
            for device in self.relatives:
                kernels = kernels_of(device.slug)
                own = (
                    [k for k in kernels.by_labels.values() if k.operator == name] if kernels else []
                )
                ranked = [(self._mismatch(k, wanted), k) for k in own if is_timed(k, device, probe)]
                fitting = [(rank, kernel) for rank, kernel in ranked if rank is not None]
                if not fitting:
                    continue
                least = min(rank for rank, _ in fitting)
                curves = [
                    self._curve(operator, kernel, device, least)
                    for rank, kernel in fitting
                    if rank == least
                ]
                return min(curves, key=lambda curve: curve.pace(probe))
        return None

    def _times(self, kernel: Fitted, source: Device, probe: Columns) -> bool:
        """Whether a collective was timed over as many GPUs, joined by links that reach as far."""
        if "gpus" not in probe:
            return True
        fewest, most = kernel.ranges["gpus"]
        is_within = fewest <= probe["gpus"].min() and probe["gpus"].max() <= most
        return is_within and _reach(source) == _reach(self.device)

    def _curve(self, operator: Operator, kernel: Fitted, source: Device, rank: int) -> Curve:
        reasons = []
        if source.slug != self.device.slug:
            reasons.append(f"efficiencies of {source.slug}")
        if rank:
            reasons.append(f"kernel of {kernel.labels['src']} in {_formats(kernel.labels)}")
        provenance = Provenance.ASSUMED if reasons else Provenance.FITTED
        floor_us = _fused_floor_us(kernel, source)
        said = ", ".join(reasons)
        return Curve(operator, kernel, self.rates, self.compared, provenance, said, floor_us)

    def _mismatch(self, kernel: Fitted, wanted: Labels) -> int | None:
        """0 for this engine's in these formats, more where either differs; None for other work."""
        labels = kernel.labels
        if "eager" in labels.get("kernel", "") or _absorbs_prompts(kernel):
            return None
        if any(labels.get(n, "") != v for n, v in wanted.items() if n not in FORMATS):
            return None
        formats = [(labels.get(n, ""), wanted[n]) for n in FORMATS if n in wanted]
        if not all(_alike(mine, its) for mine, its in formats):
            return None
        is_other_format = any(mine != its for mine, its in formats)
        is_other_engine = f"/{self.engine}/" not in labels["src"]
        is_eager = kernel.parameters.get("host_us", 0.0) > EAGER_US and "backend" not in labels
        return 4 * is_other_format + 2 * is_eager + is_other_engine


def _any(_kernel: Fitted, _source: Device, _probe: Columns) -> bool:
    return True


def _reach(device: Device) -> int:
    return device.link.domain_size if device.link else 1


def _absorbs_prompts(kernel: Fitted) -> bool:
    """Whether a table timed prompts in the latent, 3.4 times the arithmetic of expanded heads.

    SGLang expands heads for prompts, later chunks included.
    Source: sgl-project/sglang pull request 5113.
    """
    labels = kernel.labels
    if kernel.operator != "mla" or labels["phase"] != "context":
        return False
    return "/sglang/" in labels["src"] and labels["kernel"] in ABSORBED_PROMPTS


def _uncached(device: Device) -> Rates:
    return replace(rates_of(device), l2_bytes=0.0)


def _alike(mine: str, its: str) -> bool:
    """Whether two formats of a table take the same arithmetic and about as many bytes."""
    if mine == its:
        return True
    if UNITS.get(mine) != UNITS.get(its, its) or mine not in BITS or its not in BITS:
        return False
    return abs(BITS[mine] / BITS[its] - 1) <= NEAR_BITS


def _fused_floor_us(kernel: Fitted, source: Device) -> float | None:
    """Launch of TensorRT-LLM's products of quantised activations.

    Its tables time the quantising with the product, which models do in the norm or activation
    before it: the launch is that of the 16-bit product.
    """
    labels = kernel.labels
    if kernel.operator != "gemm" or labels["kernel"] != TRTLLM_TIMED or is_16_bit(labels["dtype"]):
        return None
    kernels = kernels_of(source.slug)
    plain = kernels.find("gemm", {**labels, "dtype": "bfloat16"}) if kernels else None
    return plain.parameters["floor_us"] if plain else None


def _formats(labels: Labels) -> str:
    return "/".join(labels[name] for name in FORMATS if name in labels)
