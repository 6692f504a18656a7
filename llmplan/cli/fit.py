"""``llmplan fit``."""

import typer

from llmplan.cli import beside_options, options, serving_options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


def fit(
    gpus: options.RequiredGpus,
    model: options.OptionalModel = None,
    dtype: options.Dtype = "native",
    kv_dtype: options.KvDtype = None,
    state_dtype: options.StateDtype = None,
    indexer_dtype: options.IndexerDtype = None,
    context: options.Context = None,
    batch: options.Batch = 1,
    text_only: options.TextOnly = False,
    engine: serving_options.Engine = None,
    gpu_memory_utilization: serving_options.Utilization = None,
    max_model_len: serving_options.MaxModelLen = None,
    max_num_batched_tokens: serving_options.BatchedTokens = None,
    max_num_seqs: serving_options.Sequences = None,
    block_size: serving_options.BlockSize = None,
    enforce_eager: serving_options.EnforceEager = False,
    kv_cache_memory: serving_options.KvCacheMemory = None,
    cpu_offload: serving_options.CpuOffload = None,
    speculative_tokens: serving_options.SpeculativeTokens = None,
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
    lora: beside_options.Lora = None,
    lora_rank: beside_options.LoraRank = None,
    lora_targets: beside_options.LoraTargets = None,
    draft: beside_options.Draft = None,
    draft_dtype: beside_options.DraftDtype = None,
    prompt_logits: beside_options.PromptLogits = False,
    experts_on_cpu: beside_options.ExpertsOnCpu = False,
    gpu_layers: beside_options.GpuLayers = None,
    host_memory: beside_options.HostMemory = None,
    kv_offload: beside_options.KvOffload = None,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """List what fits on GPUs.

    The whole catalogue, or one model with every layout and what would make it fit.
    """
    from llmplan.results.beside_options import BesideOptions
    from llmplan.results.common import Formats
    from llmplan.results.engine_options import EngineOptions, LayoutOptions
    from llmplan.results.fit import FitQuestion

    answer = FitQuestion(
        gpus=gpus,
        model=model,
        formats=Formats(
            dtype=dtype, kv_dtype=kv_dtype, state_dtype=state_dtype, indexer_dtype=indexer_dtype
        ),
        context=context,
        batch=batch,
        text_only=text_only,
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
            enforce_eager=enforce_eager,
            kv_cache_memory=kv_cache_memory,
            cpu_offload=cpu_offload,
            speculative_tokens=speculative_tokens,
        ),
        beside=BesideOptions(
            lora=lora,
            lora_rank=lora_rank,
            lora_targets=lora_targets,
            draft=draft,
            draft_dtype=draft_dtype,
            prompt_logits=prompt_logits,
            experts_on_cpu=experts_on_cpu,
            gpu_layers=gpu_layers,
            host_memory=host_memory,
            kv_offload=kv_offload,
        ),
        explain=explain,
        corrections=not no_corrections,
    ).ask()
    show(answer, Target(format, output))
    if answer.is_no:
        raise typer.Exit(1)
