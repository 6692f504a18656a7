"""Regressions behind ``tools/fit_serving.py``: constants, what they leave over, and its spread."""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from llmplan.analyze.estimate import Problem, solved
from llmplan.analyze.ingredients import Ingredients
from llmplan.analyze.steady import Constants, Demand, Pools
from llmplan.analyze.traffic import Scenario
from llmplan.perf.overheads import ServingClass

Array = NDArray[np.float64]
NAMES: Final = tuple(
    each.name for each in fields(Constants) if each.name not in ("tpot_times", "ttft_times")
)
PRIORS: Final = {
    "layer_us": (10.0, 8.0),
    "experts_us": (8.0, 8.0),
    "latent_us": (5.0, 8.0),
    "recurrent_us": (10.0, 8.0),
    "step_us": (500.0, 400.0),
    "sequence_us": (5.0, 6.0),
    "prompt_times": (1.1, 0.2),
    "first_token_us": (30e3, 40e3),
    "waited_steps": (1.0, 0.7),
    "burst_frac": (0.4, 0.3),
    "spread_burst_frac": (0.2, 0.2),
}
"""Where a constant is expected, and how far from there it may well be."""
EARLY_PRIORS: Final = PRIORS | {
    "layer_us": (20.0, 30.0),
    "step_us": (1500.0, 2000.0),
    "sequence_us": (60.0, 100.0),
    "prompt_times": (1.3, 0.5),
}
LEAST: Final = {"prompt_times": 0.6}
PRIOR_WEIGHT: Final = 1.5
"""Of one deviation from a prior beside one measurement."""
FIRST_TOKEN_WEIGHT: Final = 0.5
"""Of a time to the first token beside one between tokens: it holds more that nobody states."""
ROBUST: Final = 0.1
"""Relative error beyond which a measurement counts for less."""
LEVELS: Final = (
    (("device",), 25.0),
    (("engine", "device"), 25.0),
    (("engine", "kind"), 25.0),
    (("engine", "kind", "format"), 25.0),
    (("engine", "device", "kind"), 25.0),
    (("engine", "device", "kind", "format"), 25.0),
    (("engine", "generation", "device", "scenario"), 3.0),
    (("engine", "scenario", "kind"), 25.0),
    (("engine", "device", "kind", "format", "scenario"), 25.0),
    (("engine", "generation", "device", "model", "format"), 3.0),
    (("engine", "generation", "device", "model", "format", "scenario"), 3.0),
)
"""Classes that may differ from the constants, and the measurements that each needs to be believed
by half. Wide ones need more, so that what is one model's own is not told of others."""
ROUNDS: Final = 6


@dataclass(frozen=True)
class Fold:
    """Rows of one scenario that are solved at once.

    Attributes:
        rows: Their numbers.
        found: Step times.
        demand: What they serve.
        pools: Prefill workers' step times and counts; None where all workers do both.
        rate: Requests a second and worker, of an open loop.
    """

    scenario: Scenario
    rows: NDArray[np.int64]
    found: Ingredients
    demand: Demand
    pools: tuple[Ingredients, Pools] | None
    rate: Array | None


@dataclass(frozen=True)
class Table:
    """All measurements.

    Attributes:
        classes: Of each row.
        models: Name of each row's model.
        tpot: Measured seconds; not a number where there is none.
        ttft: Likewise.
        throughput: Measured tokens a second, likewise.
        tokens: What a request a second and worker is in the unit of ``throughput``.
        folds: Rows by scenario.
    """

    classes: tuple[ServingClass, ...]
    models: NDArray[np.str_]
    tpot: Array
    ttft: Array
    throughput: Array
    tokens: Array
    folds: tuple[Fold, ...]

    @property
    def engines(self) -> tuple[tuple[str, str], ...]:
        """Engines and generations, sorted."""
        return tuple(sorted({(c.engine, c.generation) for c in self.classes}))


@dataclass(frozen=True)
class Predicted:
    """Of every row: seconds, and tokens a second."""

    tpot: Array
    ttft: Array
    throughput: Array


def some(values: object, chosen: NDArray[np.bool_]) -> object:
    """The chosen rows of a record of arrays."""
    return type(values)(*(getattr(values, each.name)[chosen] for each in fields(values)))  # type: ignore[arg-type]


def start(table: Table) -> tuple[Array, Array, Array]:
    """Priors, their deviations and the least values, one row an engine: [engines, constants]."""
    priors = [EARLY_PRIORS if gen == "early" else PRIORS for _, gen in table.engines]
    mean = np.array([[prior[name][0] for name in NAMES] for prior in priors])
    deviation = np.array([[prior[name][1] for name in NAMES] for prior in priors])
    least = np.array([[LEAST.get(name, 0.0) for name in NAMES] for _ in priors])
    return mean, deviation, least


def predicted(
    table: Table,
    constants: Array,
    wanted: NDArray[np.bool_],
    tpot_times: Array | None = None,
    ttft_times: Array | None = None,
) -> Predicted:
    """Solve the wanted rows under constants of shape [engines, constants]."""
    count = len(table.classes)
    number = {engine: index for index, engine in enumerate(table.engines)}
    engine_of = np.array([number[c.engine, c.generation] for c in table.classes])
    out = Predicted(*(np.full(count, np.nan) for _ in range(3)))
    ones = np.ones(count)
    tpot_times = ones if tpot_times is None else tpot_times
    ttft_times = ones if ttft_times is None else ttft_times
    for fold in table.folds:
        keep = wanted[fold.rows]
        rows = fold.rows[keep]
        if not len(rows):
            continue
        values = constants[engine_of[rows]].T
        pools = fold.pools and (some(fold.pools[0], keep), some(fold.pools[1], keep))
        problem = Problem(
            fold.scenario,
            some(fold.found, keep),  # type: ignore[arg-type]
            some(fold.demand, keep),  # type: ignore[arg-type]
            None if fold.rate is None else fold.rate[keep],
            pools or None,  # type: ignore[arg-type]
        )
        steady = solved(problem, Constants(*values, tpot_times[rows], ttft_times[rows]))
        out.tpot[rows] = steady.tpot_s
        out.ttft[rows] = steady.ttft_s
        out.throughput[rows] = steady.requests_per_s * table.tokens[rows]
    return out


