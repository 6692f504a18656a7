"""Operators whose weights an earlier layer stores: computed and read again, stored once."""

from dataclasses import dataclass, replace

from llmplan.ops.base import Cost, Operator, State, Step


@dataclass(frozen=True, slots=True)
class Reused(Operator):
    """An operator that shares its weights with the same one of an earlier layer (Zamba).

    It has no weights of its own, as a tied output head has none. It keeps its own state, and each
    use reads the weights and computes with them in full.

    Attributes:
        operator: What is used again; formats are those of the outer one, which rewrites change.
    """

    operator: Operator

    @classmethod
    def of(cls, operator: Operator) -> "Reused":
        """``operator`` once more."""
        return cls(
            operator.name,
            operator.precision,
            operator,
            block=operator.block,
            stream=operator.stream,
        )

    @property
    def used(self) -> Operator:
        """The operator in the formats that hold now."""
        return replace(self.operator, precision=self.precision)

    @property
    def states(self) -> tuple[State, ...]:
        """What a request keeps for this use."""
        return self.used.states

    def cost(self, step: Step) -> Cost:
        """That of the operator, its weights read once more."""
        return self.used.cost(step)
