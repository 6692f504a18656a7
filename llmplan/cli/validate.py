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
    MEMORY = "memory"


WhatArgument = Annotated[What, typer.Argument(help="What to compare.", show_default=False)]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="CSV with the columns of specs/published.csv, or for memory of "
        "hardware/measured/engine_memory.csv. [default: those files]",
        show_default=False,
    ),
]


def validate(
    what: WhatArgument,
    data: Data = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Compare with published and measured figures.

    params: every count of every model; exit 1 where one differs. memory: what engines held in
    measured starts.
    """
    from llmplan.results.validation import ValidateMemoryQuestion, ValidateParamsQuestion

    match what:
        case What.PARAMS:
            answer = ValidateParamsQuestion(data=data).ask()
        case What.MEMORY:
            answer = ValidateMemoryQuestion(data=data).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
