"""Attention of all kinds as torch runs it here: right, rows of its tables, FLOPs as stated."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from llmplan.dtypes import FP8, FP32
from llmplan.errors import InputError
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Step
from llmplan.ops.block_sparse import BlockSparseAttention
from llmplan.ops.compressed import CompressedAttention, Compressor
from llmplan.ops.cross_attention import CrossAttention
from llmplan.ops.differential import DifferentialAttention
from llmplan.ops.latent import (
    AbsorbedLatentAttention,
    ExpandedLatentAttention,
    LatentAttention,
)
from llmplan.ops.precision import Precision
from llmplan.ops.sparse import MAXIMUM_FLOPS_PER_SCORE, Indexer
from llmplan.perf.operators.mla import MODEL, latent_attention

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend  # noqa: E402  (they need torch)

from llmplan.calibrate.kernel import Place, Refused, kernels  # noqa: E402  (they need torch)
from llmplan.calibrate.runners import (  # noqa: E402
    attention,
    compressed,
    differential,
    latent,
    softmax,
    sparse,
)
from llmplan.calibrate.runners.requests import Requests  # noqa: E402
from llmplan.calibrate.runners.softmax import by_products, exact, fused  # noqa: E402
from tests.ran_kernels import (  # noqa: E402
    PROCESSOR,
    assert_is_a_row,
    assert_is_right,
    counted_flops,
    drawn_inputs,
    each_changed,
    error,
    ran,
)

RUNNERS = (attention, compressed, differential, latent, sparse)
"""Importing them registers them."""
BF16 = Precision()
GQA = Attention("attention", BF16, 6, 2, 16, 16)
STEPS = {
    "prefill": Step.of(2, 24, 0),
    "chunk": Step.of(2, 20, 13),
    "decode": Step.of(3, 1, 29),
    "drafts": Step.of(2, 3, 29),
}
EXPANDED = ExpandedLatentAttention("latent", BF16, 3, 32, 16, 8, 12)
ABSORBED = AbsorbedLatentAttention("latent", BF16, 3, 32, 16, 8, 12)
INDEXER = Indexer("indexer", BF16, 4, 16)
COMPRESSED = CompressedAttention("attention", BF16, 6, 16, 8, 4, 3)

CASES = {
    "mha": replace(GQA, num_key_value_heads=6),
    "gqa": GQA,
    "mqa": replace(GQA, num_key_value_heads=1),
    "window": replace(GQA, mask=Mask.WINDOW, span=7),
    "wide window": replace(GQA, mask=Mask.WINDOW, span=100),
    "whole chunks": replace(GQA, mask=Mask.CHUNK, span=8),
    "part of a chunk": replace(GQA, mask=Mask.CHUNK, span=10),
    "long chunks": replace(GQA, mask=Mask.CHUNK, span=100),
    "encoder": replace(GQA, mask=Mask.FULL, keeps_state=False),
    "sinks": replace(GQA, has_sinks=True),
    "window with sinks": replace(GQA, has_sinks=True, mask=Mask.WINDOW, span=7),
    "narrow values": replace(GQA, v_head_dim=8),
    "image": CrossAttention("cross", BF16, 6, 2, 16, 11),
    "blocks": BlockSparseAttention(
        "attention", BF16, 6, 2, 16, 16, index_block_size=4, index_topk_blocks=3
    ),
    "differential": DifferentialAttention("attention", BF16, 8, 4, 16, 16),
    "differential window": DifferentialAttention("attention", BF16, 8, 4, 16, 16, Mask.WINDOW, 7),
    "window only": replace(COMPRESSED, compress_ratio=0, index_topk=0),
    "all entries": replace(COMPRESSED, index_topk=0),
    "chosen entries": COMPRESSED,
    "unmasked entries": replace(COMPRESSED, mask=Mask.FULL),
    "compressor": Compressor("compressor", BF16, 4, 32),
    "indexer": INDEXER,
    "indexer of entries": replace(INDEXER, tokens_per_entry=4),
    "indexer of blocks": replace(INDEXER, flops_per_score=MAXIMUM_FLOPS_PER_SCORE),
    "unmasked indexer": replace(INDEXER, mask=Mask.FULL),
    "expanded": EXPANDED,
    "expanded, chosen": replace(EXPANDED, index_topk=8),
    "expanded, pools": replace(EXPANDED, index_topk=8, index_kpool=4),
    "expanded, sinks": replace(EXPANDED, has_sinks=True),
    "expanded, unmasked": replace(EXPANDED, mask=Mask.FULL),
    "absorbed": ABSORBED,
    "absorbed, chosen": replace(ABSORBED, index_topk=8),
    "absorbed, pools": replace(ABSORBED, index_topk=8, index_kpool=4),
    "absorbed, sinks": replace(ABSORBED, has_sinks=True),
    "absorbed, unmasked": replace(ABSORBED, mask=Mask.FULL),
}
EVERY = [
    pytest.param(operator, step, id=f"{name}-{phase}")
    for name, operator in CASES.items()
    for phase, step in STEPS.items()
]

COUNTED_MORE = {
    "reference_products": "every query is multiplied with every key at hand, then masked",
    "reference_gathered": "lists of keys are as long as the longest",
}
"""Kernels of which torch's counter may see more than the pairs that a mask leaves."""
NOT_COUNTED = {
    "sdpa_flash": "torch's counter does not know fused attention on the processor",
    "sdpa_flash_padded": "the same",
    "sdpa_folded": "the same",
    "sdpa_lower_right": "the same",
    "reference_masked": "the same, with a mask",
}


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_results_are_those_of_the_definition(operator, step):
    for kernel in ran(operator, step):
        assert_is_right(kernel)


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_kernels_are_rows_of_tables_with_curves(operator, step):
    for kernel in ran(operator, step):
        assert_is_a_row(kernel)


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_flops_are_those_that_the_operator_states(operator, step):
    found = ran(operator, step)

    projections = [each.flops for each in found if each.table == "gemm"]
    others = {each.flops for each in found if each.table != "gemm"}

    assert len(projections) == isinstance(operator, LatentAttention)
    assert {flops + sum(projections) for flops in others} == {operator.cost(step).model_flops}


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_torch_counts_the_flops_or_more_for_a_stated_reason(operator, step):
    for kernel in ran(operator, step):
        counted, name = counted_flops(kernel), kernel.labels["kernel"]
        if name in COUNTED_MORE:
            assert counted >= kernel.flops
        elif name in NOT_COUNTED:
            assert counted == 0 or counted >= kernel.flops
        else:
            assert counted == kernel.flops


