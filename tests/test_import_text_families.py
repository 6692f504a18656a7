"""Decoders with shared transformers, idle experts, inner norms and unmixed streams.

Each small variant is imported as a publisher would write it and as transformers writes it out in
full; both must give the parameters of the class. Small models then run: FLOPs equal those of
torch's counter, caches the bytes that the class keeps.
"""

import os
import warnings
from typing import Any, Final

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

from llmplan.analyze.parameters import parameter_counts
from llmplan.errors import DocumentError, LayoutError
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.importing.config import spec_of_config
from llmplan.ops.base import StateKind, Step
from llmplan.ops.counting import as_full_square
from llmplan.ops.differential import DifferentialAttention
from llmplan.ops.moe import Experts, Router
from llmplan.ops.reused import Reused
from llmplan.ops.routed_linear import RoutedLinear
from llmplan.parallel.layout import Layout
from llmplan.parallel.rank import stage_ranks
from llmplan.parallel.shard import sharded_model
from llmplan.parallel.shared_weights import with_shared_weights
from tests.small_models import SmallModel, built, ran
from tests.test_live_flops import (
    BLOCK,
    at_all_positions,
    chunked_scan,
    head_weighting,
    latents_expanded_again,
    model_flops,
    padded_columns,
    state_readout,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.oracle

BASE: Final = {
    "vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 6, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HEADS: Final = {"num_attention_heads": 4, "num_key_value_heads": 2}
HYBRID: Final = ["linear_attention", "hybrid", "hybrid", "linear_attention", "hybrid", "hybrid"]
ZAMBA: Final = {
    **BASE, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 112,
    "mamba_d_state": 6, "mamba_d_conv": 3, "layers_block_type": HYBRID,
}  # fmt: skip
ZAMBA2: Final = {
    **BASE, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 112,
    "mamba_d_state": 12, "mamba_d_conv": 3, "n_mamba_heads": 8, "mamba_ngroups": 2,
    "num_mem_blocks": 2, "adapter_rank": 6, "layers_block_type": HYBRID, "chunk_size": BLOCK,
}  # fmt: skip
LATENT: Final = {
    **BASE, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 112,
    "moe_intermediate_size": 20, "kv_lora_rank": 24, "q_lora_rank": 28, "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 6, "num_experts_per_tok": 2,
    "n_shared_experts": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
LONGCAT: Final = {
    "vocab_size": 96, "hidden_size": 64, "num_layers": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "num_attention_heads": 4,
    "ffn_hidden_size": 112, "expert_ffn_hidden_size": 20, "kv_lora_rank": 24, "q_lora_rank": 28,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 6,
    "moe_topk": 2, "zero_expert_num": 0, "head_dim": 8,
}  # fmt: skip
HUNYUAN: Final = {
    **LATENT, "index_topk": 64, "index_head_dim": 16, "index_n_heads": 3, "hc_mult": 3,
}  # fmt: skip
LFM3: Final = {**BASE, **HEADS, "intermediate_size": 112, "head_dim": 24, "sliding_window": 8}
XLSTM: Final = {
    "vocab_size": 96, "hidden_size": 128, "num_hidden_layers": 3, "num_heads": 4, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
DIFFLLAMA: Final = {
    **BASE, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 112,
}  # fmt: skip
JETMOE: Final = {
    **BASE, "num_key_value_heads": 4, "kv_channels": 20, "intermediate_size": 44,
    "num_local_experts": 5, "num_experts_per_tok": 2,
}  # fmt: skip
BITNET: Final = {**BASE, **HEADS, "intermediate_size": 112}
JAPANESE: Final = {**BASE, "num_attention_heads": 4, "intermediate_multiple_size": 3}

VARIANTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "zamba": ("ZambaForCausalLM", {**ZAMBA, "n_mamba_heads": 2}),
    "zamba-one-head": (
        "ZambaForCausalLM",
        {**ZAMBA, "n_mamba_heads": 1, "mamba_proj_bias": True, "mamba_conv_bias": False},
    ),
    "zamba-wide": (
        "ZambaForCausalLM",
        {**ZAMBA, "n_mamba_heads": 4, "attention_head_dim": 20, "num_key_value_heads": 2,
         "mamba_dt_rank": 5, "mamba_expand": 3},
    ),
    "zamba-period": (
        "ZambaForCausalLM",
        {**ZAMBA, "layers_block_type": None, "num_hidden_layers": 11, "attn_layer_period": 4,
         "attn_layer_offset": 1},
    ),
    "zamba2": ("Zamba2ForCausalLM", ZAMBA2),
    "zamba2-one-block": ("Zamba2ForCausalLM", {**ZAMBA2, "num_mem_blocks": 1}),
    "zamba2-adapters": (
        "Zamba2ForCausalLM",
        {**ZAMBA2, "use_shared_attention_adapter": True, "use_mem_rope": True,
         "add_bias_linear": True},
    ),
    "zamba2-grouped": ("Zamba2ForCausalLM", {**ZAMBA2, "num_key_value_heads": 2}),
    "zamba2-more-blocks-than-layers": ("Zamba2ForCausalLM", {**ZAMBA2, "num_mem_blocks": 5}),
    "longcat": ("LongcatFlashForCausalLM", LONGCAT),
    "longcat-tied": (
        "LongcatFlashForCausalLM",
        {**LONGCAT, "tie_word_embeddings": True, "moe_topk": 3, "num_layers": 3},
    ),
    "axk1": ("AXK1ForCausalLM", LATENT),
    "axk1-dense": ("AXK1ForCausalLM", {**LATENT, "first_k_dense_replace": 3}),
    "axk1-listed": (
        "AXK1ForCausalLM",
        {**LATENT, "mlp_layer_types": ["sparse", "dense"] * 3, "tie_word_embeddings": True},
    ),
    "hy-v4": ("HYV4ForCausalLM", HUNYUAN),
    "hy-v4-listed": (
        "HYV4ForCausalLM",
        {**HUNYUAN, "indexer_types": ["full", "shared"] * 3, "hc_mult": 2,
         "mlp_layer_types": ["dense"] * 2 + ["sparse"] * 4, "tie_word_embeddings": True},
    ),
    "jetmoe": ("JetMoeForCausalLM", JETMOE),
    "jetmoe-three": (
        "JetMoeForCausalLM",
        {**JETMOE, "num_experts_per_tok": 3, "tie_word_embeddings": False, "kv_channels": 12},
    ),
    "xlstm": ("xLSTMForCausalLM", XLSTM),
    "xlstm-narrow": (
        "xLSTMForCausalLM",
        {**XLSTM, "v_dim_factor": 1.5,
         "ffn_proj_factor": 1.6, "ffn_round_up_to_multiple_of": 24, "qk_dim_factor": 1.0},
    ),
    "lfm3": ("Lfm3ForCausalLM", LFM3),
    "lfm3-bare": (
        "Lfm3ForCausalLM",
        {**LFM3, "use_sandwich_norm": False, "use_attention_gate": False, "conv_bias": True,
         "tie_word_embeddings": False, "conv_L_cache": 3, "attention_bias": True,
         "layer_types": ["conv", "full_attention", "sliding_attention"] * 2},
    ),
    "bitnet": ("BitNetForCausalLM", BITNET),
    "bitnet-biased": (
        "BitNetForCausalLM",
        {**BITNET, "attention_bias": True, "tie_word_embeddings": True, "num_hidden_layers": 3},
    ),
    "diffllama": ("DiffLlamaForCausalLM", {**DIFFLLAMA, "head_dim": 12}),
    "diffllama-biased": (
        "DiffLlamaForCausalLM",
        {**DIFFLLAMA, "num_key_value_heads": 4, "attention_bias": True,
         "tie_word_embeddings": True},
    ),
    "neox-japanese": ("GPTNeoXJapaneseForCausalLM", JAPANESE),
    "neox-japanese-partial": (
        "GPTNeoXJapaneseForCausalLM",
        {**JAPANESE, "rotary_pct": 0.5, "tie_word_embeddings": False, "num_hidden_layers": 1},
    ),
}  # fmt: skip


def imported(config: dict[str, Any]) -> Model:
    """The import of a config, compiled without its MTP modules."""
    spec, document = spec_of_config(config, "variant.json")
    return compile_spec(spec, document).served()


def variant(name: str) -> Model:
    """One of the variants, as its publisher would write it."""
    architecture, keys = VARIANTS[name]
    return imported({**keys, "architectures": [architecture]})


def parameters(model: Model) -> int:
    return sum(operator.parameters * n for operator, n in model.counted())


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_imported_as_the_class_builds_it(name):
    architecture, keys = VARIANTS[name]
    model_class = getattr(transformers, architecture)
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        config = model_class.config_class(**keys)
        network = model_class(config)
        network.tie_weights()
    expected = sum(parameter.numel() for parameter in network.parameters())

    assert parameters(variant(name)) == expected
    assert parameters(imported({**config.to_dict(), "architectures": [architecture]})) == expected


STATE_SPACE: Final = ["zamba", "zamba-one-head", "zamba2", "zamba2-adapters"]
PLAIN: Final = ["bitnet", "neox-japanese-partial", "jetmoe", "jetmoe-three"]
STEPS: Final = [(1, BLOCK), (3, 2 * BLOCK)]


def network_of(name: str) -> Any:
    """The class with random weights, in plain operations that a counter sees."""
    return built(SmallModel(*VARIANTS[name], spec=""))


def counted_flops(name: str, requests: int, tokens: int, context: int = 0) -> int:
    """FLOPs that torch counts for ``tokens`` new ones on top of ``context``."""
    from torch.utils.flop_counter import FlopCounterMode

    network = network_of(name)
    cache = ran(network, requests, context) if context else None
    with FlopCounterMode(display=False) as counter:
        ran(network, requests, tokens, cache)
    return counter.get_total_flops()


def as_counted(name: str) -> Model:
    """The variant with full squares and logits at all positions."""
    return variant(name).rewritten(as_full_square).rewritten(at_all_positions)


@pytest.mark.parametrize(("requests", "prompt"), STEPS)
@pytest.mark.parametrize("name", STATE_SPACE)
def test_prefill_of_a_shared_transformer(name, requests, prompt):
    model = as_counted(name)

    counted = counted_flops(name, requests, prompt)

    scan = (
        chunked_scan(model, requests, prompt)
        if name.startswith("zamba2")
        else state_readout(model, requests * prompt)
    )
    padding = padded_columns(model, requests)
    assert model_flops(model, Step.prefill(requests, prompt)) == counted - padding - scan


@pytest.mark.parametrize(("requests", "prompt"), STEPS)
@pytest.mark.parametrize("name", PLAIN)
def test_prefill_of_plain_attention(name, requests, prompt):
    model = as_counted(name)

    counted = counted_flops(name, requests, prompt)

    assert model_flops(model, Step.prefill(requests, prompt)) == counted


@pytest.mark.parametrize(("requests", "context"), STEPS)
@pytest.mark.parametrize("name", PLAIN)
def test_decode_of_plain_attention(name, requests, context):
    model = as_counted(name)

    counted = counted_flops(name, requests, 1, context)

    assert model_flops(model, Step.decode(requests, context)) == counted


@pytest.mark.parametrize(("requests", "prompt"), STEPS)
@pytest.mark.parametrize("name", ["longcat", "axk1"])
def test_prefill_of_latent_attention(name, requests, prompt):
    model = as_counted(name)

    counted = counted_flops(name, requests, prompt)

    assert model_flops(model, Step.prefill(requests, prompt)) == counted


@pytest.mark.parametrize(("requests", "context"), STEPS)
def test_decode_of_two_attentions_a_layer(requests, context):
    model = as_counted("longcat")

    counted = counted_flops("longcat", requests, 1, context)

    again = latents_expanded_again(model, requests, context)
    assert model_flops(model, Step.decode(requests, context)) == counted - again


@pytest.mark.parametrize(("requests", "prompt"), STEPS)
def test_prefill_of_unmixed_streams(requests, prompt):
    model = as_counted("hy-v4")

    counted = counted_flops("hy-v4", requests, prompt)

    weighting = head_weighting(model, requests, prompt, prompt)
    assert model_flops(model, Step.prefill(requests, prompt)) == counted - weighting


@pytest.mark.parametrize(("requests", "prompt"), STEPS)
def test_prefill_of_lfm3(requests, prompt):
    model = as_counted("lfm3")

    counted = counted_flops("lfm3", requests, prompt)

    padding = padded_columns(model, requests)
    assert model_flops(model, Step.prefill(requests, prompt)) == counted - padding


@pytest.mark.parametrize(("requests", "prompt"), [(1, 5), (3, 9)])
@pytest.mark.parametrize("name", ["xlstm", "xlstm-narrow"])
def test_prefill_of_mlstm_by_single_steps(name, requests, prompt):
    """Prompts below one chunk, which the class runs token by token."""
    from torch.utils.flop_counter import FlopCounterMode

    model, network = as_counted(name), network_of(name)
    ids = torch.ones(requests, prompt, dtype=torch.long)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        state = network(ids, use_cache=True).cache_params

    assert model_flops(model, Step.prefill(requests, prompt)) == counter.get_total_flops()
    kept = sum(s.width * n for o, n in model.decoder.counted for s in o.states)
    held = sum(t.numel() for states in state.rnn_state.values() for t in states)
    assert requests * kept == held


def scores_twice(model: Model, step: Step) -> int:
    """DiffLlama's class forms each score twice, once for each half of the values."""
    attentions = [(o, n) for o, n in model.decoder.counted if isinstance(o, DifferentialAttention)]
    flops = ((float(o.cost(step).attention_flops), n) for o, n in attentions)
    return round(sum(total * n for total, n in flops) / 3)


@pytest.mark.parametrize("name", ["diffllama", "diffllama-biased"])
def test_prefill_and_decode_of_differential_attention(name):
    model, prefill, decode = as_counted(name), Step.prefill(3, 20), Step.decode(2, 20)

    assert model_flops(model, prefill) == counted_flops(name, 3, 20) - scores_twice(model, prefill)
    assert model_flops(model, decode) == counted_flops(name, 2, 1, 20) - scores_twice(model, decode)


def test_pairs_of_heads_stay_together():
    rank = sharded_model(variant("diffllama"), 4)
    (attention,) = {o for o, _ in rank.decoder.counted if isinstance(o, DifferentialAttention)}
    matrices = {o.name: o.parameters for o, _ in rank.decoder.counted}

    # one pair of four, and the one pair of key/value heads in a copy
    assert (attention.num_attention_heads, attention.num_key_value_heads) == (2, 2)
    assert matrices["q_proj"] == matrices["k_proj"] == 64 * 2 * 12
    with pytest.raises(LayoutError, match="its 4 units"):
        sharded_model(variant("diffllama"), 8)


# -- weights that layers share -------------------------------------------------------------------


def test_shared_weights_are_stored_once_and_used_by_each_layer():
    model = variant("zamba2")

    stored = [o.name for layer in model.decoder.layers for o in layer.operators if o.weights]
    used = [o.name for layer in model.decoder.layers for o in layer.operators]

    assert (stored.count("q_proj"), used.count("q_proj")) == (2, 4)
    assert stored.count("gate_up_proj_adapter.0") == 4


def test_each_use_of_shared_weights_costs_and_keeps_the_same():
    layers = variant("zamba2-one-block").decoder.layers
    first, second = layers[1].operators, layers[2].operators
    step = Step.decode(2, 20)

    assert [o.states for o in second] == [o.states for o in first]
    assert [o.cost(step) for o in second] == [o.cost(step) for o in first]
    assert any(isinstance(o, Reused) for o in second)


def test_each_rank_shares_its_part():
    whole = variant("zamba2-adapters")

    split = sharded_model(whole, 2)
    first, second = split.decoder.layers[1].operators, split.decoder.layers[4].operators

    # the third use is of the first block again
    of_first = {o.name: o.cost(Step.decode(1, 9)) for o in first}
    assert {o.name: o.cost(Step.decode(1, 9)) for o in second} == of_first
    assert 2 * parameter_counts(split).total >= parameter_counts(whole).total


def test_shared_weights_do_not_split_beyond_their_heads():
    with pytest.raises(LayoutError, match="q_proj"):
        sharded_model(variant("zamba2"), 8)


def test_a_pipeline_stage_stores_what_its_layers_share():
    layers = variant("zamba2-one-block").decoder.layers

    held = with_shared_weights(layers[2:])

    stored = [o.name for layer in held for o in layer.operators if o.weights]
    assert stored.count("q_proj") == 1
    assert with_shared_weights(layers) == layers


# -- experts that compute nothing ----------------------------------------------------------------


def idle_longcat(**keys: int) -> Model:
    return imported({**LONGCAT, **keys, "architectures": ["LongcatFlashForCausalLM"]})


def test_idle_experts_are_scored_and_store_nothing():
    with_idle = idle_longcat(zero_expert_num=3, moe_topk=3)
    without = idle_longcat(moe_topk=3)
    operators = {type(o): o for o, _ in with_idle.decoder.counted}

    # a row of the router for each, in two layers
    assert parameters(with_idle) - parameters(without) == 2 * 3 * 64
    assert operators[Router].buffers == 9
    # 3 of 9 are chosen and 6 of 9 compute: two thirds of the work
    share = [m.decoder.counted for m in (with_idle, without)]
    work = [
        float(o.cost(Step.decode(1, 0)).matmul_flops)
        for counted in share
        for o, _ in counted
        if isinstance(o, Experts)
    ]
    assert work[0] * 3 == work[1] * 2
    assert operators[Experts].active_parameters * 3 == operators[Experts].parameters


FP8: Final = {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}}

REFUSED: Final = {
    "zamba-fp8": ("zamba", FP8, "quantization_config"),
    "zamba2-fp8": ("zamba2", FP8, "quantization_config"),
    "jetmoe-fp8": ("jetmoe", FP8, "quantization_config"),
    "xlstm-fp8": ("xlstm", FP8, "quantization_config"),
    "zamba2-head": ("zamba2", {"attention_head_dim": 24}, "attention_head_dim"),
    "zamba2-depth": ("zamba2", {"num_hidden_layers": 7}, "layers_block_type"),
    "zamba2-ids": ("zamba2", {"hybrid_layer_ids": [0]}, "hybrid_layer_ids"),
    "zamba2-adapters": (
        "zamba2-grouped", {"use_shared_attention_adapter": True}, "num_key_value_heads"
    ),
    "zamba2-untied": ("zamba2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    "zamba2-lora": ("zamba2", {"lora_rank": 128}, "lora_rank"),
    "zamba-width": ("zamba", {"attention_hidden_size": 64}, "attention_hidden_size"),
    "zamba-word": ("zamba", {"layers_block_type": ["moe"] * 6}, "layers_block_type"),
    "longcat-ngrams": ("longcat", {"ngram_vocab_size_ratio": 78}, "ngram_vocab_size_ratio"),
    "longcat-bias": ("longcat", {"attention_bias": True}, "attention_bias"),
    "longcat-mean": ("longcat", {"zero_expert_num": 4, "moe_topk": 3}, "zero_expert_num"),
    "axk1-rank": ("axk1", {"q_lora_rank": None}, "q_lora_rank"),
    "hy-v4-layers": ("hy-v4", {"layer_types": ["full_attention"] * 6}, "layer_types"),
    "hy-v4-shared-first": (
        "hy-v4", {"indexer_types": ["shared"] + ["full"] * 5}, "indexer_types"
    ),
    "lfm3-window": ("lfm3", {"sliding_window": None}, "sliding_window"),
    "jetmoe-heads": ("jetmoe", {"num_attention_heads": 4}, "num_attention_heads"),
    "xlstm-biased": ("xlstm", {"use_bias": True}, "use_bias"),
    "xlstm-fused": ("xlstm", {"weight_mode": "fused"}, "weight_mode"),
    "xlstm-tied": ("xlstm", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    "xlstm-heads": ("xlstm", {"qk_dim_factor": 0.3}, "qk_dim_factor"),
    "diffllama-odd": (
        "diffllama", {"num_attention_heads": 9, "num_key_value_heads": 3}, "num_key_value_heads"
    ),
    "bitnet-heads": ("bitnet", {"head_dim": 24}, "head_dim"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_refused_with_its_key(name):
    base, changes, key = REFUSED[name]
    architecture, keys = VARIANTS[base]

    with pytest.raises(DocumentError) as refusal:
        imported({**keys, **changes, "architectures": [architecture]})

    assert refusal.value.key.endswith(key)


def test_sliding_layers_keep_their_window():
    states = [(s, n) for o, n in variant("lfm3").decoder.counted for s in o.states]

    windows = {s.window for s, _ in states if s.kind is StateKind.WINDOW}
    columns = sum(s.width * n for s, n in states if s.kind is StateKind.CONVOLUTION)

    # layers 2 and 4 attend, the other four keep 6 columns of the width
    assert windows == {8}
    assert columns == 4 * 6 * 64


def test_experts_of_attention_are_cut_along_their_heads():
    whole = variant("jetmoe")

    rank = sharded_model(whole, 2)
    cut = {o.name: o for o, _ in rank.decoder.counted if isinstance(o, RoutedLinear)}

    assert (cut["q_proj"].out_features, cut["o_proj"].in_features) == (2 * 20, 2 * 20)
    with pytest.raises(LayoutError, match="4 heads of each expert"):
        sharded_model(whole, 8)


def test_a_token_uses_its_experts_of_attention():
    counted = dict.fromkeys(o for o, _ in variant("jetmoe").decoder.counted)
    routed = [o for o in counted if isinstance(o, RoutedLinear)]

    assert [o.active_parameters * 5 for o in routed] == [o.parameters * 2 for o in routed]
    # many tokens read all experts, one token two of five
    reads = [float(o.cost(Step.prefill(1, 10_000)).weight_read_bytes) for o in routed]
    one = [float(o.cost(Step.decode(1, 0)).weight_read_bytes) for o in routed]
    assert reads == pytest.approx([o.weights_bytes for o in routed])
    assert one == pytest.approx([o.weights_bytes * 2 / 5 for o in routed])


def test_each_stage_of_a_pipeline_holds_the_shared_weights():
    whole = variant("zamba2-one-block")

    first, second = stage_ranks(whole, Layout(pp=2))

    shared = [o for layer in whole.decoder.layers for o in layer.operators if o.name == "q_proj"]
    for stage in (first, second):
        held = [o for layer in stage.model.decoder.layers for o in layer.operators]
        assert sum(o.parameters for o in held if o.name == "q_proj") == shared[0].parameters
