"""GLM-5.3 Flash: pooled indexer keys, streams that end in their mean, import and stored bytes."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmplan.analyze.ledger import ledger
from llmplan.analyze.parameters import parameter_counts
from llmplan.errors import DocumentError
from llmplan.model.catalogue import load_model
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model, Part
from llmplan.model.importing.config import spec_of_config
from llmplan.model.reading import load_spec
from llmplan.ops.base import StateKind, Step
from llmplan.ops.counting import as_full_square
from llmplan.ops.entries import pooled_pairs
from llmplan.ops.hyper import HyperConnection
from llmplan.ops.latent import ExpandedLatentAttention
from llmplan.ops.linear import Tokens
from llmplan.ops.precision import Precision
from tests.small_models import needs_transformers, quiet_transformers

TEXT = {
    "model_type": "glm5_next_text",
    "vocab_size": 130,
    "hidden_size": 48,
    "intermediate_size": 88,
    "moe_intermediate_size": 36,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_shared_experts": 1,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "q_lora_rank": 26,
    "kv_lora_rank": 18,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 0,
    "v_head_dim": 14,
    "index_n_heads": 6,
    "index_head_dim": 16,
    "index_topk": 8,
    "index_kpool": 4,
    "linear_num_heads": 3,
    "linear_head_dim": 20,
    "linear_conv_kernel_dim": 4,
    "hc_mult": 4,
    "pad_token_id": 0,
}
VISION = {
    "model_type": "glm5_next_vision",
    "depth": 2,
    "hidden_size": 24,
    "num_heads": 3,
    "intermediate_size": 40,
    "out_hidden_size": 48,
    "projection_intermediate_size": 56,
    "patch_size": 7,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"},
}
CONFIG = {
    "architectures": ["Glm5NextForConditionalGeneration"],
    "model_type": "glm5_next",
    "text_config": TEXT,
    "vision_config": VISION,
    "tie_word_embeddings": False,
}


def config_with(**changes: Any) -> dict[str, Any]:
    """The small config with other keys of the text model; None takes one away."""
    config: dict[str, Any] = copy.deepcopy(CONFIG)
    text = {**config["text_config"], **changes}
    config["text_config"] = {key: value for key, value in text.items() if value is not None}
    return config


def imported(config: dict[str, Any]) -> Model:
    return compile_spec(*spec_of_config(config, "small.json"))


def network(config: dict[str, Any]) -> Any:
    """The transformers model, in operations that a FLOP counter sees."""
    import torch

    transformers = quiet_transformers()
    made = transformers.Glm5NextConfig.from_dict(copy.deepcopy(config))
    made._attn_implementation = "eager"
    made.text_config._attn_implementation = "eager"
    made.text_config._experts_implementation = "eager"
    torch.manual_seed(0)
    return transformers.Glm5NextForConditionalGeneration(made).eval()


RELEASED_SPELLING = {
    "linear_num_heads": None,
    "linear_head_dim": None,
    "linear_conv_kernel_dim": None,
    "linear_attn_config": {
        "num_heads": 3,
        "head_dim": 20,
        "short_conv_kernel_size": 4,
        "gate_lower_bound": -5.0,
        "kda_layers": [0, 1, 2, 4],
        "full_attn_layers": [3],
    },
    "layer_types": [*["linear_attention"] * 3, "deepseek_sparse_attention", "linear_attention"],
    "index_kpool_compress": True,
    "mla_use_nope": True,
    "mhc": True,
}


@pytest.mark.oracle
@needs_transformers
def test_parameters_are_those_of_the_class():
    model = imported(CONFIG)

    expected = sum(p.numel() for p in network(CONFIG).parameters())
    assert sum(o.parameters * n for o, n in model.counted()) == expected


def test_both_spellings_are_one_model():
    released, own = imported(config_with(**RELEASED_SPELLING)), imported(CONFIG)

    assert released.decoder.counted == own.decoder.counted


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize(("requests", "prompt"), [(1, 7), (2, 16), (3, 21)])
def test_prefill_of_pooled_sparse_attention(requests, prompt):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = config_with(layer_types=["indexed_attention"] * 5)
    decoder = imported(config).rewritten(as_full_square).decoder
    step = Step.prefill(requests, prompt)
    ids = torch.randint(1, 130, (requests, prompt))

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(config)(input_ids=ids)

    pools, tokens = prompt // 4, requests * prompt
    head = 2 * 48 * 130 * (tokens - requests)  # there at all positions
    mixing = sum(2 * 4 * 4 * 48 * tokens * n for o, n in decoder.counted if is_inner(o))
    weighting = 5 * 2 * 6 * tokens * pools  # a matmul there, vector work here
    counted = sum(float(o.cost(step).model_flops) * n for o, n in decoder.counted)
    assert counted + head == counter.get_total_flops() - mixing - weighting


def is_inner(operator: object) -> bool:
    return isinstance(operator, HyperConnection) and operator.tokens is Tokens.ALL


@pytest.mark.oracle
@needs_transformers
def test_the_cache_holds_the_latent_alone():
    import torch

    net, context = network(CONFIG).to(torch.bfloat16), 11
    with torch.no_grad():
        out = net(input_ids=torch.randint(1, 130, (2, context)), use_cache=True)
    layer = out.past_key_values.layers[3]

    kv = [s for o, _ in imported(CONFIG).decoder.counted for s in o.states]
    (latent,) = (state for state in kv if state.kind is StateKind.KV)
    assert layer.keys.nbytes + layer.values.nbytes == 2 * context * latent.width_bytes


@pytest.mark.parametrize("m", [1, 3, 4])
@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize(("context", "new"), [(0, 1), (0, 40), (7, 1), (9, 13), (38, 1)])
def test_a_query_attends_to_the_best_pools_and_the_rest(m, most, context, new):
    step = Step(requests=np.array([1]), new_tokens=np.array([new]), context=np.array([context]))

    seen = range(context + 1, context + new + 1)
    expected = sum(min(n // m, most) * m + n % m for n in seen)
    assert pooled_pairs(step, m, most) == expected


def test_pools_cost_no_less_than_single_keys():
    sizes = ("a", Precision(), 4, 18, 12, 0, 14, 8)
    single, pooled = ExpandedLatentAttention(*sizes), ExpandedLatentAttention(*sizes, index_kpool=4)
    step = Step.prefill(2, 50)

    assert single.cost(step).attention_flops <= pooled.cost(step).attention_flops


REFUSALS = {
    "index_kpool": {"index_kpool": None},
    "index_kpool_compress": {"index_kpool_compress": False},
    "qk_rope_head_dim": {"qk_rope_head_dim": 8},
    "indexer_types": {"indexer_types": ["full", "full", "full", "full", "shared"]},
    "kda_layers": {"linear_attn_config": {"kda_layers": [0, 1, 2]}},
    "mhc": {"mhc": False},
}


@pytest.mark.parametrize("key", REFUSALS)
def test_what_cannot_be_read_is_refused(key):
    with pytest.raises(DocumentError, match=key):
        spec_of_config(config_with(**REFUSALS[key]), "small.json")


@pytest.mark.oracle
@needs_transformers
def test_the_defaults_of_the_class_count_but_do_not_fit_together():
    transformers = quiet_transformers()
    defaults = transformers.Glm5NextConfig().to_dict()
    architectures = ["Glm5NextForConditionalGeneration"]

    spec, document = spec_of_config({**defaults, "architectures": architectures}, "glm.json")
    model = compile_spec(spec, document)
    counts = parameter_counts(model)

    # transformers 5.23.0 on the meta device: index_kpool 16, a tower that gives 1536 features
    assert (counts.total, counts.buffers) == (313_786_889_214, 12_096)
    assert (counts.vision, counts.active) == (460_072_448, 16_742_338_046)
    assert spec.notes == (
        "The projector gives 1,536 features, which do not fit the decoder's 4,096.",
    )
    assert model.identity.assumptions == (
        "glm's projector gives 1,536 features, and its decoder takes 4,096.",
    )


@pytest.mark.oracle
@needs_transformers
def test_a_projector_of_another_width_has_the_parameters_of_the_class():
    config = copy.deepcopy(CONFIG)
    config["vision_config"]["out_hidden_size"] = 26

    expected = sum(p.numel() for p in network(config).parameters())
    assert sum(o.parameters * n for o, n in imported(config).counted()) == expected


CONTRADICTIONS = [
    ("projector:\n", "projector_width: 4096\nprojector:\n", "does not give hidden_size"),
    ("index_kpool: 4", "index_kpool: 5", "index_topk 2048 does not divide by index_kpool 5"),
    ("hc_mult: 4\n", "", "needs hc_mult"),
    ("projection_format: fp8", "projection_format: fp9", "fp9"),
]


@pytest.mark.parametrize(("old", "new", "reason"), CONTRADICTIONS)
def test_contradictions_are_named(tmp_path, old, new, reason):
    text = (Path(__file__).parent.parent / "specs" / "glm-5.3-flash.yaml").read_text()
    path = tmp_path / "changed.yaml"
    path.write_text(text.replace(old, new, 1))

    with pytest.raises(DocumentError, match=reason):
        load_spec(path)


def test_stored_entries_and_bytes_are_the_published_ones():
    # headers of the published files: 321,323,031,390 entries beside 19,189,248 scales in
    # 328,326,771,576 bytes; of these, 283,134 are fp32 there and bf16 here
    stored = ledger(load_model("glm-5.3-flash")).with_mtp

    total = stored.elements_bytes + stored.scales_bytes + stored.buffers_bytes
    assert (stored.entries, stored.scale_entries) == (321_323_031_390, 19_189_248)
    assert total == 328_326_771_576 - 2 * 283_134


def test_the_mtp_module_has_one_stream():
    (module,) = load_model("glm-5.3-flash").parts(Part.MTP)

    assert not [o for o, _ in module.counted if isinstance(o, HyperConnection)]
