"""What was not measured, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A realisation that cannot run here, or an operator that has none.

    Attributes:
        name: Operator class or kernel.
        reason: Why, and where it would run.
    """

    name: str
    reason: str
