"""Input tables, learned positions, and an output head that shares the input table."""

from dataclasses import dataclass, field

from llmplan.ops.base import Cost, Operator, Step, Weight
from llmplan.ops.linear import Tokens
from llmplan.ops.precision import Role


@dataclass(frozen=True, slots=True)
class Embedding(Operator):
    """The input table; a token reads one row.

    Attributes:
        vocab_size: Rows, padding included.
        hidden_size: Width.
        is_tied: The table is the output head as well, so every token uses all of it.
        extra_rows: Rows beyond the vocabulary, for tokens that are never predicted.
    """

    vocab_size: int
    hidden_size: int
    is_tied: bool
    extra_rows: int = 0

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The table."""
        active = (1, 1) if self.is_tied else (0, 1)
        rows = "vocab_size + extra_input_rows" if self.extra_rows else "vocab_size"
        shape, labels = (self.vocab_size + self.extra_rows, self.hidden_size), (rows, "hidden_size")
        return (Weight("", shape, Role.EMBEDDING, labels, active),)

    def cost(self, step: Step) -> Cost:
        """One row read and one vector written a token; no FLOPs."""
        row_bytes = self.hidden_size * self.precision.embedding.bits_per_weight / 8
        return Cost(
            weight_read_bytes=row_bytes * step.tokens,
            activation_bytes=self.hidden_size * self.activation_width_bytes * step.tokens,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class LayerInputTable(Operator):
    """A second input table, whose rows hold an input for every layer (Gemma 4 E2B).

    Attributes:
        vocab_size: Rows.
        num_layers: Layers.
        width: Width of one layer's input.
    """

    vocab_size: int
    num_layers: int
    width: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The table; a token uses one row."""
        shape = (self.vocab_size, self.num_layers * self.width)
        labels = (
            "vocab_size_per_layer_input",
            "num_hidden_layers x hidden_size_per_layer_input",
        )
        return (Weight("", shape, Role.EMBEDDING, labels, (0, 1)),)

    def cost(self, step: Step) -> Cost:
        """One row read and one vector written a token; no FLOPs."""
        elements = self.num_layers * self.width * step.tokens
        return Cost(
            weight_read_bytes=elements * self.precision.embedding.bits_per_weight / 8,
            activation_bytes=self.activation_width_bytes * elements,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class PositionTable(Operator):
    """Learned positions of a decoder; a token adds the row of its position.

    Attributes:
        num_positions: Rows.
        hidden_size: Width.
    """

    num_positions: int
    hidden_size: int

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The table."""
        shape, labels = (self.num_positions, self.hidden_size), ("num_positions", "hidden_size")
        return (Weight("", shape, Role.EMBEDDING, labels, (0, 1)),)

    def cost(self, step: Step) -> Cost:
        """One row read, one vector read and written, and one sum an element, for each token."""
        elements = self.hidden_size * step.tokens
        return Cost(
            vector_flops=elements,
            weight_read_bytes=elements * self.precision.embedding.bits_per_weight / 8,
            activation_bytes=2 * self.activation_width_bytes * elements,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class TiedHead(Operator):
    """The output head whose matrix is the input table: no weights of its own.

    Attributes:
        vocab_size: Rows of the table.
        hidden_size: Width.
        tokens: Positions that get logits.
    """

    vocab_size: int
    hidden_size: int
    tokens: Tokens = Tokens.LAST

    def cost(self, step: Step) -> Cost:
        """2 · vocabulary · width FLOPs a position; the whole table is read once a step."""
        tokens = self.tokens.in_step(step)
        table = self.vocab_size * self.hidden_size
        width = self.vocab_size + self.hidden_size
        return Cost(
            matmul_flops=2.0 * table * tokens,
            weight_read_bytes=table * self.precision.embedding.bits_per_weight / 8,
            activation_bytes=width * self.activation_width_bytes * tokens,
            launches=1.0,
        )


@dataclass(frozen=True, slots=True)
class LearnedVectors(Operator):
    """Stored vectors that are added to or joined with the tokens: positions, class tokens.

    Attributes:
        count: Vectors.
        width: Width.
        role: What they belong to.
        labels: Origin of (count, width) in words of the spec's keys.
    """

    count: int
    width: int
    role: Role
    labels: tuple[str, str] = field(default=("num_positions", "hidden_size"), compare=False)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The vectors."""
        return (
            Weight(
                "",
                (self.count, self.width),
                self.role,
                (self.labels[0] if self.count > 1 else "1", self.labels[1]),
            ),
        )

    def cost(self, step: Step) -> Cost:
        """One sum a token."""
        elements = self.width * step.tokens
        return Cost(
            vector_flops=elements,
            weight_read_bytes=float(self.weights_bytes),
            activation_bytes=2 * self.activation_width_bytes * elements,
            launches=1.0,
        )
