"""What one rank of a layout holds: the same operators, smaller, of its own stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from llmplan.dtypes import divide_up
from llmplan.model.compiled import Component, Layer, Model, Part
from llmplan.ops.base import Operator
from llmplan.ops.embedding import Embedding, TiedHead
from llmplan.ops.linear import Linear, Split
from llmplan.ops.moe import Experts
from llmplan.parallel.layout import Layout, check_layout, stage_sizes
from llmplan.parallel.shard import sharded_model
from llmplan.parallel.shared_weights import with_shared_weights


@dataclass(frozen=True)
class Rank:
    """The fullest rank of a pipeline stage; ranks of a stage differ by rounding only.

    Attributes:
        stage: Number of the stage, from 0.
        first_layer: Number of its first decoder layer.
        num_layers: Its decoder layers.
        model: What it holds.
        is_first: Has the input table, and the vision tower.
        is_last: Has the output head, and the sampler.
    """

    stage: int
    first_layer: int
    num_layers: int
    model: Model
    is_first: bool
    is_last: bool


def stage_ranks(model: Model, layout: Layout, *, vocabulary_multiple: int = 1) -> tuple[Rank, ...]:
    """The fullest rank of each stage, first stage first.

    Args:
        model: The whole model, as it is served.
        layout: How it is split.
        vocabulary_multiple: Rows that the engine pads input table and head to a multiple of.

    Raises:
        LayoutError: The split is not legal, or something does not divide.
    """
    return Splits(model, vocabulary_multiple).ranks(layout)


@dataclass
class Splits:
    """A model that is split in several ways; what layouts have in common is split once.

    Attributes:
        model: The whole model, as it is served.
        vocabulary_multiple: Rows that the engine pads input table and head to a multiple of.
    """

    model: Model
    vocabulary_multiple: int = 1
    _split: dict[Layout, Model] = field(default_factory=dict)

    def ranks(self, layout: Layout) -> tuple[Rank, ...]:
        """The fullest rank of each stage, first stage first.

        Raises:
            LayoutError: The split is not legal, or something does not divide.
        """
        check_layout(self.model, layout)
        one_stage = replace(layout, pp=1, stage_layers=()) if not layout.ep else layout
        if one_stage not in self._split:
            self._split[one_stage] = self._sharded(layout)
        return tuple(_stages(self._split[one_stage], layout))

    def _sharded(self, layout: Layout) -> Model:
        multiple, whole = self.vocabulary_multiple, self.model
        if multiple > 1:
            whole = whole.rewritten(lambda operator: _padded(operator, multiple))
        if layout.ep:
            whole = whole.rewritten(lambda operator: _own_experts(operator, layout))
        return sharded_model(whole, layout.tp, whole_experts=layout.ep)


def _stages(model: Model, layout: Layout) -> Iterator[Rank]:
    sizes = stage_sizes(len(model.decoder.layers), layout)
    first = 0
    for stage, size in enumerate(sizes):
        is_first, is_last = stage == 0, stage == len(sizes) - 1
        layers = model.decoder.layers[first : first + size]
        held = [_decoder_part(model.decoder, layers, is_first=is_first, is_last=is_last)]
        if is_first:
            held += model.parts(Part.VISION, Part.PROJECTOR)
        if is_last:
            held += model.parts(Part.MTP)
        own = model if len(sizes) == 1 else replace(model, components=tuple(held))
        yield Rank(stage, first, size, own, is_first, is_last)
        first += size


def _decoder_part(
    decoder: Component, layers: tuple[Layer, ...], *, is_first: bool, is_last: bool
) -> Component:
    """Some layers, with the table before the first and the head after the last.

    A head that is the input table needs a copy of it on the last stage.
    """
    layers = with_shared_weights(layers)
    before = decoder.before if is_first else ()
    after = decoder.after if is_last else ()
    if is_last and not is_first and any(isinstance(o, TiedHead) for o in after):
        before = tuple(o for o in decoder.before if isinstance(o, Embedding))
    return Component(decoder.part, before, layers, after)


def _own_experts(operator: Operator, layout: Layout) -> Operator:
    """The experts of the fullest rank where whole experts are spread over all ranks of a stage."""
    if not isinstance(operator, Experts):
        return operator
    held = divide_up(operator.num_experts + layout.redundant_experts, layout.stage_ranks)
    among = operator.routed_among or operator.num_experts
    return replace(operator, num_experts=held, routed_among=among, token_groups=layout.dp)


def _padded(operator: Operator, multiple: int) -> Operator:
    """Tables and heads with their rows padded."""
    if isinstance(operator, Embedding | TiedHead):
        rows = divide_up(operator.vocab_size, multiple) * multiple
        return replace(operator, vocab_size=rows)
    if isinstance(operator, Linear) and operator.split is Split.VOCABULARY:
        rows = divide_up(operator.out_features, multiple) * multiple
        return replace(operator, out_features=rows)
    return operator
