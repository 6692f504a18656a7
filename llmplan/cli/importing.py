"""``llmplan import`` and ``llmplan verify``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show
from llmplan.files import write_atomically


class SpecFormat(StrEnum):
    """How a spec is written."""

    YAML = "yaml"
    JSON = "json"


Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="config.json, .safetensors or .safetensors.index.json beside its config.json, .gguf, "
        "or ORG/NAME on the Hugging Face Hub.",
        show_default=False,
    ),
]
Name = Annotated[
    str | None, typer.Option("--name", help="Catalogue name to give it.", show_default=False)
]
Format = Annotated[SpecFormat, typer.Option("--format", help="Output format.")]
Against = Annotated[
    Path,
    typer.Option(
        "--against",
        metavar="FILE",
        help="config.json, .safetensors, .safetensors.index.json or .gguf.",
        show_default=False,
    ),
]


def import_config(
    source: Source,
    name: Name = None,
    format: Format = SpecFormat.YAML,
    output: options.Output = None,
) -> None:
    """Write the spec of a published model.

    Every key must be known; what is not is refused with what to do. Only ORG/NAME uses the network.
    """
    from llmplan.results.importing import ImportQuestion, imported_yaml

    answer = ImportQuestion(source=source, name=name).ask()
    if format is SpecFormat.JSON:
        show(answer, Target(OutputFormat.JSON, output))
    elif output:
        write_atomically(output, imported_yaml(answer))
    else:
        typer.echo(imported_yaml(answer), nl=False)


def verify(
    model: options.Model,
    against: Against,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Compare a model with its files.

    Role by role, with a config or weight file; exit 1 where they differ.
    """
    from llmplan.results.importing import VerifyQuestion

    answer = VerifyQuestion(model=model, against=against).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