@pytest.mark.parametrize(("operator", "step"), EVERY)
def test_a_kernel_that_reads_another_input_is_caught(operator, step):
    for kernel in ran(operator, step):
        if kernel.labels["kernel"] == "reference_gathered":
            continue  # lists reversed are the same keys; their order is tested below
        for number, off in each_changed(kernel):
            assert off > kernel.tolerance, number


def test_a_kernel_without_the_mask_is_caught():
    (kernel,) = ran(GQA, STEPS["prefill"])

    off = error(kernel, drawn_inputs(kernel), fused("flash", causal=False))

    assert off > 10 * kernel.tolerance


def test_a_window_that_is_one_key_too_long_is_caught():
    (kernel,) = ran(CASES["window"], STEPS["prefill"])
    q, k, v, mask = drawn_inputs(kernel)
    longer = mask | torch.roll(mask, -1, 1).tril()

    assert error(kernel, (q, k, v, longer)) > kernel.tolerance


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_wrong_mapping_of_groups_is_caught(step):
    (kernel,) = ran(GQA, step)
    q, *rest = drawn_inputs(kernel)
    interleaved = q.unflatten(1, (3, 2)).transpose(1, 2).flatten(1, 2)

    assert error(kernel, (interleaved, *rest)) > 10 * kernel.tolerance


