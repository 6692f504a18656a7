"""A calibration profile fitted again to its points, and two of them compared."""

from collections import Counter
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from llmplan import __version__
from llmplan.perf.calibration import peaks_of
from llmplan.perf.calibration_spec import CalibrationProfile, Skipped
from llmplan.perf.fingerprint import fingerprint
from llmplan.perf.fitting import FEWEST_ROWS, Calibrated, fitted_kernel
from llmplan.perf.kernels import Column, Labels
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.points import Points, table_text
from llmplan.perf.rates import Rates
from llmplan.perf.registry import OPERATORS

Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""Operator and labels of a kernel."""
FEW: Final = "too few measured rows to fit"


@dataclass(frozen=True, slots=True)
class Change:
    """One kernel in two profiles.

    Attributes:
        operator: Its table.
        labels: What tells it apart, as the later profile has it.
        ratio: Median of later over earlier predicted times at the measured points; None where
            only one profile has the kernel, or neither has points of it.
        rows: Points that it was asked at.
        only: ``earlier`` or ``later`` where the other profile does not have it, else empty.
    """

    operator: str
    labels: dict[str, str]
    ratio: float | None
    rows: int
    only: str = ""


def refitted(profile: CalibrationProfile, rates: Rates) -> CalibrationProfile:
    """The same points fitted to the curves that there are now.

    Predictions of whole layers were made with the earlier kernels, and are left out.

    Raises:
        InputError: Points of a table that has other columns now.
        MissingPartError: scipy is not installed.
    """
    skipped = [entry for entry in profile.skipped if entry.reason != FEW]
    kernels: list[Calibrated] = []
    for points in profile.points:
        rows = points.kernel_rows()
        operator = OPERATORS[points.operator]
        usable = ~operator.is_trap(rows.labels, rows.columns, rates)
        if usable.sum() < FEWEST_ROWS:
            name = " ".join((points.operator, *filter(None, points.labels.values())))
            skipped.append(Skipped(name=name, reason=FEW))
            continue
        kernels.append(fitted_kernel(operator, rows, rates))
    layers = tuple(layer.model_copy(update={"predicted_s": None}) for layer in profile.layers)
    return profile.model_copy(
        update={
            "sha256": "",
            "llmplan": __version__,
            "curves": fingerprint(),
            "rates": peaks_of(rates),
            "kernels": tuple(kernels),
            "layers": layers,
            "skipped": tuple(skipped),
        }
    )


def changes(
    earlier: CalibrationProfile, later: CalibrationProfile, rates: Rates
) -> tuple[Change, ...]:
    """What a later profile predicts of every kernel beside an earlier one.

    Kernels are matched without ``src``, which holds the version that ran them, where that leaves
    one of each.
    """
    sources = _is_ambiguous(earlier) or _is_ambiguous(later)
    before = {_key(k.operator, k.labels, sources=sources): k for k in earlier.kernels}
    after = {_key(k.operator, k.labels, sources=sources): k for k in later.kernels}
    points = [*earlier.points, *later.points]
    found = []
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        at = [p for p in points if _key(p.operator, p.labels, sources=sources) == key]
        if old and new:
            found.append(_change(old, new, at, rates))
        elif only := new or old:
            word = "later" if new else "earlier"
            found.append(Change(only.operator, dict(only.labels), None, 0, word))
    return tuple(found)


def operator_rows(profile: CalibrationProfile) -> dict[str, str]:
    """The points of a profile as CSV text, one operator table each, by the table's name.

    Raises:
        InputError: Points that cannot be read.
    """
    names = dict.fromkeys(points.operator for points in profile.points)
    return {name: table_text(profile.points, OPERATORS[name]) for name in names}


def _change(old: Calibrated, new: Calibrated, at: list[Points], rates: Rates) -> Change:
    ratios = [_ratio(old, new, points, rates) for points in at]
    every = np.concatenate(ratios) if ratios else np.ones(0)
    ratio = float(np.median(every)) if len(every) else None
    return Change(new.operator, dict(new.labels), ratio, len(every))


def _ratio(old: Calibrated, new: Calibrated, points: Points, rates: Rates) -> Column:
    operator, columns = OPERATORS[new.operator], points.kernel_rows().columns
    rates = rates_at(new.labels, rates)
    earlier = operator.seconds(old.parameters, columns, old.labels, rates)
    later: Column = operator.seconds(new.parameters, columns, new.labels, rates)
    return later / earlier


def _key(operator: str, labels: Labels, *, sources: bool) -> Key:
    kept = {name: word for name, word in labels.items() if sources or name != "src"}
    return operator, tuple(sorted(kept.items()))


def _is_ambiguous(profile: CalibrationProfile) -> bool:
    """Whether some of its kernels differ by ``src`` alone."""
    counts = Counter(_key(k.operator, k.labels, sources=False) for k in profile.kernels)
    return any(count > 1 for count in counts.values())
