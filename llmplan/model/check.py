"""What a spec may not contradict. Each fault names its key, so that the error has file and line."""

from collections.abc import Iterable, Iterator, Mapping
from functools import singledispatch

from llmplan.documents import Document, KeyPath
from llmplan.dtypes import format_named
from llmplan.errors import InputError, nearest_names
from llmplan.model import spec

Fault = tuple[KeyPath, str]
Blocks = Mapping[str, spec.BlockSpec]


def check_spec(model: spec.ModelSpec, document: Document) -> None:
    """Raise the first contradiction of a spec.

    Raises:
        DocumentError: With file, line, key and what to do.
    """
    for path, message in faults(model):
        raise document.error(message, path)


def faults(model: spec.ModelSpec) -> Iterator[Fault]:
    """All contradictions of a spec, in reading order."""
    yield from precision_faults(model)
    yield from _head_and_norm_faults(model)
    yield from stack_faults(model.blocks, model.layers, model.num_hidden_layers, ())
    if model.mtp:
        yield from _name_faults(model.mtp.blocks, model.blocks, ("mtp", "blocks"))
    if model.vision:
        tower = model.vision
        yield from stack_faults(tower.blocks, tower.layers, tower.num_hidden_layers, ("vision",))
        if tower.image_size and tower.image_size % tower.patch_size:
            size = f"{tower.image_size} is no multiple of patch_size {tower.patch_size}"
            yield ("vision", "image_size"), f"{size}."
    yield from _unused_faults(model)
    yield from _shared_faults(model)
    yield from _projector_faults(model)


def _projector_faults(model: spec.ModelSpec) -> Iterator[Fault]:
    """Each matrix takes what the one before it gives; the last one gives the decoder's width."""
    width = model.projector_width or model.hidden_size
    yield from _chain_faults(model.projector, width, ("projector",))
    if model.projector_width and (not model.projector or width == model.hidden_size):
        yield ("projector_width",), "needs a projector that does not give hidden_size."
    yield from _chain_faults(model.audio_projector, model.hidden_size, ("audio_projector",))
    if model.deepstack:
        if not model.projector:
            yield ("deepstack",), "stands without a projector."
        at = ("deepstack", "projector")
        yield from _chain_faults(model.deepstack.projector, model.hidden_size, at)


def _chain_faults(chain: spec.Projector, hidden_size: int, at: KeyPath) -> Iterator[Fault]:
    given = None
    for index, item in enumerate(chain):
        into = _width_in(item)
        joined = item.joined if isinstance(item, spec.ProjectorLinear) else 1
        given = given * joined if given else None
        if given and into != given and isinstance(chain[index - 1], spec.ProjectorLinear):
            yield (*at, index), f"takes {into} features, but gets {given}."
        given = item.out_features if isinstance(item, spec.ProjectorLinear) else item.width
    if given and given != hidden_size:
        yield at, f"gives {given} features, but hidden_size is {hidden_size}."


def _width_in(item: spec.ProjectorItem) -> int:
    if isinstance(item, spec.ProjectorLinear):
        return item.in_features
    return 2 * item.width if isinstance(item, spec.ProjectorGate) else item.width


def _head_and_norm_faults(model: spec.ModelSpec) -> Iterator[Fault]:
    if model.lm_head_bias and model.tie_word_embeddings:
        yield ("lm_head_bias",), "stands beside tie_word_embeddings; only a head of its own has it."
    if model.norm.bias and not model.norm.weight:
        yield ("norm", "bias"), "stands without a weight."
    if model.extra_input_rows and model.tie_word_embeddings:
        yield ("extra_input_rows",), "stands beside tie_word_embeddings."
    if (model.hidden_size_per_layer_input is None) != (model.vocab_size_per_layer_input is None):
        at = "hidden_size_per_layer_input", "vocab_size_per_layer_input"
        stated = at[model.hidden_size_per_layer_input is None]
        yield (stated,), f"needs {at[1] if stated == at[0] else at[0]} beside it."
    if model.hc_head == "mean" and not model.hc_mult:
        yield ("hc_head",), "needs hc_mult."
    if not model.hc_mixing and not model.hc_mult:
        yield ("hc_mixing",), "needs hc_mult."
    if model.hc_mult and model.attn_res_block_size:
        yield ("hc_mult",), "stands beside attn_res_block_size; a model has one of them."
    if model.norm.branch_norms and model.norm.placement != "sandwich":
        yield ("norm", "branch_norms"), "needs placement: sandwich."


