"""MiniMax-M3: blocks of keys that an indexer chooses; parameters, caches and FLOPs of its class."""

import copy
from typing import Any

import numpy as np
import pytest

from llmplan.analyze.parameters import parameter_counts
from llmplan.documents import parse_document
from llmplan.errors import DocumentError
from llmplan.model.check import check_spec
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.importing.config import spec_of_config
from llmplan.model.spec import ModelSpec
from llmplan.model.write import spec_text
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import StateKind, Step
from llmplan.ops.block_sparse import BlockSparseAttention
from llmplan.ops.counting import as_full_square
from llmplan.ops.entries import block_pairs
from llmplan.ops.precision import Precision
from llmplan.validation import validated
from tests.small_models import needs_transformers, quiet_transformers

TEXT = {
    "vocab_size": 130,
    "hidden_size": 48,
    "intermediate_size": 36,
    "dense_intermediate_size": 88,
    "shared_intermediate_size": 28,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "rotary_dim": 4,
    "num_local_experts": 8,
    "num_experts_per_tok": 3,
    "max_position_embeddings": 512,
    "hidden_act": "swigluoai",
    "moe_layer_freq": [0, 0, 1, 1, 1],
    "sparse_attention_config": {
        "use_sparse_attention": True,
        "sparse_index_dim": 12,
        "sparse_num_index_heads": 2,
        "sparse_topk_blocks": 3,
        "sparse_block_size": 4,
        "sparse_local_block": 1,
        "sparse_init_block": 0,
        "sparse_score_type": "max",
        "sparse_attention_freq": [0, 0, 1, 1, 1],
        "sparse_disable_index_value": [0, 0, 1, 1, 1],
    },
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "patch_size": 7,
    "image_size": 28,
}
CONFIG: dict[str, Any] = {
    "architectures": ["MiniMaxM3SparseForConditionalGeneration"],
    "model_type": "minimax_m3_vl",
    "text_config": TEXT,
    "vision_config": VISION,
    "projector_hidden_size": 52,
}
CLASS_SPELLING = {
    "moe_layer_freq": None,
    "sparse_attention_config": None,
    "mlp_layer_types": ["dense", "dense", "sparse", "sparse", "sparse"],
    "layer_types": ["full_attention"] * 2 + ["minimax_m3_sparse"] * 3,
    "index_n_heads": 2,
    "index_head_dim": 12,
    "index_block_size": 4,
    "index_topk_blocks": 3,
    "index_local_blocks": 1,
    "hidden_act": "silu",
}


def config_with(**changes: Any) -> dict[str, Any]:
    """The small config with other keys of the text model; None takes one away."""
    config = copy.deepcopy(CONFIG)
    text = {**config["text_config"], **changes}
    config["text_config"] = {key: value for key, value in text.items() if value is not None}
    return config


def imported(config: dict[str, Any]) -> Model:
    return compile_spec(*spec_of_config(config, "small.json"))


def network(config: dict[str, Any]) -> Any:
    """The transformers model, in operations that a FLOP counter sees."""
    import torch

    transformers = quiet_transformers()
    made = transformers.MiniMaxM3VLConfig.from_dict(copy.deepcopy(config))
    made._attn_implementation = made.text_config._attn_implementation = "eager"
    made.text_config._experts_implementation = "eager"
    torch.manual_seed(0)
    return transformers.MiniMaxM3SparseForConditionalGeneration(made).eval()


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("changes", [{}, CLASS_SPELLING, {"moe_layer_freq": None}])
def test_parameters_and_buffers_are_those_of_the_class(changes):
    config = config_with(**changes)
    net, counts = network(config), parameter_counts(imported(config))
    parameters = dict(net.named_parameters())

    assert counts.total == sum(tensor.numel() for tensor in parameters.values())
    assert counts.buffers == sum(
        tensor.numel() for key, tensor in net.state_dict().items() if key not in parameters
    )


@pytest.mark.oracle
@needs_transformers
def test_the_defaults_of_the_class_are_another_model():
    transformers = quiet_transformers()
    defaults = transformers.MiniMaxM3VLConfig().to_dict()

    counts = parameter_counts(imported({**defaults, "architectures": CONFIG["architectures"]}))

    # transformers 5.23.0 on the meta device: experts in all layers, and no indexer
    assert (counts.total, counts.vision) == (448_052_008_448, 865_567_232)


