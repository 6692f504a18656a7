"""Calibration profiles as answers: shown, compared, exported, taken over and fitted again."""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from llmplan.errors import InputError, UnknownNameError, printable
from llmplan.files import write_atomically
from llmplan.hardware.catalogue import load_device
from llmplan.perf.calibration import calibration_files, calibration_path, load, save
from llmplan.perf.calibration_spec import CalibrationProfile, MeasuredMemory
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.own_kernels import is_ours
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import Rates, rates_of
from llmplan.perf.refit import changes, operator_rows, refitted
from llmplan.perf.registry import OPERATORS
from llmplan.perf.tables import KernelRows
from llmplan.results import schema
from llmplan.results.calibration_names import format_of, kernel_of, kind_of
from llmplan.results.calibration_points import rows_of, shown_peaks, shown_points
from llmplan.results.common import Said
from llmplan.units import Provenance

EXPIRED: Final = "curves have changed since, so that estimates do not use this profile"
FIGURES: Final = ("layer_median_error_frac", "layer_p90_error_frac")


def profile_named(word: str) -> Path:
    """A file, or the profile of a device that is called so.

    Raises:
        InputError: Neither is there.
    """
    path = Path(word)
    if path.is_file():
        return path
    known = calibration_files()
    if word in known:
        return known[word]
    if path.suffix:
        raise InputError(f"{printable(word)} is no file.")
    try:
        slug = load_device(word).slug
    except UnknownNameError:
        slug = ""
    if slug in known:
        return known[slug]
    if slug:
        raise InputError(
            f"no calibration of {slug} was found: `llmplan calibrate` there makes one."
        )
    raise UnknownNameError(
        "calibration profile", word, known, "`llmplan calibrate` measures the device at hand."
    )


def shown(profile: CalibrationProfile, path: Path) -> schema.CalibrateResult:
    """A profile as its result."""
    off = profile.layer_error
    rates = _rates(profile)
    return schema.CalibrateResult(
        profile=str(path),
        device=profile.device.slug,
        device_name=profile.device.name,
        date=profile.date,
        torch=profile.device.torch_version,
        driver=profile.device.driver,
        is_dry_run=False,
        budget_s=profile.budget_s,
        expected_s=None,
        grid=[],
        left_out=None,
        operators=[_operator(kernel, profile, rates) for kernel in profile.kernels],
        points=shown_points(profile, rates),
        peaks=shown_peaks(profile, rates),
        layers=[
            schema.CalibratedLayer(
                **layer.model_dump(), error_frac=layer.error, provenance=Provenance.MEASURED
            )
            for layer in profile.layers
        ],
        layer_median_error_frac=off[0] if off else None,
        layer_p90_error_frac=off[1] if off else None,
        memory=_memory(profile.memory),
        throttled=list(profile.conditions.throttled or ()),
        skipped=[schema.SkippedKernel(name=s.name, reason=s.reason) for s in profile.skipped],
        provenance=dict.fromkeys(FIGURES, Provenance.MEASURED),
    )


def _rates(profile: CalibrationProfile) -> Rates:
    """The peaks that kernels were fitted with; those of the catalogue where none are kept."""
    device = rates_of(load_device(profile.device.slug))
    return replace(device, **profile.rates.model_dump()) if profile.rates else device


def _memory(found: MeasuredMemory | None) -> schema.CalibratedMemory | None:
    if not found:
        return None
    return schema.CalibratedMemory(
        context_bytes=found.context_bytes,
        allocator_slack_bytes=found.allocator_slack_bytes,
        graph_pool_bytes=found.graph_pool_bytes,
        activation_bytes=found.activation_bytes,
        provenance=Provenance.MEASURED,
    )


def _operator(
    kernel: Fitted, profile: CalibrationProfile, rates: Rates
) -> schema.CalibratedOperator:
    held_out = getattr(kernel, "held_out_error", None)
    return schema.CalibratedOperator(
        kind=kind_of(kernel.operator, kernel.labels),
        format=format_of(kernel.labels),
        kernel=kernel_of(kernel.labels),
        points=kernel.rows,
        efficiency=_efficiency(kernel, rows_of(kernel, profile.points, rates), rates),
        residual_median=kernel.median_error,
        residual_p90=kernel.p90_error,
        held_out_error_frac=held_out,
        provenance=Provenance.MEASURED if is_ours(kernel.labels) else Provenance.FITTED,
    )


