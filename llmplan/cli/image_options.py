"""Options of an image that a diffusion pipeline makes."""

from enum import StrEnum
from typing import Annotated

import typer


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