def test_both_spellings_are_one_model():
    assert (
        imported(CONFIG).decoder.counted == imported(config_with(**CLASS_SPELLING)).decoder.counted
    )


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("context", [1, 11])
def test_cached_tensors_are_those_of_the_class(context):
    import torch

    net = network(CONFIG).to(torch.bfloat16)
    with torch.no_grad():
        out = net(input_ids=torch.randint(1, 130, (2, context)), use_cache=True)
    layers = out.past_key_values.layers

    states = [(s, n) for o, n in imported(CONFIG).decoder.counted for s in o.states]
    said = {
        kind: sum(2 * context * s.width_bytes * n for s, n in states if s.kind is kind)
        for kind in (StateKind.KV, StateKind.INDEXER)
    }
    keys = [getattr(layer, "idx_keys", None) for layer in layers]
    assert said[StateKind.KV] == sum(la.keys.nbytes + la.values.nbytes for la in layers)
    assert said[StateKind.INDEXER] == sum(key.nbytes for key in keys if key is not None)


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize(("requests", "prompt"), [(1, 7), (3, 21)])
def test_flops_of_a_prefill_are_those_of_the_class(requests, prompt):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    decoder = imported(CONFIG).rewritten(as_full_square).decoder
    ids = torch.randint(1, 130, (requests, prompt))

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(CONFIG)(input_ids=ids)

    tokens = requests * prompt
    head = 2 * 48 * 130 * (tokens - requests)  # there at all positions
    step = Step.prefill(requests, prompt)
    said = sum(float(o.cost(step).model_flops) * n for o, n in decoder.counted)
    assert said + head == counter.get_total_flops()


@pytest.mark.oracle
@needs_transformers
@pytest.mark.parametrize("tokens", [3, 9, 12, 13, 30])
def test_a_query_attends_to_as_many_keys_as_the_class_leaves_it(tokens):
    import torch

    net = network(CONFIG)
    indexer = net.model.language_model.layers[2].self_attn.indexer
    text = net.model.language_model
    hidden, positions = torch.randn(1, tokens, 48), torch.arange(tokens)[None]
    with torch.no_grad():
        angles = text.rotary_emb(hidden, positions)
        blocks = indexer(hidden, angles, None, positions)
        mask = indexer.build_block_mask(blocks, None, tokens, torch.float32, "cpu", positions)

    kept = (mask == 0).sum(-1)  # heads x queries
    step = Step.prefill(1, tokens)
    assert kept.sum(-1).tolist() == [[int(block_pairs(step, 4, 3)[0])] * 6]


@pytest.mark.parametrize("m", [1, 3, 4])
@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize(("context", "new"), [(0, 1), (0, 40), (7, 1), (9, 13), (38, 1)])
def test_pairs_are_the_sum_over_queries(m, most, context, new):
    step = Step(requests=np.array([1]), new_tokens=np.array([new]), context=np.array([context]))

    seen = range(context, context + new)  # keys before each query
    expected = sum(1 + before % m + m * min(before // m, most - 1) for before in seen)
    assert block_pairs(step, m, most) == expected


def test_enough_blocks_are_plain_attention():
    sizes = ("a", Precision(), 6, 2, 10, 10)
    plain = Attention(*sizes, mask=Mask.CAUSAL)
    sparse = BlockSparseAttention(*sizes, index_block_size=4, index_topk_blocks=13)
    few = BlockSparseAttention(*sizes, index_block_size=4, index_topk_blocks=2)
    step = Step.prefill(2, 50)

    assert sparse.cost(step) == plain.cost(step)
    assert few.cost(step).attention_flops < plain.cost(step).attention_flops
    assert few.states == plain.states


def test_chunks_of_a_prompt_cost_what_the_whole_costs():
    core = BlockSparseAttention(
        "a", Precision(), 6, 2, 10, 10, index_block_size=4, index_topk_blocks=2
    )
    chunks = core.cost(Step.of([1, 1], [23, 27], [0, 23]))

    assert chunks.attention_flops.sum() == core.cost(Step.prefill(1, 50)).attention_flops


REFUSALS = {
    "attention_output_gate": {"attention_output_gate": True},
    "qk_norm_type": {"qk_norm_type": "per_layer"},
    "use_routing_bias": {"use_routing_bias": False},
    "n_shared_experts": {"n_shared_experts": 2},
    "partial_rotary_factor": {"partial_rotary_factor": 0.5},
    "moe_layer_freq": {"moe_layer_freq": [0, 1]},
    "first_k_dense_replace": {"first_k_dense_replace": 1},
    "sparse_local_block": {
        "sparse_attention_config": {**TEXT["sparse_attention_config"], "sparse_local_block": 2}
    },
    "sparse_disable_index_value": {
        "sparse_attention_config": {
            **TEXT["sparse_attention_config"], "sparse_disable_index_value": [0] * 5,
        }
    },
    "block_indexer": {
        "sparse_attention_config": {**TEXT["sparse_attention_config"], "sparse_num_index_heads": 3}
    },
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSALS)
def test_what_cannot_be_read_is_refused(key):
    with pytest.raises(DocumentError, match=key):
        spec_of_config(config_with(**REFUSALS[key]), "small.json")


def test_blocks_do_not_stand_beside_a_window():
    body = copy.deepcopy(spec_of_config(CONFIG, "small.json")[1].data)
    body["blocks"]["sparse"]["sliding_window"] = 8
    document = parse_document(spec_text(body), "small.yaml")

    with pytest.raises(DocumentError, match="stands beside block_indexer"):
        check_spec(validated(document, ModelSpec), document)


def test_patches_that_are_joined_must_add_up():
    body = copy.deepcopy(spec_of_config(CONFIG, "small.json")[1].data)
    body["projector"][2]["joined"] = 2
    document = parse_document(spec_text(body), "small.yaml")

    with pytest.raises(DocumentError, match="takes 192 features, but gets 96"):
        check_spec(validated(document, ModelSpec), document)
