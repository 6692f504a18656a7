"""``llmplan memory``."""

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


def memory(
    model: options.Model,
    dtype: options.Dtype = "native",
    kv_dtype: options.KvDtype = "bf16",
    state_dtype: options.StateDtype = "bf16",
    indexer_dtype: options.IndexerDtype = "bf16",
    context: options.Context = None,
    batch: options.Batch = 1,
    mtp: options.Mtp = False,
    text_only: options.TextOnly = False,
    gpus: options.Gpus = None,
    tp: options.Tp = None,
    gpu_memory_utilization: options.Utilization = None,
    reserve: options.Reserve = None,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Count bytes of weights and cache.

    Exact for the model; with --gpus, on each GPU beside an engine reserve.
    """
    from llmplan.results.common import Formats, ReserveOptions
    from llmplan.results.memory import MemoryQuestion

    answer = MemoryQuestion(
        model=model,
        formats=Formats(
            dtype=dtype, kv_dtype=kv_dtype, state_dtype=state_dtype, indexer_dtype=indexer_dtype
        ),
        context=context,
        batch=batch,
        mtp=mtp,
        text_only=text_only,
        gpus=gpus,
        tp=tp,
        reserve=ReserveOptions(gpu_memory_utilization=gpu_memory_utilization, reserve=reserve),
        explain=explain,
    ).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
