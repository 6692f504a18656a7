"""Options that several commands share, declared once, and completion of names."""

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OutputFormat(StrEnum):
    """Renderers."""

    TABLE = "table"
    JSON = "json"
    MD = "md"
    CSV = "csv"
    HTML = "html"


def complete_model(incomplete: str) -> list[str]:
    """Catalogue names that start as typed."""
    from llmplan.model.catalogue import model_names

    return _starting(incomplete, model_names())


def complete_device(incomplete: str) -> list[str]:
    """Device names that start as typed."""
    from llmplan.hardware.catalogue import device_names

    return _starting(incomplete, device_names())


def complete_gpus(incomplete: str) -> list[str]:
    """Device names that start as typed, behind a count such as ``8x`` where one is given."""
    count = re.match(r"(\d+n)?(\d+x)?", incomplete)
    typed = count[0] if count else ""
    return [typed + name for name in complete_device(incomplete[len(typed) :])]


def complete_dtype(incomplete: str) -> list[str]:
    """Names of weight formats that start as typed."""
    from llmplan.dtypes import known_names

    return _starting(incomplete, ("native", *known_names()))


def complete_state_dtype(incomplete: str) -> list[str]:
    """Names of formats that requests keep state in, which start as typed."""
    from llmplan.dtypes import known_state_names

    return _starting(incomplete, known_state_names())


def _starting(typed: str, names: Iterable[str]) -> list[str]:
    """Names that start as typed, in the case typed: shells drop what does not continue the word."""
    return [typed + name[len(typed) :] for name in names if name.startswith(typed.lower())]


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Catalogue name, Hugging Face id, or path: spec (.yaml), config.json, .safetensors, "
        ".gguf.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
OptionalModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Catalogue name, Hugging Face id, or path: spec (.yaml), config.json, .safetensors, "
        ".gguf.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
SomeModels = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL",
        help="One to show it on a page, two to eight to compare them.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Format of linear weights, or by role: experts=mxfp4,head=fp8. native: as published.",
        autocompletion=complete_dtype,
    ),
]
KvDtype = Annotated[
    str | None,
    typer.Option(
        "--kv-dtype",
        help="Format of keys and values, whatever the weights; q8_0/f16 for keys and values apart. "
        "[default: bf16, or the engine's own]",
        show_default=False,
        autocompletion=complete_state_dtype,
    ),
]
StateDtype = Annotated[
    str | None,
    typer.Option(
        "--state-dtype",
        help="Format of recurrent and convolution state. [default: bf16, or the engine's own]",
        show_default=False,
        autocompletion=complete_state_dtype,
    ),
]
IndexerDtype = Annotated[
    str | None,
    typer.Option(
        "--indexer-dtype",
        help="Format of sparse-attention indexer keys. [default: bf16, or the engine's own]",
        show_default=False,
        autocompletion=complete_state_dtype,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="TOKENS",
        help="Prompt and output tokens per request; 128k = 131072. "
        "[default: 8k, or the model's maximum if less]",
        show_default=False,
    ),
]
Batch = Annotated[int, typer.Option("--batch", min=1, max=10**9, help="Requests held at once.")]
Mtp = Annotated[bool, typer.Option("--mtp", help="Count multi-token-prediction modules.")]
TextOnly = Annotated[
    bool, typer.Option("--text-only", help="Leave the vision tower and projector out.")
]
Gpus = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="GPUS",
        help="8xH100, h100-sxm, or 2n8xH200 (2 nodes of 8).",
        autocompletion=complete_gpus,
        show_default=False,
    ),
]
RequiredGpus = Annotated[
    str,
    typer.Option(
        "--gpus",
        metavar="GPUS",
        help="8xH100, h100-sxm, or 2n8xH200 (2 nodes of 8).",
        autocompletion=complete_gpus,
        show_default=False,
    ),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="Output format.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write to a file instead of stdout.", show_default=False),
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Show each number with formula, values and spec keys."),
]
