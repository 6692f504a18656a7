"""The spec language: what a model YAML may say. Keys use the official config's names.

A model is named blocks (token mixers and feed-forward networks), a layer pattern over them, and the
parts around the decoder. There are no expressions and no includes.
"""

from typing import Annotated, Literal

from pydantic import Field

from llmplan.model.spec_values import BlockName, Count, Day, Flag, Slug, SmallCount, Strict, Text
from llmplan.ops.norm import NormKind
from llmplan.ops.precision import Role


class NormSpec(Strict):
    """The norms of the residual stream."""

    kind: NormKind = NormKind.RMS
    """rmsnorm or layernorm."""
    bias: Flag = False
    """Whether each norm has a bias beside its weight."""
    weight: Flag = True
    """False where the norms of the stream have no parameters (OLMo 1, nanochat)."""
    placement: Literal["pre", "post", "sandwich", "parallel", "parallel_pre"] = "pre"
    """Before each block, after it (inside the residual branch), both, or one for all blocks of a
    layer, which then run side by side; parallel_pre runs them side by side, each after its own."""
    branch_norms: Flag = False
    """Blocks side by side have norms of their own inside those around them: one after each, and
    one before each but the first, which has the common one (Gemma 4)."""


OutputScale = Literal["none", "scalar", "channel"]


class BlockIndexerSpec(Strict):
    """The indexer that chooses which blocks of keys a query attends to (MiniMax-M3)."""

    index_n_heads: SmallCount
    """Indexer heads, one for each key/value head."""
    index_head_dim: SmallCount
    """Width of an indexer head and of its cached key."""
    index_block_size: SmallCount
    """Keys that are chosen together."""
    index_topk_blocks: SmallCount
    """Blocks each query attends to at most, that of its own position among them."""


class AttentionBlock(Strict):
    """Softmax attention: MHA, GQA or MQA, full, windowed or chunked."""

    kind: Literal["attention"]
    """attention"""
    num_attention_heads: SmallCount
    """Query heads."""
    num_key_value_heads: SmallCount
    """Key and value heads."""
    head_dim: SmallCount
    """Width of a query and key head."""
    v_head_dim: SmallCount | None = None
    """Width of a value head where it differs from head_dim."""
    attention_bias: Flag = False
    """Biases on the query, key and value projections."""
    o_proj_format: Text | None = None
    """Published format of the output projection where it differs from the other projections."""
    o_proj_bias: Flag = False
    """Bias on the output projection."""
    differential: Flag = False
    """Heads come in pairs: the second one's attention map is taken from the first one's, and both
    weight two heads of values (DiffLlama)."""
    attention_experts: SmallCount | None = None
    """Pairs of a query and an output projection, num_key_value_heads heads wide each; a router
    gives a token num_attention_heads / num_key_value_heads of them (JetMoE)."""
    output_norm: Flag = False
    """A norm over all heads' output, before the output projection (BitNet)."""
    qk_norm: Literal["none", "head", "each_head", "full", "l2"] = "none"
    """Norm of queries and keys: per head with one shared weight (head) or a weight for each
    (each_head), over the full width, or per head without weights (l2)."""
    value_norm: Flag = False
    """A norm of values per head, without a weight (Gemma 4)."""
    value_is_key: Flag = False
    """No value projection: values are the projected keys, apart before norm and positions."""
    qk_norm_bias: Flag = False
    """A bias beside that shared weight, as in a LayerNorm (Persimmon)."""
    output_gate: Literal["none", "elementwise", "head"] = "none"
    """Gate on the attention output: one value an element, or one a head."""
    rotary_dim: Annotated[int, Field(ge=0, le=10_000, strict=True)] | None = None
    """Rotated part of a head; 0 for a layer without positions, absent for the whole head."""
    attention_sinks: Flag = False
    """A learned logit a head joins each softmax."""
    sliding_window: Count | None = None
    """Each query sees this many last tokens only."""
    attention_chunk_size: Count | None = None
    """Each query sees its own chunk of this many positions only."""
    shares_keys_and_values: Flag = False
    """Keys and values are those of an earlier layer of the same kind: no projections of them, and
    no cache of its own (Gemma 4 E2B)."""
    block_indexer: BlockIndexerSpec | None = None
    """Sparse attention on top, over blocks of keys."""
    causal: Flag = True
    """False in encoders, which also keep no cache."""
    output_scale: OutputScale = "none"
    """A learned factor on the output: one number (scalar), or one a channel (layer scale)."""


