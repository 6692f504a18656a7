"""Each number with its formula, the values put in, and the spec keys they come from."""

from dataclasses import dataclass, replace
from functools import singledispatch

from llmplan.analyze.flops import absorbed, decoder_only
from llmplan.analyze.keys import KeyFinder, key_finders
from llmplan.analyze.state import bytes_per_token
from llmplan.model.compiled import Model
from llmplan.ops.attention import Attention, Mask
from llmplan.ops.base import Operator, State, Step, Weight
from llmplan.ops.block_sparse import BlockSparseAttention
from llmplan.ops.compressed import CompressedAttention
from llmplan.ops.conv import ShortConvolution
from llmplan.ops.conv2d import Convolution2d
from llmplan.ops.cross_attention import CrossAttention, ImageLinear
from llmplan.ops.differential import DifferentialAttention
from llmplan.ops.embedding import TiedHead
from llmplan.ops.hyper import HyperConnection
from llmplan.ops.latent import AbsorbedLatentAttention, ExpandedLatentAttention, LatentAttention
from llmplan.ops.linear import Linear
from llmplan.ops.linear_attention import DeltaRule, LightningAttention, MatrixLstm
from llmplan.ops.moe import Experts, Router
from llmplan.ops.reused import Reused
from llmplan.ops.routed_linear import RoutedLinear
from llmplan.ops.sparse import Indexer
from llmplan.ops.ssm import GatedLinearRecurrence


@dataclass(frozen=True, slots=True)
class Explained:
    """One number.

    Attributes:
        quantity: What it is.
        formula: In words of the spec's keys.
        values: The same with numbers.
        result: What comes out.
        source: Spec keys with file and line, or the data it comes from.
    """

    quantity: str
    formula: str
    values: str
    result: str
    source: str


@dataclass(frozen=True, slots=True)
class Place:
    """An operator, how often it stands, and where its spec keys are looked up."""

    part: str
    operator: Operator
    repeats: int
    keys: KeyFinder


def places(model: Model) -> tuple[Place, ...]:
    """Every different operator of a model."""
    finders = key_finders(model)
    return tuple(
        Place(component.part.value, operator, repeats, finders[operator])
        for component in model.components
        for operator, repeats in component.counted
    )


def explained_parameters(model: Model) -> tuple[Explained, ...]:
    """Every stored tensor: shape in words, in numbers, and how often it stands."""
    return tuple(
        _explained_weight(place, weight)
        for place in places(model)
        for weight in place.operator.weights
    )


def _explained_weight(place: Place, weight: Weight) -> Explained:
    operator, repeats = place.operator, place.repeats
    formula = " x ".join(f"({label})" if " + " in label else label for label in weight.labels)
    shape = " x ".join(f"{size:,}" for size in weight.shape)
    substituted = place.keys.substituted(formula)
    stored = operator.precision.of(weight.role).name
    kind = "buffer entries" if weight.is_buffer else "parameters"
    times = f" x {repeats}" if repeats > 1 else ""
    return Explained(
        ".".join(filter(None, (place.part, operator.name, weight.name))),
        formula + times,
        (shape if substituted == shape else f"{substituted}{times} = {shape}") + times,
        f"{weight.elements * repeats:,} {kind}, "
        f"{operator.weight_bytes(weight) * repeats:,} bytes as {stored}",
        place.keys.sources(formula) or _sources_of_all(place) or place.keys.document.path,
    )


def _sources_of_all(place: Place) -> str:
    """The keys of all tensors of an operator: where a fixed number of entries comes from."""
    weights = place.operator.weights
    return place.keys.sources(" ".join(label for weight in weights for label in weight.labels))


def explained_state(model: Model) -> tuple[Explained, ...]:
    """Every kind of state: elements in words, in numbers, with format and layers."""
    return tuple(
        _explained_state(place, state) for place in places(model) for state in place.operator.states
    )


def _explained_state(place: Place, state: State) -> Explained:
    per = "request" if state.is_fixed else "token"
    window = f", at most {state.window:,} tokens" if state.window else ""
    substituted = place.keys.substituted(state.formula)
    times = f"x {state.format.bits_per_weight / 8:g} x {place.repeats}"
    share = f" / {state.entry_label}" if state.tokens_per_entry > 1 else ""
    times += f" / {state.tokens_per_entry}" if share else ""
    size = bytes_per_token([(state, place.repeats)])
    return Explained(
        f"{state.kind.value} of {place.operator.name}",
        f"({state.formula}) x bytes of {state.format.name} x layers{share}",
        f"({substituted}) {times} = {state.width:,} {times}",
        f"{size:,} bytes a {per}{window}",
        place.keys.sources(state.formula),
    )


def explained_flops(model: Model, context: int) -> tuple[Explained, ...]:
    """FLOPs of every operator for one decoded token, as defined and with absorbed MLA."""
    defined = [p for p in places(decoder_only(model)) if flops_formula(p.operator)]
    realised = [
        replace(place, operator=absorbed(place.operator))
        for place in defined
        if absorbed(place.operator) is not place.operator
    ]
    return tuple(_explained_cost(place, context) for place in (*defined, *realised))


def _explained_cost(place: Place, context: int) -> Explained:
    formula = flops_formula(place.operator)
    total = float(place.operator.cost(Step.decode(1, context)).model_flops)
    is_absorbed = isinstance(place.operator, AbsorbedLatentAttention)
    return Explained(
        f"{place.operator.name} (absorbed)" if is_absorbed else place.operator.name,
        formula,
        place.keys.substituted(formula).replace("keys", f"{context + 1:,}"),
        f"{total:,.0f} x {place.repeats} = {total * place.repeats:,.0f} FLOPs",
        place.keys.sources(formula),
    )


