"""The residual stream that a block works on, and the widths its matrices have."""

from dataclasses import dataclass

from llmplan.model import spec
from llmplan.ops.base import Operator
from llmplan.ops.linear import Linear, Split
from llmplan.ops.norm import Norm
from llmplan.ops.precision import Precision, Role

Operators = tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """The residual stream that blocks work on.

    Attributes:
        hidden_size: Its width.
        norm: Norms of the stream.
        precision: Formats by role.
        in_tower: Whether this is the vision tower, whose weights are all of role ``vision``.
        streams: Residual streams that hyper-connections mix; 1 without them.
        mixes_streams: Whether these streams are mixed with each other as well.
        streams_end_in_mean: Whether nothing is learned for the sum in which they end.
        layer_scalar: Whether a stored factor scales the output of each layer.
        per_layer_input: Width of each layer's own input; 0 without one.
        residual_sums: Sums that attention residuals mix at most; 0 without them.
        joined: Vectors as wide as the stream that matrices from the stream read side by side.
        stored: Shared blocks whose weights an earlier layer stores.
        is_stored: Whether the block at hand is one of these.
    """

    hidden_size: int
    norm: spec.NormSpec
    precision: Precision
    in_tower: bool = False
    streams: int = 1
    mixes_streams: bool = True
    streams_end_in_mean: bool = False
    layer_scalar: bool = False
    per_layer_input: int = 0
    residual_sums: int = 0
    joined: int = 1
    stored: frozenset[str] = frozenset()
    is_stored: bool = False

    def role(self, role: Role) -> Role:
        """The role of a weight in this stream."""
        return Role.VISION if self.in_tower else role

    def stream_norm(self, name: str) -> Norm:
        """A norm over the stream."""
        return Norm(
            name,
            self.precision,
            self.hidden_size * self.joined,
            kind=self.norm.kind,
            has_weight=self.norm.weight,
            has_bias=self.norm.bias,
            role=self.role(Role.NORM),
            label=self._read_label,
        )

    @property
    def _read_label(self) -> str:
        return "hidden_size" if self.joined == 1 else f"{self.joined} x hidden_size"

    def column(self, name: str, out: "Width", role: Role, *, bias: bool = False) -> Linear:
        """From the stream to ``out``, split over ranks by its units."""
        read = (self.hidden_size * self.joined, self._read_label)
        return self.between(name, read, out, role, bias=bias)

    def between(
        self, name: str, into: tuple[int, str], out: "Width", role: Role, *, bias: bool = False
    ) -> Linear:
        """From any width to ``out``, split over ranks by its units."""
        return Linear(
            name,
            self.precision,
            into[0],
            out.size,
            self.role(role),
            has_bias=bias,
            split=Split.COLUMN if out.units > 1 else Split.REPLICATED,
            split_units=out.units,
            may_replicate=out.may_replicate,
            labels=(out.label, into[1]),
        )

    def row(self, name: str, into: "Width", role: Role, *, bias: bool = False) -> Linear:
        """From ``into`` back to the stream, split over ranks by its units."""
        return Linear(
            name,
            self.precision,
            into.size,
            self.hidden_size,
            self.role(role),
            has_bias=bias,
            split=Split.ROW,
            split_units=into.units,
            may_replicate=into.may_replicate,
            labels=("hidden_size", into.label),
        )


@dataclass(frozen=True, slots=True)
class Width:
    """A width, the indivisible units it is made of, and where it comes from."""

    size: int
    label: str
    units: int = 1
    may_replicate: bool = False
