"""``llmplan calibrate``: from options to a plan, and from a plan to a profile."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from llmplan.calibrate import runners
from llmplan.calibrate.exchanges import usual_ranks
from llmplan.calibrate.grid import Room, Sliced, grid
from llmplan.calibrate.machine import (
    SOURCE,
    Machine,
    device_document,
    document_slug,
    machine_at_hand,
)
from llmplan.calibrate.pace import Tick
from llmplan.calibrate.peaks import measured_peaks
from llmplan.calibrate.session import Order, calibrated, expected_s, room_of
from llmplan.calibrate.timing import Limits
from llmplan.catalogs import own_folders
from llmplan.dtypes import Format, format_named
from llmplan.errors import InputError, LayoutError
from llmplan.files import write_atomically
from llmplan.hardware.catalogue import load_device
from llmplan.model.catalogue import load_model
from llmplan.model.compiled import Model
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout, check_layout
from llmplan.parallel.rank import stage_ranks
from llmplan.perf.calibration import calibration_path, save
from llmplan.perf.calibration_spec import Peaks
from llmplan.perf.rates import PCIE_PEERS, Rates, rates_of
from llmplan.results import schema
from llmplan.results.calibration import FIGURES, shown, today
from llmplan.results.common import Said
from llmplan.units import Provenance, parse_seconds

GPU_MODELS: Final = ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "qwen3-next-80b-a3b")
CPU_MODELS: Final = ("qwen3-0.6b", "olmoe-1b-7b")
"""One of each kind of layer, small enough for the device."""
DEFAULT_BUDGET: Final = "5m"
MOST_TP: Final = 8
WEIGHTS_FRAC: Final = 0.8
"""Of memory, that weights of a rank may take where nobody says how a model is split."""
MOST_SKEW: Final = 3.0
FP8_SINCE: Final = (8, 9)
PEAKS: Final = Limits(seconds=0.5)
"""For each of about a dozen trials of a device whose peaks nobody publishes."""


def silent(_done: int, _total: int) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateQuestion:
    """What to measure, as typed.

    Attributes:
        device: ``cuda``, ``cuda:1`` or ``cpu``; the GPU where nothing is said.
        models: Names separated by commas; a small set of all kinds where nothing is said.
        dtypes: Formats of products, separated by commas; bf16, and fp8 where the GPU has it.
        tp: GPUs that split each layer of the models; as many as it takes where nothing is said.
        ep: Experts are spread over these instead of split.
        budget: Time, as ``5m``.
        ranks: GPUs, or processes, that exchange messages; all GPUs where nothing is said.
        skew: Exponent of a power law of routing beside even routing; 0 for even alone.
        profile: File of the profile; the personal catalogue where nothing is said.
        is_fresh: Begin anew whatever an interrupted run left.
        is_dry_run: Say what would be measured.
    """

    device: str | None = None
    models: str | None = None
    dtypes: str | None = None
    tp: int | None = None
    ep: bool = False
    budget: str = DEFAULT_BUDGET
    ranks: int | None = None
    skew: float = 1.2
    profile: Path | None = None
    is_fresh: bool = False
    is_dry_run: bool = False

    def ask(self, tick: Tick = silent) -> schema.Envelope:
        """The plan, or what was measured.

        Raises:
            LlmplanError: There is no such device, or an option cannot be read.
            MissingPartError: scipy is not installed.
        """
        budget_s, skew = parse_seconds(self.budget), self._skew()
        machine = machine_at_hand(self.device)
        formats, ranks = self._formats(machine), self._ranks(machine)
        names = dict.fromkeys(self._models(machine))
        models = tuple(self._sliced(name, machine) for name in names)
        # last, since peaks that nobody publishes are measured for it
        slug, rates, document = _device(machine)
        found = grid(models, formats, rates, room_of(machine))
        path = self.profile or calibration_path(slug)
        if path.is_dir():
            raise InputError(f"--profile {path} is a folder: name a file in it.")
        order = Order(
            machine=machine,
            slug=slug,
            rates=rates,
            grid=found,
            models=models,
            budget_s=budget_s,
            ranks=ranks,
            journal=path.with_name(f"{path.name}.partial"),
            skew=skew,
            is_fresh=self.is_fresh,
            are_peaks_own=document is not None,
        )
        said = Said("calibrate", self._echo(order, formats, path), _remarks(machine))
        if self.is_dry_run:
            return said.answered(_planned(order))
        profile = calibrated(order, tick)
        if not profile.kernels:
            raise InputError("nothing was measured: give it more time with --budget.")
        if document and profile.rates:
            _keep_device(slug, with_peaks(document, profile.rates))
        before = _set_aside(path)
        save(profile, path)
        order.journal.unlink(missing_ok=True)
        said = replace(said, warnings=(*said.warnings, *profile.notes, *before))
        return said.answered(shown(profile, path))

    def _models(self, machine: Machine) -> Sequence[str]:
        if self.models is None:
            return GPU_MODELS if machine.place.is_cuda else CPU_MODELS
        names = [name.strip() for name in self.models.split(",")]
        if not all(names):
            raise InputError("--models: write names separated by commas, as llama-3.1-8b,phi-4.")
        return names

    def _formats(self, machine: Machine) -> tuple[Format, ...]:
        words = self.dtypes
        if words is None:
            words = "bf16,fp8" if machine.place.capability >= FP8_SINCE else "bf16"
        return tuple(dict.fromkeys(format_named(word.strip()) for word in words.split(",")))

    def _ranks(self, machine: Machine) -> int:
        if self.ranks is not None:
            if self.ranks < 1:
                raise InputError("--ranks: write 1 or more; 1 measures no exchange.")
            return self.ranks
        return usual_ranks("cuda") if machine.place.is_cuda else 1

    def _skew(self) -> float:
        if not 0 <= self.skew <= MOST_SKEW:
            raise InputError(f"--skew: write a power from 0 to {MOST_SKEW:g}.")
        return self.skew

    def _sliced(self, name: str, machine: Machine) -> Sliced:
        """A model as a rank of its layout has it.

        Raises:
            LlmplanError: An unknown model, or a split that it does not allow.
        """
        published = load_model(name)
        if published.diffusion:
            raise InputError(f"{name} is a diffusion pipeline: calibrate knows language models.")
        model = published.served(mtp=False, vision=False)
        if self.tp is not None or self.ep:
            layout = Layout(tp=self.tp or 1, ep=self.ep)
            _refuse_unsplit(model, layout)
            return Sliced(model, layout)
        return Sliced(model, _layout(model, machine.memory_bytes, room_of(machine)))

    def _echo(self, order: Order, formats: tuple[Format, ...], path: Path) -> dict[str, Any]:
        return {
            "device": order.machine.place.device.type,
            "models": [each.model.identity.name for each in order.models],
            "layouts": [str(each.layout) for each in order.models],
            "dtypes": [each.name for each in formats],
            "budget_s": order.budget_s,
            "ranks": order.ranks,
            "skew": order.skew,
            "profile": str(path),
            "dry_run": self.is_dry_run,
            "fresh": self.is_fresh,
        }


def _layout(model: Model, memory_bytes: int, room: Room) -> Layout:
    """The fewest GPUs that hold the weights: a power of two, eight at the most.

    Experts are the largest operators: so many ranks share them that what one reads fits into the
    inputs of a point, its copy and what is moved.
    """
    weights_bytes = sum(o.weights_bytes * n for o, n in model.decoder.counted)
    experts = [o.weights_bytes for o, _ in model.decoder.counted if isinstance(o, Experts)]
    largest = 2 * max(experts, default=0)
    tp = 1
    while tp < MOST_TP and (
        weights_bytes > tp * WEIGHTS_FRAC * memory_bytes or largest > tp * room.most_bytes
    ):
        tp *= 2
    for smaller in (tp, tp // 2, tp // 4, 1):
        try:
            layout = Layout(tp=max(smaller, 1))
            _refuse_unsplit(model, layout)
        except LayoutError:
            continue
        return layout
    return Layout()


def _refuse_unsplit(model: Model, layout: Layout) -> None:
    """Raise where a model is not split so.

    Raises:
        LayoutError: No engine could run it, or a width does not divide.
    """
    check_layout(model, layout)
    stage_ranks(model, layout)


def _device(machine: Machine) -> tuple[str, Rates, dict[str, Any] | None]:
    """The catalogue's device; of one that it does not have the name, peaks, and a file of it.

    Peaks that were measured before are not lowered: a busy moment is no slower device.
    """
    known = load_device(machine.slug) if machine.slug else None
    if known and not known.source.startswith(SOURCE):
        return known.slug, rates_of(known), None
    slug = document_slug(machine)
    document = device_document(machine, measured_peaks(machine.place, PEAKS))
    units = {name: float(rate) for name, rate in document["peak_flops_per_s"].items()}
    rates = Rates(
        slug=slug,
        bytes_per_s=float(document["memory"]["bandwidth_bytes_per_s"]),
        flops_per_s=units,
        l2_bytes=float(machine.cache_bytes),
        sms=machine.cores,
        link_bytes_per_s=0.0,
        peers=PCIE_PEERS,
    )
    if not _device_path(slug).is_file():
        return slug, rates, document
    before = rates_of(load_device(slug))
    most = {name: max(rate, before.flops_per_s.get(name, 0.0)) for name, rate in units.items()}
    widest = max(rates.bytes_per_s, before.bytes_per_s)
    return slug, replace(rates, bytes_per_s=widest, flops_per_s=most), document


def _device_path(slug: str) -> Path:
    return own_folders()[0] / "hardware" / "devices" / f"{slug}.yaml"


def with_peaks(document: dict[str, Any], peaks: Peaks) -> dict[str, Any]:
    """A device's file with these peaks."""
    memory = {**document["memory"], "bandwidth_bytes_per_s": peaks.bytes_per_s}
    return {**document, "memory": memory, "peak_flops_per_s": dict(peaks.flops_per_s)}