def precision_faults(model: spec.SpecIdentity) -> Iterator[Fault]:
    """Formats that are not known."""
    for role, name in model.precision.items():
        try:
            format_named(name)
        except InputError as error:
            yield ("precision", role.value), str(error)


def stack_faults(
    blocks: Blocks, layers: tuple[spec.LayerRun, ...], stated: int, at: KeyPath
) -> Iterator[Fault]:
    """Contradictions of named blocks and the layers made of them."""
    for name, block in blocks.items():
        for key, message in block_faults(block):
            yield (*at, "blocks", name, key), message
    for index, run in enumerate(layers):
        yield from _run_faults(run, blocks, (*at, "layers", index))
    total = sum(map(layer_count, layers))
    if total != stated:
        yield (
            (*at, "layers"),
            f"the pattern has {total} layers, but num_hidden_layers is {stated}.",
        )


def _run_faults(run: spec.LayerRun, blocks: Blocks, at: KeyPath) -> Iterator[Fault]:
    if (run.blocks is None) == (run.pattern is None):
        yield at, "needs either blocks (one layer) or pattern (runs that repeat)."
    elif run.blocks is not None:
        yield from _name_faults(run.blocks, blocks, (*at, "blocks"))
    for index, inner in enumerate(run.pattern or ()):
        yield from _run_faults(inner, blocks, (*at, "pattern", index))