def test_absorbed_heads_are_scaled_by_the_width_of_their_queries():
    kernel, _projection = ran(ABSORBED, STEPS["decode"])

    def wrongly_scaled(q, latent, mask):
        return by_products(q, latent, latent[..., :32], mask[:, :, None])

    assert error(kernel, drawn_inputs(kernel), wrongly_scaled) > kernel.tolerance


def test_chosen_keys_are_as_many_as_the_operator_says():
    for name in ("blocks", "absorbed, chosen", "absorbed, pools", "expanded, pools"):
        operator = CASES[name]
        (kernel, *_projection) = ran(operator, STEPS["chunk"])
        mask = drawn_inputs(kernel)[-1]

        per_pair = kernel.flops / (2 * operator.num_attention_heads * int(mask.sum()))
        shared = mask.shape[1]  # a key/value head's choice holds for the queries of its group

        widths = {"blocks": 32, "expanded, pools": 36}.get(name, 72)
        assert per_pair * shared == pytest.approx(widths)


def test_gathered_keys_are_the_chosen_ones():
    for name in ("blocks", "absorbed, pools"):
        (kernel, *_projection) = ran(CASES[name], STEPS["drafts"])
        *tensors, index, holds = drawn_inputs(kernel)

        other = torch.where(holds, (index + 1) % 32, index)

        assert error(kernel, (*tensors, other, holds)) > kernel.tolerance


def test_decode_within_a_window_reads_the_keys_that_are_kept():
    (kernel,) = ran(CASES["window"], STEPS["decode"])

    _q, k, v = drawn_inputs(kernel)

    assert k.shape == v.shape == (3, 2, 7, 16)
    assert kernel.columns == {
        "batch": 3, "kv_len": 30, "heads": 6, "kv_heads": 2, "head_dim": 16, "window": 7,
    }  # fmt: skip


def test_decode_in_a_chunk_is_attention_over_what_the_chunk_holds():
    (kernel,) = ran(CASES["part of a chunk"], STEPS["decode"])

    assert kernel.table == "generation_attention"
    assert (kernel.columns["kv_len"], kernel.columns["window"]) == (10, 0)


def test_new_tokens_of_decode_count_as_heads():
    (kernel,) = ran(GQA, STEPS["drafts"])

    assert kernel.columns["heads"] == 18


def test_whole_chunks_of_a_prompt_are_requests_of_their_own():
    (kernel,) = ran(CASES["whole chunks"], STEPS["prefill"])

    assert kernel.table == "context_attention"
    assert [kernel.columns[name] for name in ("batch", "kv_len", "window")] == [6, 8, 0]


@pytest.mark.parametrize("name", ["gqa", "window", "sinks", "encoder", "part of a chunk"])
def test_what_the_tables_have_no_row_for_is_timed_by_its_work(name):
    (kernel,) = ran(CASES[name], STEPS["chunk"])

    assert (kernel.table, kernel.labels["op"]) == ("by_work", "Attention")


def test_latent_attention_of_the_table_is_a_row_of_it():
    widths = latent_attention(MODEL)
    kept = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    same = {name: getattr(widths, name) for name in kept}

    filling, up = ran(replace(EXPANDED, **same), Step.of(1, 32, 0))
    decoding, absorbed = ran(replace(ABSORBED, **same), Step.of(2, 2, 30))

    for kernel in (filling, up, decoding, absorbed):
        assert_is_right(kernel)
        assert_is_a_row(kernel)
    assert (filling.table, filling.labels["phase"]) == ("mla", "context")
    assert filling.columns == {"batch": 1, "kv_len": 32, "heads": 3}
    assert (decoding.table, decoding.labels["phase"]) == ("mla", "generation")
    assert decoding.columns == {"batch": 2, "kv_len": 32, "heads": 6}
    assert up.columns == {"m": 32, "n": 3 * 256, "k": 512}
    assert absorbed.labels == {"kernel": "aten_bmm", "dtype": "bfloat16"}


