"""Calibration profiles: the document, its hash, kernels and points, and what estimates take."""

from collections.abc import Iterator
from pathlib import Path

from fuzz.common import ROOT, Target
from fuzz.spec_yaml import mutate_yaml
from llmplan.perf.calibration import load
from llmplan.results.calibration import shown


def read(path: Path) -> object:
    """As ``calibrate import`` reads one that was edited, and as ``show`` tells it."""
    return shown(load(path, edited=True), path)


def seeds() -> Iterator[bytes]:
    """Profiles of the suite."""
    for path in sorted((ROOT / "tests" / "golden" / "files").glob("*.calibrated.yaml")):
        yield path.read_bytes()


TARGET = Target("calibration_yaml", "h200-sxm.calibrated.yaml", read, seeds, mutate_yaml)