def _name_faults(names: spec.LayerBlocks, blocks: Blocks, at: KeyPath) -> Iterator[Fault]:
    for index, name in enumerate(names):
        if not isinstance(name, str):
            yield from _name_faults(name, blocks, (*at, index))
        elif name not in blocks:
            nearest = nearest_names(name, blocks, most=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"Known: {', '.join(blocks)}."
            yield (*at, index), f"unknown block '{name}'. {hint}"


def _unused_faults(model: spec.ModelSpec) -> Iterator[Fault]:
    used = set(used_blocks(model.layers)) | set(_flat(model.mtp.blocks) if model.mtp else ())
    for name in model.blocks:
        if name not in used:
            yield ("blocks", name), "is used by no layer; remove it or name it in layers."


def _shared_faults(model: spec.ModelSpec) -> Iterator[Fault]:
    """A shared block is read by layers of the decoder, once in each, before its norms."""
    shared = {n for n, b in model.blocks.items() if isinstance(b, spec.SharedTransformerBlock)}
    if shared and model.norm.placement != "pre":
        yield ("norm", "placement"), "must be pre beside blocks of kind shared_transformer."
    if model.mtp and shared & set(_flat(model.mtp.blocks)):
        yield ("mtp", "blocks"), "name a block of kind shared_transformer, which MTP cannot share."
    for index, run in enumerate(model.layers):
        for names in _layers_of(run):
            alone = [name for name in names if isinstance(name, str)]
            flat = list(_flat(names))
            for name in shared & set(flat):
                if flat.count(name) > 1 or name not in alone:
                    fault = f"the shared block '{name}' stands once in a layer, by itself."
                    yield ("layers", index), fault


def _layers_of(run: spec.LayerRun) -> Iterator[spec.LayerBlocks]:
    if run.blocks:
        yield run.blocks
    for inner in run.pattern or ():
        yield from _layers_of(inner)


def used_blocks(runs: Iterable[spec.LayerRun]) -> Iterator[str]:
    """Names of the blocks that runs refer to."""
    for run in runs:
        yield from _flat(run.blocks or ())
        yield from used_blocks(run.pattern or ())


def _flat(names: spec.LayerBlocks) -> Iterator[str]:
    for name in names:
        yield from (name,) if isinstance(name, str) else name


def layer_count(run: spec.LayerRun) -> int:
    """Layers that a run stands for."""
    return run.count * (sum(map(layer_count, run.pattern)) if run.pattern else 1)


def _format_faults(key: str, name: str) -> Iterator[tuple[str, str]]:
    try:
        format_named(name)
    except InputError as error:
        yield key, str(error)


@singledispatch
def block_faults(_block: object) -> Iterator[tuple[str, str]]:
    """Contradictions inside one block, each with its key; most kinds have none."""
    yield from ()


def _not_divisible(key: str, size: int, of_key: str, of: int) -> Iterator[tuple[str, str]]:
    if size % of:
        yield key, f"{size} does not divide by {of_key} {of}."


@block_faults.register
def _attention(block: spec.AttentionBlock) -> Iterator[tuple[str, str]]:
    heads, kv_heads = block.num_attention_heads, block.num_key_value_heads
    yield from _not_divisible("num_attention_heads", heads, "num_key_value_heads", kv_heads)
    if block.o_proj_format is not None:
        yield from _format_faults("o_proj_format", block.o_proj_format)
    if block.rotary_dim is not None and block.rotary_dim > block.head_dim:
        yield "rotary_dim", f"{block.rotary_dim} is more than head_dim {block.head_dim}."
    if block.value_is_key and block.v_head_dim not in (None, block.head_dim):
        yield "value_is_key", "needs values as wide as keys."
    if block.shares_keys_and_values and not block.causal:
        yield "shares_keys_and_values", "needs a cache, which layers that are not causal lack."
    if block.differential:
        yield from _differential_faults(block)
    if block.block_indexer is not None:
        yield from _block_indexer_faults(block, block.block_indexer)
    if block.attention_experts is not None:
        yield from _routed_attention_faults(block)
    if block.qk_norm_bias and block.qk_norm != "head":
        yield "qk_norm_bias", "needs qk_norm: head."
    if block.sliding_window and block.attention_chunk_size:
        yield "attention_chunk_size", "stands beside sliding_window; a layer has one of them."


def _block_indexer_faults(
    block: spec.AttentionBlock, indexer: spec.BlockIndexerSpec
) -> Iterator[tuple[str, str]]:
    """Each key/value head has its choice of blocks, out of all keys."""
    if indexer.index_n_heads != block.num_key_value_heads:
        yield "block_indexer", "needs as many index_n_heads as num_key_value_heads."
    if not block.causal:
        yield "block_indexer", "needs causal: true."
    for key in ("sliding_window", "attention_chunk_size", "differential", "attention_experts",
                "shares_keys_and_values", "attention_sinks"):  # fmt: skip
        if getattr(block, key):
            yield key, "stands beside block_indexer, which cannot say it."


def _differential_faults(block: spec.AttentionBlock) -> Iterator[tuple[str, str]]:
    """Heads come in pairs, and have nothing besides that would not."""
    for key in ("num_attention_heads", "num_key_value_heads"):
        if getattr(block, key) % 2:
            yield key, "must be even where heads are subtracted in pairs."
    for key in ("attention_sinks", "attention_experts", "v_head_dim", "shares_keys_and_values"):
        if getattr(block, key):
            yield key, "stands beside differential, which cannot say it."
    if block.qk_norm not in ("none", "full"):
        yield "qk_norm", "stands beside differential, which cannot say it."


def _routed_attention_faults(block: spec.AttentionBlock) -> Iterator[tuple[str, str]]:
    """Beside a mixture of attention heads, only what JetMoE has."""
    experts = block.attention_experts or 0
    if block.num_attention_heads > experts * block.num_key_value_heads:
        yield "attention_experts", f"{experts} are fewer than a token uses."
    for key in ("attention_bias", "o_proj_format", "value_is_key", "v_head_dim"):
        if getattr(block, key):
            yield key, "stands beside attention_experts, whose projections cannot say it."


@block_faults.register
def _compressed_attention(block: spec.CompressedAttentionBlock) -> Iterator[tuple[str, str]]:
    heads, groups = block.num_attention_heads, block.o_groups
    yield from _not_divisible("num_attention_heads", heads, "o_groups", groups)
    if block.qk_rope_head_dim > block.head_dim:
        yield (
            "qk_rope_head_dim",
            f"{block.qk_rope_head_dim} is more than head_dim {block.head_dim}.",
        )
    if block.compress_ratio is None and block.indexer:
        yield "indexer", "needs compress_ratio: it chooses among entries."
    if block.compress_ratio is None and block.overlapping_entries:
        yield "overlapping_entries", "needs compress_ratio."
    if block.indexer and block.indexer.indexer_type == "shared":
        yield "indexer", "of type shared stands in mla blocks only."
    if block.indexer and block.indexer.index_kpool > 1:
        yield "indexer", "has index_kpool; entries are compressed already."
    if block.indexer and (block.indexer.query_norm or block.indexer.position_scale):
        yield "indexer", "has query_norm or position_scale, which stand in mla blocks only."


@block_faults.register
def _mla(block: spec.MlaBlock) -> Iterator[tuple[str, str]]:
    if block.projection_format is not None:
        yield from _format_faults("projection_format", block.projection_format)
    if block.indexer:
        topk, pool = block.indexer.index_topk, block.indexer.index_kpool
        for key, message in _not_divisible("index_topk", topk, "index_kpool", pool):
            yield "indexer", f"{key} {message}"
        if block.indexer.query_norm and block.q_lora_rank is not None:
            yield "indexer", "has query_norm; its queries come from q_lora_rank, which is normed."


@block_faults.register
def _lightning(block: spec.LightningBlock) -> Iterator[tuple[str, str]]:
    if block.rotary_dim > block.head_dim:
        yield "rotary_dim", f"{block.rotary_dim} is more than head_dim {block.head_dim}."


@block_faults.register
def _gated_delta_net(block: spec.GatedDeltaNetBlock) -> Iterator[tuple[str, str]]:
    yield from _not_divisible(
        "linear_num_value_heads",
        block.linear_num_value_heads,
        "linear_num_key_heads",
        block.linear_num_key_heads,
    )


@block_faults.register
def _mamba(block: spec.MambaBlock) -> Iterator[tuple[str, str]]:
    yield from _not_divisible(
        "intermediate_size", block.intermediate_size, "num_heads", block.num_heads
    )
    if block.inner_norms and block.num_heads > 1:
        yield "inner_norms", "stands beside several heads; only one head has norms inside."


@block_faults.register
def _shared(block: spec.SharedTransformerBlock) -> Iterator[tuple[str, str]]:
    for key, nested in (("attention", block.attention), ("mlp", block.mlp)):
        for inner, message in block_faults(nested):
            yield key, f"{inner} {message}"
    if block.attention_adapters and block.adapter_rank is None:
        yield "attention_adapters", "needs adapter_rank."


@block_faults.register
def _mamba2(block: spec.Mamba2Block) -> Iterator[tuple[str, str]]:
    yield from _not_divisible("num_heads", block.num_heads, "n_groups", block.n_groups)


@block_faults.register
def _rg_lru(block: spec.RgLruBlock) -> Iterator[tuple[str, str]]:
    heads = block.num_attention_heads
    yield from _not_divisible("lru_width", block.lru_width, "num_attention_heads", heads)


@block_faults.register
def _moe(block: spec.MoeBlock) -> Iterator[tuple[str, str]]:
    chosen, scored = block.num_experts_per_tok, block.num_experts + (block.zero_expert_num or 0)
    if chosen > scored:
        yield "num_experts_per_tok", f"{chosen} is more than num_experts {scored}."
    elif block.num_experts * chosen % scored:
        mean = "leaves no whole number of experts with weights a token in the mean"
        yield "zero_expert_num", f"{block.zero_expert_num} {mean}."
    if block.moe_latent_norm and block.moe_latent_size is None:
        yield "moe_latent_norm", "needs moe_latent_size."
    if block.n_shared_experts and block.shared_expert_intermediate_size:
        yield "n_shared_experts", "stands beside shared_expert_intermediate_size; keep one."
    shared = block.n_shared_experts or block.shared_expert_intermediate_size
    if block.shared_expert_gate and not shared:
        yield "shared_expert_gate", "there is no shared expert to gate."
