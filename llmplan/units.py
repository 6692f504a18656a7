"""Quantities in and out: parsing of what people type, formatting of what they read.

Core values are SI base units (bytes, seconds, FLOPs, watts); scaling happens here and in renderers.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from math import floor, log10
from typing import Final

from llmplan.errors import InputError, printable

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30

_SIZE_UNITS: Final = {
    "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_COUNT_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20}
LONG_S: Final = 9.9995
"""Times from here on are said in seconds: four digits of milliseconds do not hold them."""
_TIME_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER: Final = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"


class Provenance(StrEnum):
    """Where a number comes from, strongest first; a sum takes the weakest of its terms."""

    EXACT = "exact"
    PUBLISHED = "published"
    MEASURED = "measured"
    FITTED = "fitted"
    ASSUMED = "assumed"


def weakest(*provenances: Provenance) -> Provenance:
    """The provenance of a sum of terms: that of its weakest term."""
    order = list(Provenance)
    return max(provenances, key=order.index)


def parse_bytes(text: str) -> int:
    """Bytes from ``80GB`` (80·10⁹) or ``80GiB`` (80·2³⁰); a bare number is refused.

    Raises:
        InputError: No unit, an unknown one, a negative or an unreadable number.
    """
    match = re.fullmatch(_NUMBER + r"\s*([a-zA-Z]+)", text.strip())
    if not match or match[2].lower() not in _SIZE_UNITS:
        raise InputError(
            f"'{printable(text)}' is no memory size. Write a positive number with its unit: "
            "80GiB (80 x 2^30 bytes) or 80GB (80 x 10^9 bytes)."
        )
    return _whole(match[1], _SIZE_UNITS[match[2].lower()])


def parse_seconds(text: str) -> float:
    """Seconds from ``12ms``, ``2s``, ``5m`` (minutes) or ``1h``; a bare number is refused.

    Raises:
        InputError: No unit, an unknown one, or not a positive number.
    """
    match = re.fullmatch(_NUMBER + r"\s*([a-zA-Z]+)", text.strip())
    unit = _TIME_UNITS.get(match[2].lower()) if match else None
    if not match or unit is None or not float(match[1]):
        raise InputError(
            f"'{printable(text)}' is no time. Write a positive number with its unit: 12ms, 2s."
        )
    return float(match[1]) * unit


def parse_tokens(text: str) -> int:
    """Tokens from ``131072``, ``128k`` (131,072) or ``1m`` (1,048,576).

    Raises:
        InputError: Not a positive whole number of tokens.
    """
    match = re.fullmatch(_NUMBER + r"([kKmM]?)", text.strip())
    if not match:
        raise InputError(
            f"'{printable(text)}' is no token count. Write 8192 or 8k (k = 1024, m = 1024 x 1024)."
        )
    unit = _COUNT_UNITS[match[2].lower()]
    tokens = _whole(match[1], unit)
    if tokens < 1 or ("." in match[1] and tokens != float(match[1]) * unit):
        raise InputError(f"'{printable(text)}' is not a whole, positive number of tokens.")
    return tokens


def _whole(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)


def format_gib(size_bytes: float) -> str:
    """Memory for a reader: ``12.34 GiB``; below 0.1 GiB in MiB or KiB, so that little is not 0."""
    size = abs(size_bytes)
    if size == 0:
        return "0 GiB"
    if size >= 0.1 * GIB:
        return f"{size_bytes / GIB:,.2f} GiB"
    if size >= MIB:
        return f"{size_bytes / MIB:,.2f} MiB"
    return f"{size_bytes / KIB:,.2f} KiB" if size >= KIB else f"{size_bytes:,.0f} B"


def format_count(count: float) -> str:
    """Parameters for a reader: ``1,026.41 B``, ``268.10 M``, below a million in full."""
    if abs(count) >= 10**9:
        return f"{count / 10**9:,.2f} B"
    if abs(count) >= 10**6:
        return f"{count / 10**6:,.2f} M"
    return f"{count:,.0f}"


def format_flops(flops: float) -> str:
    """FLOPs for a reader: ``74.9 GFLOP``."""
    for scale, unit in ((10**15, "PFLOP"), (10**12, "TFLOP"), (10**9, "GFLOP"), (10**6, "MFLOP")):
        if abs(flops) >= scale:
            return f"{flops / scale:,.2f} {unit}"
    return f"{flops:,.0f} FLOP"


def format_digits(value: float) -> str:
    """Three digits that say something, whole numbers in full: ``1.02``, ``37.2``, ``1,024``."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:.{max(2 - floor(log10(abs(value))), 0)}f}"


def format_percent(share: float) -> str:
    """A share for a reader: whole percent, below one percent a digit, so that little is not 0."""
    percent = 100 * share
    if share == 0 or abs(percent) >= 0.95:
        return f"{percent:,.0f}%"
    return f"{percent:.1g}%" if abs(percent) >= 1e-3 else "<0.001%"


def format_seconds(seconds: float) -> str:
    """A time in four digits: ``15.56 ms``, from ten seconds on ``12.34 s``."""
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    return f"{seconds:.4g} s" if seconds >= LONG_S else f"{seconds * 1e3:,.4g} ms"


def format_tokens_down(tokens: int) -> str:
    """Bound on tokens for a narrow table, rounded down: digits, then whole k, then tenths of M."""
    if tokens >= MIB:
        return f"{tokens * 10 // MIB / 10:g}M"
    return f"{tokens // KIB}k" if tokens >= 10 * KIB else f"{tokens:,}"


def format_tokens(tokens: int) -> str:
    """Token counts for a reader: ``128k`` where that is exact, else digits."""
    if tokens >= MIB:
        return f"{tokens // MIB}M" if tokens % MIB == 0 else f"{tokens:,}"
    return f"{tokens // KIB}k" if tokens >= KIB and tokens % KIB == 0 else f"{tokens:,}"


def format_runs(numbers: Iterable[int]) -> str:
    """Numbers in order for a reader, neighbours as runs: ``0-2,5``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in found)
