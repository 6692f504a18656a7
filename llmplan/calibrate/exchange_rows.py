"""What was measured between ranks, and the file that hands it on."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from llmplan.calibrate.kernel import Refused
from llmplan.errors import DocumentError
from llmplan.files import write_atomically


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """One measured point of a collective.

    Attributes:
        table: Name of the operator table in ``perf.registry`` that it is a row of.
        labels: Words of that table, ``src`` left out.
        columns: Numbers of that table; ``bytes`` is the whole buffer.
        seconds: Median time of the slowest rank.
        spread_frac: Interquartile range of the repeats over their median, of the worst rank.
        note: How it was timed.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    table: str
    labels: dict[str, str]
    columns: dict[str, float]
    seconds: float
    spread_frac: float
    note: str


@dataclass(frozen=True, slots=True)
class Exchanges:
    """What was measured between ranks, and what could not be.

    Attributes:
        rows: Measured points.
        refused: Collectives that this library cannot do, or did wrongly, with the reason.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    rows: tuple[ExchangeRow, ...] = ()
    refused: tuple[Refused, ...] = ()


def read_exchanges(path: Path) -> Exchanges:
    """What ``--rows`` wrote.

    Raises:
        DocumentError: The file cannot be read, or holds something else.
    """
    try:
        return TypeAdapter(Exchanges).validate_json(path.read_bytes())
    except OSError as error:
        raise DocumentError(f"cannot be read ({error.strerror}).", str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DocumentError(f"{first['msg']}: measure again.", str(path), key=key) from None


def write_exchanges(path: Path, found: Exchanges) -> None:
    """Write rows and refusals as JSON, whole or not at all.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomically(path, TypeAdapter(Exchanges).dump_json(found, indent=1).decode() + "\n")