class CrossAttentionBlock(Strict):
    """Attention of the text over the tokens of an image (Llama 3.2 Vision).

    Keys and values are those of the image alone: projected once a request, kept whatever the
    context is.
    """

    kind: Literal["cross_attention"]
    """cross_attention"""
    num_attention_heads: SmallCount
    """Query heads."""
    num_key_value_heads: SmallCount
    """Key and value heads."""
    head_dim: SmallCount
    """Width of a head."""
    qk_norm: Literal["none", "head"] = "none"
    """Norm of queries and keys per head with one shared weight."""
    image_tokens: Count
    """Tokens of the image that a request holds, at most those of one image of all tiles."""
    output_scale: OutputScale = "none"
    """A learned factor on the output: one number (scalar), or one a channel (layer scale)."""


class IndexerSpec(Strict):
    """Sparse attention: the indexer that chooses which keys a query attends to."""

    index_n_heads: SmallCount
    """Indexer heads."""
    index_head_dim: SmallCount
    """Width of an indexer head and of its cached key."""
    index_topk: Count
    """Keys each query attends to."""
    indexer_type: Literal["full", "shared"] = "full"
    """shared reuses the choice of the last full indexer: no weights, no keys (GLM-5.2)."""
    index_kpool: SmallCount = 1
    """Tokens whose keys are pooled to one by learned weights and chosen together; what is no whole
    pool yet is attended besides (GLM-5.3 Flash)."""
    query_norm: Flag = False
    """A LayerNorm of the stream, from which queries then come (Mistral Large 4)."""
    position_scale: Flag = False
    """Queries are scaled as by position_scale of the block, with numbers of their own."""


class MlaBlock(Strict):
    """Multi-head latent attention."""

    kind: Literal["mla"]
    """mla"""
    num_attention_heads: SmallCount
    """Heads."""
    q_lora_rank: Count | None
    """Rank of the query compression; null where queries are projected directly."""
    kv_lora_rank: Count
    """Width of the cached latent."""
    qk_nope_head_dim: SmallCount
    """Head width of queries and keys without positions."""
    qk_rope_head_dim: Annotated[int, Field(ge=0, le=10_000, strict=True)]
    """Width of the shared positional key; 0 where there is none."""
    v_head_dim: SmallCount
    """Head width of values."""
    rotary: Flag = True
    """False where the positional part is not rotated (Kimi Linear)."""
    position_scale: Flag = False
    """Queries are scaled by a learned line in the logarithm of their position, two numbers a head
    (Mistral Large 4)."""
    projection_format: Text | None = None
    """Published format of the projections around the attention, output included, where it differs
    from that of kv_b_proj and the indexer (GLM-5.3 Flash)."""
    attention_sinks: Flag = False
    """A learned logit a head joins each softmax (Hunyuan 4)."""
    output_gate: Literal["none", "elementwise", "head"] = "none"
    """Gate on the attention output: one value an element (Kimi K3), or one a head (Ling 3.0)."""
    indexer: IndexerSpec | None = None
    """Sparse attention on top."""


class CompressedAttentionBlock(Strict):
    """Attention over a window and over entries that stand for many tokens (DeepSeek V4)."""

    kind: Literal["compressed_attention"]
    """compressed_attention"""
    num_attention_heads: SmallCount
    """Query heads; they share one head that is key and value."""
    head_dim: SmallCount
    """Width of every head and of an entry."""
    q_lora_rank: Count
    """Rank of the query compression."""
    qk_rope_head_dim: SmallCount
    """Rotated part of a head."""
    o_groups: SmallCount
    """Groups of heads in the output projection."""
    o_lora_rank: Count
    """Rank that each group is projected to."""
    sliding_window: Count
    """Each query sees this many last tokens."""
    compress_ratio: SmallCount | None = None
    """Tokens that an entry stands for; absent where a layer has the window only."""
    overlapping_entries: Flag = False
    """Each entry also draws on the tokens of the entry before it, by projections twice as wide."""
    indexer: IndexerSpec | None = None
    """Chooses the entries that a query attends to; absent where it attends to all."""


class GatedDeltaNetBlock(Strict):
    """Gated delta net (Qwen3-Next)."""

    kind: Literal["gated_delta_net"]
    """gated_delta_net"""
    linear_num_key_heads: SmallCount
    """Query and key heads."""
    linear_num_value_heads: SmallCount
    """Value heads, one state matrix each."""
    linear_key_head_dim: SmallCount
    """Width of a key head."""
    linear_value_head_dim: SmallCount
    """Width of a value head."""
    linear_conv_kernel_dim: SmallCount
    """Taps of the short convolution."""


