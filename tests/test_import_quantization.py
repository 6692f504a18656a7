"""Precision by role from quantization_config: each method, and what is refused."""

import json
from pathlib import Path

import pytest
import yaml

from llmplan.errors import DocumentError
from llmplan.model.compile import compile_spec
from llmplan.model.importing.config import spec_of_config

HERE = Path(__file__).parent
CONFIGS = HERE / "oracles" / "configs"
SPECS = HERE.parent / "specs"

DENSE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
SPARSE = {
    **DENSE,
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_key_value_heads": 8,
    "moe_intermediate_size": 256,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
}
OPEN = {
    **DENSE,
    "architectures": ["GptOssForCausalLM"],
    "head_dim": 64,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "sliding_window": 128,
}
QWEN = {
    **DENSE,
    "architectures": ["Qwen3MoeForCausalLM"],
    "head_dim": 64,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
}
ALL_ROLES = ("attention", "ffn", "shared_experts", "experts")
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True, "version": "gemm"}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": True,
        "damp_percent": 0.01, "static_groups": False, "true_sequential": True}  # fmt: skip
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"],
            "producer": {"name": "modelopt", "version": "0.29.0"}}  # fmt: skip


def weights(bits: int, kind: str, strategy: str, **more: object) -> dict:
    return {"num_bits": bits, "type": kind, "strategy": strategy, "dynamic": False,
            "symmetric": True, "observer": "minmax", "observer_kwargs": {}, "actorder": None,
            **more}  # fmt: skip


def group(of_weights: dict, inputs: dict | None = None, targets: tuple = ("Linear",)) -> dict:
    return {"weights": of_weights, "input_activations": inputs, "output_activations": None,
            "targets": list(targets)}  # fmt: skip


def compressed(*groups: dict, ignore: tuple = ("lm_head",), **more: object) -> dict:
    return {"quant_method": "compressed-tensors", "quantization_status": "compressed",
            "config_groups": {f"group_{i}": g for i, g in enumerate(groups)},
            "ignore": list(ignore), "kv_cache_scheme": None, **more}  # fmt: skip


INPUTS_8 = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
INPUTS_INT = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
INPUTS_4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
INT4 = group(weights(4, "int", "group", group_size=32))
FP8_CHANNEL = group(weights(8, "float", "channel"), INPUTS_8)
NVFP4 = group(weights(4, "float", "tensor_group", group_size=16), INPUTS_4)


def imported(base: dict, settings: dict):
    return spec_of_config({**base, "quantization_config": settings}, "config.json")


def precision(base: dict, settings: dict) -> dict[str, str]:
    spec, _ = imported(base, settings)
    return {role.value: name for role, name in spec.precision.items()}


def every(name: str, *roles: str) -> dict[str, str]:
    return dict.fromkeys(roles or ALL_ROLES, name)


def of_layers(*names: str, count: int = 4) -> list[str]:
    return [f"model.layers.{i}.{name}" for i in range(count) for name in names]


