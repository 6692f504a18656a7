"""Checkpoints beside specs: names of real files, packed formats, MTP modules, vision towers."""

import pytest

from llmplan.analyze.verify import verify
from llmplan.model.reading import load_config
from llmplan.model.stored.tensors import StoredTensor, is_of_mtp, role_of, weight_role
from llmplan.ops.precision import Role
from tests.program import llmplan
from tests.stored_files import (
    LLAMA_CONFIG,
    LLAMA_METADATA,
    D,
    F,
    V,
    gguf_bytes,
    llama_gguf,
    llama_tensors,
    write_repository,
    write_shards,
)

ROLES = {
    # Llama, Qwen, Gemma
    "model.embed_tokens.weight": Role.EMBEDDING,
    "model.layers.0.self_attn.q_proj.weight": Role.ATTENTION,
    "model.layers.0.self_attn.q_proj.bias": Role.BIAS,
    "model.layers.0.self_attn.k_norm.weight": Role.NORM,
    "model.layers.0.mlp.gate_proj.weight": Role.FFN,
    "model.layers.0.mlp.gate_proj.weight_scale_inv": Role.FFN,
    "model.layers.0.pre_feedforward_layernorm.weight": Role.NORM,
    "model.norm.weight": Role.NORM,
    "lm_head.weight": Role.HEAD,
    "lm_head.bias": Role.BIAS,
    # Mixtral, DBRX
    "model.layers.0.block_sparse_moe.gate.weight": Role.ROUTER,
    "model.layers.0.block_sparse_moe.experts.7.w1.weight": Role.EXPERTS,
    "transformer.blocks.0.norm_attn_norm.attn.Wqkv.weight": Role.ATTENTION,
    "transformer.blocks.0.norm_attn_norm.norm_1.weight": Role.NORM,
    "transformer.blocks.0.ffn.router.layer.weight": Role.ROUTER,
    # DeepSeek V3
    "model.layers.3.mlp.gate.weight": Role.ROUTER,
    "model.layers.3.mlp.gate.e_score_correction_bias": Role.BUFFER,
    "model.layers.3.mlp.experts.255.down_proj.weight_scale_inv": Role.EXPERTS,
    "model.layers.3.mlp.shared_experts.up_proj.weight": Role.SHARED_EXPERTS,
    "model.layers.3.self_attn.kv_a_proj_with_mqa.weight": Role.ATTENTION,
    "model.layers.3.self_attn.kv_a_layernorm.weight": Role.NORM,
    # Mistral Large 4, MiniMax-M3
    "model.language_model.rotary_emb.alpha": Role.BUFFER,
    "lerope.alpha": Role.BUFFER,
    "layers.0.attention.ssmax_scaling.s": Role.ATTENTION,
    "layers.0.attention.indexer.q_input_norm.bias": Role.NORM,
    "layers.0.attention.indexer.weights_proj.weight": Role.ROUTER,
    "language_model.model.layers.3.self_attn.index_q_proj.weight": Role.ATTENTION,
    "language_model.model.layers.3.self_attn.index_k_norm.weight": Role.NORM,
    "patch_merge_mlp.linear_1.weight": Role.PROJECTOR,
    # gpt-oss
    "model.layers.0.mlp.experts.gate_up_proj_blocks": Role.EXPERTS,
    "model.layers.0.mlp.experts.gate_up_proj_scales": Role.EXPERTS,
    "model.layers.0.mlp.experts.gate_up_proj_bias": Role.BIAS,
    "model.layers.0.mlp.router.bias": Role.ROUTER,
    "model.layers.0.self_attn.sinks": Role.BIAS,
    # Qwen3-Next, Kimi Linear
    "model.layers.0.linear_attn.in_proj_qkvz.weight": Role.ATTENTION,
    "model.layers.0.linear_attn.in_proj_ba.weight": Role.STATE,
    "model.layers.0.linear_attn.A_log": Role.STATE,
    "model.layers.0.linear_attn.dt_bias": Role.STATE,
    "model.layers.0.linear_attn.conv1d.weight": Role.CONVOLUTION,
    "model.layers.0.linear_attn.norm.weight": Role.NORM,
    "model.layers.0.mlp.shared_expert_gate.weight": Role.ROUTER,
    "model.layers.0.mlp.shared_expert.gate_proj.weight": Role.SHARED_EXPERTS,
    "model.layers.0.self_attn.q_conv1d.weight": Role.CONVOLUTION,
    "model.layers.0.self_attn.f_a_proj.weight": Role.STATE,
    "model.layers.0.block_sparse_moe.shared_experts.gate_proj.weight": Role.SHARED_EXPERTS,
    # Mamba, Nemotron-H, RecurrentGemma, LFM2
    "backbone.embeddings.weight": Role.EMBEDDING,
    "backbone.layers.0.mixer.in_proj.weight": Role.ATTENTION,
    "backbone.layers.0.mixer.A_log": Role.STATE,
    "backbone.layers.0.mixer.D": Role.STATE,
    "backbone.layers.0.mixer.conv1d.bias": Role.CONVOLUTION,
    "backbone.layers.0.mixer.up_proj.weight": Role.FFN,
    "backbone.layers.0.mixer.experts.3.up_proj.weight": Role.EXPERTS,
    "backbone.layers.0.mixer.gate.weight": Role.ROUTER,
    "backbone.layers.0.mixer.shared_experts.up_proj.weight": Role.SHARED_EXPERTS,
    "backbone.norm_f.weight": Role.NORM,
    "model.layers.0.temporal_block.linear_x.weight": Role.ATTENTION,
    "model.layers.0.conv.in_proj.weight": Role.ATTENTION,
    "model.layers.0.conv.conv.weight": Role.CONVOLUTION,
    # towers of Gemma, Qwen and Kimi
    "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight": Role.VISION,
    "vision_tower.vision_model.embeddings.patch_embedding.weight": Role.VISION,
    "multi_modal_projector.mm_soft_emb_norm.weight": Role.PROJECTOR,
    "model.visual.merger.linear_fc1.weight": Role.PROJECTOR,
    "model.visual.deepstack_merger_list.0.norm.weight": Role.PROJECTOR,
    "mm_projector.proj.0.weight": Role.PROJECTOR,
    "language_model.model.layers.1.mlp.experts.0.gate_proj.weight_packed": Role.EXPERTS,
    # llama.cpp
    "token_embd.weight": Role.EMBEDDING,
    "output.weight": Role.HEAD,
    "output_norm.weight": Role.NORM,
    "blk.0.attn_output.weight": Role.ATTENTION,
    "blk.0.attn_q.bias": Role.BIAS,
    "blk.0.attn_sinks.weight": Role.BIAS,
    "blk.0.ffn_gate_inp.weight": Role.ROUTER,
    "blk.0.ffn_gate_inp_shexp.weight": Role.ROUTER,
    "blk.0.ffn_down_exps.weight": Role.EXPERTS,
    "blk.0.ffn_down_shexp.weight": Role.SHARED_EXPERTS,
    "blk.0.exp_probs_b.bias": Role.BUFFER,
    "blk.0.post_ffw_norm.weight": Role.NORM,
}