class KdaBlock(Strict):
    """Kimi delta attention: the delta rule with a decay per channel."""

    kind: Literal["kda"]
    """kda"""
    num_heads: SmallCount
    """Heads."""
    head_dim: SmallCount
    """Width of a head."""
    short_conv_kernel_size: SmallCount
    """Taps of the three short convolutions."""
    low_rank_gates: Flag = True
    """False where decay and output gate are projected in one step (Ling 3.0)."""
    full_rank_output_gate: Flag = False
    """The output gate alone is projected in one step (Kimi K3)."""


class MatrixLstmBlock(Strict):
    """mLSTM, the linear recurrence of xLSTM with gates and a normaliser."""

    kind: Literal["mlstm"]
    """mlstm"""
    num_heads: SmallCount
    """Heads."""
    qk_head_dim: SmallCount
    """Width of a query and key head."""
    v_head_dim: SmallCount
    """Width of a value head."""


class LightningBlock(Strict):
    """Lightning attention (MiniMax-01)."""

    kind: Literal["lightning"]
    """lightning"""
    num_attention_heads: SmallCount
    """Heads."""
    head_dim: SmallCount
    """Width of a head."""
    qk_norm: Literal["none", "head"] = "none"
    """Norm of queries and keys per head."""
    rotary_dim: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 0
    """Rotated part of a head."""


class MambaBlock(Strict):
    """Mamba (selective state space)."""

    kind: Literal["mamba"]
    """mamba"""
    intermediate_size: Count
    """Inner width."""
    state_size: SmallCount
    """State numbers a channel."""
    conv_kernel: SmallCount
    """Taps of the short convolution."""
    time_step_rank: SmallCount
    """Rank of the step-size projection."""
    use_bias: Flag = False
    """Biases on the in and out projections."""
    use_conv_bias: Flag = True
    """Bias on the convolution."""
    num_heads: SmallCount = 1
    """Heads, each of which projects its own step size, B and C from its channels (Zamba)."""
    inner_norms: Flag = False
    """Norms on step size, B and C (Jamba)."""
    inner_norm_weights: Flag = True
    """False where these norms have no weights (Falcon Mamba)."""


class Mamba2Block(Strict):
    """Mamba-2 (state-space duality)."""

    kind: Literal["mamba2"]
    """mamba2"""
    num_heads: SmallCount
    """Heads."""
    head_dim: SmallCount
    """Channels a head."""
    n_groups: SmallCount
    """Groups that share B and C."""
    state_size: SmallCount
    """State numbers a channel."""
    conv_kernel: SmallCount
    """Taps of the short convolution."""
    use_bias: Flag = False
    """Biases on the in and out projections."""
    use_conv_bias: Flag = True
    """Bias on the convolution."""
    gated_norm: Flag = True
    """A norm over the gated output (not in Falcon-H1)."""


class ShortConvolutionBlock(Strict):
    """Gated short convolution (LFM2)."""

    kind: Literal["short_convolution"]
    """short_convolution"""
    conv_kernel: SmallCount
    """Taps of the short convolution."""
    conv_bias: Flag = False
    """Biases on the convolution and on the in and out projections."""


class RgLruBlock(Strict):
    """The recurrent block of Griffin and RecurrentGemma."""

    kind: Literal["rg_lru"]
    """rg_lru"""
    lru_width: Count
    """Channels of the recurrence."""
    num_attention_heads: SmallCount
    """Blocks of the block-diagonal gates."""
    conv1d_width: SmallCount
    """Taps of the short convolution."""


class Rwkv6Block(Strict):
    """Time mixing of RWKV-6."""

    kind: Literal["rwkv6"]
    """rwkv6"""
    num_heads: SmallCount
    """Heads."""
    head_dim: SmallCount
    """Width of a head."""
    proj_low_rank_dim: SmallCount
    """Rank of the token-shift mixing."""
    gate_low_rank_dim: SmallCount
    """Rank of the decay projection."""


