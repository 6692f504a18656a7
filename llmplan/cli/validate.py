"""``llmplan validate``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


class What(StrEnum):
    """Figures that can be compared."""

    PARAMS = "params"


WhatArgument = Annotated[What, typer.Argument(help="What to compare.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="CSV with the columns of specs/published.csv. [default: that file]",
        show_default=False,
    ),
]


def validate(
    what: WhatArgument,
    data: Data = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Compare with published figures.

    Every count of every model; exit 1 where one differs.
    """
    from llmplan.results.validation import ValidateParamsQuestion

    match what:
        case What.PARAMS:
            answer = ValidateParamsQuestion(data=data).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