@pytest.mark.parametrize(("name", "role"), ROLES.items())
def test_a_name_of_a_real_checkpoint_says_its_role(name, role):
    assert weight_role(name) is role


def test_an_unknown_name_has_no_role():
    assert role_of("model.secret") is None


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.61.mlp.experts.0.up_proj.weight",
        "model.layers.61.shared_head.head.weight",
        "model.layers.61.eh_proj.weight",
        "mtp.layers.0.mlp.gate.weight",
        "model.mtp_layers.0.input_proj.weight",
        "blk.61.nextn.eh_proj.weight",
    ],
)
def test_mtp_modules_stand_behind_the_layers(name):
    assert is_of_mtp(name, 61)
    assert not is_of_mtp("model.layers.60.mlp.gate.weight", 61)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "entries"),
    [
        ("experts.gate_up_proj_blocks", (8, 64, 4, 16), "U8", 8 * 64 * 4 * 32),
        ("q_proj.qweight", (256, 32), "I32", 256 * 256),
        ("q_proj.weight_packed", (256, 32), "I32", 256 * 256),
        ("q_proj.weight", (256, 128), "U8", 256 * 256),
        ("q_proj.weight", (256, 256), "I8", 256 * 256),
    ],
)
def test_packed_matrices_count_their_entries(name, shape, dtype, entries):
    assert StoredTensor(name, shape, dtype, 0).logical_elements == entries


# -- verify --------------------------------------------------------------------------------------


