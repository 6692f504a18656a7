"""Which points are measured: a log-spaced grid of the device, and the shapes of models asked for.

What a rank of a model would run is measured as it is, sharded; a grid around it lets curves hold
for models that nobody asked for. Points come in an order that leaves few of every kind where time
runs out.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import Final

import numpy as np

from llmplan.dtypes import Format
from llmplan.model.compiled import Model
from llmplan.ops.attention import Attention
from llmplan.ops.base import Operator, Step
from llmplan.ops.latent import AbsorbedLatentAttention, ExpandedLatentAttention, LatentAttention
from llmplan.ops.linear import Linear
from llmplan.ops.moe import Experts
from llmplan.ops.norm import Norm
from llmplan.ops.precision import LINEAR_ROLES, Precision, Role
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import stage_ranks
from llmplan.perf.merged import launches
from llmplan.perf.operators.by_work import vector_flops_per_s
from llmplan.perf.operators.mla import MODEL, latent_attention
from llmplan.perf.rates import Rates

TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384)
WIDTHS: Final = (
    (1024, 1024), (4096, 1024), (1024, 4096), (4096, 4096), (4096, 14336), (14336, 4096),
    (8192, 8192), (2048, 16384), (16384, 2048),
)  # fmt: skip
"""Input and output of linear layers."""
HEADS: Final = ((32, 8, 128), (8, 1, 128), (16, 16, 64), (64, 8, 64))
"""Query heads, key/value heads, and their width."""
LATENT_HEADS: Final = (16, 128)
EXPERTS: Final = ((8, 14336, 4096, 2), (64, 1408, 2048, 6), (128, 768, 2048, 8))
"""Experts, their width, the width of the model, and experts per token."""
NORM_WIDTHS: Final = (1024, 4096, 16384)
PREFILLS: Final = tuple(product((1, 8), (128, 512, 2048, 8192), (0,)))
DECODES: Final = tuple(product((1, 8, 64, 256), (1,), (127, 1023, 8191, 32767)))
MODEL_STEPS: Final = (
    (1, 1, 1023), (8, 1, 2047), (64, 1, 2047), (256, 1, 4095),
    (1, 128, 0), (1, 512, 0), (1, 2048, 0), (1, 8192, 0),
)  # fmt: skip
"""Requests, new tokens and context of the steps that models are measured in."""
LAYER_STEPS: Final = (
    (16, 1, 2999), (128, 1, 1499), (4, 1, 5999), (32, 1, 999),
    (1, 384, 0), (1, 1024, 0), (1, 4096, 0), (2, 768, 0),
)  # fmt: skip
"""Those of whole layers: none of the steps that operators are fitted to."""
GOLDEN_RATIO: Final = (math.sqrt(5) - 1) / 2
EFFORT_FRAC: Final = 0.1
"""Of the peaks: how slow a kernel may be expected to be where a device's time is planned."""


@dataclass(frozen=True, slots=True)
class Point:
    """One operator in one step.

    Attributes:
        operator: At the shape of a rank.
        requests: Of the step.
        new_tokens: A request.
        context: Tokens that a request holds already.
        origin: ``grid``, or the model that it is of.
    """

    operator: Operator
    requests: int
    new_tokens: int
    context: int
    origin: str

    @property
    def step(self) -> Step:
        """The step, fields of shape [1]."""
        return Step.of([self.requests], [self.new_tokens], [self.context])

    @property
    def kind(self) -> tuple[str, str]:
        """Operator class, and the format of its first weight."""
        weights = self.operator.weights
        stored = self.operator.precision.of(weights[0].role).name if weights else ""
        return type(self.operator).__name__, stored

    def bound_s(self, rates: Rates) -> float:
        """Seconds at the peaks of a device."""
        cost = self.operator.cost(self.step)
        others = float(np.sum(cost.scan_flops + cost.vector_flops)) / vector_flops_per_s(rates)
        compute = float(np.sum(cost.model_flops)) / rates.flops("bf16")
        return max(compute + others, float(np.sum(cost.moved_bytes)) / rates.bytes_per_s)

    @property
    def inputs_bytes(self) -> float:
        """About what one set of inputs takes."""
        cost = self.operator.cost(self.step)
        return self.operator.weights_bytes + float(np.sum(cost.moved_bytes))


@dataclass(frozen=True, slots=True)
class Room:
    """What one point may take.

    Attributes:
        most_bytes: Of one set of inputs.
        most_s: Of one call at the peaks of the device.
    """

    most_bytes: float
    most_s: float

    def holds(self, point: Point, rates: Rates) -> bool:
        """Whether a point is small enough to be measured."""
        return point.inputs_bytes <= self.most_bytes and point.bound_s(rates) <= self.most_s


@dataclass(frozen=True, slots=True)
class Sliced:
    """A model as one rank of a layout has it.

    Attributes:
        model: The whole model, in the formats that it is served in.
        layout: How it is split.
    """

    model: Model
    layout: Layout


