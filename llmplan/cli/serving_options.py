"""Options that say which engine runs, how it is started, and how a model is split."""

from typing import Annotated

import typer

ENGINE = "Engine"
LAYOUT = "Layout"

Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="vllm, sglang, trtllm, llama.cpp or generic; a version or day after @: vllm@0.19, "
        "sglang@2026-06. [default: generic]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
FromCommand = Annotated[
    str | None,
    typer.Option(
        "--from-command",
        metavar="COMMAND",
        help="A start command as pasted: 'vllm serve MODEL --tensor-parallel-size 8 ...'.",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
Utilization = Annotated[
    float | None,
    typer.Option(
        "--gpu-memory-utilization",
        "--mem-fraction-static",
        "--free-gpu-memory-fraction",
        metavar="SHARE",
        help="Share of memory, of what the engine takes it of. [default: the engine's]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
NoCorrections = Annotated[
    bool,
    typer.Option(
        "--no-corrections",
        help="Leave out what llmplan reconcile --save kept.",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
Reserve = Annotated[
    str | None,
    typer.Option(
        "--reserve",
        metavar="SIZE",
        help="generic: kept for activations and libraries, as 4GiB. [default: medians of logs]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
MaxModelLen = Annotated[
    str | None,
    typer.Option(
        "--max-model-len",
        "--context-length",
        metavar="TOKENS",
        help="Longest request that the engine is set to. [default: --context]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
BatchedTokens = Annotated[
    int | None,
    typer.Option(
        "--max-num-batched-tokens",
        "--chunked-prefill-size",
        min=1,
        max=10**8,
        help="Tokens of one step. [default: the engine's for the GPU]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
Sequences = Annotated[
    int | None,
    typer.Option(
        "--max-num-seqs",
        "--max-running-requests",
        min=1,
        max=10**7,
        help="Requests that run at once. [default: the engine's for the GPU]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
BlockSize = Annotated[
    int | None,
    typer.Option(
        "--block-size",
        min=1,
        max=10**6,
        help="Tokens of a cache block. [default: the engine's]",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
EnforceEager = Annotated[
    bool,
    typer.Option(
        "--enforce-eager", help="Capture no graphs.", show_default=False, rich_help_panel=ENGINE
    ),
]
KvCacheMemory = Annotated[
    str | None,
    typer.Option(
        "--kv-cache-memory",
        metavar="SIZE",
        help="Cache pool fixed by hand, as 20GB, whatever the share.",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
CpuOffload = Annotated[
    str | None,
    typer.Option(
        "--cpu-offload",
        metavar="SIZE",
        help="Weights of each GPU kept in host memory, as 40GiB.",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]
SpeculativeTokens = Annotated[
    int | None,
    typer.Option(
        "--speculative-tokens",
        min=1,
        max=64,
        help="Draft tokens a step; with --mtp, from the model's own modules.",
        show_default=False,
        rich_help_panel=ENGINE,
    ),
]

Tp = Annotated[
    int | None,
    typer.Option(
        "--tp",
        min=1,
        max=4096,
        help="GPUs that split each layer. [default: the best that fits]",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
Pp = Annotated[
    int | None,
    typer.Option(
        "--pp",
        min=1,
        max=4096,
        help="Pipeline stages. [default: 1; fit looks at others]",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
PpLayers = Annotated[
    str | None,
    typer.Option(
        "--pp-layers",
        metavar="N,N,...",
        help="Layers of each stage, as 20,21,20. [default: even]",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
Dp = Annotated[
    int | None,
    typer.Option(
        "--dp",
        min=1,
        max=4096,
        help="Copies; with --ep, groups that attend apart and share experts.",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
Ep = Annotated[
    int | None,
    typer.Option(
        "--ep",
        min=1,
        max=4096,
        help="Ranks that whole experts are spread over: all of a stage, tp x dp; 1 for none.",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
Cp = Annotated[
    int | None,
    typer.Option(
        "--cp",
        min=1,
        max=4096,
        help="Ranks of a tp group that share out the tokens of a cache in decode.",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
PrefillCp = Annotated[
    int | None,
    typer.Option(
        "--prefill-cp",
        min=1,
        max=4096,
        help="Ranks beside a tp group that share out a prompt and its cache.",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
RedundantExperts = Annotated[
    int | None,
    typer.Option(
        "--redundant-experts",
        min=0,
        max=10**5,
        help="Copies of experts beside the originals, over all ranks.",
        show_default=False,
        rich_help_panel=LAYOUT,
    ),
]
