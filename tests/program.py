"""The program inside this process, as the installed command runs: ``llmplan.cli.main.run``."""

import gc
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest.mock import patch

from llmplan.cli.main import run

# the command line switches collection off for its short life; a test run is long
gc.enable()

_ON_TERMINALS = ("FORCE_COLOR", "NO_COLOR", "TERMINAL_WIDTH", "TTY_COMPATIBLE")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


def llmplan(*arguments: str) -> Outcome:
    """Run ``llmplan`` with these arguments at 80 columns, its output not on a terminal."""
    out, err = StringIO(), StringIO()
    exit_code = 0
    environment = {k: v for k, v in os.environ.items() if k not in _ON_TERMINALS}
    with (
        patch.dict(os.environ, environment | {"COLUMNS": "80"}, clear=True),
        patch.object(sys, "argv", ["llmplan", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            run()
        except SystemExit as stop:
            exit_code = int(stop.code or 0)
    return Outcome(exit_code, out.getvalue(), err.getvalue())
