"""Attention over compressed entries with experts: DeepSeek V4."""

from typing import Final

from llmplan.model.importing.families.shared_moe import ROUTED
from llmplan.model.importing.parts import Spec, frame, stack
from llmplan.model.importing.sparse import absent, experts, known_mtp, shared
from llmplan.model.importing.view import ConfigView

RATIOS: Final = {0: "window", 4: "sparse", 128: "heavy"}
"""Block by entry of ``compress_ratios``; the class fixes which ratio overlaps and is indexed."""


def deepseek_v4(config: ConfigView) -> Spec:
    """DeepSeek V4: the list of ratios goes on over the MTP module."""
    absent(config, "mlp_bias", "attention_bias")
    config.require("topk_method", "noaux_tc", None)
    config.require("num_key_value_heads", 1, None)
    config.ignore("compress_rope_theta", "hc_eps", "hc_sinkhorn_iters")  # numerics
    base = frame(config, tied=False)
    modules = config.size("num_nextn_predict_layers", 0)
    mixers = _mixers(config, base["num_hidden_layers"] + modules)
    depth = base["num_hidden_layers"]
    if len(set(mixers[depth:])) > 1:
        raise config.refusal("compress_ratios", "differs between MTP modules")
    layers = list(zip(mixers[:depth], _networks(config, depth), strict=True))
    blocks = {**_attention(config), **_experts(config, base["vocab_size"])}
    mtp = known_mtp(config, mixers[-1], "moe") if modules else None
    rest = {"hc_mult": config.count("hc_mult", 4), "precision": _precision(config)}
    return {**base, **rest, **stack(blocks, layers, mtp)}


def _mixers(config: ConfigView, count: int) -> list[str]:
    ratios = config.counts("compress_ratios")
    if len(ratios) != count:
        why = f"has {len(ratios)} entries; one for each of {count} layers and modules is expected"
        raise config.refusal("compress_ratios", why)
    for ratio in ratios:
        if ratio not in RATIOS:
            raise config.refusal("compress_ratios", f"has {ratio}; only 0, 4 and 128 are known")
    return [RATIOS[ratio] for ratio in ratios]


def _networks(config: ConfigView, depth: int) -> list[str]:
    """The first layers look their experts up by token id."""
    first = config.size("num_hash_layers", 3)
    return ["hash_moe" if index < first else "moe" for index in range(depth)]


def _attention(config: ConfigView) -> Spec:
    window = {
        "kind": "compressed_attention",
        "num_attention_heads": config.count("num_attention_heads"),
        "head_dim": config.count("head_dim", 512),
        "q_lora_rank": config.count("q_lora_rank"),
        "qk_rope_head_dim": config.count("qk_rope_head_dim", 64),
        "o_groups": config.count("o_groups"),
        "o_lora_rank": config.count("o_lora_rank"),
        "sliding_window": config.count("sliding_window"),
    }
    indexer = {key: config.count(key) for key in ("index_n_heads", "index_head_dim", "index_topk")}
    sparse = {"compress_ratio": 4, "overlapping_entries": True, "indexer": indexer}
    return {
        "window": window,
        "sparse": {**window, **sparse},
        "heavy": {**window, "compress_ratio": 128},
    }


def _experts(config: ConfigView, vocab_size: int) -> Spec:
    chosen = experts(
        config, count=ROUTED, n_shared_experts=shared(config), e_score_correction_bias=True
    )
    looked_up = {key: value for key, value in chosen.items() if key != "e_score_correction_bias"}
    return {"moe": chosen, "hash_moe": {**looked_up, "expert_table_rows": vocab_size}}


def _precision(config: ConfigView) -> Spec:
    """What quantised files store apart: experts, and small tensors that stay in fp32."""
    config.require("expert_dtype", "fp4", "fp8", None)
    fp4 = config.text("expert_dtype", "") == "fp4"
    return {"bias": "fp32", **({"experts": "mxfp4"} if fp4 else {})}


READERS: Final = {"DeepseekV4ForCausalLM": deepseek_v4}
MODEL_TYPES: Final = {"deepseek_v4": "DeepseekV4ForCausalLM"}
