"""``llmplan models``."""

from enum import StrEnum
from typing import Annotated

import typer

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


class SortKey(StrEnum):
    """Orders of the list."""

    NAME = "name"
    FAMILY = "family"
    TOTAL = "total"
    ACTIVE = "active"
    CONTEXT = "context"
    KV = "kv"
    RELEASE = "release"


Family = Annotated[
    str | None, typer.Option("--family", help="Only this family.", show_default=False)
]


Attention = Annotated[
    str | None,
    typer.Option(
        "--attention",
        help="Only with this token mixer: gqa, mha, mqa, mla, window, mamba, delta rule …",
        show_default=False,
    ),
]
License = Annotated[
    str | None,
    typer.Option("--license", help="Only licences with this word.", show_default=False),
]
MinContext = Annotated[
    str | None,
    typer.Option(
        "--min-context", metavar="TOKENS", help="Only with this context.", show_default=False
    ),
]
MaxWeights = Annotated[
    str | None,
    typer.Option(
        "--max-weights",
        metavar="SIZE",
        help="Only those that are stored in no more, as 80GiB.",
        show_default=False,
    ),
]
Sort = Annotated[SortKey, typer.Option("--sort", help="Order of the list.")]
Compare = Annotated[
    bool, typer.Option("--compare", help="Side by side, with growth over the context.")
]


def models(
    names: options.SomeModels = None,
    family: Family = None,
    attention: Attention = None,
    license: License = None,
    min_context: MinContext = None,
    max_weights: MaxWeights = None,
    sort: Sort = SortKey.NAME,
    compare: Compare = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """List models, show one, or compare several."""
    from llmplan.results.compare import CompareQuestion
    from llmplan.results.listing import ModelsQuestion

    chosen = tuple(names or ())
    if compare or len(chosen) > 1:
        answer = CompareQuestion(models=chosen).ask()
    else:
        answer = ModelsQuestion(
            model=chosen[0] if chosen else None,
            family=family,
            attention=attention,
            license=license,
            min_context=min_context,
            max_weights=max_weights,
            sort=sort.value,
        ).ask()
    show(answer, Target(format, output))
