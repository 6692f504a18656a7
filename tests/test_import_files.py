"""Weight files as models: safetensors with their config, GGUF by themselves."""

import json

import pytest

from llmplan.errors import DocumentError, InputError
from llmplan.model.catalogue import load_model
from llmplan.model.importing.stored import import_file
from llmplan.results.importing import ImportQuestion, imported_yaml
from tests.stored_files import (
    LLAMA_CONFIG,
    LLAMA_METADATA,
    D,
    F,
    V,
    gguf_bytes,
    llama_gguf,
    llama_tensors,
    safetensors_bytes,
    write_repository,
    write_shards,
)

LLAMA_ENTRIES = 2 * V * D + D + 2 * (2 * D + 2 * 256 * D + 2 * 128 * D + 3 * F * D)


def totals(path):
    model = load_model(str(path))
    return (
        sum((o.parameters + o.buffers) * n for o, n in model.counted()),
        sum(o.weights_bytes * n for o, n in model.counted()),
    )


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F16", 2), ("F32", 4)])
def test_a_safetensors_file_gives_the_precision_of_its_config(tmp_path, dtype, size):
    path = write_repository(tmp_path / "small", LLAMA_CONFIG, llama_tensors(dtype))

    assert totals(path) == (LLAMA_ENTRIES, size * LLAMA_ENTRIES)


def test_an_index_gives_the_same_model_as_one_file(tmp_path):
    folder = tmp_path / "small"
    one = write_repository(folder, LLAMA_CONFIG, llama_tensors())

    index = write_shards(folder, llama_tensors())

    assert totals(index) == totals(one)


def test_precision_is_read_by_role(tmp_path):
    tensors = llama_tensors()
    tensors["lm_head.weight"] = ("F32", (V, D))
    path = write_repository(tmp_path / "small", LLAMA_CONFIG, tensors)

    spec, _ = import_file(path)

    assert dict(spec.precision) == {"head": "fp32"}
    assert spec.notes == ()


def test_without_a_config_it_is_said_what_to_do(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(llama_tensors()))

    with pytest.raises(DocumentError, match=r"no config\.json beside it.* same folder"):
        load_model(str(path))


def test_one_shard_is_no_model(tmp_path):
    folder = tmp_path / "small"
    write_repository(folder, LLAMA_CONFIG, llama_tensors())
    write_shards(folder, llama_tensors())

    with pytest.raises(DocumentError, match=r"one of several files.*index\.json"):
        load_model(str(folder / "model-00001-of-00002.safetensors"))


def test_a_missing_tensor_is_refused(tmp_path):
    tensors = llama_tensors()
    del tensors["model.layers.1.mlp.up_proj.weight"]
    path = write_repository(tmp_path / "small", LLAMA_CONFIG, tensors)

    with pytest.raises(DocumentError, match=f"describes {LLAMA_ENTRIES:,} entries"):
        load_model(str(path))


def test_low_precision_without_its_description_is_refused(tmp_path):
    path = write_repository(tmp_path / "small", LLAMA_CONFIG, llama_tensors("F8_E4M3"))

    with pytest.raises(DocumentError, match="no quantization_config"):
        load_model(str(path))


def test_a_config_that_contradicts_its_tensors_is_refused(tmp_path):
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    config = {**LLAMA_CONFIG, "quantization_config": settings}
    path = write_repository(tmp_path / "small", config, llama_tensors())

    with pytest.raises(DocumentError, match="says fp8_tensor for attention, but BF16 is stored"):
        load_model(str(path))


def test_a_stored_copy_of_a_tied_head_is_no_parameter(tmp_path):
    config = {**LLAMA_CONFIG, "tie_word_embeddings": True}
    path = write_repository(tmp_path / "small", config, llama_tensors())

    assert totals(path)[0] == LLAMA_ENTRIES - V * D


# -- GGUF ----------------------------------------------------------------------------------------


