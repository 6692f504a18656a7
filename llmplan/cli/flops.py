"""``llmplan flops``."""

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


def flops(
    model: options.Model,
    context: options.Context = None,
    full_square: FullSquare = False,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Count FLOPs per token.

    Decode and prefill, apart by the unit that does them.
    """
    from llmplan.results.flops import FlopsQuestion

    question = FlopsQuestion(model=model, context=context, full_square=full_square, explain=explain)
    show(question.ask(), Target(format, output))
