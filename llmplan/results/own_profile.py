"""Which calibration profile an estimate uses: the one that is named, or that of its device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from llmplan.analyze.estimate import Estimate
from llmplan.errors import InputError, printable
from llmplan.hardware.device import Device
from llmplan.perf.calibration import calibration_files, has_other_peaks, load
from llmplan.perf.calibration_spec import CalibrationProfile
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.own_kernels import OwnKernels
from llmplan.results import schema

NONE: Final = "none"
"""Word of --profile for estimates from shipped tables alone."""
WIDE_FRAC: Final = 0.2
"""Error of whole layers, 90th percentile, from which a profile is warned of."""
POOR_FRAC: Final = 0.3
"""Median error of a curve at its own points, from which it is warned of."""


def own_kernels(
    word: str | None, device: Device
) -> tuple[OwnKernels | None, CalibrationProfile | None, tuple[str, ...]]:
    """The kernels that were measured on a device, their profile, and what should be said of it.

    A profile that is found is left out, loudly, where curves have changed since; one that is named
    must be usable.

    Args:
        word: A file, ``none``, or nothing for the profile of the device if there is one.
        device: The device.

    Raises:
        InputError: The file is of another device.
        DocumentError: It cannot be read, was changed, or is of other curves.
    """
    if word == NONE:
        return None, None, ()
    if word == "":
        raise InputError("--profile: write the name of a file, or none.")
    path = Path(word) if word else calibration_files().get(device.slug)
    if path is None:
        return None, None, ()
    profile = load(path, other_curves=word is None)
    if profile.device.slug != device.slug:
        raise InputError(
            f"{printable(str(path))} was measured on {profile.device.slug}, and the GPUs are "
            f"{device.slug}: its times say nothing of them. Run `llmplan calibrate` there, or "
            "--profile none goes on with published tables."
        )
    if profile.curves != fingerprint():
        return None, None, (_expired(path, profile),)
    if has_other_peaks(profile):
        raise InputError(
            f"{printable(str(path))} was fitted with other peaks of {device.slug} than the "
            f"catalogue has now: run `llmplan calibrate refit {path}`."
        )
    said = f"measured here on {profile.date.isoformat()}"
    found = OwnKernels(profile.kernels, device.slug, said, path)
    return found, profile, tuple(_remarks(profile))


def _expired(path: Path, profile: CalibrationProfile) -> str:
    return (
        f"the calibration {path} is NOT used: its curves are of llmplan {profile.llmplan} and "
        f"have changed since. `llmplan calibrate refit {path}` fits what it measured anew, without "
        "a GPU."
    )


def _remarks(profile: CalibrationProfile) -> Iterator[str]:
    if profile.conditions.throttled:
        reasons = ", ".join(profile.conditions.throttled)
        yield f"the device lowered its clocks while it was calibrated ({reasons})."
    if profile.layer_error and profile.layer_error[1] > WIDE_FRAC:
        yield (
            f"whole layers were predicted by this calibration with {profile.layer_error[1]:.0%} "
            "error at the 90th percentile: measure again on an idle machine, with more --budget."
        )
    if poor := ", ".join(_poor(profile)):
        yield (
            "curves of this calibration miss the very points that they were fitted to, in the "
            f"median {poor}: measure again on an idle machine, with more --budget."
        )


def _poor(profile: CalibrationProfile) -> Iterator[str]:
    """Curves that do not pass through their own points."""
    for kernel in profile.kernels:
        if kernel.median_error > POOR_FRAC:
            name = kernel.labels.get("kernel") or kernel.operator
            yield f"{name} by {kernel.median_error:.0%}"


def stretched(found: OwnKernels | None) -> tuple[str, ...]:
    """What was asked far beyond what was measured."""
    if not found or not found.beyond:
        return ()
    worst: dict[str, tuple[float, str, float, float]] = {}
    for (operator, column), (asked, most) in found.beyond.items():
        worst[operator] = max(worst.get(operator, (0.0, "", 0.0, 0.0)),
                              (asked / most, column, asked, most))  # fmt: skip
    said = ", ".join(
        f"{operator} at {column} {asked:,.0f} (measured up to {most:,.0f})"
        for operator, (_, column, asked, most) in sorted(worst.items())
    )
    return (f"the calibration is extrapolated: {said}. --models names what to measure for.",)


def calibration_row(
    profile: CalibrationProfile, own: OwnKernels, plain: Estimate
) -> schema.UsedCalibration:
    """The profile that was used, and what would be said without it."""
    off = profile.layer_error
    return schema.UsedCalibration(
        profile=str(own.path),
        device=profile.device.slug,
        date=profile.date,
        kernels=len(profile.kernels),
        layers=len(profile.layers),
        layer_median_error_frac=off[0] if off else None,
        layer_p90_error_frac=off[1] if off else None,
        uncalibrated=schema.Uncalibrated(
            ttft_s=None if plain.is_overloaded else plain.ttft_s.value,
            tpot_s=None if plain.is_overloaded else plain.tpot_s.value,
            output_tokens_per_s=plain.output_tokens_per_s.value,
        ),
    )
