"""Calibration profiles as files, ``SLUG.calibrated.yaml``: written, read, and found.

The hash of a profile is of what it says, not of how it is laid out: comments and line breaks may
change, values may not.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Final

import yaml

from llmplan.catalogs import catalogue_file, own_folders
from llmplan.documents import (
    MAX_BYTES,
    Document,
    load_document,
    parse_document,
    shipped_folder,
)
from llmplan.errors import DocumentError, InputError
from llmplan.files import write_atomically
from llmplan.hardware.catalogue import load_device
from llmplan.perf.calibration_checks import refuse_unknown_kernels, refuse_unknown_points
from llmplan.perf.calibration_spec import FORMAT, CalibrationProfile, Peaks
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.rates import Rates, rates_of
from llmplan.validation import validated

SUFFIX: Final = ".calibrated"
PROFILES: Final = "hardware/profiles"
MOST_VALUES: Final = 200_000
"""Most separators of a file: points have one a number."""


class _Dumper(yaml.SafeDumper):
    """Text of several lines as a block."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)


_Dumper.add_representer(str, _represented)


def peaks_of(rates: Rates) -> Peaks:
    """The peaks of a device, as a profile keeps them."""
    return Peaks.model_validate({name: getattr(rates, name) for name in Peaks.model_fields})


def content_sha256(profile: CalibrationProfile) -> str:
    """SHA-256 of what a profile says, its own hash left out."""
    said = profile.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def written(profile: CalibrationProfile) -> str:
    """The file's text, with its hash."""
    said = {**profile.model_dump(exclude_none=True), "sha256": content_sha256(profile)}
    body: str = yaml.dump(
        said, Dumper=_Dumper, sort_keys=False, width=100, default_flow_style=None,
        allow_unicode=True,
    )  # fmt: skip
    slug, off = profile.device.slug, profile.layer_error
    head = f"# {slug}, measured by llmplan calibrate; the hash is of the values below\n"
    if off:
        head += f"# {len(profile.layers)} layers: median error {off[0]:.1%}, p90 {off[1]:.1%}\n"
    return head + body


def save(profile: CalibrationProfile, path: Path) -> None:
    """Write a profile, whole or not at all; what could not be read again is not written.

    Raises:
        DocumentError: It is larger than files that llmplan reads, or its kernels are no curves.
        InputError: The folder cannot be written to.
    """
    text = written(profile)
    if len(text.encode()) > MAX_BYTES:
        raise DocumentError(f"would be larger than {MAX_BYTES:,} bytes: measure less.", str(path))
    _profile_of(parse_document(text, str(path), most_values=MOST_VALUES), path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made ({error.strerror}).") from None
    write_atomically(path, text)


def load(path: Path, *, edited: bool = False, other_curves: bool = False) -> CalibrationProfile:
    """Read a profile.

    Args:
        path: The file.
        edited: Take one whose hash is not of its content.
        other_curves: Take one that was fitted to other curves: to fit it again, or to show it.

    Raises:
        DocumentError: It cannot be read, was changed, or is not of these curves.
    """
    document = load_document(path, most_values=MOST_VALUES)
    return _profile_of(document, path, edited=edited, other_curves=other_curves)


def calibration_files() -> dict[str, Path]:
    """Profiles that estimates find, by device: a user's own before shipped ones."""
    roots = (*(folder / PROFILES for folder in own_folders()), _shipped())
    files: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.glob(f"*{SUFFIX}.yaml")) if root.is_dir() else ():
            files.setdefault(path.stem.removesuffix(SUFFIX), path)
    return dict(sorted(files.items()))


def calibration_of(slug: str) -> CalibrationProfile | None:
    """The profile of a device; None where it was not calibrated.

    Raises:
        DocumentError: There is one, and it cannot be used.
    """
    path = catalogue_file(PROFILES, f"{slug}{SUFFIX}")
    if path is None:
        return None
    state = path.stat()
    profile = _kept(path, state.st_mtime_ns, state.st_size)
    if profile.device.slug != slug:
        raise DocumentError(
            f"is of {profile.device.slug}, and the file is named after {slug}.",
            str(path),
            key="device.slug",
        )
    if has_other_peaks(profile):
        raise DocumentError(
            f"was fitted with other peaks of {slug} than the catalogue has: run "
            f"`llmplan calibrate refit {path}`.",
            str(path),
            key="rates",
        )
    return profile


def has_other_peaks(profile: CalibrationProfile) -> bool:
    """Whether its kernels are shares of other peaks than the catalogue has of its device.

    Raises:
        UnknownNameError: The catalogue does not have the device.
    """
    if profile.rates is None:
        return False
    return profile.rates != peaks_of(rates_of(load_device(profile.device.slug)))


def calibration_path(slug: str) -> Path:
    """Where a profile of a user's own is written so that estimates find it."""
    return own_folders()[0] / PROFILES / f"{slug}{SUFFIX}.yaml"


@lru_cache(maxsize=32)
def _kept(path: Path, _mtime_ns: int, _size: int) -> CalibrationProfile:
    return load(path)


def _shipped() -> Path:
    root, _, rest = PROFILES.partition("/")
    return shipped_folder(root) / rest


def _profile_of(
    document: Document, path: Path, *, edited: bool = False, other_curves: bool = False
) -> CalibrationProfile:
    given = document.data.get("format")
    if given is None:
        raise document.error(
            "is no calibration profile: it has no key 'format'. `llmplan calibrate` writes one.",
            (),
        )
    if given != FORMAT:
        raise document.error(
            f"is '{given}', and this llmplan reads '{FORMAT}': measure again, or use the llmplan "
            f"that wrote it ({document.data.get('llmplan')}).",
            ("format",),
        )
    profile = validated(document, CalibrationProfile)
    if not edited and profile.sha256 != content_sha256(profile):
        raise document.error(
            "was edited or damaged: its content has another hash. Measure again, or run "
            f"`llmplan calibrate import {path}` to take it as it is.",
            ("sha256",),
        )
    refuse_unknown_points(document, profile)
    if profile.curves == fingerprint():
        refuse_unknown_kernels(document, profile)
    elif not other_curves:
        raise document.error(
            f"was fitted to other curves (of llmplan {profile.llmplan}): run "
            f"`llmplan calibrate refit {path}`.",
            ("curves",),
        )
    return profile
