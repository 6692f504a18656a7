"""A checked spec to a compiled model."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from llmplan.documents import Document
from llmplan.dtypes import divide_up, format_named
from llmplan.model import spec
from llmplan.model.blocks import layer_operators
from llmplan.model.compiled import Component, Identity, Layer, Model, Part
from llmplan.model.frame import Frame, Operators, Width
from llmplan.model.per_layer_inputs import inputs_of_all_layers
from llmplan.model.pooling_head import pooling_head
from llmplan.ops.base import Operator
from llmplan.ops.embedding import Embedding, LearnedVectors, PositionTable, TiedHead
from llmplan.ops.hyper import HyperConnection, StreamMean
from llmplan.ops.linear import Linear, Split, Tokens
from llmplan.ops.norm import GATE_FLOPS, Elementwise, LearnedScale, Norm, StoredScale
from llmplan.ops.precision import Precision, Role
from llmplan.ops.residual import AttentionResidual

EMPTY: Final = "empty"
"""Name of a layer without blocks: the stream passes it as it is."""
_CLASS_DEFAULT: Final = "defaults of its class; its published config was not read"


def compile_spec(
    model: spec.ModelSpec, document: Document, assumptions: tuple[str, ...] = ()
) -> Model:
    """The operators of a spec that ``check_spec`` has passed.

    Args:
        model: The spec.
        document: Its file.
        assumptions: What was assumed to come to it, to be said wherever the model is used.
    """
    frame = Frame(
        model.hidden_size,
        model.norm,
        native_precision(model),
        streams=model.hc_mult or 1,
        mixes_streams=model.hc_mixing,
        streams_end_in_mean=model.hc_head == "mean",
        layer_scalar=model.layer_scalar,
        per_layer_input=model.hidden_size_per_layer_input or 0,
        residual_sums=_residual_sums(model),
    )
    optional = (_mtp(model, frame), _vision(model, frame), _projector(model, frame))
    return Model(
        identity_of(model, document, (*assumptions, *_misfits(model))),
        model.max_position_embeddings,
        (_decoder(model, frame), *(c for c in optional if c is not None)),
    )


def _misfits(model: spec.ModelSpec) -> Iterator[str]:
    """What a model lacks to run, though it can be counted."""
    if model.projector_width:
        gives, takes = f"{model.projector_width:,}", f"{model.hidden_size:,}"
        yield f"{model.name}'s projector gives {gives} features, and its decoder takes {takes}."


def _residual_sums(model: spec.ModelSpec) -> int:
    """One sum for each started block of layers, and the input table's output."""
    size = model.attn_res_block_size
    return divide_up(model.num_hidden_layers, size) + 1 if size else 0


def native_precision(model: spec.SpecIdentity) -> Precision:
    """The published mix; biases, convolutions and state stay bf16 unless the spec names them."""
    stated = tuple((role, format_named(name)) for role, name in model.precision.items())
    return Precision().with_roles(stated)


def identity_of(
    model: spec.SpecIdentity, document: Document, assumptions: tuple[str, ...]
) -> Identity:
    """What a model is called and where it comes from."""
    revision = f", revision {model.source.revision}" if model.source.revision else ""
    source = f"{model.source.config}{revision} ({model.source.date}, {model.source.confidence})"
    if model.source.confidence == "class-default":
        assumptions = (*assumptions, f"{model.name} is described by the {_CLASS_DEFAULT}.")
    return Identity(
        model.name,
        model.family,
        model.hf_ids,
        tuple((i, v.max_position_embeddings) for v in model.variants for i in v.hf_ids),
        model.architecture,
        model.license,
        model.release_date,
        source,
        model.notes,
        assumptions,
        document,
        tuple(model.unused_entries.items()),
    )


def _decoder(model: spec.ModelSpec, frame: Frame) -> Component:
    table = Embedding(
        "embed_tokens",
        frame.precision,
        model.vocab_size,
        model.hidden_size,
        is_tied=model.tie_word_embeddings,
        extra_rows=model.extra_input_rows or 0,
    )
    return Component(
        Part.DECODER,
        (table, *_after_the_table(model, frame)),
        stacked_layers(model.blocks, model.layers, frame),
        (*_after_the_layers(frame, Tokens.LAST), _head(model, frame)),
    )


