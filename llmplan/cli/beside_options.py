"""Options for what is held beside a model on a GPU, and for what stays in host memory."""

from typing import Annotated

import typer

BESIDE = "Beside the model"
HOST = "In host memory"

Lora = Annotated[
    int | None,
    typer.Option(
        "--lora",
        metavar="N",
        min=1,
        max=10**6,
        help="Adapters held on the GPU at once.",
        show_default=False,
        rich_help_panel=BESIDE,
    ),
]
LoraRank = Annotated[
    int | None,
    typer.Option(
        "--lora-rank",
        metavar="R",
        min=1,
        max=10**5,
        help="Rank that their slots are made for. [default: 16]",
        show_default=False,
        rich_help_panel=BESIDE,
    ),
]
LoraTargets = Annotated[
    str | None,
    typer.Option(
        "--lora-targets",
        metavar="ROLE,...",
        help="Matrices that have adapters: attention, ffn, experts. [default: attention,ffn]",
        show_default=False,
        rich_help_panel=BESIDE,
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="MODEL",
        help="Draft model of speculative decoding.",
        show_default=False,
        rich_help_panel=BESIDE,
    ),
]
DraftDtype = Annotated[
    str | None,
    typer.Option(
        "--draft-dtype",
        metavar="FORMAT",
        help="Format of its linear weights. [default: native]",
        show_default=False,
        rich_help_panel=BESIDE,
    ),
]
PromptLogits = Annotated[
    bool,
    typer.Option(
        "--prompt-logits",
        help="Make room for logits of every prompt token of a step.",
        show_default=False,
        rich_help_panel=BESIDE,
    ),
]
ExpertsOnCpu = Annotated[
    bool,
    typer.Option(
        "--experts-on-cpu",
        "--cpu-moe",
        help="Routed experts stay in host memory.",
        show_default=False,
        rich_help_panel=HOST,
    ),
]
GpuLayers = Annotated[
    int | None,
    typer.Option(
        "--gpu-layers",
        "-ngl",
        metavar="N",
        min=0,
        max=10**6,
        help="Layers on GPUs, the last ones, the output head counting as one; the others stay in "
        "host memory with their cache. [default: all]",
        show_default=False,
        rich_help_panel=HOST,
    ),
]
HostMemory = Annotated[
    str | None,
    typer.Option(
        "--host-memory",
        metavar="SIZE",
        help="Memory of each node's host, as 512GiB. [default: the catalogue's]",
        show_default=False,
        rich_help_panel=HOST,
    ),
]
KvOffload = Annotated[
    str | None,
    typer.Option(
        "--kv-offload",
        metavar="SIZE",
        help="Host memory for cache blocks of each GPU, as 64GiB; counted apart.",
        show_default=False,
        rich_help_panel=HOST,
    ),
]
