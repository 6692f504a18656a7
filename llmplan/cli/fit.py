"""``llmplan fit``."""

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


def fit(
    gpus: options.RequiredGpus,
    model: options.OptionalModel = None,
    dtype: options.Dtype = "native",
    kv_dtype: options.KvDtype = "bf16",
    state_dtype: options.StateDtype = "bf16",
    indexer_dtype: options.IndexerDtype = "bf16",
    context: options.Context = None,
    batch: options.Batch = 1,
    text_only: options.TextOnly = False,
    tp: options.Tp = None,
    gpu_memory_utilization: options.Utilization = None,
    reserve: options.Reserve = None,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """List what fits on GPUs.

    The whole catalogue, or one model with every layout and what would make it fit.
    """
    from llmplan.results.common import Formats, ReserveOptions
    from llmplan.results.fit import FitQuestion

    answer = FitQuestion(
        gpus=gpus,
        model=model,
        formats=Formats(
            dtype=dtype, kv_dtype=kv_dtype, state_dtype=state_dtype, indexer_dtype=indexer_dtype
        ),
        context=context,
        batch=batch,
        tp=tp,
        text_only=text_only,
        reserve=ReserveOptions(gpu_memory_utilization=gpu_memory_utilization, reserve=reserve),
        explain=explain,
    ).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