def test_latent_attention_of_other_widths_is_timed_by_the_work_of_attention_alone():
    step = STEPS["prefill"]
    kernel, projection = ran(EXPANDED, step)

    cost = EXPANDED.cost(step)

    assert kernel.table == "by_work"
    assert kernel.columns["flops"] == cost.attention_flops == kernel.flops
    assert kernel.columns["bytes"] == cost.moved_bytes - EXPANDED.weights_bytes
    assert projection.flops == cost.matmul_flops


@pytest.mark.parametrize("name", ["gqa", "image", "blocks", "differential", "expanded", "absorbed"])
def test_caches_that_torch_cannot_read_are_refused(name):
    operator = CASES[name]
    stored = replace(operator, precision=replace(BF16, kv=FP8))

    (refused,) = kernels(stored, STEPS["decode"], PROCESSOR)

    assert isinstance(refused, Refused)
    assert "fp8" in refused.reason


def test_projections_in_few_bits_are_left_to_linear_layers():
    stored = replace(ABSORBED, precision=replace(BF16, attention=FP8))

    *_attention, projection = kernels(stored, STEPS["decode"], PROCESSOR)

    assert isinstance(projection, Refused)
    assert projection.name == "kv_b_proj"


def test_indexers_and_compressors_say_what_they_cannot_do():
    keys = replace(INDEXER, precision=replace(BF16, indexer_keys=FP8))
    early = replace(INDEXER, tokens_per_entry=4)

    assert "fp8" in kernels(keys, STEPS["decode"], PROCESSOR)[0].reason
    assert "no entry" in kernels(early, Step.of(1, 1, 0), PROCESSOR)[0].reason
    narrow = replace(CASES["compressor"], precision=replace(BF16, activations=FP8))
    assert isinstance(kernels(narrow, STEPS["decode"], PROCESSOR)[0], Refused)


def test_odd_pairs_and_unstated_realisations_are_refused():
    odd = replace(CASES["differential"], num_key_value_heads=1)
    bare = LatentAttention("latent", BF16, 3, 32, 16, 8, 12)
    sinks = replace(CASES["blocks"], has_sinks=True)

    for operator in (odd, bare, sinks):
        (refused,) = kernels(operator, STEPS["decode"], PROCESSOR)
        assert isinstance(refused, Refused)


def test_blocks_without_a_causal_mask_are_plain_attention():
    for kernel in ran(replace(CASES["blocks"], mask=Mask.FULL), STEPS["prefill"]):
        assert_is_right(kernel)
        assert kernel.labels == {"kernel": "sdpa_flash", "op": "BlockSparseAttention"}


def test_an_image_that_no_fused_kernel_takes_is_refused(monkeypatch):
    monkeypatch.setattr(attention, "offered", lambda *_shapes, **_causal: [])

    (refused,) = kernels(CASES["image"], STEPS["decode"], PROCESSOR)

    assert isinstance(refused, Refused)


def test_half_precision_may_be_either_but_not_full():
    full = replace(GQA, precision=replace(BF16, kv=FP32, activations=FP32))

    assert isinstance(kernels(full, STEPS["decode"], PROCESSOR)[0], Refused)


@pytest.mark.parametrize(
    "step", [Step.of([1, 2], 1, 8), Step.of(0, 1, 8), Step.of(1, 0, 8), Step.of(1, 1.5, 8)]
)
def test_steps_that_are_no_single_call_are_refused(step):
    fields = (np.ravel(field) for field in (step.requests, step.new_tokens, step.context))

    with pytest.raises(InputError, match="one group"):
        Requests.of(Step(*fields))


def test_flash_attn_is_asked_for_on_its_devices_only():
    call = attention.Call(GQA, Requests(1, 1, 8), torch.bfloat16)
    hopper = Place(torch.device("cuda"), (9, 0))

    assert "8.0" in attention._no_flash_attn(call, Place(torch.device("cuda"), (7, 5)))
    wide = replace(call, operator=replace(GQA, head_dim=512, v_head_dim=512))
    assert "256" in attention._no_flash_attn(wide, hopper)
    sinks = replace(call, operator=CASES["sinks"])
    assert "sinks" in attention._no_flash_attn(sinks, hopper)


