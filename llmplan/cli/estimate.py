"""``llmplan estimate``."""

import typer

from llmplan.cli import beside_options, options, serving_options, traffic_options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


def estimate(
    model: options.OptionalModel = None,
    gpus: options.Gpus = None,
    isl: traffic_options.Isl = None,
    osl: traffic_options.Osl = None,
    concurrency: traffic_options.Concurrency = None,
    rate: traffic_options.Rate = None,
    scenario: traffic_options.ScenarioWord = None,
    spread: traffic_options.Spread = False,
    prefix_cache: traffic_options.PrefixCache = 0.0,
    ttft: traffic_options.Ttft = None,
    tpot: traffic_options.Tpot = None,
    dtype: options.Dtype = "native",
    kv_dtype: options.KvDtype = None,
    state_dtype: options.StateDtype = None,
    indexer_dtype: options.IndexerDtype = None,
    text_only: options.TextOnly = False,
    from_command: serving_options.FromCommand = None,
    engine: serving_options.Engine = None,
    gpu_memory_utilization: serving_options.Utilization = None,
    max_model_len: traffic_options.MaxModelLen = None,
    max_num_batched_tokens: traffic_options.Chunk = None,
    max_num_seqs: serving_options.Sequences = None,
    block_size: serving_options.BlockSize = None,
    kv_cache_memory: serving_options.KvCacheMemory = None,
    reserve: serving_options.Reserve = None,
    no_corrections: serving_options.NoCorrections = False,
    tp: serving_options.Tp = None,
    pp: serving_options.Pp = None,
    pp_layers: serving_options.PpLayers = None,
    dp: serving_options.Dp = None,
    ep: serving_options.Ep = None,
    cp: serving_options.Cp = None,
    prefill_cp: serving_options.PrefillCp = None,
    redundant_experts: serving_options.RedundantExperts = None,
    disaggregate: traffic_options.Disaggregate = None,
    prefill_tp: traffic_options.PrefillTp = None,
    speculative_tokens: traffic_options.Tokens = None,
    acceptance: traffic_options.Acceptance = None,
    mtp: traffic_options.Mtp = False,
    draft: traffic_options.Draft = None,
    draft_dtype: beside_options.DraftDtype = None,
    profile: traffic_options.Profile = None,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Say how fast a model is served, with a range.

    Time to the first token, between further tokens, and tokens a second; exit 1 where it does not
    fit, requests come faster than they are served, or a bound is missed.
    """
    from llmplan.results.beside_options import BesideOptions
    from llmplan.results.common import Formats
    from llmplan.results.engine_options import EngineOptions, LayoutOptions
    from llmplan.results.estimate import EstimateQuestion
    from llmplan.results.memory import MemoryQuestion
    from llmplan.results.traffic_options import TrafficOptions

    served = MemoryQuestion(
        model=model,
        formats=Formats(
            dtype=dtype, kv_dtype=kv_dtype, state_dtype=state_dtype, indexer_dtype=indexer_dtype
        ),
        mtp=mtp,
        text_only=text_only,
        gpus=gpus,
        layout=LayoutOptions(
            tp=tp,
            pp=pp,
            dp=dp,
            ep=ep,
            cp=cp,
            prefill_cp=prefill_cp,
            redundant_experts=redundant_experts,
            pp_layers=pp_layers,
        ),
        engine=EngineOptions(
            engine=engine,
            gpu_memory_utilization=gpu_memory_utilization,
            reserve=reserve,
            max_model_len=max_model_len,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
            block_size=block_size,
            kv_cache_memory=kv_cache_memory,
            speculative_tokens=speculative_tokens,
        ),
        beside=BesideOptions(draft=draft, draft_dtype=draft_dtype),
        from_command=from_command,
        corrections=not no_corrections,
    )
    traffic = TrafficOptions(
        isl=isl,
        osl=osl,
        concurrency=concurrency,
        rate=rate,
        scenario=scenario,
        spread=spread,
        prefix_cache=prefix_cache,
        acceptance=acceptance,
        ttft=ttft,
        tpot=tpot,
        disaggregate=disaggregate,
        prefill_tp=prefill_tp,
    )
    answer = EstimateQuestion(
        served=served, traffic=traffic, explain=explain, profile=profile
    ).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