def _after_the_table(model: spec.ModelSpec, frame: Frame) -> Iterator[Operator]:
    if model.num_positions:
        yield PositionTable(
            "embed_positions", frame.precision, model.num_positions, model.hidden_size
        )
    if model.embedding_norm:
        yield frame.stream_norm("embedding_norm")
    if model.rotary_scales:
        yield _rotary_scales(model.rotary_scales, frame)
    yield from inputs_of_all_layers(model, frame)


def _rotary_scales(pairs: int, frame: Frame) -> StoredScale:
    """Factors on the frequencies, applied where a token's rotary angles are formed."""
    label = "rotary_scales"
    return StoredScale(label, frame.precision, pairs, 1.0, entries=pairs, label=label)


def _after_the_layers(frame: Frame, tokens: Tokens) -> Operators:
    """The norm, and before it the sum of the residual streams where there are several."""
    norm = _final_norm(frame, tokens)
    if frame.residual_sums:
        mix = AttentionResidual(
            "output_residual", frame.precision, frame.hidden_size, frame.residual_sums, tokens
        )
        return (mix, norm)
    if frame.streams == 1:
        return (norm,)
    name, precision, width = "hyper_head", frame.precision, frame.hidden_size
    if frame.streams_end_in_mean:
        return (StreamMean(name, precision, frame.streams, width, tokens), norm)
    last = HyperConnection(name, precision, frame.streams, width, is_last=True, tokens=tokens)
    return (last, norm)


def _final_norm(frame: Frame, tokens: Tokens) -> Norm:
    return Norm(
        "final_norm",
        frame.precision,
        frame.hidden_size,
        kind=frame.norm.kind,
        has_weight=frame.norm.weight,
        has_bias=frame.norm.bias,
        tokens=tokens,
    )


def _head(model: spec.ModelSpec, frame: Frame) -> Operator:
    if model.tie_word_embeddings:
        return TiedHead("lm_head", frame.precision, model.vocab_size, model.hidden_size)
    return Linear(
        "lm_head",
        frame.precision,
        model.hidden_size,
        model.vocab_size,
        Role.HEAD,
        has_bias=model.lm_head_bias,
        split=Split.VOCABULARY,
        split_units=model.vocab_size,
        tokens=Tokens.LAST,
        labels=("vocab_size", "hidden_size"),
    )


def stacked_layers(
    blocks: Mapping[str, spec.BlockSpec], runs: Iterable[spec.LayerRun], frame: Frame
) -> tuple[Layer, ...]:
    """The layers of a stack in order; equal ones are one object.

    The first layer that names a shared block stores it, and later ones use it again.
    """
    layers: dict[tuple[spec.LayerBlocks, frozenset[str]], Layer] = {}
    order: list[Layer] = []
    stored: frozenset[str] = frozenset()
    for names in _block_names(runs):
        flat = [name for branches in _branches(names) for name in branches]
        shared = frozenset(n for n in flat if isinstance(blocks[n], spec.SharedTransformerBlock))
        again = shared & stored
        if (names, again) not in layers:
            inside = replace(frame, stored=again)
            layers[names, again] = Layer(
                "+".join(flat) or EMPTY, _layer_operators(names, blocks, inside)
            )
        order.append(layers[names, again])
        stored |= shared
    return tuple(order)


def _layer_operators(
    names: spec.LayerBlocks, blocks: Mapping[str, spec.BlockSpec], frame: Frame
) -> tuple[Operator, ...]:
    branches = tuple(
        tuple((name, blocks[name]) for name in together) for together in _branches(names)
    )
    return layer_operators(branches, frame)


def _branches(names: spec.LayerBlocks) -> Iterator[tuple[str, ...]]:
    """Names that run side by side; a name by itself is one branch."""
    for name in names:
        yield (name,) if isinstance(name, str) else name


def _block_names(runs: Iterable[spec.LayerRun]) -> Iterator[spec.LayerBlocks]:
    for run in runs:
        for _ in range(run.count):
            if run.blocks is not None:
                yield run.blocks
            yield from _block_names(run.pattern or ())