class MlpBlock(Strict):
    """Dense feed-forward network."""

    kind: Literal["mlp"]
    """mlp"""
    intermediate_size: Count
    """Inner width of one branch."""
    hidden_act: Literal["silu", "gelu", "relu", "relu2", "xielu", "situ"] = "silu"
    """Activation; xielu learns two scalars a layer (Apertus), situ is bounded (Kimi K3)."""
    gated: Flag = True
    """Three matrices (gate, up, down) instead of two."""
    mlp_bias: Flag = False
    """Biases on all matrices."""
    inner_norm: Flag = False
    """A norm over the inner width, before the last matrix (BitNet)."""
    output_scale: OutputScale = "none"
    """A learned factor on the output: one number (scalar), or one a channel (layer scale)."""


class MoeBlock(Strict):
    """Mixture of experts."""

    kind: Literal["moe"]
    """moe"""
    num_experts: SmallCount
    """Routed experts of a layer."""
    num_experts_per_tok: SmallCount
    """Routed experts that a token uses, those that compute nothing among them."""
    zero_expert_num: SmallCount | None = None
    """Experts beside num_experts that return their input: scored by the router, without weights
    (LongCat). A token uses so many fewer of the others in the mean, under even routing."""
    moe_intermediate_size: Count
    """Inner width of one routed expert."""
    moe_latent_size: Count | None = None
    """Width that routed experts work at, between two projections that every token passes."""
    moe_latent_norm: Flag = False
    """A norm of the routed experts' sum, before the projection back (Kimi K3)."""
    n_shared_experts: SmallCount | None = None
    """Shared experts of moe_intermediate_size each, fused into one network."""
    shared_expert_intermediate_size: Count | None = None
    """Inner width of the shared network where it is stated by itself."""
    shared_expert_gate: Flag = False
    """A sigmoid gate on the shared output."""
    hidden_act: Literal["silu", "gelu", "relu", "relu2", "situ"] = "silu"
    """Activation."""
    gated: Flag = True
    """Three matrices an expert instead of two."""
    expert_bias: Flag = False
    """Biases on all matrices of the routed experts."""
    router_bias: Flag = False
    """A bias of the router that is a parameter: on its scores, or on the choice only (AFMoE)."""
    e_score_correction_bias: Flag = False
    """A stored selection bias a routed expert, which is a buffer and no parameter."""
    router_scales: Flag = False
    """The router's input is normed and scaled by feature, its result by expert (Gemma 4)."""
    output_norm: Flag = False
    """A norm over the sum of routed and shared experts (A.X K1)."""
    output_bias: Flag = False
    """A learned vector that is added to that sum (JetMoE)."""
    expert_table_rows: Count | None = None
    """Token ids whose experts stand in a stored table, a buffer, instead of being chosen."""


class Rwkv6ChannelMixBlock(Strict):
    """Channel mixing of RWKV-6."""

    kind: Literal["rwkv6_channel_mix"]
    """rwkv6_channel_mix"""
    intermediate_size: Count
    """Inner width."""


class SharedTransformerBlock(Strict):
    """Attention and a network in a row, stored once and used by all layers that name it (Zamba).

    The attention reads the stream and the output of the input table side by side, the network the
    attention's output; what comes out goes through a matrix of the layer's own and is added.
    """

    kind: Literal["shared_transformer"]
    """shared_transformer"""
    attention: AttentionBlock
    """The attention."""
    mlp: MlpBlock
    """The network."""
    adapter_rank: SmallCount | None = None
    """Rank of the matrices that each layer adds to the network's first ones (Zamba2)."""
    attention_adapters: Flag = False
    """Each layer adds such matrices to queries, keys and values as well."""


BlockSpec = Annotated[
    AttentionBlock
    | CrossAttentionBlock
    | MlaBlock
    | CompressedAttentionBlock
    | GatedDeltaNetBlock
    | KdaBlock
    | LightningBlock
    | MatrixLstmBlock
    | MambaBlock
    | Mamba2Block
    | ShortConvolutionBlock
    | RgLruBlock
    | Rwkv6Block
    | MlpBlock
    | MoeBlock
    | Rwkv6ChannelMixBlock
    | SharedTransformerBlock,
    Field(discriminator="kind"),
]


SideBySide = Annotated[tuple[BlockName, ...], Field(min_length=2, max_length=16)]
LayerBlocks = Annotated[tuple[BlockName | SideBySide, ...], Field(max_length=16)]


