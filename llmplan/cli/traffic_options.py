"""Options that say what is served, and which bounds are to be held."""

from typing import Annotated

import typer

TRAFFIC = "Traffic"
DRAFTS = "Speculative decoding"
CALIBRATION = "Calibration"
BOUNDS = "Bounds: exit 1 where one is missed"

Isl = Annotated[
    str | None,
    typer.Option(
        "--isl",
        metavar="TOKENS",
        help="Tokens of a prompt. [default: 1024]",
        show_default=False,
        rich_help_panel=TRAFFIC,
    ),
]
Osl = Annotated[
    str | None,
    typer.Option(
        "--osl",
        metavar="TOKENS",
        help="Tokens of an output. [default: 1024]",
        show_default=False,
        rich_help_panel=TRAFFIC,
    ),
]
Concurrency = Annotated[
    str | None,
    typer.Option(
        "--concurrency",
        metavar="N",
        help="Requests in flight over all GPUs; several as 1,8,64 give a table. "
        "[default: 64, or what fits if less]",
        show_default=False,
        rich_help_panel=TRAFFIC,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        metavar="PER_S",
        help="Instead: requests a second that come at random.",
        show_default=False,
        rich_help_panel=TRAFFIC,
    ),
]
ScenarioWord = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="WORD",
        help="closed: so many in flight; open: at --rate; static: all start together; offline: as "
        "many as run at once; single: one after the other on each copy. [default: closed, or open "
        "with --rate]",
        show_default=False,
        rich_help_panel=TRAFFIC,
    ),
]
Spread = Annotated[
    bool,
    typer.Option(
        "--spread",
        help="Lengths differ between requests; --isl and --osl are means.",
        show_default=False,
        rich_help_panel=TRAFFIC,
    ),
]
PrefixCache = Annotated[
    float,
    typer.Option(
        "--prefix-cache",
        metavar="SHARE",
        help="Share of a prompt that the cache holds already.",
        rich_help_panel=TRAFFIC,
    ),
]
Acceptance = Annotated[
    float | None,
    typer.Option(
        "--acceptance",
        metavar="CHANCE",
        help="Chance that a draft is right where all before it were.",
        show_default=False,
        rich_help_panel=DRAFTS,
    ),
]
MaxModelLen = Annotated[
    str | None,
    typer.Option(
        "--max-model-len",
        "--context-length",
        metavar="TOKENS",
        help="Longest request that the engine is set to. [default: --isl + --osl]",
        show_default=False,
        rich_help_panel="Engine",
    ),
]
Chunk = Annotated[
    int | None,
    typer.Option(
        "--max-num-batched-tokens",
        "--chunked-prefill-size",
        "--chunk",
        min=1,
        max=10**8,
        help="Tokens of one step, which longer prompts are cut to. [default: 8192]",
        show_default=False,
        rich_help_panel="Engine",
    ),
]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--speculative-tokens",
        min=1,
        max=64,
        help="Drafts a step: with --mtp by the model's own modules, else by --draft.",
        show_default=False,
        rich_help_panel=DRAFTS,
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        "--draft",
        "--draft-model",
        metavar="MODEL",
        help="Draft model; stands on the same GPUs.",
        show_default=False,
        rich_help_panel=DRAFTS,
    ),
]
Mtp = Annotated[
    bool,
    typer.Option(
        "--mtp",
        help="Hold the model's multi-token-prediction modules.",
        show_default=False,
        rich_help_panel=DRAFTS,
    ),
]
Ttft = Annotated[
    str | None,
    typer.Option(
        "--ttft",
        metavar="TIME",
        help="Time to the first token, as 2s.",
        show_default=False,
        rich_help_panel=BOUNDS,
    ),
]
Tpot = Annotated[
    str | None,
    typer.Option(
        "--tpot",
        metavar="TIME",
        help="Time between further tokens, as 50ms.",
        show_default=False,
        rich_help_panel=BOUNDS,
    ),
]
Disaggregate = Annotated[
    str | None,
    typer.Option(
        "--disaggregate",
        metavar="P:D",
        help="P of the GPUs do prompts only, D decode; --tp and so on are of those that decode.",
        show_default=False,
        rich_help_panel="Layout",
    ),
]
PrefillTp = Annotated[
    int | None,
    typer.Option(
        "--prefill-tp",
        min=1,
        max=4096,
        help="GPUs that split each layer where prompts are done. [default: as those that decode]",
        show_default=False,
        rich_help_panel="Layout",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        help="What `llmplan calibrate` measured on this GPU; none leaves it out. "
        "[default: that of the GPU, where there is one]",
        show_default=False,
        rich_help_panel=CALIBRATION,
    ),
]
