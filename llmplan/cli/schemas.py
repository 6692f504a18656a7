"""``llmplan schema``."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.files import write_atomically


class Kind(StrEnum):
    """Documents with a schema."""

    MODEL = "model"
    LISTED = "listed"
    DEVICE = "device"
    NODE = "node"
    RESULT = "result"


KindArgument = Annotated[Kind, typer.Argument(help="What the schema describes.")]


def schema(kind: KindArgument = Kind.MODEL, output: options.Output = None) -> None:
    """Print JSON schemas.

    Of model specs, listed models, device and node files, and results.
    """
    text = json.dumps(_schema(kind), indent=2, ensure_ascii=False) + "\n"
    if output:
        write_atomically(Path(output), text)
    else:
        typer.echo(text, nl=False)


def _schema(kind: Kind) -> dict[str, object]:
    match kind:
        case Kind.MODEL:
            from llmplan.model.pipeline_spec import model_schema as build
        case Kind.LISTED:
            from llmplan.model.listed.spec import listed_schema as build
        case Kind.DEVICE:
            from llmplan.hardware.spec import device_schema as build
        case Kind.NODE:
            from llmplan.hardware.spec import node_schema as build
        case Kind.RESULT:
            from llmplan.results.schema import result_schema as build
    return build()
