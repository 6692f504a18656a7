"""Kinds of values that files of the catalogue hold: counts, names, days, lines of text."""

import re
from datetime import date
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Count = Annotated[int, Field(gt=0, le=10**9, strict=True)]
SmallCount = Annotated[int, Field(gt=0, le=10_000, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}$")]
BlockName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be one line without control characters")
    return value


def _released(value: Any) -> Any:
    """YAML reads 2024-07-23 as a date and 2024-07 as text; both are kept as text."""
    text = value.isoformat() if isinstance(value, date) else value
    if isinstance(text, str) and not re.fullmatch(DAY_PATTERN, text):
        raise ValueError("must be a day, a month or a quoted year, like 2024-07-23 or 2024-07")
    return text


DAY_PATTERN: Final = r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$"
Text = Annotated[str, Field(min_length=1, max_length=500, strict=True), AfterValidator(_printable)]
Day = Annotated[str, BeforeValidator(_released), Field(pattern=DAY_PATTERN)]


class Strict(BaseModel):
    """Unknown keys are errors; values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
