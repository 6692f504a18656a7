"""``llmplan hardware``."""

from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show

Device = Annotated[
    str | None,
    typer.Argument(
        metavar="DEVICE",
        help="Show one device and the nodes it comes in.",
        autocompletion=options.complete_device,
        show_default=False,
    ),
]
Dtypes = Annotated[bool, typer.Option("--dtypes", help="List number formats instead.")]


def hardware(
    device: Device = None,
    dtypes: Dtypes = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """List devices, node types or number formats."""
    from llmplan.results.listing import HardwareQuestion

    show(HardwareQuestion(device=device, dtypes=dtypes).ask(), Target(format, output))