class LayerRun(Strict):
    """Equal layers in a row, or a pattern of runs that repeats."""

    count: SmallCount = 1
    """How often the layer, or the whole pattern, stands here."""
    blocks: LayerBlocks | None = None
    """The blocks of one layer, in order; a list among them runs side by side on one norm. A layer
    may have none, as where a search took all of it away (Nemotron Ultra)."""
    pattern: "LayerRuns | None" = None
    """Runs that make up one period, instead of blocks."""


LayerRuns = Annotated[tuple[LayerRun, ...], Field(min_length=1)]


class MtpSpec(Strict):
    """Multi-token-prediction modules, outside the total and the weights unless asked for."""

    num_nextn_predict_layers: SmallCount
    """Modules."""
    blocks: Annotated[LayerBlocks, Field(min_length=1)]
    """The blocks of the decoder layer in each."""
    single_stream: Flag = False
    """The layer has no hyper-connections where the decoder has (GLM-5.3 Flash)."""
    own_embedding: Flag = False
    """Each module stores its own input table."""
    own_head: Flag = False
    """Each module stores its own output head."""


class VisionSpec(Strict):
    """A vision tower: patch embedding, encoder layers, norms."""

    hidden_size: Count
    """Width."""
    num_hidden_layers: SmallCount
    """Encoder layers."""
    image_size: SmallCount | None = None
    """Pixels a side of the published input; absent where any size is taken."""
    patch_size: SmallCount
    """Pixels a side of a patch."""
    temporal_patch_size: SmallCount = 1
    """Video frames that a patch spans."""
    num_channels: SmallCount = 3
    """Colour channels."""
    patch_bias: Flag
    """Bias on the patch embedding."""
    num_positions: Annotated[int, Field(ge=0, le=10**6, strict=True)]
    """Learned position vectors; 0 where positions are rotary only."""
    class_embedding: Flag = False
    """A learned class token."""
    pre_norm: Flag = False
    """A norm before the first layer."""
    post_norm: Flag = False
    """A norm after the last layer."""
    position_gates: SmallCount | None = None
    """Learned factors on tables of positions (Llama 3.2 Vision)."""
    pooling_head: Flag = False
    """SigLIP's head: a learned query over all patches, then a norm and a network. It is loaded
    with the tower; decoders do not read it."""
    standardize: Flag = False
    """A stored shift and scale a channel, buffers, after the last layer (Gemma 4)."""
    norm: NormSpec
    """Norms of the tower."""
    blocks: dict[BlockName, BlockSpec]
    """Named blocks of the tower."""
    layers: LayerRuns
    """Layer pattern of the tower."""


class DeepstackSpec(Strict):
    """Projectors beside the main one, each for the output of an inner layer of the tower."""

    count: SmallCount
    """Inner layers that are carried into the decoder, each with its own projector."""
    projector: "Projector"
    """What one of them is made of."""


class ProjectorLinear(Strict):
    """A matrix between tower and decoder."""

    kind: Literal["linear"]
    """linear"""
    in_features: Count
    """Width in."""
    out_features: Count
    """Width out."""
    bias: Flag = False
    """Whether there is a bias."""
    gated: Flag = False
    """A second matrix of the same shape, whose output is multiplied with that of the first."""
    joined: SmallCount = 1
    """Vectors that stand side by side in in_features, as of patches that are joined."""


class ProjectorNorm(Strict):
    """A norm between tower and decoder."""

    kind: Literal["norm"]
    """norm"""
    width: Count
    """Width."""
    norm: NormKind = NormKind.RMS
    """rmsnorm or layernorm."""
    weight: Flag = True
    """False where the norm has no parameters."""
    bias: Flag = False
    """Whether there is a bias."""


class ProjectorVectors(Strict):
    """Learned vectors between tower and decoder: positions, or the end of a row of patches."""

    kind: Literal["vectors"]
    """vectors"""
    count: Count
    """Vectors."""
    width: Count
    """Width."""


class ProjectorGate(Strict):
    """The product of two halves, one of them activated, between tower and decoder."""

    kind: Literal["gate"]
    """gate"""
    width: Count
    """Width of a half, which is the width out."""


ProjectorItem = ProjectorLinear | ProjectorNorm | ProjectorVectors | ProjectorGate
Projector = tuple[Annotated[ProjectorItem, Field(discriminator="kind")], ...]


class Source(Strict):
    """Where the config was read."""

    config: Text
    """Repository and file, or document."""
    revision: Text | None = None
    """Commit or version, where one is known."""
    date: Day
    """Day on which it was read."""
    confidence: Literal["official-copy", "docs", "class-default"] = "official-copy"
    """A copy of the official file, put together from documents, or a class's defaults."""


