"""``llmplan calibrate``: measure the device at hand, and look after what was measured."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, progress, show
from llmplan.errors import MissingPartError

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProfileArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROFILE", help="A file, or the GPU that was measured.", show_default=False
    ),
]
Earlier = Annotated[
    str,
    typer.Argument(
        metavar="EARLIER", help="A file, or the GPU that was measured.", show_default=False
    ),
]
Later = Annotated[
    str,
    typer.Argument(
        metavar="LATER", help="A file, or the GPU that was measured.", show_default=False
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help="cuda (also AMD), cuda:1 or cpu. [default: the GPU]",
        show_default=False,
    ),
]
Models = Annotated[
    str | None,
    typer.Option(
        "--models",
        metavar="NAMES",
        help="Whose operators and layers, separated by commas. [default: one of each kind]",
        show_default=False,
    ),
]
Dtypes = Annotated[
    str | None,
    typer.Option(
        "--dtypes",
        metavar="FORMATS",
        help="Formats of products, as bf16,fp8,int8. [default: bf16, and fp8 where the GPU has it]",
        show_default=False,
    ),
]
Tp = Annotated[
    int | None,
    typer.Option(
        "--tp",
        metavar="GPUS",
        min=1,
        help="Measure one rank of so many. [default: as many as hold the weights]",
        show_default=False,
    ),
]
Ep = Annotated[bool, typer.Option("--ep", help="Spread whole experts over the ranks.")]
Budget = Annotated[str, typer.Option("--budget", metavar="TIME", help="Time for everything.")]
Ranks = Annotated[
    int | None,
    typer.Option(
        "--ranks",
        metavar="N",
        min=1,
        help="GPUs, or processes on a CPU, that exchange messages. [default: all GPUs; 1 on a CPU]",
        show_default=False,
    ),
]
Skew = Annotated[
    float,
    typer.Option(
        "--skew",
        metavar="POWER",
        help="Experts are measured under even routing and under this power law; 0: even alone.",
    ),
]
ProfileFile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="Where the profile goes. [default: where estimates find it]",
        show_default=False,
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Begin anew, whatever an interrupted run left.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be measured, and how long it takes.")
]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="A profile (.yaml), tables (.csv), rows of exchanges (.json), output of nccl-tests, "
        "or aiconfigurator-core.",
        show_default=False,
    ),
]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        metavar="GPU",
        help="What was measured; a profile says it itself.",
        autocompletion=options.complete_device,
        show_default=False,
    ),
]
Op = Annotated[
    str | None,
    typer.Option(
        "--op",
        metavar="TABLE",
        help="Operator table, or collective, where a file does not say it.",
        show_default=False,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system",
        metavar="NAME",
        help="Of aiconfigurator-core, as h200_sxm. [default: that of the GPU]",
        show_default=False,
    ),
]
Folder = Annotated[Path, typer.Option("--folder", metavar="FOLDER", help="Where the tables go.")]


def needs_torch() -> None:
    """Raise where torch is not installed.

    Raises:
        MissingPartError: It is not.
    """
    if find_spec("torch") is None:
        raise MissingPartError(
            "calibrate runs operators with torch: pip install 'llmplan[calibrate]' installs it."
        )


@app.callback(invoke_without_command=True)
def calibrate(
    context: typer.Context,
    device: Device = None,
    models: Models = None,
    dtypes: Dtypes = None,
    tp: Tp = None,
    ep: Ep = False,
    budget: Budget = "5m",
    ranks: Ranks = None,
    skew: Skew = 1.2,
    profile: ProfileFile = None,
    fresh: Fresh = False,
    dry_run: DryRun = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Run a model's operators on the GPU at hand, and estimate with what they take.

    Whole layers are kept out of the fit and say how far it is off. An interrupted run goes on where
    it stopped.
    """
    if context.invoked_subcommand is not None:
        return
    needs_torch()
    from llmplan.calibrate.question import CalibrateQuestion

    question = CalibrateQuestion(
        device=device,
        models=models,
        dtypes=dtypes,
        tp=tp,
        ep=ep,
        budget=budget,
        ranks=ranks,
        skew=skew,
        profile=profile,
        is_fresh=fresh,
        is_dry_run=dry_run,
    )
    try:
        with progress("measuring") as tick:
            answer = question.ask(tick)
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command goes on with what was measured.", err=True)
        raise
    show(answer, Target(format, output))


@app.command("show")
def show_profile(
    profile: ProfileArgument,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Show a profile: its kernels, their errors, and whole layers.

    HTML draws the points beside their curves; JSON has some of them, and export writes all.
    """
    from llmplan.results.calibration import ShowQuestion

    show(ShowQuestion(profile=profile).ask(), Target(format, output))


@app.command("diff")
def diff(
    earlier: Earlier,
    later: Later,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Compare the kernels of two profiles of one GPU."""
    from llmplan.results.calibration import DiffQuestion

    show(DiffQuestion(earlier=earlier, later=later).ask(), Target(format, output))


@app.command("export")
def export(
    profile: ProfileArgument,
    folder: Folder = Path(),
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Write the measurements of a profile as operator tables (CSV)."""
    from llmplan.results.calibration import ExportQuestion

    show(ExportQuestion(profile=profile, folder=folder).ask(), Target(format, output))


@app.command("import")
def import_measurements(
    sources: Sources,
    gpu: Gpu = None,
    op: Op = None,
    system: System = None,
    profile: ProfileFile = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Take over a profile, or measurements of others.

    Those are operator tables, rows of exchanges, output of nccl-tests, and aiconfigurator-core.
    """
    from llmplan.results.imported_calibration import ImportQuestion

    question = ImportQuestion(sources=sources, gpu=gpu, op=op, system=system, profile=profile)
    show(question.ask(), Target(format, output))


@app.command("refit")
def refit(
    profile: ProfileArgument,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Fit the measurements of a profile anew, without a GPU."""
    from llmplan.results.calibration import RefitQuestion

    show(RefitQuestion(profile=profile).ask(), Target(format, output))
