"""Fits of kernel curves to measured rows.

The parameters that an operator names are fitted to the logarithm of predicted over measured, with
a soft loss so that single odd rows do not move them, from a few starts so that none is stuck. A
parameter that no row speaks of stays where it starts.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llmplan.errors import InputError, MissingPartError
from llmplan.perf.kernels import Column, Operator
from llmplan.perf.own_kernels import rates_at
from llmplan.perf.profile import Fitted
from llmplan.perf.rates import Rates
from llmplan.perf.tables import KernelRows

LEAST_ROWS: Final = 8
"""Rows that count for more than where a fit starts."""
FEWEST_ROWS: Final = 3
"""Rows that a kernel needs to be fitted at all."""
STARTS: Final = 8
"""The named start, and others around it."""
SPREAD: Final = 0.8
"""Of the other starts: standard deviation of their logarithm."""
PRIOR: Final = 0.005
"""How far a parameter that no row speaks of is held at its start, beside errors of rows."""
FEW_PRIOR: Final = 0.05
"""The same of fewer than ``LEAST_ROWS``: to move by its own size costs as 5 % of error in a row.

So few rows move what they agree on, and shape no curve that only they know.
"""
STEP: Final = 1e-3
"""Relative step of derivatives: tiles and waves make curves flat over smaller ones."""
FOLDS: Final = 5
"""Parts of the rows that are kept back in turn; of fewer than two a part, one row at a time."""
HELD_OUT_STARTS: Final = 2


class Calibrated(Fitted):
    """One kernel, and how well a fit to some of its rows predicts the others.

    Attributes:
        held_out_error: Median of absolute relative errors of rows while they were kept back; None
            where none were.
    """

    held_out_error: float | None = None


def fitted_parameters(
    operator: Operator, rows: KernelRows, device: Rates, chosen: NDArray[np.bool_]
) -> dict[str, float]:
    """The parameters of one kernel, from the chosen rows; ``chosen`` of shape [rows].

    Raises:
        InputError: Too few rows, or one whose numbers no curve can be asked for.
        MissingPartError: scipy is not installed.
    """
    used = rows.of(chosen)
    _refuse_unfit(operator, used, device)
    return _best_of(STARTS, operator, used, device, PRIOR)


def _best_of(
    starts: int, operator: Operator, used: KernelRows, device: Rates, prior: float
) -> dict[str, float]:
    least_squares = _solver()
    parameters = operator.parameters(used.labels)
    measured = np.log(used.measured_s)
    low = np.array([p.low for p in parameters])
    high = np.array([p.high for p in parameters])
    start = np.clip([p.start for p in parameters], low, high)
    scale = np.maximum(np.abs(start), 0.1 * (high - low))

    def residuals(values: Column) -> Column:
        named = {p.name: float(v) for p, v in zip(parameters, values, strict=True)}
        predicted = operator.seconds(named, used.columns, used.labels, device)
        off = np.log(np.maximum(predicted, 1e-12)) - measured
        return np.append(off, prior * (values - start) / scale)

    dice = np.random.default_rng(0)
    jumps = [np.ones(len(start))]
    jumps += [np.exp(dice.normal(0, SPREAD, len(start))) for _ in range(starts - 1)]
    tries = [
        least_squares(
            residuals, np.clip(start * jump, low, high), bounds=(low, high), loss="soft_l1",
            f_scale=0.1, x_scale="jac", max_nfev=100, diff_step=STEP,
        )
        for jump in jumps
    ]  # fmt: skip
    found = min(tries, key=lambda result: float(result.cost))
    return {p.name: float(f"{v:.6g}") for p, v in zip(parameters, found.x, strict=True)}


def errors(
    operator: Operator, named: Mapping[str, float], rows: KernelRows, device: Rates
) -> Column:
    """Predicted over measured of all rows, less one; shape [rows]."""
    predicted = operator.seconds(named, rows.columns, rows.labels, device)
    off: Column = predicted / rows.measured_s - 1
    return off


def described(
    operator: Operator, named: Mapping[str, float], rows: KernelRows, device: Rates
) -> Fitted:
    """The kernel with these parameters: how far it is off its rows, and what they span."""
    signed = errors(operator, named, rows, device)
    off, (low, high) = np.abs(signed), _band(signed)
    return Fitted(
        operator=operator.name,
        labels=rows.labels,
        parameters=dict(named),
        rows=len(rows.measured_s),
        median_error=_rounded(np.median(off)),
        p90_error=_rounded(np.quantile(off, 0.9)),
        low_error=low,
        high_error=high,
        ranges={
            column: (float(values.min()), float(values.max()))
            for column, values in rows.columns.items()
        },
    )


def fitted_kernel(operator: Operator, rows: KernelRows, device: Rates) -> Calibrated:
    """One kernel fitted to all of its rows but traps.

    A fit to few rows meets them all, so that its own errors say little: the range of measured over
    predicted is the wider of that of the fit and that of rows kept back.

    Raises:
        InputError: Fewer than ``FEWEST_ROWS`` rows, or one that no curve can be asked for.
        MissingPartError: scipy is not installed.
    """
    device = rates_at(rows.labels, device)
    kept = rows.of(~operator.is_trap(rows.labels, rows.columns, device))
    _refuse_unfit(operator, kept, device)
    named = _best_of(STARTS, operator, kept, device, _prior(kept))
    fitted = described(operator, named, kept, device)
    unseen = held_out_errors(operator, kept, device)
    low, high = _band(unseen)
    return Calibrated(
        **{
            **fitted.model_dump(),
            "low_error": min(fitted.low_error, low),
            "high_error": max(fitted.high_error, high),
        },
        held_out_error=_rounded(np.median(np.abs(unseen))),
    )


def held_out_errors(operator: Operator, rows: KernelRows, device: Rates) -> Column:
    """Predicted over measured of each row by a fit to others, less one; shape [rows].

    Rows are kept back a fifth at a time, dealt at random so that no fifth is one end of a grid; of
    fewer than ten rows one by one.

    Raises:
        InputError: Too few rows, or one that no curve can be asked for.
        MissingPartError: scipy is not installed.
    """
    _refuse_unfit(operator, rows, device)
    count = len(rows.measured_s)
    folds = FOLDS if count >= 2 * FOLDS else count
    fold = np.random.default_rng(0).permutation(count) % folds
    off = np.zeros(count)
    for kept_back in range(folds):
        unseen = fold == kept_back
        seen = rows.of(~unseen)
        named = _best_of(HELD_OUT_STARTS, operator, seen, device, _prior(seen))
        off[unseen] = errors(operator, named, rows.of(unseen), device)
    return off


def _prior(rows: KernelRows) -> float:
    return PRIOR if len(rows.measured_s) >= LEAST_ROWS else FEW_PRIOR


def _band(signed: Column) -> tuple[float, float]:
    """10th and 90th percentile of measured over predicted, less one."""
    measured_by = 1 / (1 + signed)
    return _rounded(np.quantile(measured_by, 0.1) - 1), _rounded(np.quantile(measured_by, 0.9) - 1)


def _refuse_unfit(operator: Operator, rows: KernelRows, device: Rates) -> None:
    words = " ".join(word for word in rows.labels.values() if word)
    count = len(rows.measured_s)
    if count < FEWEST_ROWS:
        raise InputError(
            f"{operator.name} {words}: {count} rows are too few to fit; {FEWEST_ROWS} are needed."
        )
    start = {p.name: p.start for p in operator.parameters(rows.labels)}
    predicted = operator.seconds(start, rows.columns, rows.labels, device)
    odd = ~(np.isfinite(predicted) & (rows.measured_s > 0) & np.isfinite(rows.measured_s))
    if odd.any():
        number = rows.numbers[int(np.argmax(odd))]
        raise InputError(f"{operator.name} {words}: row {number} has numbers that cannot be.")


def _solver() -> Callable[..., Any]:
    """Scipy's least squares.

    Raises:
        MissingPartError: It is not installed.
    """
    try:
        from scipy.optimize import least_squares  # noqa: PLC0415 (an optional part, slow to load)
    except ImportError as error:
        raise MissingPartError(
            f"a fit needs {error.name or 'scipy'}: pip install 'llmplan[calibrate]' installs it."
        ) from None
    solver: Callable[..., Any] = least_squares
    return solver


def _rounded(value: float | np.floating[Any]) -> float:
    return float(f"{value:.3g}")
