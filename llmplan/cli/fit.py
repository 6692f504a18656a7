"""``llmplan fit``."""

import typer

from llmplan.cli import options, serving_options
from llmplan.cli.groups import BesideGroup, EngineGroup, FormatGroup, LayoutGroup, grouped
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


@grouped
def fit(
    *,
    gpus: options.RequiredGpus,
    model: options.OptionalModel = None,
    formats: FormatGroup,
    context: options.Context = None,
    batch: options.Batch = 1,
    text_only: options.TextOnly = False,
    engine: EngineGroup,
    no_corrections: serving_options.NoCorrections = False,
    layout: LayoutGroup,
    beside: BesideGroup,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """List what fits on GPUs.

    The whole catalogue, or one model with every layout and what would make it fit.
    """
    from llmplan.results.beside_options import BesideOptions
    from llmplan.results.common import Formats
    from llmplan.results.engine_options import EngineOptions, LayoutOptions
    from llmplan.results.fit import FitQuestion

    answer = FitQuestion(
        gpus=gpus,
        model=model,
        formats=Formats(**formats.values()),
        context=context,
        batch=batch,
        text_only=text_only,
        layout=LayoutOptions(**layout.values()),
        engine=EngineOptions(**engine.values()),
        beside=BesideOptions(**beside.values()),
        explain=explain,
        corrections=not no_corrections,
    ).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
