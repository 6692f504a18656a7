"""``llmplan place``."""

from pathlib import Path
from typing import Annotated

import typer

from llmplan.cli import options, serving_options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show

Tp = Annotated[
    int | None,
    typer.Option(
        "--tp",
        min=1,
        max=4096,
        help="GPUs that split each layer. [default: what is left of one node]",
        show_default=False,
        rich_help_panel=serving_options.LAYOUT,
    ),
]
Zipf = Annotated[
    float | None,
    typer.Option(
        "--zipf",
        metavar="EXPONENT",
        help="Load of experts: the i-th in proportion to 1/i^EXPONENT. [default: even]",
        show_default=False,
    ),
]
ExpertLoad = Annotated[
    Path | None,
    typer.Option(
        "--expert-load",
        metavar="FILE",
        help="Load of experts: a JSON list, or CSV, one number each.",
        show_default=False,
    ),
]


def place(
    model: options.Model,
    gpus: options.RequiredGpus,
    tp: Tp = None,
    pp: serving_options.Pp = None,
    pp_layers: serving_options.PpLayers = None,
    dp: serving_options.Dp = None,
    ep: serving_options.Ep = None,
    cp: serving_options.Cp = None,
    prefill_cp: serving_options.PrefillCp = None,
    redundant_experts: serving_options.RedundantExperts = None,
    zipf: Zipf = None,
    expert_load: ExpertLoad = None,
    dtype: options.Dtype = "native",
    text_only: options.TextOnly = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Show which rank holds what.

    Layers, heads, experts and exact bytes on each GPU, and what ranks exchange; exit 1 where the
    weights alone are more than a GPU holds.
    """
    from llmplan.results.engine_options import LayoutOptions
    from llmplan.results.place import PlaceQuestion

    layout = LayoutOptions(
        tp=tp,
        pp=pp,
        dp=dp,
        ep=ep,
        cp=cp,
        prefill_cp=prefill_cp,
        redundant_experts=redundant_experts,
        pp_layers=pp_layers,
    )
    answer = PlaceQuestion(
        model=model,
        gpus=gpus,
        dtype=dtype,
        layout=layout,
        text_only=text_only,
        zipf=zipf,
        expert_load=expert_load,
    ).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
