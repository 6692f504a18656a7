"""``llmplan explain``."""

from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


def complete_key(incomplete: str) -> list[str]:
    """Places of keys that start as typed."""
    from llmplan.results.keys import result_keys

    names = dict.fromkeys(key.plain for key in result_keys())
    return [name for name in names if name.startswith(incomplete)]


Key = Annotated[
    str | None,
    typer.Argument(
        metavar="KEY",
        help="Key of a result, as kv_cache.bytes_per_token, or the end of it; all keys without.",
        autocompletion=complete_key,
        show_default=False,
    ),
]


def explain(
    key: Key = None,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Say what a key of a result means.

    Its unit, how it is computed, where it may come from, and the options that change it.
    """
    from llmplan.results.explain import ExplainQuestion

    show(ExplainQuestion(key=key).ask(), Target(format, output))
