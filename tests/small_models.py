"""Small models of every kind, each as a transformers config and as a spec with the same sizes.

Sizes differ from one another wherever the architecture allows it, so that a swapped factor shows.
"""

import os
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from textwrap import dedent
from types import ModuleType
from typing import Any, Final

import pytest

from llmplan.documents import parse_document
from llmplan.model.check import check_spec
from llmplan.model.compile import compile_spec
from llmplan.model.compiled import Model
from llmplan.model.spec import ModelSpec
from llmplan.validation import validated

needs_transformers: Final = pytest.mark.skipif(
    not (find_spec("torch") and find_spec("transformers")), reason="needs the oracles extra"
)

_HEADER: Final = """
name: small
family: test
hf_ids: []
architecture: {architecture}
source: {{config: test, date: 2026-11}}
license: none
release_date: 2026-11
max_position_embeddings: 512
"""


@dataclass(frozen=True)
class SmallModel:
    """One architecture twice.

    Attributes:
        architecture: The transformers class; its config class is found through it.
        config: Arguments of the config class.
        spec: The same model in the spec language, without the header.
    """

    architecture: str
    config: dict[str, Any]
    spec: str


def compiled(small: SmallModel) -> Model:
    """The spec as operators."""
    header = _HEADER.format(architecture=small.architecture)
    document = parse_document(header + dedent(small.spec), small.architecture)
    spec = validated(document, ModelSpec)
    check_spec(spec, document)
    return compile_spec(spec, document)


def quiet_transformers() -> ModuleType:
    """The transformers module, offline and without its advice on configs."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def built(small: SmallModel) -> Any:
    """The transformers model with random weights, attention and experts in plain operations."""
    import torch

    with warnings.catch_warnings():
        # classes deprecate their own arguments when they are built
        warnings.simplefilter("ignore")
        model_class = getattr(quiet_transformers(), small.architecture)
        config = model_class.config_class(**small.config)
        # "eager" forms scores by matmuls and runs experts one by one, which a FLOP counter sees
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        torch.manual_seed(0)
        return model_class(config).eval()


def ran(network: Any, requests: int, tokens: int, cache: Any = None) -> Any:
    """One forward pass of random tokens; returns the cache, which is made where none is given."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        # kernels that are not installed are named in a warning
        warnings.simplefilter("ignore")
        cache = empty_cache(network) if cache is None else cache
        ids = torch.randint(1, network.config.vocab_size, (requests, tokens))
        key = "cache_params" if "mamba" in network.config.model_type[:6] else "past_key_values"
        network(input_ids=ids, use_cache=True, **{key: cache})
    return cache


def empty_cache(network: Any) -> Any:
    """The cache that ``generate`` would make."""
    if network.config.model_type == "minimax":
        from transformers.models.minimax.modeling_minimax import MiniMaxCache

        return MiniMaxCache()
    return quiet_transformers().DynamicCache(config=network.config)


