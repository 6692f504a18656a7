"""``llmplan reconcile``."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmplan.cli import options, serving_options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show
from llmplan.errors import InputError

if TYPE_CHECKING:
    from llmplan.results.schema import Envelope

Log = Annotated[
    str | None,
    typer.Argument(metavar="LOG", help="Start-up log; - for stdin.", show_default=False),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Catalogue name, Hugging Face id or path. [default: as the log says]",
        autocompletion=options.complete_model,
        show_default=False,
    ),
]
LogGpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="GPUS",
        help="8xH100, or h100-sxm for as many as the log has ranks. [default: as the log says]",
        autocompletion=options.complete_gpus,
        show_default=False,
    ),
]
LogEngine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="Version of the engine, as vllm@0.19. [default: as the log says]",
        show_default=False,
    ),
]
Save = Annotated[
    bool,
    typer.Option("--save", help="Keep the differences; memory and fit then use and name them."),
]
Listed = Annotated[bool, typer.Option("--list", help="List the corrections that are kept.")]
Forget = Annotated[
    str | None,
    typer.Option(
        "--forget", metavar="NAME", help="Delete a correction that was kept.", show_default=False
    ),
]


def reconcile(
    log: Log = None,
    model: Model = None,
    gpus: LogGpus = None,
    engine: LogEngine = None,
    dtype: options.Dtype = "native",
    kv_dtype: options.KvDtype = None,
    gpu_memory_utilization: serving_options.Utilization = None,
    save: Save = False,
    listed: Listed = False,
    forget: Forget = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Compare an engine's start-up log.

    Reads logs of vLLM, SGLang, TensorRT-LLM and llama.cpp. Exit code 0 whatever differs, 2 where
    the log cannot be compared.
    """
    if listed or forget is not None:
        if log is not None or save:
            raise InputError("--list and --forget take no log.")
        from llmplan.results.reconcile import CorrectionsQuestion

        answer: Envelope = CorrectionsQuestion(forget=forget).ask()
    else:
        if log is None:
            raise InputError("name a log, or - for stdin.")
        from llmplan.results.common import Formats
        from llmplan.results.log_source import LogSource
        from llmplan.results.log_start import Typed
        from llmplan.results.reconcile import ReconcileQuestion

        answer = ReconcileQuestion(
            log=LogSource(log, sys.stdin.buffer if log == "-" else None),
            typed=Typed(
                model=model,
                gpus=gpus,
                engine=engine,
                formats=Formats(dtype=dtype, kv_dtype=kv_dtype),
                memory_frac=gpu_memory_utilization,
            ),
            save=save,
        ).ask()
    show(answer, Target(format, output))