@pytest.fixture
def any_width(monkeypatch):
    """Torch's unfused kernel in the place of those of GPUs that take values of other widths."""
    monkeypatch.setitem(softmax.BACKENDS, "math", (SDPBackend.MATH, None))
    for module in (attention, latent):
        monkeypatch.setattr(module, "offered", lambda *_asked, **_causal: ["math"])


@pytest.mark.usefixtures("any_width")
@pytest.mark.parametrize(
    ("name", "phase", "kernel_name"),
    [
        ("expanded", "prefill", "sdpa_math"),
        ("absorbed", "decode", "sdpa_folded_math"),
        ("absorbed, unmasked", "drafts", "sdpa_folded_math"),
        ("narrow values", "prefill", "sdpa_math"),
        ("narrow values", "decode", "sdpa_folded_math"),
    ],
)
def test_fused_kernels_that_take_other_widths_of_values_are_used(name, phase, kernel_name):
    found = ran(CASES[name], STEPS[phase])

    for kernel in found:
        assert_is_right(kernel)
        assert_is_a_row(kernel)
    assert found[0].labels["kernel"] == kernel_name


def test_expanded_heads_of_one_width_need_no_padding():
    kernel, _projection = ran(replace(EXPANDED, v_head_dim=24), STEPS["prefill"])

    assert kernel.labels["kernel"] == "sdpa_flash"
    assert_is_right(kernel)


def test_expanded_heads_that_no_fused_kernel_takes_are_plain_products(monkeypatch):
    monkeypatch.setattr(latent, "offered", lambda *_asked, **_causal: [])

    kernel, _projection = ran(EXPANDED, STEPS["prefill"])

    assert kernel.labels["kernel"] == "reference_products"
    assert_is_right(kernel)


def flash_attn_stand_in(q, k, v, causal=False, window_size=(-1, -1)):  # noqa: FBT002
    """flash_attn_func by its documentation: [B, length, heads, width], masks from lower right."""
    T, n = q.shape[1], k.shape[1]
    offset = torch.arange(n) - torch.arange(n - T, n)[:, None]
    left, right = window_size
    allowed = (offset <= 0) if causal else torch.ones(T, n, dtype=torch.bool)
    if left >= 0:
        allowed &= offset >= -left
    if right >= 0:
        allowed &= offset <= right
    parts = (part.transpose(1, 2) for part in (q, k, v))
    return exact(*parts, allowed).transpose(1, 2).to(q.dtype)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("name", ["gqa", "mqa", "window", "encoder"])
def test_flash_attn_gets_what_it_documents(name, step, monkeypatch):
    def with_kvcache(q, k_cache, v_cache, cache_seqlens=None, **sight):
        assert cache_seqlens == k_cache.shape[1]
        return flash_attn_stand_in(q, k_cache, v_cache, **sight)

    package = ModuleType("flash_attn")
    package.flash_attn_func, package.flash_attn_with_kvcache = flash_attn_stand_in, with_kvcache
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    monkeypatch.setattr(attention, "_no_flash_attn", lambda *_asked: "")

    *_torch, kernel = ran(CASES[name], step)

    assert kernel.labels["kernel"] == "flash_attn"
    assert_is_right(kernel)
    assert_is_a_row(kernel)
    assert kernel.flops == CASES[name].cost(step).model_flops


def test_flash_attn_that_is_not_installed_is_refused_on_its_devices(monkeypatch):
    monkeypatch.setattr(attention, "offered", lambda *_asked, **_causal: ["flash"])

    _plain, refused = kernels(GQA, STEPS["prefill"], Place(torch.device("cuda"), (9, 0)))

    assert refused == Refused("flash_attn", "is not installed")