def _efficiency(kernel: Fitted, rows: KernelRows, rates: Rates) -> float:
    """Time at the peaks over measured time, in the middle; 0 where no point is kept."""
    if not len(rows.measured_s):
        return 0.0
    bound = OPERATORS[kernel.operator].bound_seconds(rows.columns, rows.labels, rates)
    return float(f"{np.median(bound / rows.measured_s):.4g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowQuestion:
    """A profile in words.

    Attributes:
        profile: A file, or a device.
    """

    profile: str

    def ask(self) -> schema.Envelope:
        """The answer; a profile of other curves is shown with a word on it.

        Raises:
            LlmplanError: There is none, or it was changed.
        """
        path = profile_named(self.profile)
        found = load(path, other_curves=True)
        remarks = found.notes
        if found.curves != fingerprint():
            remarks += (f"{EXPIRED}: `llmplan calibrate refit {path}` fits it anew.",)
        said = Said("calibrate", {"profile": self.profile}, remarks)
        return said.answered(shown(found, path))


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffQuestion:
    """Two profiles of one device.

    Attributes:
        earlier: A file, or a device.
        later: A file, or a device.
    """

    earlier: str
    later: str

    def ask(self) -> schema.Envelope:
        """The answer.

        Raises:
            LlmplanError: One cannot be read, or they are of different devices.
        """
        paths = [profile_named(word) for word in (self.earlier, self.later)]
        before, after = (load(path) for path in paths)
        if before.device.slug != after.device.slug:
            raise InputError(
                f"{paths[0]} is of {before.device.slug} and {paths[1]} of {after.device.slug}: "
                "compare two profiles of one device."
            )
        rows = [
            schema.KernelChange(
                kind=kind_of(change.operator, change.labels),
                format=format_of(change.labels),
                kernel=kernel_of(change.labels),
                times=change.ratio,
                points=change.rows,
                only=change.only,
                provenance=Provenance.MEASURED,
            )
            for change in changes(before, after, _rates(after))
        ]
        result = schema.CalibrateDiffResult(
            earlier=str(paths[0]), later=str(paths[1]), changes=rows
        )
        inputs = {"earlier": self.earlier, "later": self.later}
        return Said("calibrate diff", inputs, ()).answered(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportQuestion:
    """A profile's measurements as operator tables.

    Attributes:
        profile: A file, or a device.
        folder: Where to.
    """

    profile: str
    folder: Path

    def ask(self) -> schema.Envelope:
        """The files, one for each operator table.

        Raises:
            LlmplanError: The profile cannot be read, or a file not written.
        """
        found = load(profile_named(self.profile), other_curves=True)
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is no folder: make it first.")
        files = []
        for name, text in operator_rows(found).items():
            path = self.folder / f"{found.device.slug}_{name}.csv"
            write_atomically(path, text)
            files.append(str(path))
        inputs = {"profile": self.profile, "folder": str(self.folder)}
        return Said("calibrate export", inputs, ()).answered(files_result(found, files))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefitQuestion:
    """A profile fitted to the curves that there are now.

    Attributes:
        profile: A file, or a device; it is written anew.
    """

    profile: str

    def ask(self) -> schema.Envelope:
        """What was written.

        Raises:
            LlmplanError: The profile cannot be read or written.
            MissingPartError: scipy is not installed.
        """
        path = profile_named(self.profile)
        found = load(path, other_curves=True)
        again = refitted(found, rates_of(load_device(found.device.slug)))
        save(again, path)
        said = "layers were predicted by the earlier curves: `llmplan calibrate` measures them."
        remarks = (said,) if found.layers else ()
        answer = files_result(again, [str(path)])
        return Said("calibrate refit", {"profile": self.profile}, remarks).answered(answer)


def files_result(profile: CalibrationProfile, files: list[str]) -> schema.CalibrateFilesResult:
    """What files hold."""
    return schema.CalibrateFilesResult(
        files=files,
        device=profile.device.slug,
        kernels=len(profile.kernels),
        points=sum(len(points.kernel_rows().measured_s) for points in profile.points),
        skipped=[schema.SkippedKernel(name=s.name, reason=s.reason) for s in profile.skipped],
    )


def default_path(slug: str) -> Path:
    """Where a profile is written so that estimates find it."""
    return calibration_path(slug)


def today() -> dt.date:
    """Of now, in UTC."""
    return dt.datetime.now(tz=dt.UTC).date()