class VariantSpec(Strict):
    """Repositories with the same operators and another published context."""

    max_position_embeddings: Count
    """Longest context in tokens that these are published for."""
    hf_ids: tuple[Text, ...]
    """Their Hugging Face ids."""


class SpecIdentity(Strict):
    """What every spec says of its model, whatever that is made of."""

    name: Slug
    """Catalogue name; the file's own."""
    family: Slug
    """Model family."""
    hf_ids: tuple[Text, ...]
    """Hugging Face ids of repositories with this architecture; the first is the reference."""
    variants: tuple[VariantSpec, ...] = ()
    """Repositories with the same operators and another published context."""
    architecture: Text
    """architectures[0] of the config."""
    source: Source
    """Where the config was read."""
    license: Text
    """Licence of the weights."""
    release_date: Day | None = None
    """Release day, month or year; absent where it is not known."""
    notes: tuple[Text, ...] = ()
    """What a reader should know and the numbers do not say."""
    precision: dict[Role, Text] = Field(default={})
    """Published format by role; bf16 where nothing is said, fp32 for buffers."""
    unused_entries: dict[Text, Count] = Field(default={})
    """Entries that the published files hold beside what the model reads, by what they are: a hub
    counts them, memory does not."""


class ModelSpec(SpecIdentity):
    """One model."""

    max_position_embeddings: Count
    """Longest context in tokens that the model is published for."""
    hidden_size: Count
    """Width of the residual stream."""
    num_hidden_layers: SmallCount
    """Decoder layers."""
    vocab_size: Count
    """Rows of the input table, padding included."""
    unpadded_vocab_size: Count | None = None
    """Tokens of the vocabulary, where the config states them beside the padded rows."""
    tie_word_embeddings: Flag
    """Whether the output head is the input table."""
    lm_head_bias: Flag = False
    """A bias on an output head of its own (GPT-J, Phi)."""
    num_positions: Count | None = None
    """Learned position vectors that stand beside the input table; absent without such a table."""
    extra_input_rows: Count | None = None
    """Rows of the input table beyond vocab_size, for tokens that are never predicted (Llama 3.2
    Vision); the output head has none."""
    rotary_scales: SmallCount | None = None
    """Stored factors on the frequencies of the rotary tables, a buffer: one for each rotated pair,
    the same in all layers (Mistral Large 4)."""
    norm: NormSpec = NormSpec()
    """Norms of the residual stream."""
    embedding_norm: Flag = False
    """A norm after the input table (RWKV)."""
    hidden_size_per_layer_input: Count | None = None
    """Width of an input that every layer has of its own, from a second input table and from the
    first one by a matrix; gated, projected and added at the end of the layer (Gemma 4 E2B)."""
    vocab_size_per_layer_input: Count | None = None
    """Rows of that second input table."""
    layer_scalar: Flag = False
    """A stored factor, a buffer, on the output of each layer (Gemma 4)."""
    hc_mult: Annotated[int, Field(gt=1, le=64, strict=True)] | None = None
    """Residual streams that hyper-connections mix around each block; absent for a single one."""
    hc_mixing: Flag = True
    """False where the streams are read and written, but not mixed with each other (Hunyuan 4)."""
    hc_head: Literal["learned", "mean"] = "learned"
    """How the streams end: in a weighted sum with learned coefficients, or in their mean."""
    attn_res_block_size: SmallCount | None = None
    """Attention residuals: every block works on a mix of the sums of so many layers each, of
    which there is one more at the end; absent for the usual residual stream."""
    blocks: dict[BlockName, BlockSpec]
    """Named blocks."""
    layers: LayerRuns
    """Layer pattern: runs of layers, each a list of block names."""
    mtp: MtpSpec | None = None
    """Multi-token-prediction modules."""
    vision: VisionSpec | None = None
    """Vision tower."""
    projector: Projector = ()
    """What carries vision features into the decoder; without a tower, patches of pixels."""
    projector_width: Count | None = None
    """Width that the projector gives where that is not hidden_size, as in the defaults of a class
    that do not fit together (GLM-5.3 Flash): such a model counts, but cannot run on images."""
    audio_projector: Projector = ()
    """What carries frames of sound into the decoder where there is no audio tower (Gemma 4 12B)."""
    deepstack: DeepstackSpec | None = None
    """Projectors of inner layers of the tower (Qwen3-VL)."""
