"""What serving adds to kernels: host work, launches between kernels, waiting.

``hardware/profiles/serving.yaml`` holds a handful of constants for each engine and its generation.
Tables beside it hold what they leave over by class (engine, device, kind of model, format), and the
spread of what even that leaves: fitted by ``tools/fit_serving.py`` to public measurements.
"""

import csv
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import exp, log
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from llmplan.documents import load_document, shipped_folder
from llmplan.errors import DocumentError
from llmplan.validation import validated

OTHER: Final = "other"
"""Engines without measurements of their own."""
CONSTANTS: Final = "serving.yaml"
FACTORS: Final = "serving_factors.csv"
RANGES: Final = "serving_ranges.csv"


class Strict(BaseModel):
    """Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


Record = TypeVar("Record", bound=Strict)


class Overheads(Strict):
    """Constants of one engine.

    Attributes:
        engine: As in ``EngineName``, or ``other``.
        generation: ``early`` for releases before ``EARLY_UNTIL``, else ``current``.
        rows: Measurements that the constants were fitted to.
        layer_us: A layer of any kind, beyond its kernels.
        experts_us: A layer of experts, on top.
        latent_us: A layer of latent attention, on top.
        recurrent_us: A layer with recurrent state, on top.
        step_us: Host work of a step.
        sequence_us: Host work of one running request in a step.
        prompt_times: Prefill over its kernels.
        first_token_us: From arrival to the first step, and from the last step to the client.
        waited_steps: Decode steps that a new request waits for.
        burst_frac: Part of the other requests whose prefill a new one waits for, equal lengths.
        spread_burst_frac: The same where lengths differ.
    """

    engine: str
    generation: str
    rows: int
    layer_us: float
    experts_us: float
    latent_us: float
    recurrent_us: float
    step_us: float
    sequence_us: float
    prompt_times: float
    first_token_us: float
    waited_steps: float
    burst_frac: float
    spread_burst_frac: float


class Leftover(Strict):
    """A factor on a metric of one class; empty words stand for any.

    Attributes:
        metric: ``tpot``, ``ttft`` or ``throughput``.
        times: Measured over predicted without it.
        rows: Measurements behind it.
    """

    metric: str
    scenario: str = ""
    engine: str = ""
    generation: str = ""
    device: str = ""
    kind: str = ""
    format: str = ""
    model: str = ""
    times: float
    rows: int


class Residual(Strict):
    """Spread of measured over predicted within a class, less one.

    Attributes:
        metric: ``tpot``, ``ttft`` or ``throughput``.
        scope: ``model`` where this model was measured on this engine and device: of rows that were
            kept back; else of models that were left out of every fit: ``class`` where engine,
            device and kind were measured together, else ``device``, ``engine``, or ``none``.
        low: 10th percentile.
        high: 90th percentile.
        median_error: Of absolute errors.
        rows: Measurements behind it.
    """

    metric: str
    scope: str
    scenario: str = ""
    engine: str = ""
    generation: str = ""
    device: str = ""
    kind: str = ""
    model: str = ""
    low: float
    high: float
    median_error: float
    rows: int


class ServingConstants(Strict):
    """``hardware/profiles/serving.yaml``.

    Attributes:
        skew: Spread of the popularity of experts, as in ``perf.routing``.
    """

    source: str
    date: dt.date
    tool: str
    skew: float
    engines: tuple[Overheads, ...]


class ServingProfile(ServingConstants):
    """The same with the tables beside it.

    Attributes:
        leftovers: ``serving_factors.csv``.
        residuals: ``serving_ranges.csv``.
    """

    leftovers: tuple[Leftover, ...]
    residuals: tuple[Residual, ...]


@dataclass(frozen=True, slots=True)
class ServingClass:
    """What measurements are told apart by.

    Attributes:
        engine: As in ``EngineName``.
        generation: ``early`` or ``current``.
        device: Catalogue name.
        kind: ``dense``, ``experts``, ``latent``, ``recurrent``.
        format: Word of the stored weights: bf16, fp8, nvfp4, mxfp4, int4, int8.
        scenario: ``closed_loop``, ``open_loop``, ``static_batch``, ``offline``, ``single_stream``,
            ``disaggregated``.
        model: Catalogue name.
    """

    engine: str
    generation: str
    device: str
    kind: str
    format: str
    scenario: str
    model: str


@dataclass(frozen=True, slots=True)
class Spread:
    """How far a figure may be off, as shares of it, and how that is known.

    Attributes:
        low: Lower end, negative.
        high: Upper end.
        scope: As in ``Residual``.
        rows: Measurements behind it.
        median_error: Of absolute errors.
    """

    low: float
    high: float
    scope: str
    rows: int
    median_error: float


@cache
def serving_profile() -> ServingProfile:
    """The shipped constants, factors and ranges.

    Raises:
        DocumentError: A file cannot be read.
    """
    folder = shipped_folder("hardware") / "profiles"
    constants = validated(load_document(folder / CONSTANTS), ServingConstants)
    return ServingProfile(
        **dict(constants),
        leftovers=tuple(_records(folder / FACTORS, Leftover)),
        residuals=tuple(_records(folder / RANGES, Residual)),
    )


def _records(path: Path, kind: type[Record]) -> Iterator[Record]:
    """The lines of a table.

    Raises:
        DocumentError: It cannot be read, or a line is not of this kind.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                try:
                    yield kind.model_validate(row)
                except ValidationError as error:
                    first = error.errors()[0]
                    key = ".".join(map(str, first["loc"]))
                    raise DocumentError(f"{first['msg']}.", str(path), number, key) from None
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None


def overheads_of(profile: ServingProfile, engine: str, generation: str) -> Overheads:
    """Constants of an engine; of its other generation, or of any engine, where it has none."""
    ranked = sorted(
        profile.engines,
        key=lambda found: (
            (found.engine != engine) + (found.engine not in (engine, OTHER)),
            found.generation != generation,
        ),
    )
    return ranked[0]


def leftover_times(profile: ServingProfile, metric: str, found: ServingClass) -> float:
    """Product of the factors of all classes that a deployment belongs to."""
    logs = (log(each.times) for each in profile.leftovers if _holds(each, metric, found))
    return exp(sum(logs))


def _holds(each: Leftover, metric: str, found: ServingClass) -> bool:
    if each.metric != metric:
        return False
    words = ("scenario", "engine", "generation", "device", "kind", "format", "model")
    return all(getattr(each, word) in ("", getattr(found, word)) for word in words)


def spread_of(profile: ServingProfile, metric: str, found: ServingClass) -> Spread:
    """The narrowest class that has residuals; each wider one is less certain."""
    fitting = [
        each
        for each in profile.residuals
        if each.metric == metric
        and all(
            getattr(each, word) in ("", getattr(found, word))
            for word in ("scenario", "engine", "generation", "device", "kind", "model")
        )
    ]
    order = ("model", "class", "device", "engine", "none")
    best = min(fitting, key=lambda each: (order.index(each.scope), not each.scenario, -each.rows))
    return Spread(best.low, best.high, best.scope, best.rows, best.median_error)