@singledispatch
def flops_formula(_operator: Operator) -> str:
    """FLOPs of one decoded token in words of the spec's keys; empty where it has none."""
    return ""


@flops_formula.register
def _linear(operator: Linear) -> str:
    out, into = operator.labels
    return f"2 x ({into}) x ({out})"


@flops_formula.register
def _tied_head(_operator: TiedHead) -> str:
    return "2 x hidden_size x vocab_size"


@flops_formula.register
def _attention(operator: Attention) -> str:
    widths = "2 x head_dim"
    if operator.head_dim != operator.v_head_dim:
        widths = "(head_dim + v_head_dim)"
    keys = "keys"
    if operator.mask is Mask.CHUNK:
        keys = f"((keys - 1) mod {operator.span:,} + 1)"
    elif operator.span:
        keys = f"min(keys, {operator.span:,})"
    return f"2 x {widths} x num_attention_heads x {keys}"


@flops_formula.register
def _block_sparse(operator: BlockSparseAttention) -> str:
    m, earlier = operator.index_block_size, operator.index_topk_blocks - 1
    before = f"(keys - 1 - (keys - 1) mod {m:,})"
    keys = f"((keys - 1) mod {m:,} + 1 + min({before}, {m * earlier:,}))"
    widths = "2 x head_dim"
    if operator.head_dim != operator.v_head_dim:
        widths = "(head_dim + v_head_dim)"
    return f"2 x {widths} x num_attention_heads x {keys}"


@flops_formula.register
def _cross_attention(_operator: CrossAttention) -> str:
    return "4 x head_dim x num_attention_heads x image_tokens"


@flops_formula.register
def _of_the_image(_operator: ImageLinear) -> str:
    return ""  # a decoded token passes none of it


@flops_formula.register
def _differential(_operator: DifferentialAttention) -> str:
    return "2 x 3 x head_dim x num_attention_heads x keys"


@flops_formula.register
def _compressed(operator: CompressedAttention) -> str:
    seen = f"min(keys, {operator.sliding_window:,})"
    if operator.compress_ratio:
        entries = _entries(operator.compress_ratio)
        seen += (
            f" + min({entries}, {operator.index_topk:,})"
            if operator.index_topk
            else f" + {entries}"
        )
    return f"4 x head_dim x num_attention_heads x ({seen})"


def _entries(tokens_per_entry: int) -> str:
    return f"(keys - keys mod {tokens_per_entry}) / {tokens_per_entry}"


@flops_formula.register
def _hyper_connection(operator: HyperConnection) -> str:
    return f"2 x hc_mult x hidden_size x {operator.coefficients_label}"


@flops_formula.register
def _expanded(operator: ExpandedLatentAttention) -> str:
    return _latent("qk_nope_head_dim + qk_rope_head_dim + v_head_dim", operator)


@flops_formula.register
def _absorbed(operator: AbsorbedLatentAttention) -> str:
    return _latent("2 x kv_lora_rank + qk_rope_head_dim", operator)


def _latent(widths: str, operator: LatentAttention) -> str:
    topk, pool = operator.index_topk, operator.index_kpool
    tail = f" + keys mod {pool}" if pool > 1 else ""
    keys = f"min(keys, {topk:,}{tail})" if topk else "keys"
    up = "2 x num_attention_heads x (qk_nope_head_dim + v_head_dim) x kv_lora_rank"
    return f"{up} + 2 x num_attention_heads x ({widths}) x {keys}"


@flops_formula.register
def _indexer(operator: Indexer) -> str:
    m = operator.tokens_per_entry
    keys = f"({_entries(m)})" if m > 1 else "keys"
    return f"2 x index_n_heads x index_head_dim x {keys}"


@flops_formula.register
def _router(operator: Router) -> str:
    scored = f"({operator.label})" if " + " in operator.label else operator.label
    return f"2 x hidden_size x {scored}"


@flops_formula.register
def _experts(operator: Experts) -> str:
    matrices = 3 if operator.is_gated else 2
    share = " x num_experts / (num_experts + zero_expert_num)" if operator.routed_among else ""
    each = f"2 x {matrices} x {operator.label} x moe_intermediate_size x num_experts_per_tok"
    return each + share


@flops_formula.register
def _delta(operator: DeltaRule) -> str:
    return f"6 x {' x '.join(operator.labels)}"


@flops_formula.register
def _mlstm(operator: MatrixLstm) -> str:
    heads, d_k, d_v = operator.labels
    return f"{heads} x (4 x {d_k} x {d_v} + 2 x {d_k})"


@flops_formula.register
def _lightning(operator: LightningAttention) -> str:
    return f"4 x {' x '.join(operator.labels)}"


@flops_formula.register
def _convolution(operator: ShortConvolution) -> str:
    channels, kernel = operator.labels
    return f"2 x {kernel} x ({channels})"


@flops_formula.register
def _convolution2d(operator: Convolution2d) -> str:
    out, into = operator.labels
    side = operator.kernel
    return f"2 x {side} x {side} x ({into}) x ({out}) x {operator.pixels:,}"


@flops_formula.register
def _rg_lru(_operator: GatedLinearRecurrence) -> str:
    return "4 x lru_width x lru_width / num_attention_heads"


@flops_formula.register
def _routed_linear(operator: RoutedLinear) -> str:
    out, into = operator.labels
    return f"2 x ({into}) x ({out}) x num_attention_heads / num_key_value_heads"


@flops_formula.register
def _reused(operator: Reused) -> str:
    return flops_formula(operator.operator)
