"""Keys of a config that change no size, with the reason. All others must be read."""

from typing import Final

IGNORED: Final[dict[str, str]] = {
    key: reason
    for reason, keys in {
        "names and bookkeeping": """
            _name_or_path architectures model_type transformers_version auto_map torch_dtype dtype
            unsloth_fixed unsloth_version _attn_implementation attn_implementation name_or_path
            _commit_hash task_specific_params finetuning_task problem_type id2label label2id
            num_labels tokenizer_class prefix custom_pipelines license sentence_transformers
            _attn_implementation_autoset _experts_implementation""",
        "token ids": """
            bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id image_token_id
            image_token_index video_token_id boi_token_index eoi_token_index boi_token_id
            eoi_token_id vision_start_token_id vision_end_token_id decoder_start_token_id
            forced_bos_token_id forced_eos_token_id cls_token_id mask_token_id audio_token_id
            image_break_token_id image_end_token_id image_start_token_id
            media_placeholder_token_id ignore_index""",
        "generation": """
            use_cache max_length min_length do_sample temperature top_k top_p num_beams
            repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids
            begin_suppress_tokens suppress_tokens early_stopping diversity_penalty
            encoder_no_repeat_ngram_size exponential_decay_length_penalty num_beam_groups
            num_return_sequences output_scores remove_invalid_values return_dict_in_generate
            typical_p return_dict output_attentions output_hidden_states chunk_size_feed_forward
            is_decoder is_encoder_decoder pruned_heads tf_legacy_loss torchscript use_bfloat16
            cross_attention_hidden_size add_cross_attention tie_encoder_decoder
            cache_implementation num_logits_to_keep""",
        "training and initialisation": """
            initializer_range attention_dropout hidden_dropout resid_pdrop embd_pdrop
            attention_probs_dropout_prob hidden_dropout_prob embedding_dropout output_dropout
            resid_dropout ffn_dropout attn_dropout emb_pdrop initializer_cutoff_factor
            router_aux_loss_coef output_router_logits aux_loss_alpha seq_aux router_jitter_noise
            router_z_loss_coef load_balance_coeff input_jitter_noise rescale_prenorm_residual
            initializer_factor pretraining_tp ep_size gradient_checkpointing classifier_dropout
            mtp_loss_scaling_factor""",
        "positions: rotary tables are computed, not stored": """
            rope_theta rope_scaling rope_parameters rope_interleave rope_local_base_freq
            original_max_position_embeddings rotary_emb_base default_theta rope_ratio
            rope_style use_mrope mrope_section max_window_layers""",
        "numerics": """
            rms_norm_eps norm_eps layer_norm_eps layer_norm_epsilon layernorm_epsilon
            attn_logit_softcapping final_logit_softcapping query_pre_attn_scalar swiglu_limit
            logit_scale attention_multiplier residual_multiplier embedding_multiplier
            logits_scaling residual_in_fp32 fused_add_norm attention_scaling""",
        "routing: how experts are chosen, not how many there are": """
            norm_topk_prob routed_scaling_factor topk_group n_group topk_method scoring_func
            score_function norm_expert_weight moe_router_activation_func route_norm route_scale
            score_func use_grouped_topk num_expert_group moe_renormalize""",
    }.items()
    for key in keys.split()
}