def _mtp(model: spec.ModelSpec, frame: Frame) -> Component | None:
    """Each module: norms of embedding, hidden state and output, a 2D x D projection, one layer."""
    if model.mtp is None:
        return None
    D = model.hidden_size
    frame = replace(frame, streams=1) if model.mtp.single_stream else frame
    own: list[Operator] = [
        frame.stream_norm("enorm"),
        frame.stream_norm("hnorm"),
        frame.between(
            "eh_proj", (2 * D, "2 x hidden_size"), Width(D, "hidden_size"), Role.PROJECTOR
        ),
    ]
    if model.mtp.own_embedding:
        own.insert(
            0, Embedding("embed_tokens", frame.precision, model.vocab_size, D, is_tied=False)
        )
    head = (_head(model, frame),) if model.mtp.own_head else ()
    blocks = _layer_operators(model.mtp.blocks, model.blocks, frame)
    module = Layer("mtp", (*own, *blocks, *_after_the_layers(frame, Tokens.ALL), *head))
    return Component(Part.MTP, (), (module,) * model.mtp.num_nextn_predict_layers, ())


def _vision(model: spec.ModelSpec, frame: Frame) -> Component | None:
    tower = model.vision
    if tower is None:
        return None
    inside = Frame(tower.hidden_size, tower.norm, frame.precision, in_tower=True)
    pixels = (
        tower.num_channels * tower.temporal_patch_size * tower.patch_size**2,
        "num_channels x temporal_patch_size x patch_size x patch_size",
    )
    before: list[Operator] = [
        inside.between(
            "patch_embedding",
            pixels,
            Width(tower.hidden_size, "hidden_size"),
            Role.VISION,
            bias=tower.patch_bias,
        )
    ]
    vectors = (("class_embedding", int(tower.class_embedding)), ("positions", tower.num_positions))
    before += [
        LearnedVectors(name, inside.precision, count, tower.hidden_size, Role.VISION)
        for name, count in vectors
        if count
    ]
    if tower.position_gates:
        before.append(_position_gates(inside, tower.position_gates))
    before += [inside.stream_norm("pre_layernorm")] * tower.pre_norm
    after: list[Operator] = [inside.stream_norm("post_layernorm")] * tower.post_norm
    after += [_standardization(inside)] * tower.standardize
    after += pooling_head(tower, inside) if tower.pooling_head else []
    layers = stacked_layers(tower.blocks, tower.layers, inside)
    return Component(Part.VISION, tuple(before), layers, tuple(after))


def _position_gates(tower: Frame, count: int) -> LearnedScale:
    width, label = tower.hidden_size, "position_gates"
    return LearnedScale(
        label, tower.precision, width, 1.0, entries=count, role=Role.VISION, label=label
    )


def _standardization(tower: Frame) -> StoredScale:
    width = tower.hidden_size
    return StoredScale(
        "standardize", tower.precision, width, 2.0, entries=2 * width, label="2 x hidden_size"
    )


def _projector(model: spec.ModelSpec, frame: Frame) -> Component | None:
    if not model.projector and not model.audio_projector:
        return None
    chain = (
        *_projector_operators(model.projector, "projector", frame.precision),
        *_projector_operators(model.audio_projector, "audio_projector", frame.precision),
    )
    if model.deepstack is None:
        return Component(Part.PROJECTOR, chain, (), ())
    inner = _projector_operators(model.deepstack.projector, "deepstack", frame.precision)
    return Component(
        Part.PROJECTOR, chain, (Layer("deepstack", inner),) * model.deepstack.count, ()
    )


def _projector_operators(
    items: spec.Projector, where: str, precision: Precision
) -> tuple[Operator, ...]:
    return tuple(
        _projector_operator(item, f"{where}.{index}", precision) for index, item in enumerate(items)
    )


def _projector_operator(item: spec.ProjectorItem, where: str, precision: Precision) -> Operator:
    index = where.rpartition(".")[2]
    if isinstance(item, spec.ProjectorGate):
        return Elementwise(f"gate_{index}", precision, item.width, GATE_FLOPS, reads=2)
    if isinstance(item, spec.ProjectorVectors):
        return LearnedVectors(
            f"vectors_{index}",
            precision,
            item.count,
            item.width,
            Role.PROJECTOR,
            labels=(f"{where}.count", f"{where}.width"),
        )
    if isinstance(item, spec.ProjectorNorm):
        return Norm(
            f"norm_{index}",
            precision,
            item.width,
            kind=item.norm,
            has_weight=item.weight,
            has_bias=item.bias,
            role=Role.PROJECTOR,
            label=f"{where}.width",
        )
    branches, times = (2, "2 x ") if item.gated else (1, "")
    return Linear(
        f"linear_{index}",
        precision,
        item.in_features,
        branches * item.out_features,
        Role.PROJECTOR,
        has_bias=item.bias,
        labels=(f"{times}{where}.out_features", f"{where}.in_features"),
    )
