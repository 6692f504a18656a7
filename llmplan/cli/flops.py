"""``llmplan flops``."""

from enum import StrEnum
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show

FullSquare = Annotated[
    bool,
    typer.Option(
        "--full-square", help="Count masked pairs too, as counters that see no causal mask do."
    ),
]


class Guidance(StrEnum):
    """How an image follows its prompt."""

    OFF = "off"
    TRUE_CFG = "true-cfg"


Width = Annotated[
    int | None,
    typer.Option(
        "--width",
        min=1,
        max=65536,
        help="Of a diffusion pipeline: pixels of the image. [default: as published]",
        show_default=False,
    ),
]
Height = Annotated[
    int | None,
    typer.Option(
        "--height",
        min=1,
        max=65536,
        help="Of a diffusion pipeline: pixels of the image. [default: as published]",
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        min=1,
        max=10_000,
        help="Of a diffusion pipeline: denoising steps. [default: as published]",
        show_default=False,
    ),
]
GuidanceOption = Annotated[
    Guidance,
    typer.Option(
        "--guidance", help="Of a diffusion pipeline: true-cfg runs it a second time a step."
    ),
]


def flops(
    model: options.Model,
    context: options.Context = None,
    full_square: FullSquare = False,
    width: Width = None,
    height: Height = None,
    steps: Steps = None,
    guidance: GuidanceOption = Guidance.OFF,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Count FLOPs per token, or per image.

    Decode and prefill, apart by the unit that does them; of a diffusion pipeline, one image.
    """
    from llmplan.results.flops import FlopsQuestion, ImageOptions

    image = ImageOptions(width=width, height=height, steps=steps, guidance=guidance.value)
    question = FlopsQuestion(
        model=model, context=context, full_square=full_square, explain=explain, image=image
    )
    show(question.ask(), Target(format, output))
