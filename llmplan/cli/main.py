"""The program: commands, and what happens when one fails.

Exit codes: 0 ok, 1 the answer is no, 2 usage or input error, 3 optional part missing, 70 bug.
"""

import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from llmplan import __version__
from llmplan.cli import (
    calibrate,
    estimate,
    explain,
    fit,
    flops,
    hardware,
    importing,
    memory,
    models,
    params,
    place,
    reconcile,
    schemas,
    validate,
)
from llmplan.errors import LlmplanError

BUG = 70

app = typer.Typer(
    name="llmplan",
    help="Capacity planning and cost modelling for large language models, exact and offline.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmplan {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=lambda value: _version(wanted=value),
        is_eager=True,
        help="Show the version and exit.",
    ),
]


Catalog = Annotated[
    list[Path] | None,
    typer.Option(
        "--catalog",
        metavar="FOLDER",
        help="Folder with specs/ or hardware/ of your own, before the shipped ones; also "
        "LLMPLAN_CATALOG.",
        show_default=False,
    ),
]


@app.callback()
def main(
    version: Version = False,  # noqa: ARG001 (its callback acts)
    catalog: Catalog = None,
) -> None:
    """Capacity planning and cost modelling for large language models, exact and offline."""
    if catalog:
        from llmplan.catalogs import use_folders

        use_folders(catalog)


app.command("models")(models.models)
app.command("hardware")(hardware.hardware)
app.command("params")(params.params)
app.command("flops")(flops.flops)
app.command("memory")(memory.memory)
app.command("fit")(fit.fit)
app.command("place")(place.place)
app.command("estimate")(estimate.estimate)
app.add_typer(calibrate.app, name="calibrate")
app.command("import")(importing.import_config)
app.command("verify")(importing.verify)
app.command("validate")(validate.validate)
app.command("reconcile")(reconcile.reconcile)
app.command("explain")(explain.explain)
app.command("schema")(schemas.schema)


def run() -> None:
    """Entry point: errors a user can cause become one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a rule of a table is no reason to fail
    try:
        app()
    except LlmplanError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001 (anything else is a bug, and says so)
        traceback.print_exc()
        typer.echo("this is a bug in llmplan; please report it with the lines above.", err=True)
        sys.exit(BUG)