def decode_ratio(table: Table, found: Predicted) -> Array:
    """Log of measured over predicted decode time; from throughput where there is no time."""
    by_rate = np.log(found.throughput / table.throughput)
    return np.where(np.isfinite(table.tpot), np.log(table.tpot / found.tpot), by_rate)


def first_ratio(table: Table, found: Predicted) -> Array:
    """Log of measured over predicted time to the first token; none where a queue has no end."""
    with np.errstate(divide="ignore"):
        return np.log(table.ttft / found.ttft)


def fitted_constants(table: Table, wanted: NDArray[np.bool_], known: Array | None = None) -> Array:
    """Constants of every engine by robust least squares of relative errors, held by priors.

    ``known`` are those of all rows: engines that lose none keep them.
    """
    constants = start(table)[0] if known is None else known.copy()
    keys = [(c.engine, c.generation) for c in table.classes]
    for index, engine in enumerate(table.engines):
        of_engine = np.array([key == engine for key in keys])
        rows = wanted & of_engine
        if rows.any() and (known is None or not wanted[of_engine].all()):
            constants[index] = _of_engine(table, index, rows)
    return constants


def _of_engine(table: Table, index: int, rows: NDArray[np.bool_]) -> Array:
    """Constants of one engine from its rows; those of others do not touch them."""
    mean, deviation, least = (each[index] for each in start(table))
    constants, _, _ = start(table)

    def errors(z: Array) -> Array:
        constants[index] = mean + z * deviation
        found = predicted(table, constants, rows)
        first = FIRST_TOKEN_WEIGHT * first_ratio(table, found)
        residuals = np.concatenate([decode_ratio(table, found)[rows], first[rows]])
        return np.concatenate([residuals[np.isfinite(residuals)], PRIOR_WEIGHT * z])

    solution = least_squares(
        errors,
        np.zeros(len(mean)),
        bounds=(np.minimum((least - mean) / deviation, -1e-6), np.inf),
        loss="soft_l1",
        f_scale=ROBUST,
        diff_step=2e-3,
        max_nfev=60,
    )
    return mean + solution.x * deviation


@dataclass(frozen=True)
class Effect:
    """A class and the log of its factor.

    Attributes:
        level: Words that name the class.
        values: Its words.
        log: Of measured over predicted, shrunk.
        rows: Measurements.
    """

    level: tuple[str, ...]
    values: tuple[str, ...]
    log: float
    rows: int


def effects(table: Table, ratio: Array, wanted: NDArray[np.bool_]) -> tuple[Array, list[Effect]]:
    """What classes differ by: a robust ridge over all levels at once; of every row, and each."""
    known = wanted & np.isfinite(ratio)
    columns, names, shrink = [], [], []
    for level, needed in LEVELS:
        words = [tuple(getattr(c, word) for word in level) for c in table.classes]
        for values in sorted({w for w, k in zip(words, known, strict=True) if k}):
            columns.append(np.array([w == values for w in words], float))
            names.append((level, values))
            shrink.append(needed)
    design, target = np.array(columns).T, np.where(known, ratio, 0.0)
    weight = known.astype(float)
    solution = np.zeros(len(names))
    for _ in range(ROUNDS):
        weighted = design * (weight * known)[:, None]
        normal = design.T @ weighted + np.diag(shrink)
        solution = np.linalg.solve(normal, weighted.T @ target)
        off = np.abs(target - design @ solution)
        weight = np.maximum(ROBUST / 2 / np.maximum(off, ROBUST / 2), 0.02)
    counts = design[known].sum(axis=0)
    found = [
        Effect(level, values, float(log), int(rows))
        for (level, values), log, rows in zip(names, solution, counts, strict=True)
    ]
    return design @ solution, found


def with_leftovers(table: Table, constants: Array, wanted: NDArray[np.bool_]) -> Predicted:
    """Predictions of all rows with constants and effects that only the wanted rows decide."""
    everything = np.ones(len(table.classes), bool)
    plain = predicted(table, constants, wanted)
    decode, _ = effects(table, decode_ratio(table, plain), wanted)
    first, _ = effects(table, first_ratio(table, plain), wanted)
    return predicted(table, constants, everything, np.exp(decode), np.exp(first))


def kept_back(
    table: Table, folds: NDArray[np.int64], constants: Array, *, refit: bool
) -> Predicted:
    """Every row predicted without the rows of its fold; with ``refit`` constants are, too."""
    out = Predicted(*(np.full(len(table.classes), np.nan) for _ in range(3)))
    for fold in np.unique(folds):
        wanted = folds != fold
        taken = fitted_constants(table, wanted, constants) if refit else constants
        found = with_leftovers(table, taken, wanted)
        for name in ("tpot", "ttft", "throughput"):
            getattr(out, name)[~wanted] = getattr(found, name)[~wanted]
    return out