SMALL: Final = {
    "llama": SmallModel(
        "LlamaForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          gqa: {kind: attention, num_attention_heads: 6, num_key_value_heads: 2, head_dim: 10}
          ffn: {kind: mlp, intermediate_size: 88}
        layers: [{count: 2, blocks: [gqa, ffn]}]
        """,
    ),
    "olmo2": SmallModel(
        "Olmo2ForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        norm: {placement: post}
        blocks:
          mha:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 4
            head_dim: 12
            qk_norm: full
          ffn: {kind: mlp, intermediate_size: 88}
        layers: [{count: 2, blocks: [mha, ffn]}]
        """,
    ),
    "gemma3": SmallModel(
        "Gemma3ForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "tie_word_embeddings": True,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: true
        norm: {placement: sandwich}
        blocks:
          window:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 10
            qk_norm: head
            sliding_window: 8
          full:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 10
            qk_norm: head
          ffn: {kind: mlp, intermediate_size: 88, hidden_act: gelu}
        layers: [{count: 2, blocks: [window, ffn]}, {blocks: [full, ffn]}]
        """,
    ),
    "mixtral": SmallModel(
        "MixtralForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 56,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "sliding_window": None,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          gqa: {kind: attention, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 10}
          moe: {kind: moe, num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 56}
        layers: [{count: 2, blocks: [gqa, moe]}]
        """,
    ),
    "qwen3-moe": SmallModel(
        "Qwen3MoeForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          gqa:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 10
            qk_norm: head
          moe: {kind: moe, num_experts: 8, num_experts_per_tok: 3, moe_intermediate_size: 36}
        layers: [{count: 2, blocks: [gqa, moe]}]
        """,
    ),
    "glm4-moe": SmallModel(
        "Glm4MoeForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "partial_rotary_factor": 0.5,
            "attention_bias": True,
            "use_qk_norm": True,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          gqa:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 12
            rotary_dim: 6
            attention_bias: true
            qk_norm: head
          ffn: {kind: mlp, intermediate_size: 88}
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            n_shared_experts: 1
            e_score_correction_bias: true
        layers: [{blocks: [gqa, ffn]}, {count: 2, blocks: [gqa, moe]}]
        """,
    ),
    "gpt-oss": SmallModel(
        "GptOssForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 36,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_local_experts": 8,
            "num_experts_per_tok": 3,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          window:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 10
            attention_bias: true
            o_proj_bias: true
            attention_sinks: true
            sliding_window: 8
          full:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 10
            attention_bias: true
            o_proj_bias: true
            attention_sinks: true
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            expert_bias: true
            router_bias: true
        layers: [{blocks: [window, moe]}, {blocks: [full, moe]}]
        """,
    ),
    "deepseek-v3": SmallModel(
        "DeepseekV3ForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": 26,
            "kv_lora_rank": 18,
            "qk_nope_head_dim": 12,
            "qk_rope_head_dim": 8,
            "v_head_dim": 14,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          mla:
            kind: mla
            num_attention_heads: 4
            q_lora_rank: 26
            kv_lora_rank: 18
            qk_nope_head_dim: 12
            qk_rope_head_dim: 8
            v_head_dim: 14
          ffn: {kind: mlp, intermediate_size: 88}
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            n_shared_experts: 2
            e_score_correction_bias: true
        layers: [{blocks: [mla, ffn]}, {count: 2, blocks: [mla, moe]}]
        """,
    ),
    "deepseek-v4": SmallModel(
        "DeepseekV4ForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "num_key_value_heads": 1,
            "head_dim": 20,
            "q_lora_rank": 26,
            "partial_rotary_factor": 0.4,
            "o_groups": 3,
            "o_lora_rank": 14,
            "sliding_window": 8,
            "layer_types": [
                "sliding_attention",
                "compressed_sparse_attention",
                "heavily_compressed_attention",
            ],
            "compress_rates": {
                "compressed_sparse_attention": 4,
                "heavily_compressed_attention": 6,
            },
            "mlp_layer_types": ["hash_moe", "moe", "moe"],
            "index_n_heads": 5,
            "index_head_dim": 16,
            "index_topk": 3,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "n_shared_experts": 1,
            "hc_mult": 4,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        hc_mult: 4
        blocks:
          window:
            kind: compressed_attention
            num_attention_heads: 6
            head_dim: 20
            q_lora_rank: 26
            qk_rope_head_dim: 8
            o_groups: 3
            o_lora_rank: 14
            sliding_window: 8
          sparse:
            kind: compressed_attention
            num_attention_heads: 6
            head_dim: 20
            q_lora_rank: 26
            qk_rope_head_dim: 8
            o_groups: 3
            o_lora_rank: 14
            sliding_window: 8
            compress_ratio: 4
            overlapping_entries: true
            indexer: {index_n_heads: 5, index_head_dim: 16, index_topk: 3}
          heavy:
            kind: compressed_attention
            num_attention_heads: 6
            head_dim: 20
            q_lora_rank: 26
            qk_rope_head_dim: 8
            o_groups: 3
            o_lora_rank: 14
            sliding_window: 8
            compress_ratio: 6
          looked_up:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            n_shared_experts: 1
            expert_table_rows: 130
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            n_shared_experts: 1
            e_score_correction_bias: true
        layers:
          - blocks: [window, looked_up]
          - blocks: [sparse, moe]
          - blocks: [heavy, moe]
        """,
    ),
    "deepseek-v3.2": SmallModel(
        "DeepseekV32ForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": 26,
            "kv_lora_rank": 18,
            "qk_nope_head_dim": 12,
            "qk_rope_head_dim": 8,
            "v_head_dim": 14,
            "index_n_heads": 6,
            "index_head_dim": 16,
            "index_topk": 5,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          mla:
            kind: mla
            num_attention_heads: 4
            q_lora_rank: 26
            kv_lora_rank: 18
            qk_nope_head_dim: 12
            qk_rope_head_dim: 8
            v_head_dim: 14
            indexer: {index_n_heads: 6, index_head_dim: 16, index_topk: 5}
          ffn: {kind: mlp, intermediate_size: 88}
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            n_shared_experts: 1
            e_score_correction_bias: true
        layers: [{blocks: [mla, ffn]}, {blocks: [mla, moe]}]
        """,
    ),
    "qwen3-next": SmallModel(
        "Qwen3NextForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 6,
            "linear_key_head_dim": 10,
            "linear_value_head_dim": 14,
            "linear_conv_kernel_dim": 4,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "shared_expert_intermediate_size": 28,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          delta:
            kind: gated_delta_net
            linear_num_key_heads: 2
            linear_num_value_heads: 6
            linear_key_head_dim: 10
            linear_value_head_dim: 14
            linear_conv_kernel_dim: 4
          gqa:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 16
            rotary_dim: 4
            qk_norm: head
            output_gate: elementwise
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            shared_expert_intermediate_size: 28
            shared_expert_gate: true
        layers: [{count: 2, blocks: [delta, moe]}, {blocks: [gqa, moe]}]
        """,
    ),
    "kimi-linear": SmallModel(
        "KimiLinearForCausalLM",
        {
            "vocab_size": 130,
            "pad_token_id": 0,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "kv_lora_rank": 18,
            "qk_nope_head_dim": 12,
            "qk_rope_head_dim": 8,
            "v_head_dim": 14,
            "linear_num_heads": 6,
            "linear_head_dim": 10,
            "linear_conv_kernel_dim": 4,
            "num_local_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 36,
            "n_shared_experts": 1,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          kda: {kind: kda, num_heads: 6, head_dim: 10, short_conv_kernel_size: 4}
          mla:
            kind: mla
            num_attention_heads: 4
            q_lora_rank: null
            kv_lora_rank: 18
            qk_nope_head_dim: 12
            qk_rope_head_dim: 8
            v_head_dim: 14
            rotary: false
          ffn: {kind: mlp, intermediate_size: 88}
          moe:
            kind: moe
            num_experts: 8
            num_experts_per_tok: 3
            moe_intermediate_size: 36
            n_shared_experts: 1
            e_score_correction_bias: true
        layers: [{blocks: [kda, ffn]}, {blocks: [kda, moe]}, {blocks: [mla, moe]}]
        """,
    ),
    "minimax": SmallModel(
        "MiniMaxForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 56,
            "num_hidden_layers": 3,
            "layer_types": ["linear_attention", "linear_attention", "full_attention"],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 10,
            "block_size": 16,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          lightning: {kind: lightning, num_attention_heads: 4, head_dim: 10}
          gqa: {kind: attention, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 10}
          moe: {kind: moe, num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 56}
        layers: [{count: 2, blocks: [lightning, moe]}, {blocks: [gqa, moe]}]
        """,
    ),
    "mamba": SmallModel(
        "MambaForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "state_size": 12,
            "expand": 2,
            "conv_kernel": 4,
            "time_step_rank": 5,
            "use_bias": False,
            "use_conv_bias": True,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: true
        blocks:
          mamba:
            kind: mamba
            intermediate_size: 96
            state_size: 12
            conv_kernel: 4
            time_step_rank: 5
        layers: [{count: 2, blocks: [mamba]}]
        """,
    ),
    "mamba2": SmallModel(
        "Mamba2ForCausalLM",
        {
            "vocab_size": 130,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 0,
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_heads": 12,
            "head_dim": 8,
            "n_groups": 2,
            "state_size": 14,
            "expand": 2,
            "conv_kernel": 4,
            "chunk_size": 16,
            "use_bias": False,
            "use_conv_bias": True,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 2
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          mamba2:
            kind: mamba2
            num_heads: 12
            head_dim: 8
            n_groups: 2
            state_size: 14
            conv_kernel: 4
        layers: [{count: 2, blocks: [mamba2]}]
        """,
    ),
    "jamba": SmallModel(
        "JambaForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "attn_layer_period": 4,
            "attn_layer_offset": 2,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "mamba_d_state": 14,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
            "mamba_dt_rank": 5,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 4
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          mamba:
            kind: mamba
            intermediate_size: 96
            state_size: 14
            conv_kernel: 4
            time_step_rank: 5
            inner_norms: true
          gqa:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 12
            rotary_dim: 0
          ffn: {kind: mlp, intermediate_size: 88}
          moe: {kind: moe, num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 88}
        layers:
          - blocks: [mamba, ffn]
          - blocks: [mamba, moe]
          - blocks: [gqa, ffn]
          - blocks: [mamba, moe]
        """,
    ),
    "bamba": SmallModel(
        "BambaForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 88,
            "num_hidden_layers": 3,
            "attn_layer_indices": [1],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "mamba_n_heads": 12,
            "mamba_d_head": 8,
            "mamba_n_groups": 2,
            "mamba_d_state": 14,
            "mamba_d_conv": 4,
            "mamba_chunk_size": 16,
            "tie_word_embeddings": False,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: false
        blocks:
          mamba2:
            kind: mamba2
            num_heads: 12
            head_dim: 8
            n_groups: 2
            state_size: 14
            conv_kernel: 4
          gqa:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 2
            head_dim: 12
            rotary_dim: 6
          ffn: {kind: mlp, intermediate_size: 88}
        layers:
          - blocks: [mamba2, ffn]
          - blocks: [gqa, ffn]
          - blocks: [mamba2, ffn]
        """,
    ),
    "recurrent-gemma": SmallModel(
        "RecurrentGemmaForCausalLM",
        {
            "vocab_size": 130,
            "hidden_size": 48,
            "intermediate_size": 176,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "lru_width": 48,
            "conv1d_width": 4,
            "attention_window_size": 8,
            "tie_word_embeddings": True,
        },
        """
        hidden_size: 48
        num_hidden_layers: 3
        vocab_size: 130
        tie_word_embeddings: true
        blocks:
          recurrent: {kind: rg_lru, lru_width: 48, num_attention_heads: 4, conv1d_width: 4}
          window:
            kind: attention
            num_attention_heads: 4
            num_key_value_heads: 1
            head_dim: 12
            rotary_dim: 6
            o_proj_bias: true
            sliding_window: 8
          ffn: {kind: mlp, intermediate_size: 88, hidden_act: gelu, mlp_bias: true}
        layers: [{count: 2, blocks: [recurrent, ffn]}, {blocks: [window, ffn]}]
        """,
    ),
}