def gguf(folder, metadata, tensors, name="small.gguf"):
    path = folder / name
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def test_a_gguf_file_is_a_model_by_itself(tmp_path):
    path = gguf(tmp_path, LLAMA_METADATA, llama_gguf())

    norms = 5 * D
    assert totals(path) == (LLAMA_ENTRIES, 2 * LLAMA_ENTRIES + 2 * norms)


def test_a_role_with_one_type_is_exact(tmp_path):
    path = gguf(tmp_path, LLAMA_METADATA, llama_gguf("q8_0", ffn="q4_k", embd="q6_k"))

    spec, _ = import_file(path)

    assert dict(spec.precision) == {
        "attention": "q8_0", "ffn": "q4_k", "embedding": "q6_k", "head": "q8_0", "norm": "fp32",
    }  # fmt: skip
    assert spec.notes == ()


def test_a_role_with_several_types_takes_the_commonest_and_says_the_difference(tmp_path):
    path = gguf(tmp_path, LLAMA_METADATA, llama_gguf("q4_k", ffn_down="q6_k"))

    spec, _ = import_file(path)

    # of three equal matrices two are q4_k, 144 bytes a block of 256; q6_k takes 210
    missing = 2 * D * F // 256 * (210 - 144)
    assert spec.precision["ffn"] == "q4_k"
    assert f"{missing:,} bytes fewer than the file's" in spec.notes[0]
    assert "ffn (q4_k, q6_k)" in spec.notes[0]


def test_the_difference_is_said_wherever_the_file_is_used(tmp_path):
    path = gguf(tmp_path, LLAMA_METADATA, llama_gguf("q4_k", ffn_down="q6_k"))

    assert "bytes fewer" in load_model(str(path)).identity.assumptions[0]


def test_parameters_must_equal_the_entries_of_the_tensors(tmp_path):
    tensors = llama_gguf() | {"blk.0.attn_secret.weight": ("fp32", (7,))}

    with pytest.raises(DocumentError, match=f"but the tensors hold {LLAMA_ENTRIES + 7:,}"):
        load_model(str(gguf(tmp_path, LLAMA_METADATA, tensors)))


def test_an_unknown_key_of_the_architecture_is_refused(tmp_path):
    metadata = LLAMA_METADATA | {"llama.attention.secret_width": 3}

    with pytest.raises(DocumentError, match=r"attention\.secret_width: is not known"):
        load_model(str(gguf(tmp_path, metadata, llama_gguf())))


def test_an_unknown_architecture_is_refused(tmp_path):
    metadata = {"general.architecture": "lama"}

    with pytest.raises(DocumentError, match="'lama' is not known; the nearest known one is llama"):
        load_model(str(gguf(tmp_path, metadata, llama_gguf())))


def test_split_files_are_read_together(tmp_path):
    tensors = list(llama_gguf().items())
    for number, part in enumerate((tensors[:5], tensors[5:])):
        metadata = {**(LLAMA_METADATA if number == 0 else {}), "split.count": 2}
        gguf(tmp_path, metadata, dict(part), f"small-0000{number + 1}-of-00002.gguf")

    assert totals(tmp_path / "small-00001-of-00002.gguf")[0] == LLAMA_ENTRIES


def stacked(layers, shapes, base):
    """Tensors of ``layers`` equal layers on top of those outside; small ones are never converted"""
    inside = {f"blk.{i}.{name}": shape for i in range(layers) for name, shape in shapes.items()}
    return {
        name: ("fp32" if len(shape) == 1 or "bias" in name or "gate_inp" in name else "bf16", shape)
        for name, shape in (base | inside).items()
    }


