"""Options of a decode step that was measured on GPUs."""

from typing import Annotated

import typer

from llmplan.cli import options

STEP = "A measured decode step"

Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="GPUS",
        help="GPUs that a measured decode step ran on, one copy of the model over all of them: how "
        "much of their peak it used (MFU, MBU).",
        autocompletion=options.complete_gpus,
        show_default=False,
        rich_help_panel=STEP,
    ),
]
StepTime = Annotated[
    str | None,
    typer.Option(
        "--step-time",
        metavar="TIME",
        help="Time of that step, as 12ms.",
        show_default=False,
        rich_help_panel=STEP,
    ),
]
TokensPerS = Annotated[
    float | None,
    typer.Option(
        "--tokens-per-s",
        metavar="RATE",
        help="Instead of the time: output tokens a second of all requests together, which get one "
        "each a step.",
        show_default=False,
        rich_help_panel=STEP,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        min=1,
        max=10**9,
        help="Requests in that step, each of --context tokens. [default: 1]",
        show_default=False,
        rich_help_panel=STEP,
    ),
]
