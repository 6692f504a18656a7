"""The fitted kernel that stands for another: exactly it, or the nearest that a profile has."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from llmplan.perf.kernels import Labels
from llmplan.perf.profile import Fitted, Kernels
from llmplan.perf.rates import UNITS

NAMES: Final = ("src", "kernel", "backend")
"""Labels that name a kernel: the engine with its version, and the function or library."""
FORMATS: Final = ("dtype", "kv_dtype", "gemm_type")


@dataclass(frozen=True, slots=True)
class Chosen:
    """A fitted kernel.

    Attributes:
        fitted: It.
        reason: Which kernel it stands for; empty where it is exactly the one asked for.
    """

    fitted: Fitted
    reason: str = ""


def chosen(kernels: Kernels, operator: str, labels: Labels) -> Chosen | None:
    """The kernel with these labels, or the nearest of the same work; None where there is none.

    Nearest is the same engine in the same formats, then the same engine in formats of the same
    arithmetic, then another engine in the same formats; of these the one with the nearest name.
    """
    if exact := kernels.find(operator, labels):
        return Chosen(exact)
    ranked = [
        (distance, -_alike(labels, other.labels), -other.rows, index, other)
        for index, other in enumerate(kernels.by_labels.values())
        if other.operator == operator and (distance := _distance(labels, other.labels)) is not None
    ]
    if not ranked:
        return None
    nearest = min(ranked)[-1]
    return Chosen(nearest, f"not fitted: stands for it {described(nearest.labels)}")


def described(labels: Labels) -> str:
    """Labels in one line."""
    return " ".join(value for value in labels.values() if value)


def _distance(asked: Labels, other: Labels) -> int | None:
    """0, 1 or 2 as in ``chosen``; None for other work or formats."""
    if any(asked[name] != other.get(name) for name in asked if name not in (*NAMES, *FORMATS)):
        return None
    formats = [(asked[name], other.get(name, "")) for name in FORMATS if name in asked]
    same_engine = _engine(asked) == _engine(other)
    if all(mine == its for mine, its in formats):
        return 0 if same_engine else 2
    same_units = all(UNITS.get(mine, mine) == UNITS.get(its, its) for mine, its in formats)
    return 1 if same_engine and same_units else None


def _engine(labels: Labels) -> str:
    """``aic/gemm/vllm`` of ``aic/gemm/vllm/0.24.0``."""
    return labels.get("src", "").rpartition("/")[0]


def _alike(asked: Labels, other: Labels) -> int:
    """Letters that the names of two kernels, and then their versions, begin with in common."""
    return sum(
        len(
            list(
                takewhile(
                    lambda pair: pair[0] == pair[1], zip(asked[name], other[name], strict=False)
                )
            )
        )
        for name in NAMES
        if name in asked and name in other
    )
