"""What all published results share."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[1] = 1


class Published(BaseModel):
    """Base of all results."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @property
    def is_no(self) -> bool:
        """Whether this answers a question with no."""
        return False


class Explanation(Published):
    """One number with where it comes from."""

    quantity: str
    """What is explained."""
    formula: str
    """In words of the spec's keys."""
    values: str
    """The same with numbers."""
    result: str
    """What comes out."""
    source: str
    """Spec keys, or data, that the values come from."""
