"""From an answer to the terminal, a pipe or a file."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from llmplan.cli.options import OutputFormat
from llmplan.files import write_atomically

if TYPE_CHECKING:
    from llmplan.results.schema import Envelope


@dataclass(frozen=True, slots=True)
class Target:
    """Where the answer goes, and how."""

    format: OutputFormat
    path: Path | None = None


def show(answer: "Envelope", target: Target) -> None:
    """Print the answer on stdout, or write it to the file; remarks go to stderr.

    Raises:
        InputError: The file cannot be written.
    """
    text = _rendered(answer, target)
    if target.path:
        write_atomically(target.path, text)
    else:
        typer.echo(text, nl=False)
    if target.format not in (OutputFormat.JSON, OutputFormat.HTML):
        for warning in answer.warnings:
            typer.echo(f"note: {warning}", err=True)


def _rendered(answer: "Envelope", target: Target) -> str:
    if target.format is OutputFormat.JSON:
        return answer.model_dump_json(by_alias=True, indent=2) + "\n"
    if target.format is OutputFormat.CSV:
        from llmplan.report.table_files import render_csv

        return render_csv(answer.result)
    from llmplan.report.views import page_of

    page = page_of(answer.result, answer.inputs)
    if target.format is OutputFormat.HTML:
        from llmplan.report.html import render_html

        return render_html(page, answer.warnings)
    if target.format is OutputFormat.MD:
        from llmplan.report.markdown import render_markdown

        return render_markdown(page)
    from llmplan.report.text import render_text

    on_terminal = target.path is None and _is_terminal()
    width = shutil.get_terminal_size().columns if on_terminal else None
    return render_text(page, width, colour=on_terminal and _wants_colour())


def _is_terminal() -> bool:
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))


def _wants_colour() -> bool:
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while something long is done; nothing where nobody watches.

    Yields:
        What to tell how much is done, and of how much.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with typer.progressbar(length=0, label=label, file=sys.stderr) as bar:

        def tick(done: int, total: int) -> None:
            bar.length = total
            if not done:
                bar.start = time.time()  # what went before says nothing of the time that is left
                return
            bar.update(done - bar.pos)

        yield tick
