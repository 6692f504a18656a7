"""``llmplan estimate``."""

import typer

from llmplan.cli import beside_options, options, serving_options, traffic_options
from llmplan.cli.groups import (
    FormatGroup,
    LayoutGroup,
    PoolGroup,
    TimedEngineGroup,
    TrafficGroup,
    grouped,
)
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


@grouped
def estimate(
    *,
    model: options.OptionalModel = None,
    gpus: options.Gpus = None,
    traffic: TrafficGroup,
    formats: FormatGroup,
    text_only: options.TextOnly = False,
    from_command: serving_options.FromCommand = None,
    engine: TimedEngineGroup,
    no_corrections: serving_options.NoCorrections = False,
    layout: LayoutGroup,
    pools: PoolGroup,
    speculative_tokens: traffic_options.Tokens = None,
    acceptance: traffic_options.Acceptance = None,
    mtp: traffic_options.Mtp = False,
    draft: traffic_options.Draft = None,
    draft_dtype: beside_options.DraftDtype = None,
    profile: traffic_options.Profile = None,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Say how fast a model is served, with a range.

    Time to the first token, between further tokens, and tokens a second; exit 1 where it does not
    fit, requests come faster than they are served, or a bound is missed.
    """
    from llmplan.results.beside_options import BesideOptions
    from llmplan.results.common import Formats
    from llmplan.results.engine_options import EngineOptions, LayoutOptions
    from llmplan.results.estimate import EstimateQuestion
    from llmplan.results.memory import MemoryQuestion
    from llmplan.results.traffic_options import TrafficOptions

    served = MemoryQuestion(
        model=model,
        formats=Formats(**formats.values()),
        mtp=mtp,
        text_only=text_only,
        gpus=gpus,
        layout=LayoutOptions(**layout.values()),
        engine=EngineOptions(**engine.values(), speculative_tokens=speculative_tokens),
        beside=BesideOptions(draft=draft, draft_dtype=draft_dtype),
        from_command=from_command,
        corrections=not no_corrections,
    )
    asked = TrafficOptions(**traffic.values(), **pools.values(), acceptance=acceptance)
    question = EstimateQuestion(served=served, traffic=asked, explain=explain, profile=profile)
    answer = question.ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