def in_layers(layers, shapes, dtype="BF16", prefix="model.layers."):
    return {
        f"{prefix}{layer}.{name}": (dtype, shape) if isinstance(shape, tuple) else tuple(shape)
        for layer in layers
        for name, shape in shapes.items()
    }


def fp8_matrix(name, rows, columns):
    """A matrix in fp8 and its scales, one for each 128 x 128."""
    return {
        f"{name}.weight": ["F8_E4M3", (rows, columns)],
        f"{name}.weight_scale_inv": ["F32", (-(-rows // 128), -(-columns // 128))],
    }


OUTSIDE = {
    "model.embed_tokens.weight": ("BF16", (V, D)),
    "model.norm.weight": ("BF16", (D,)),
    "lm_head.weight": ("BF16", (V, D)),
}
NORMS = {"input_layernorm.weight": (D,), "post_attention_layernorm.weight": (D,)}
GQA = {
    "self_attn.q_proj.weight": (256, D), "self_attn.k_proj.weight": (128, D),
    "self_attn.v_proj.weight": (128, D), "self_attn.o_proj.weight": (D, 256),
}  # fmt: skip

MIXTRAL_CONFIG = {
    **LLAMA_CONFIG,
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
}
MIXTRAL = OUTSIDE | in_layers(
    range(2),
    NORMS
    | GQA
    | {"block_sparse_moe.gate.weight": (4, D)}
    | {f"block_sparse_moe.experts.{e}.{w}.weight": (F, D) for e in range(4) for w in ("w1", "w3")}
    | {f"block_sparse_moe.experts.{e}.w2.weight": (D, F) for e in range(4)},
)

DEEPSEEK_CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "hidden_size": D,
    "intermediate_size": F,
    "moe_intermediate_size": 200,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "num_attention_heads": 4,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "num_nextn_predict_layers": 1,
    "vocab_size": V,
    "max_position_embeddings": 4096,
    "quantization_config": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
}
LATENT = NORMS | {
    "self_attn.q_a_layernorm.weight": (96,),
    "self_attn.kv_a_layernorm.weight": (64,),
    **fp8_matrix("self_attn.q_a_proj", 96, D),
    **fp8_matrix("self_attn.q_b_proj", 4 * 48, 96),
    **fp8_matrix("self_attn.kv_a_proj_with_mqa", 64 + 16, D),
    **fp8_matrix("self_attn.kv_b_proj", 4 * 64, 64),
    **fp8_matrix("self_attn.o_proj", D, 4 * 32),
}


def fp8_network(name, width):
    return {
        **fp8_matrix(f"{name}.gate_proj", width, D),
        **fp8_matrix(f"{name}.up_proj", width, D),
        **fp8_matrix(f"{name}.down_proj", D, width),
    }


SPARSE = LATENT | {
    "mlp.gate.weight": (4, D),
    "mlp.gate.e_score_correction_bias": ["F32", (4,)],
    **fp8_network("mlp.shared_experts", 200),
}
for expert in range(4):
    SPARSE |= fp8_network(f"mlp.experts.{expert}", 200)
MTP = SPARSE | {
    "embed_tokens.weight": (V, D),
    "enorm.weight": (D,),
    "hnorm.weight": (D,),
    "eh_proj.weight": (D, 2 * D),
    "shared_head.norm.weight": (D,),
    "shared_head.head.weight": (V, D),
}
DEEPSEEK = (
    OUTSIDE
    | in_layers([0], LATENT | fp8_network("mlp", F))
    | in_layers([1], SPARSE)
    | in_layers([2], MTP)
)

GPT_OSS_CONFIG = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "hidden_size": D,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 128,
    "vocab_size": V,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    },
}
GPT_OSS = OUTSIDE | in_layers(
    range(2),
    NORMS
    | GQA
    | {
        "self_attn.q_proj.bias": (256,),
        "self_attn.k_proj.bias": (128,),
        "self_attn.v_proj.bias": (128,),
        "self_attn.o_proj.bias": (D,),
        "self_attn.sinks": (4,),
        "mlp.router.weight": (4, D),
        "mlp.router.bias": (4,),
        "mlp.experts.gate_up_proj_blocks": ["U8", (4, 256, D // 32, 16)],
        "mlp.experts.gate_up_proj_scales": ["U8", (4, 256, D // 32)],
        "mlp.experts.gate_up_proj_bias": (4, 256),
        "mlp.experts.down_proj_blocks": ["U8", (4, D, 128 // 32, 16)],
        "mlp.experts.down_proj_scales": ["U8", (4, D, 128 // 32)],
        "mlp.experts.down_proj_bias": (4, D),
    },
)

MAMBA_CONFIG = {
    "architectures": ["MambaForCausalLM"],
    "model_type": "mamba",
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": 2,
    "state_size": 16,
    "expand": 2,
    "conv_kernel": 4,
    "time_step_rank": 16,
    "use_bias": False,
    "use_conv_bias": True,
}
MAMBA = {
    "backbone.embeddings.weight": ("BF16", (V, D)),
    "backbone.norm_f.weight": ("BF16", (D,)),
    **in_layers(
        range(2),
        {
            "norm.weight": (D,),
            "mixer.A_log": (512, 16),
            "mixer.D": (512,),
            "mixer.conv1d.weight": (512, 1, 4),
            "mixer.conv1d.bias": (512,),
            "mixer.in_proj.weight": (1024, D),
            "mixer.x_proj.weight": (16 + 32, 512),
            "mixer.dt_proj.weight": (512, 16),
            "mixer.dt_proj.bias": (512,),
            "mixer.out_proj.weight": (D, 512),
        },
        prefix="backbone.layers.",
    ),
}

CHECKPOINTS = {
    "llama": (LLAMA_CONFIG, llama_tensors()),
    "mixtral": (MIXTRAL_CONFIG, MIXTRAL),
    "deepseek": (DEEPSEEK_CONFIG, DEEPSEEK),
    "gpt-oss": (GPT_OSS_CONFIG, GPT_OSS),
    "mamba": (MAMBA_CONFIG, MAMBA),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_agrees_with_its_config_role_by_role(tmp_path, name):
    config, tensors = CHECKPOINTS[name]
    path = write_repository(tmp_path / name, config, tensors)

    checks = verify(load_config(path.with_name("config.json")), path)

    assert [check for check in checks if not check.agrees] == []


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_a_model_of_the_same_bytes(tmp_path, name):
    config, tensors = CHECKPOINTS[name]
    path = write_repository(tmp_path / name, config, tensors)

    checks = verify(load_config(path), path)

    assert [check for check in checks if not check.agrees] == []


def test_an_index_is_verified_over_all_its_shards(tmp_path):
    folder = write_repository(tmp_path / "deepseek", DEEPSEEK_CONFIG, DEEPSEEK).parent
    index = write_shards(folder, DEEPSEEK, count=3)

    done = llmplan("verify", str(folder / "config.json"), "--against", str(index))

    assert done.exit_code == 0


def test_a_gguf_file_is_verified(tmp_path):
    path = tmp_path / "small.gguf"
    path.write_bytes(gguf_bytes(LLAMA_METADATA, llama_gguf("q8_0")))

    done = llmplan("verify", str(path), "--against", str(path))

    assert done.exit_code == 0


def test_differences_are_named_with_exit_code_1(tmp_path):
    tensors = dict(MIXTRAL)
    del tensors["model.layers.1.block_sparse_moe.experts.3.w2.weight"]
    tensors["model.layers.0.secret"] = ("F32", (5,))
    path = write_repository(tmp_path / "mixtral", MIXTRAL_CONFIG, tensors)

    config = str(path.with_name("config.json"))
    done = llmplan("verify", config, "--against", str(path), "--format", "csv")

    rows = {row.split(",")[0]: row.split(",")[1:] for row in done.stdout.splitlines()}
    experts = 2 * 4 * 3 * F * D
    assert done.exit_code == 1
    assert rows["experts"][:2] == [str(experts), str(experts - F * D)]
    assert rows["unknown"] == ["0", "5", "0", "20", "false"]
    assert [name for name, row in rows.items() if row[-1] == "false"] == ["experts", "unknown"]


def test_another_format_is_a_difference_of_bytes(tmp_path):
    path = write_repository(tmp_path / "llama", LLAMA_CONFIG, llama_tensors("F32"))

    checks = verify(load_config(path.with_name("config.json")), path)

    assert all(check.spec.entries == check.file.entries for check in checks)
    assert all(2 * check.spec.stored_bytes == check.file.stored_bytes for check in checks)
