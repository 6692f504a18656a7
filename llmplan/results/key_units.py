"""The unit of a figure, which the name of its key ends in."""

from typing import Final

_UNITS: Final = {
    "bytes": "bytes",
    "bits": "bits",
    "flops": "FLOPs",
    "s": "seconds",
    "seconds": "seconds",
    "w": "watts",
    "j": "joules",
    "usd": "US dollars",
    "tokens": "tokens",
    "requests": "requests",
    "frac": "fraction (0.01 is 1 %)",
    "times": "factor",
}
_PER: Final = {"s": "second", "gpu": "GPU", "gpu_hour": "hour of a GPU"}
_ONE: Final = ("token", "request")
"""What a figure is for, even where the name goes on: ``bytes_per_request_fixed``."""


def stated_unit(part: str) -> str:
    """The unit that one part of a key's place ends in; empty where it ends in none."""
    quantity, *per = part.rstrip("[]{}").split("_per_")
    unit = _UNITS.get(quantity.rpartition("_")[2], "")
    return " per ".join([unit, *map(_per, per)]) if unit else ""


def _per(what: str) -> str:
    first = what.partition("_")[0]
    return first if first in _ONE else _PER.get(what, what.replace("_", " "))
