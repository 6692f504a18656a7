"""``llmplan flops``."""

from typing import Annotated

import typer

from llmplan.cli import image_options, options, step_options
from llmplan.cli.image_options import Guidance
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
    width: image_options.Width = None,
    height: image_options.Height = None,
    steps: image_options.Steps = None,
    guidance: image_options.GuidanceOption = Guidance.OFF,
    gpus: step_options.Gpus = None,
    step_time: step_options.StepTime = None,
    tokens_per_s: step_options.TokensPerS = None,
    batch: step_options.Batch = None,
    dtype: options.Dtype = "native",
    kv_dtype: options.KvDtype = None,
    state_dtype: options.StateDtype = None,
    indexer_dtype: options.IndexerDtype = None,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Count FLOPs per token, or per image.

    Decode and prefill, apart by the unit that does them; of a diffusion pipeline, one image. With
    --gpus and a measured time, how much of the GPUs' peak a decode step used (MFU and MBU).
    """
    from llmplan.results.common import Formats
    from llmplan.results.flops import FlopsQuestion, ImageOptions
    from llmplan.results.utilisation import MeasuredStep

    formats = Formats(
        dtype=dtype, kv_dtype=kv_dtype, state_dtype=state_dtype, indexer_dtype=indexer_dtype
    )
    measured = MeasuredStep(
        gpus=gpus, step_time=step_time, tokens_per_s=tokens_per_s, batch=batch, formats=formats
    )
    image = ImageOptions(width=width, height=height, steps=steps, guidance=guidance.value)
    question = FlopsQuestion(
        model=model, context=context, full_square=full_square, explain=explain, image=image,
        measured=measured,
    )  # fmt: skip
    show(question.ask(), Target(format, output))