NO_ATTENTION = ("ffn", "shared_experts", "experts")
LATENT = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
GOOD = {
    "fp8, blocks": (SPARSE, FP8, every("fp8")),
    "fp8, dense model": (DENSE, FP8, every("fp8", "attention", "ffn")),
    "fp8, a tensor": (DENSE, {"quant_method": "fp8", "activation_scheme": "static"},
                      every("fp8_tensor", "attention", "ffn")),
    "fp8, names that are never converted": (
        QWEN,
        {**FP8, "modules_to_not_convert": ["lm_head", *of_layers("mlp.gate", "input_layernorm")]},
        every("fp8", "attention", "experts")),
    "fp8, attention left out by one word": (
        SPARSE, {**FP8, "modules_to_not_convert": ["self_attn", "lm_head"]},
        every("fp8", *NO_ATTENTION)),
    "fp8, attention left out by every layer": (
        SPARSE, {**FP8, "ignored_layers": ["lm_head", *of_layers("self_attn")]},
        every("fp8", *NO_ATTENTION)),
    "fp8, attention left out by every matrix": (
        SPARSE,
        {**FP8, "ignored_layers": ["lm_head", *of_layers(*(f"self_attn.{n}" for n in LATENT))]},
        every("fp8", *NO_ATTENTION)),
    "fbgemm": (DENSE, {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0,
                       "modules_to_not_convert": ["lm_head", *of_layers("self_attn")]},
               every("fp8_channel", "ffn")),
    "mxfp4": (OPEN, {"quant_method": "mxfp4", "modules_to_not_convert": [
        "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
        "lm_head"]}, every("mxfp4", "experts")),
    "awq": (DENSE, AWQ, every("int4_awq_g64", "attention", "ffn")),
    "awq, router named": (QWEN, {**AWQ, "modules_to_not_convert": ["gate"]},
                          every("int4_awq_g64", "attention", "experts")),
    "gptq": (DENSE, GPTQ, every("int4_gptq_g128", "attention", "ffn")),
    "gptq, rules with a minus": (
        QWEN, {**GPTQ, "dynamic": {"-:.*self_attn.*": {}, "-:.*mlp\\.gate$": {}}},
        every("int4_gptq_g128", "experts")),
    "int4, experts only": (
        SPARSE,
        compressed(INT4, format="pack-quantized", ignore=(
            "lm_head", "re:.*self_attn.*", "re:.*shared_experts.*",
            "re:.*mlp\\.(gate|up|gate_up|down)_proj.*")),
        every("int4_sym_g32", "experts")),
    "int4, zero points": (
        DENSE, compressed(group(weights(4, "int", "group", group_size=128, symmetric=False))),
        every("int4_awq_g128", "attention", "ffn")),
    "int4, head converted": (
        DENSE, compressed(INT4, ignore=()), every("int4_sym_g32", "attention", "ffn", "head")),
    "int4, tied head": ({**DENSE, "tie_word_embeddings": True}, compressed(INT4, ignore=()),
                        every("int4_sym_g32", "attention", "ffn")),
    "int8": (DENSE, compressed(group(weights(8, "int", "channel"), INPUTS_INT)),
             every("int8", "attention", "ffn")),
    "fp8, a channel": (DENSE, compressed(FP8_CHANNEL), every("fp8_channel", "attention", "ffn")),
    "fp8, a tensor, compressed": (
        DENSE, compressed(group(weights(8, "float", "tensor"), INPUTS_8)),
        every("fp8_tensor", "attention", "ffn")),
    "fp8, blocks, compressed": (
        DENSE,
        compressed(group(weights(8, "float", "block", block_structure=[128, 128]), INPUTS_8)),
        every("fp8", "attention", "ffn")),
    "nvfp4": (DENSE, compressed(NVFP4, format="nvfp4-pack-quantized"),
              every("nvfp4", "attention", "ffn")),
    "mxfp4, compressed": (
        DENSE, compressed(group(weights(4, "float", "group", group_size=32,
                                        scale_dtype="torch.uint8"))),
        every("mxfp4", "attention", "ffn")),
    "two groups": (
        QWEN,
        compressed({**FP8_CHANNEL, "targets": ["re:.*self_attn.*"]},
                   {**NVFP4, "targets": ["re:.*mlp\\.experts\\..*"]}),
        {"attention": "fp8_channel", "experts": "nvfp4"}),
    "modelopt nvfp4": (SPARSE, MODELOPT, every("nvfp4")),
    "modelopt, wildcards": (
        SPARSE, {**MODELOPT, "ignore": ["lm_head", "model.layers.*.self_attn*"]},
        every("nvfp4", *NO_ATTENTION)),
    "modelopt, older keys": (
        DENSE, {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": None,
                "exclude_modules": ["lm_head"]}, every("fp8_tensor", "attention", "ffn")),
    "modelopt, groups": (
        DENSE,
        {**MODELOPT, "config_groups": {"group_0": {
            "weights": {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False},
            "input_activations": {"num_bits": 4, "type": "float", "group_size": 16},
            "targets": ["Linear"]}}},
        every("nvfp4", "attention", "ffn")),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_method_is_read_by_role(name):
    base, settings, expected = GOOD[name]

    assert precision(base, settings) == expected


INT4_WEIGHTS = weights(4, "int", "group", group_size=32)
BAD = {
    "bitsandbytes": (DENSE, {"quant_method": "bitsandbytes", "load_in_4bit": True},
                     r"quant_method: 'bitsandbytes' is applied while loading.*--dtype"),
    "quanto": (DENSE, {"quant_method": "quanto", "weights": "int8"}, "quanto"),
    "unknown method": (DENSE, {"quant_method": "aqlm"}, "'aqlm' is not known; known are fp8"),
    "no method": (DENSE, {"bits": 4}, "quant_method"),
    "unknown setting": (DENSE, {**FP8, "outliers": 3}, r"quantization_config\.outliers"),
    "unknown setting of weights": (
        DENSE, compressed(group({**INT4_WEIGHTS, "outliers": 3})), r"weights\.outliers"),
    "blocks of another size": (DENSE, {**FP8, "weight_block_size": [64, 128]},
                               "weight_block_size"),
    "fp8 experts in fp4": (SPARSE, {**FP8, "expert_dtype": "fp4"}, "expert_dtype"),
    "e5m2": (DENSE, {**FP8, "fmt": "e5m2"}, "fmt"),
    "one layer": (DENSE, {**FP8, "modules_to_not_convert": ["lm_head", "model.layers.0"]},
                  r"'model\.layers\.0' names some modules of (attention|ffn) only"),
    "one matrix": (DENSE, {**FP8, "modules_to_not_convert": ["lm_head", "o_proj"]},
                   "'o_proj' names some modules of attention only"),
    "most layers": (SPARSE, {**FP8, "modules_to_not_convert": [
        "lm_head", *of_layers("self_attn", count=3)]}, "some modules of attention only"),
    "one expert": (SPARSE, compressed(INT4, ignore=("lm_head", "re:.*experts\\.7\\..*")),
                   "some modules of experts only"),
    "a name that is unknown": (DENSE, {**FP8, "modules_to_not_convert": ["lm_head", "blocks.wq"]},
                               r"'blocks\.wq' names no part that is known"),
    "head unclear": (DENSE, {**FP8, "modules_to_not_convert": ["self_attn"]}, "lm_head"),
    "two lists": (DENSE, {**FP8, "modules_to_not_convert": ["lm_head"],
                          "ignored_layers": ["lm_head"]}, "stands beside"),
    "all left out": (DENSE, {**FP8, "modules_to_not_convert": ["lm_head", "self_attn", "mlp"]},
                     "leaves nothing that is converted"),
    "mxfp4 without experts": (DENSE, {"quant_method": "mxfp4"}, "leaves nothing"),
    "awq without zero points": (DENSE, {**AWQ, "zero_point": False}, "zero_point"),
    "awq of 3 bits": (DENSE, {**AWQ, "bits": 3}, "bits"),
    "awq, whole columns": (DENSE, {**AWQ, "group_size": -1}, "group_size"),
    "gptq of 8 bits": (DENSE, {**GPTQ, "bits": 8}, "bits"),
    "gptq with head": (DENSE, {**GPTQ, "lm_head": True}, "lm_head"),
    "gptq in another layout": (DENSE, {**GPTQ, "checkpoint_format": "marlin"},
                               "checkpoint_format"),
    "gptq of some modules": (
        DENSE, {**GPTQ, "modules_in_block_to_quantize": [["self_attn.q_proj"]]},
        "modules_in_block_to_quantize"),
    "gptq, rules that change bits": (DENSE, {**GPTQ, "dynamic": {"+:.*mlp.*": {"bits": 8}}},
                                     "dynamic"),
    "index a column": (DENSE, compressed(group({**INT4_WEIGHTS, "actorder": "group"})),
                       "actorder"),
    "int4 a channel": (DENSE, compressed(group(weights(4, "int", "channel"))), "num_bits"),
    "int4 with 8-bit activations": (DENSE, compressed({**INT4, "input_activations": INPUTS_INT}),
                                    "input_activations"),
    "fp8 weights alone": (DENSE, compressed({**FP8_CHANNEL, "input_activations": None}),
                          "input_activations"),
    "nvfp4 weights alone": (DENSE, compressed({**NVFP4, "input_activations": None}),
                            "input_activations"),
    "sparse weights": (DENSE, compressed(INT4, sparsity_config={"format": "sparse-bitmask"}),
                       "sparsity_config"),
    "two groups of one role": (
        QWEN, compressed(INT4, {**FP8_CHANNEL, "targets": ["re:.*self_attn.*"]}),
        "converts one role in two ways"),
    "targets that cut a role": (
        QWEN, compressed({**INT4, "targets": ["re:.*q_proj.*"]}), "some modules of attention"),
    "an expression with a nested quantifier": (
        DENSE, compressed(INT4, ignore=("re:(a+)+$",)), "no expression that can be read"),
    "too many wildcards": (DENSE, compressed(INT4, ignore=("re:" + ".*a" * 9,)),
                           "more than 3 wildcards"),
    "modelopt, mixed": (DENSE, {**MODELOPT, "quant_algo": "MIXED_PRECISION"}, "quant_algo"),
    "modelopt, groups that differ": (
        DENSE, {**MODELOPT, "config_groups": {"group_0": FP8_CHANNEL}}, "does not agree"),
    "modelopt, cache in 4 bits": (DENSE, {**MODELOPT, "kv_cache_quant_algo": "NVFP4"},
                                  "kv_cache_quant_algo"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_by_name(name):
    base, settings, message = BAD[name]

    with pytest.raises(DocumentError, match=message) as refusal:
        imported(base, settings)

    assert refusal.value.key.startswith("quantization_config")


def test_a_cache_format_becomes_a_note():
    scheme = {"num_bits": 8, "type": "float", "dynamic": False}

    spec, _ = imported(DENSE, {**MODELOPT, "kv_cache_scheme": scheme})

    assert spec.notes == ("The checkpoint asks for an fp8 cache: plan it with --kv-dtype fp8.",)


def test_mtp_modules_in_another_format_are_left_out_with_a_note():
    base = {**SPARSE, "num_nextn_predict_layers": 1}

    same, _ = imported(base, MODELOPT)
    differs, _ = imported(base, {**MODELOPT, "ignore": ["lm_head", "model.layers.4*"]})

    assert same.mtp is not None
    assert differs.mtp is None
    assert "MTP" in differs.notes[0]
    assert differs.precision == same.precision


QUANTISED = [
    path
    for path in sorted(CONFIGS.glob("*.json"))
    if "quantization_config" in path.read_text() and (SPECS / f"{path.stem}.yaml").is_file()
]


@pytest.mark.parametrize("path", QUANTISED, ids=lambda path: path.stem)
def test_official_configs_give_the_precision_of_the_catalogue(path):
    expected = yaml.safe_load((SPECS / f"{path.stem}.yaml").read_text())["precision"]

    spec, _ = spec_of_config(json.loads(path.read_text()), str(path))

    assert {role.value: name for role, name in spec.precision.items()} == expected


def test_settings_of_the_text_model_hold_for_it_alone():
    path = CONFIGS / "kimi-k2.5.json"

    spec, document = spec_of_config(json.loads(path.read_text()), str(path))
    model = compile_spec(spec, document)

    assert {role.value for role in spec.precision} == {"experts"}
    assert model.served() is not None


@pytest.mark.parametrize(
    "names",
    [
        ["lm_head", "model.vision_tower", "model.multi_modal_projector"],
        ["re:.*lm_head", "re:vision_tower.*", "re:.*multi_modal_projector.*"],
    ],
    ids=["words", "expressions"],
)
def test_a_tower_that_is_left_out_stays_as_it_is(names):
    settings = {**FP8, "modules_to_not_convert": names}
    if names[0].startswith("re:"):
        settings = compressed(FP8_CHANNEL, ignore=tuple(names))

    found = precision(json.loads((CONFIGS / "mistral-small-3.1-24b.json").read_text()), settings)

    assert set(found) == {"attention", "ffn"}


@pytest.mark.parametrize("names", [["lm_head"], ["lm_head", "vision_tower.layers.0"]])
def test_a_tower_that_is_converted_is_refused(names):
    base = json.loads((CONFIGS / "mistral-small-3.1-24b.json").read_text())

    with pytest.raises(DocumentError, match="does not name the vision tower"):
        imported(base, {**FP8, "modules_to_not_convert": names})
