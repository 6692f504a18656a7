"""``llmplan models``."""

from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show

Family = Annotated[
    str | None, typer.Option("--family", help="Only this family.", show_default=False)
]


def models(
    model: options.OptionalModel = None,
    family: Family = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """List the models of the catalogue, or show one on a page."""
    from llmplan.results.listing import ModelsQuestion

    show(ModelsQuestion(model=model, family=family).ask(), Target(format, output))
