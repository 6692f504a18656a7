"""``llmplan memory``."""

import typer

from llmplan.cli import options, serving_options
from llmplan.cli.groups import BesideGroup, EngineGroup, FormatGroup, LayoutGroup, grouped
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


@grouped
def memory(
    *,
    model: options.OptionalModel = None,
    formats: FormatGroup,
    context: options.Context = None,
    batch: options.Batch = 1,
    mtp: options.Mtp = False,
    text_only: options.TextOnly = False,
    gpus: options.Gpus = None,
    from_command: serving_options.FromCommand = None,
    engine: EngineGroup,
    no_corrections: serving_options.NoCorrections = False,
    layout: LayoutGroup,
    beside: BesideGroup,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Count bytes of weights and cache.

    Exact for the model; with --gpus, what an engine holds on each GPU. A start command can be
    pasted: llmplan memory --from-command "vllm serve ..." --gpus 8xH100.
    """
    from llmplan.results.beside_options import BesideOptions
    from llmplan.results.common import Formats
    from llmplan.results.engine_options import EngineOptions, LayoutOptions
    from llmplan.results.memory import MemoryQuestion

    question = MemoryQuestion(
        model=model,
        formats=Formats(**formats.values()),
        context=context,
        batch=batch,
        mtp=mtp,
        text_only=text_only,
        gpus=gpus,
        layout=LayoutOptions(**layout.values()),
        engine=EngineOptions(**engine.values()),
        beside=BesideOptions(**beside.values()),
        explain=explain,
        corrections=not no_corrections,
        from_command=from_command,
    )
    answer = question.ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