def _keep_device(slug: str, document: dict[str, Any]) -> None:
    """Write the device's file, so that --gpus knows it.

    Raises:
        InputError: It cannot be written.
    """
    path = _device_path(slug)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made ({error.strerror}).") from None
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    write_atomically(path, f"# written by llmplan calibrate\n{text}")


def _set_aside(path: Path) -> tuple[str, ...]:
    """Keep the profile that a new one takes the place of: a short run must not lose a long one."""
    if not path.is_file():
        return ()
    kept = path.with_name(f"{path.name}.before")
    path.replace(kept)
    return (f"the profile that was there is kept as {kept}.",)


def _remarks(machine: Machine) -> tuple[str, ...]:
    if machine.slug:
        return ()
    said = f"Its peaks are those that were measured; --gpus knows it as {document_slug(machine)}."
    return (f"{machine.unmatched}. {said}",)


def _planned(order: Order) -> schema.CalibrateResult:
    machine = order.machine
    return schema.CalibrateResult(
        profile=None,
        device=order.slug,
        device_name=machine.name,
        date=today(),
        torch=machine.torch_version,
        driver=machine.driver,
        is_dry_run=True,
        budget_s=order.budget_s,
        expected_s=expected_s(order),
        grid=[
            schema.PlannedPoints(kind=kind, format=stored, points=points)
            for (kind, stored), points in order.grid.by_kind().items()
        ],
        left_out=order.grid.left_out,
        operators=[],
        points=[],
        peaks=[],
        layers=[],
        layer_median_error_frac=None,
        layer_p90_error_frac=None,
        memory=None,
        throttled=[],
        skipped=[],
        provenance=dict.fromkeys((*FIGURES, "expected_s"), Provenance.ASSUMED),
    )


RUNNERS: Final = runners.RUNNERS
"""Entered in the table of kernels by being imported."""