@dataclass(frozen=True)
class Grid:
    """The points of a calibration, in the order in which they are measured.

    Attributes:
        points: Those that are small enough.
        left_out: How many were too large for the device.
        sha256: Of all that were asked for: another grid is another calibration, less free memory
            or another measured peak is not.
    """

    points: tuple[Point, ...]
    left_out: int
    sha256: str

    def by_kind(self) -> dict[tuple[str, str], int]:
        """Points of every operator class and format."""
        counted: dict[tuple[str, str], int] = {}
        for point in self.points:
            counted[point.kind] = counted.get(point.kind, 0) + 1
        return dict(sorted(counted.items()))


def grid(models: Sequence[Sliced], formats: Sequence[Format], rates: Rates, room: Room) -> Grid:
    """All points of a device and of these models that are small enough for it.

    The grid is of what the models are made of: who asks for dense ones waits for no experts.
    """
    of_models = tuple(model_points(models))
    families = {_family(point.operator) for point in of_models}
    around = (p for p in device_points(formats) if _family(p.operator) in families)
    every = dict.fromkeys((*of_models, *around))
    small = [point for point in every if room.holds(point, rates)]
    return Grid(tuple(_dealt(small)), len(every) - len(small), _sha256(every))


def _sha256(points: Iterable[Point]) -> str:
    said = "\n".join(sorted(map(repr, points)))
    return hashlib.sha256(said.encode()).hexdigest()


def device_points(formats: Sequence[Format]) -> Iterator[Point]:
    """The log-spaced grid; attention, experts and norms in 16 bits, products in every format."""
    plain = Precision()
    for stored in formats:
        precision = plain.with_roles(tuple((role, stored) for role in LINEAR_ROLES))
        for (k, n), tokens in product(WIDTHS, TOKENS):
            yield _at(Linear("linear", precision, k, n, Role.FFN), (1, tokens, 0))
    for (H, K, h), step in product(HEADS, (*PREFILLS, *DECODES)):
        yield _at(Attention("attention", plain, H, K, h, h), step)
    yield from (_at(operator, step) for operator, step in _latents(plain))
    for (E, F, D, k), tokens in product(EXPERTS, TOKENS):
        yield _at(Experts("experts", plain, D, F, E, k), (1, tokens, 0))
    for width, tokens in product(NORM_WIDTHS, TOKENS):
        yield _at(Norm("norm", plain, width), (1, tokens, 0))


def _latents(precision: Precision) -> Iterator[tuple[LatentAttention, tuple[int, int, int]]]:
    """Of the widths that tables of latent attention are of, expanded and absorbed."""
    widths = latent_attention(MODEL)
    shape = (widths.kv_lora_rank, widths.qk_nope_head_dim, widths.qk_rope_head_dim)
    for heads in LATENT_HEADS:
        whole = (heads, *shape, widths.v_head_dim)
        for step in PREFILLS:
            yield ExpandedLatentAttention("attention", precision, *whole), step
        for step in DECODES:
            yield AbsorbedLatentAttention("attention", precision, *whole), step


def model_points(models: Sequence[Sliced]) -> Iterator[Point]:
    """What a rank of each model runs, products that share an input as one."""
    for each in models:
        name = each.model.identity.name
        for operator in _operators(each):
            for requests, new, context in MODEL_STEPS:
                yield Point(operator, requests, new, context, name)


def _operators(each: Sliced) -> Iterator[Operator]:
    decoder = stage_ranks(each.model, each.layout)[0].model.decoder
    stretches = (decoder.before, *(layer.operators for layer, _ in decoder.distinct_layers))
    for stretch in (*stretches, decoder.after):
        for launch in launches(stretch):
            yield from launch.operators


def _family(operator: Operator) -> type[Operator]:
    """Latent attention is one, expanded or absorbed."""
    kinds = (LatentAttention, Attention, Experts, Norm, Linear)
    return next((kind for kind in kinds if isinstance(operator, kind)), type(operator))


def _at(operator: Operator, step: tuple[int, int, int]) -> Point:
    return Point(operator, *step, "grid")


def _dealt(points: Iterable[Point]) -> Iterator[Point]:
    """One of each kind in turn, each kind's spread over its range before it is filled."""
    kinds: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        kinds.setdefault(point.kind, []).append(point)
    for turn in zip_longest(*map(_spread, kinds.values())):
        yield from (point for point in turn if point is not None)


def _spread(points: list[Point]) -> list[Point]:
    """The same in the order of multiples of the golden ratio, their whole part left out.

    Any first part of it is spread over the list. Halving the list again and again would not do:
    each shape stands there with as many steps, a power of two, and the same step would come first.
    """
    order = sorted(range(len(points)), key=lambda number: number * GOLDEN_RATIO % 1)
    return [points[number] for number in order]