NORMS = {"attn_norm.weight": (D,), "ffn_norm.weight": (D,)}
GQA = {
    "attn_q.weight": (256, D), "attn_k.weight": (128, D), "attn_v.weight": (128, D),
    "attn_output.weight": (D, 256),
}  # fmt: skip
MLP = {"ffn_gate.weight": (F, D), "ffn_up.weight": (F, D), "ffn_down.weight": (D, F)}
EXPERTS = {
    "ffn_gate_inp.weight": (8, D), "ffn_gate_exps.weight": (8, 96, D),
    "ffn_up_exps.weight": (8, 96, D), "ffn_down_exps.weight": (8, D, 96),
}  # fmt: skip
SHARED = {
    "ffn_gate_shexp.weight": (96, D), "ffn_up_shexp.weight": (96, D),
    "ffn_down_shexp.weight": (D, 96),
}  # fmt: skip
OUTSIDE = {"token_embd.weight": (V, D), "output_norm.weight": (D,), "output.weight": (V, D)}
TIED = {"token_embd.weight": (V, D), "output_norm.weight": (D,)}
QK_NORMS = {"attn_q_norm.weight": (64,), "attn_k_norm.weight": (64,)}
QKV_BIAS = {"attn_q.bias": (256,), "attn_k.bias": (128,), "attn_v.bias": (128,)}
SANDWICH = {"post_attention_norm.weight": (D,), "post_ffw_norm.weight": (D,)}
HEADS = {
    "context_length": 4096, "embedding_length": D, "block_count": 2, "feed_forward_length": F,
    "attention.head_count": 4, "attention.head_count_kv": 2,
}  # fmt: skip
WIDTHS = {"attention.key_length": 64, "attention.value_length": 64}
ROUTED = {"expert_count": 8, "expert_used_count": 2}
EXPERT_WIDTH = {"expert_feed_forward_length": 96}
ARCHITECTURES = {
    "qwen2": (HEADS, NORMS | GQA | MLP | QKV_BIAS, OUTSIDE),
    "qwen3": (HEADS | WIDTHS, NORMS | GQA | MLP | QK_NORMS, TIED),
    "qwen3moe": (
        HEADS | WIDTHS | ROUTED | EXPERT_WIDTH,
        NORMS | GQA | EXPERTS | QK_NORMS,
        OUTSIDE,
    ),
    "qwen2moe": (
        HEADS | ROUTED | EXPERT_WIDTH | {"expert_shared_feed_forward_length": 96},
        NORMS | GQA | EXPERTS | QKV_BIAS | SHARED | {"ffn_gate_inp_shexp.weight": (D,)},
        OUTSIDE,
    ),
    "llama": (HEADS | ROUTED | {"feed_forward_length": 96}, NORMS | GQA | EXPERTS, OUTSIDE),
    "granite": (HEADS, NORMS | GQA | MLP, TIED),
    "granitemoe": (
        HEADS | ROUTED | {"feed_forward_length": 96, "expert_shared_feed_forward_length": 96},
        NORMS | GQA | EXPERTS | SHARED,
        TIED,
    ),
    "gemma2": (HEADS | WIDTHS | {"attention.sliding_window": 512}, NORMS | GQA | MLP | SANDWICH,
               TIED),
    "gemma3": (
        HEADS | WIDTHS | {"attention.sliding_window": 512},
        NORMS | GQA | MLP | SANDWICH | QK_NORMS,
        TIED,
    ),
    "phi3": (
        HEADS | {"rope.dimension_count": 48, "attention.sliding_window": 0},
        NORMS | {"attn_qkv.weight": (512, D), "attn_output.weight": (D, 256),
                 "ffn_up.weight": (2 * F, D), "ffn_down.weight": (D, F)},
        OUTSIDE | {"rope_factors_long.weight": (24,)},
    ),
    "olmo2": (
        HEADS,
        {"attn_q_norm.weight": (256,), "attn_k_norm.weight": (128,)} | GQA | MLP | SANDWICH,
        OUTSIDE,
    ),
    "gpt-oss": (
        HEADS | WIDTHS | ROUTED | EXPERT_WIDTH | {"attention.sliding_window": 128},
        NORMS | GQA | EXPERTS | QKV_BIAS | {
            "attn_output.bias": (D,), "attn_sinks.weight": (4,), "ffn_gate_inp.bias": (8,),
            "ffn_gate_exps.bias": (8, 96), "ffn_up_exps.bias": (8, 96),
            "ffn_down_exps.bias": (8, D),
        },
        OUTSIDE,
    ),
    "deepseek2": (
        {
            **HEADS, **ROUTED, **EXPERT_WIDTH, "attention.head_count_kv": 1,
            "attention.key_length": 80, "attention.value_length": 64,
            "attention.key_length_mla": 48, "attention.value_length_mla": 32,
            "attention.kv_lora_rank": 64, "attention.q_lora_rank": 96, "rope.dimension_count": 16,
            "expert_shared_count": 1, "leading_dense_block_count": 0,
        },
        NORMS | EXPERTS | SHARED | {
            "attn_q_a.weight": (96, D), "attn_q_a_norm.weight": (96,),
            "attn_q_b.weight": (4 * 48, 96), "attn_kv_a_mqa.weight": (64 + 16, D),
            "attn_kv_a_norm.weight": (64,), "attn_k_b.weight": (4, 64, 32),
            "attn_v_b.weight": (4, 32, 64), "attn_output.weight": (D, 4 * 32),
            "exp_probs_b.bias": (8,),
        },
        OUTSIDE,
    ),
    "glm4moe": (
        HEADS | WIDTHS | ROUTED | EXPERT_WIDTH | {
            "expert_shared_count": 1, "leading_dense_block_count": 0, "rope.dimension_count": 32,
            "nextn_predict_layers": 0,
        },
        NORMS | GQA | EXPERTS | SHARED | QKV_BIAS | {"exp_probs_b.bias": (8,)},
        OUTSIDE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_known_architecture_counts_what_its_file_holds(tmp_path, arch):
    sizes, inside, outside = ARCHITECTURES[arch]
    metadata = {"general.architecture": arch} | {f"{arch}.{key}": v for key, v in sizes.items()}
    tensors = stacked(2, inside, outside)

    spec, _ = import_file(gguf(tmp_path, metadata, tensors, "tiny.gguf"))

    assert spec.num_hidden_layers == 2
    assert spec.notes == ()


def test_windows_of_a_gguf_file_are_kept(tmp_path):
    sizes, inside, outside = ARCHITECTURES["gpt-oss"]
    metadata = {"general.architecture": "gpt-oss"} | {f"gpt-oss.{k}": v for k, v in sizes.items()}

    spec, _ = import_file(gguf(tmp_path, metadata, stacked(2, inside, outside)))

    assert [run.blocks for run in spec.layers] == [("local", "moe"), ("global", "moe")]
    assert spec.blocks["local"].sliding_window == 128


def test_a_window_for_each_layer_is_read(tmp_path):
    sizes, inside, outside = ARCHITECTURES["gemma3"]
    sizes = sizes | {"attention.sliding_window_pattern": [False, True]}
    metadata = {"general.architecture": "gemma3"} | {f"gemma3.{k}": v for k, v in sizes.items()}

    spec, _ = import_file(gguf(tmp_path, metadata, stacked(2, inside, outside)))

    assert [run.blocks[0] for run in spec.layers] == ["full_attention", "sliding_attention"]


# -- the command ---------------------------------------------------------------------------------


def test_import_writes_the_spec_of_a_gguf_file(tmp_path):
    path = gguf(tmp_path, LLAMA_METADATA, llama_gguf("q8_0"))
    spec = tmp_path / "again.yaml"

    spec.write_text(imported_yaml(ImportQuestion(source=str(path)).ask()))

    assert totals(spec) == totals(path)


def test_import_says_what_it_reads(tmp_path):
    with pytest.raises(InputError, match=r"nothing to import: give a config\.json"):
        ImportQuestion(source=str(tmp_path / "model.bin")).ask()


def test_every_command_takes_a_weight_file(tmp_path):
    from tests.program import llmplan

    path = gguf(tmp_path, LLAMA_METADATA, llama_gguf())

    done = llmplan("params", str(path), "--format", "json")

    assert json.loads(done.stdout)["result"]["parameters"]["total"] == LLAMA_ENTRIES
