"""Whether the kernels and points of a calibration profile are of the tables that there are."""

from typing import Any, Final

import numpy as np

from llmplan.documents import Document
from llmplan.errors import InputError
from llmplan.perf.calibration_spec import CalibrationProfile
from llmplan.perf.fingerprint import DEVICE
from llmplan.perf.fitting import Calibrated
from llmplan.perf.kernels import Columns, Labels, Operator, Parameter, Parameters
from llmplan.perf.registry import OPERATORS

NO_CURVE: Final = "is of a kernel, or of sizes, that no curve knows."
ROUNDED: Final = 1e-5
"""Parameters are written to six digits, which may carry one past its bound by this share."""


def refuse_unknown_kernels(document: Document, profile: CalibrationProfile) -> None:
    """Raise where kernels or points are not of the tables and curves that there are."""
    seen: set[tuple[Any, ...]] = set()
    for i, kernel in enumerate(profile.kernels):
        reason = _fault(kernel)
        key = (kernel.operator, *sorted(kernel.labels.items()))
        if reason or key in seen:
            raise document.error(reason or "is given twice.", ("kernels", i))
        seen.add(key)


def refuse_unknown_points(document: Document, profile: CalibrationProfile) -> None:
    """Raise where measured rows are of no table, or of no kernel that a curve is of."""
    for i, points in enumerate(profile.points):
        try:
            rows = points.kernel_rows()
        except InputError as error:
            raise document.error(str(error), ("points", i, "rows")) from None
        if not _is_answered(OPERATORS[points.operator], rows.labels, rows.columns):
            raise document.error(NO_CURVE, ("points", i, "labels"))


def _is_answered(
    operator: Operator, labels: Labels, columns: Columns, named: Parameters | None = None
) -> bool:
    """Whether a curve gives a time of every row: of usual parameters where none are named."""
    try:
        with np.errstate(all="ignore"):
            usual = named or {p.name: p.start for p in operator.parameters(labels)}
            seconds = operator.seconds(usual, columns, labels, DEVICE)
            bound = operator.bound_seconds(columns, labels, DEVICE)
    except (KeyError, ValueError):  # formats and words of labels
        return False
    return bool(np.all(np.isfinite(seconds) & (seconds > 0) & np.isfinite(bound)))


def _fault(kernel: Calibrated) -> str:
    """What is wrong with a kernel, as a sentence; empty where nothing is."""
    operator = OPERATORS.get(kernel.operator)
    if operator is None:
        return f"'{kernel.operator}' is no operator table."
    if set(kernel.labels) != set(operator.labels):
        return f"{operator.name} is told apart by {', '.join(operator.labels)}."
    try:
        parameters = operator.parameters(kernel.labels)
    except (KeyError, ValueError):
        return NO_CURVE
    if set(kernel.ranges) != set(operator.numbers):
        return f"its ranges are of {', '.join(operator.numbers)}."
    return _fault_of_parameters(kernel, parameters) or _fault_of_answers(kernel, operator)


def _fault_of_parameters(kernel: Calibrated, parameters: tuple[Parameter, ...]) -> str:
    """Whether they are those of the curve, and within its bounds."""
    if set(kernel.parameters) != {p.name for p in parameters}:
        return f"its parameters are {', '.join(p.name for p in parameters)}."
    for bounds in parameters:
        slack = ROUNDED * max(abs(bounds.low), abs(bounds.high))
        if not bounds.low - slack <= kernel.parameters[bounds.name] <= bounds.high + slack:
            return f"{bounds.name} must be between {bounds.low:g} and {bounds.high:g}."
    return ""


def _fault_of_answers(kernel: Calibrated, operator: Operator) -> str:
    """Whether it gives a time at both ends of what was measured."""
    ends = {name: np.array(values) for name, values in kernel.ranges.items()}
    return "" if _is_answered(operator, kernel.labels, ends, kernel.parameters) else NO_CURVE
