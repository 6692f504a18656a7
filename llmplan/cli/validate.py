"""``llmplan validate``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, progress, show
from llmplan.errors import InputError


class What(StrEnum):
    """Figures that can be compared."""

    PARAMS = "params"
    MEMORY = "memory"
    PERF = "perf"


WhatArgument = Annotated[What, typer.Argument(help="What to compare.", show_default=False)]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="CSV with the columns of specs/published.csv, for memory of "
        "hardware/measured/engine_memory.csv, for perf of hardware/measured/serving.csv or of the "
        "tables in hardware/measured/ops: several, or a folder. [default: those files]",
        show_default=False,
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="GPU",
        help="Of perf: the GPU of all operator tables. [default: as each file's name begins]",
        autocompletion=options.complete_device,
        show_default=False,
    ),
]
Op = Annotated[
    str | None,
    typer.Option(
        "--op",
        metavar="TABLE",
        help="Of perf: the operator of all tables, as gemm. "
        "[default: as each file's name ends, or its columns say]",
        show_default=False,
    ),
]


def validate(
    what: WhatArgument,
    data: Data = None,
    gpu: Gpu = None,
    op: Op = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Compare with published and measured figures.

    params: every count of every model; exit 1 where one differs. memory: what engines held in
    measured starts. perf: how fast measured deployments answered, and how long kernels took.
    """
    from llmplan.results.validation import ValidateMemoryQuestion, ValidateParamsQuestion
    from llmplan.results.validation_perf import ValidatePerfQuestion

    files = data or []
    if what is not What.PERF and (gpu or op or len(files) > 1):
        raise InputError(f"validate {what} takes one --data file, no --gpu and no --op.")
    match what:
        case What.PARAMS:
            answer = ValidateParamsQuestion(data=next(iter(files), None)).ask()
        case What.MEMORY:
            answer = ValidateMemoryQuestion(data=next(iter(files), None)).ask()
        case What.PERF:
            question = ValidatePerfQuestion(data=tuple(files), gpu=gpu, op=op)
            with progress("measured runs") as tick:
                answer = question.ask(tick)
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
