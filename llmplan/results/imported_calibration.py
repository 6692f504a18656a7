"""Measurements of others as a calibration profile: profiles, operator tables, nccl-tests, packages.

What is imported joins the device's own profile, where it has one: kernels of the same name are
replaced, all others stay, and so does the day that they were measured on.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from llmplan import __version__
from llmplan.errors import InputError, LlmplanError, UnknownNameError, printable
from llmplan.hardware.catalogue import device_of_stem, load_device
from llmplan.hardware.device import Device
from llmplan.perf.aic_tables import aic_measurements, installed_data, systems
from llmplan.perf.calibration import (
    calibration_files,
    calibration_path,
    content_sha256,
    load,
    peaks_of,
    save,
)
from llmplan.perf.calibration_spec import CalibrationProfile, MeasuredDevice, Skipped
from llmplan.perf.exchange_rows import exchange_measurements
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.foreign import Foreign, sampled, table_measurements, within_peaks
from llmplan.perf.nccl_tests import nccl_measurements
from llmplan.perf.points import Points, points_of
from llmplan.perf.rates import Rates, rates_of
from llmplan.perf.refit import refitted
from llmplan.perf.registry import OPERATORS
from llmplan.results import schema
from llmplan.results.calibration import files_result, today
from llmplan.results.common import Said

PACKAGE: Final = "aiconfigurator-core"
MOST_ROWS: Final = 120
"""Of one kernel: a curve needs no more, and a profile stays readable."""
EDITED: Final = (
    "its values were changed after it was measured: it is taken as it is, under a hash of its own."
)
UNPREDICTED: Final = (
    "layers were predicted without what is imported: `llmplan calibrate` measures them anew."
)
NCCL_HEAD: Final = ("nThread", "nccl-tests", "out-of-place")
HEAD_BYTES: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportQuestion:
    """What to take over.

    Attributes:
        sources: Files, or the word ``aiconfigurator-core``.
        gpu: The device that they were measured on; profiles say it themselves.
        op: Operator table, or collective, where a file does not say which it is of.
        system: Of the package; that of the device where nothing is said.
        profile: File of the profile; the personal catalogue where nothing is said.
    """

    sources: Sequence[str]
    gpu: str | None = None
    op: str | None = None
    system: str | None = None
    profile: Path | None = None

    def ask(self) -> schema.Envelope:
        """What was written.

        Raises:
            LlmplanError: A source cannot be read, or is of no known device.
            MissingPartError: scipy, or a reader of the package's files, is not installed.
        """
        inputs = {
            "sources": list(self.sources),
            "gpu": self.gpu,
            "op": self.op,
            "system": self.system,
            "profile": str(self.profile) if self.profile else None,
        }
        profiles = [source for source in self.sources if Path(source).suffix == ".yaml"]
        if profiles and len(self.sources) > 1:
            raise InputError("take over one profile at a time, and no tables with it.")
        if profiles:
            profile, notes = self._taken_over(Path(profiles[0]))
        else:
            profile, notes = self._joined()
        path = self.profile or calibration_path(profile.device.slug)
        save(profile, path)
        answer = files_result(profile, [str(path)])
        return Said("calibrate import", inputs, notes).answered(answer)

    def _taken_over(self, path: Path) -> tuple[CalibrationProfile, tuple[str, ...]]:
        """A profile as it is, fitted anew where curves are others."""
        found = load(path, edited=True, other_curves=True)
        if self.gpu and load_device(self.gpu).slug != found.device.slug:
            raise InputError(f"{path} is of {found.device.slug}, not of {self.gpu}.")
        edited = () if content_sha256(found) == found.sha256 else (EDITED,)
        if found.curves == fingerprint():
            return found, edited
        again = refitted(found, rates_of(load_device(found.device.slug)))
        return again, (*edited, f"fitted anew: its curves were of llmplan {found.llmplan}.")

    def _joined(self) -> tuple[CalibrationProfile, tuple[str, ...]]:
        if self.gpu is None:
            raise InputError("say which GPU was measured: --gpu h100-sxm.")
        device = load_device(self.gpu)
        rates = rates_of(device)
        found = [within_peaks(each, rates) for each in self._foreign(device)]
        points = [points for each in found for points in _points(each)]
        if not points:
            raise InputError("no row could be taken: " + "; ".join(_reasons(found)[:3] or ["none"]))
        base = _own(device) or _empty(device, rates)
        replaced = {_key(p) for p in points}
        kept = tuple(p for p in base.points if _key(p) not in replaced)
        skipped = (*base.skipped, *(Skipped(name=r.name, reason=r.reason) for e in found
                                    for r in e.refused))  # fmt: skip
        joined = base.model_copy(
            update={
                "points": (*kept, *points),
                "skipped": tuple(dict.fromkeys(skipped)),
                "notes": (*base.notes, f"imported: {', '.join(self.sources)}"),
            }
        )
        notes = tuple(dict.fromkeys(note for each in found for note in each.notes))
        notes += (UNPREDICTED,) if base.layers else ()
        return refitted(joined, rates), notes

    def _foreign(self, device: Device) -> Iterator[Foreign]:
        for source in self.sources:
            if source == PACKAGE or Path(source).is_dir():
                root = installed_data() if source == PACKAGE else Path(source)
                yield from aic_measurements(root, self.system or _system(device, root))
            elif Path(source).suffix == ".json":
                yield from exchange_measurements(Path(source))
            elif _is_nccl(Path(source)):
                yield nccl_measurements(Path(source), self.op)
            else:
                _refuse_other_device(Path(source), device)
                yield table_measurements(Path(source), self.op)


def _refuse_other_device(path: Path, device: Device) -> None:
    """Raise where a table is named after another device, as files of ``export`` are.

    Raises:
        InputError: It is.
    """
    try:
        named = device_of_stem(path.stem)
    except UnknownNameError:
        return
    if named.slug != device.slug:
        raise InputError(
            f"{printable(str(path))} is named after {named.slug}, and --gpu says {device.slug}: "
            "rename it where --gpu is right."
        )


def _points(found: Foreign) -> Iterator[Points]:
    operator = OPERATORS[found.operator]
    for rows in found.kernels:
        some = sampled(rows, MOST_ROWS)
        yield points_of(operator, some, np.zeros(len(some.measured_s)))


def _key(points: Points) -> tuple[object, ...]:
    return points.operator, tuple(sorted(points.labels.items()))


def _reasons(found: list[Foreign]) -> list[str]:
    return [f"{refusal.name}: {refusal.reason}" for each in found for refusal in each.refused]


def _own(device: Device) -> CalibrationProfile | None:
    path = calibration_files().get(device.slug)
    return load(path, other_curves=True) if path else None


def _empty(device: Device, rates: Rates) -> CalibrationProfile:
    return CalibrationProfile(
        llmplan=__version__,
        curves=fingerprint(),
        date=today(),
        device=MeasuredDevice(slug=device.slug, name=device.name),
        rates=peaks_of(rates),
        grid_sha256="",
        budget_s=0.0,
        kernels=(),
        points=(),
    )


def _is_nccl(path: Path) -> bool:
    """Whether a file begins as nccl-tests print it."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{printable(str(path))} cannot be read ({error.strerror}).") from None
    return any(word in head for word in NCCL_HEAD)


def _system(device: Device, root: Path) -> str:
    """The package's name of a device, as h200_sxm.

    Raises:
        InputError: It has none of the device.
    """
    known = systems(root)
    for name in known:
        with suppress(LlmplanError):
            if device_of_stem(name).slug == device.slug:
                return name
    raise InputError(f"say which system {device.slug} is with --system: {', '.join(known)}.")
