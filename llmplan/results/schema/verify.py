"""Weights of a file beside those of a model."""

from llmplan.results.schema.common import Published


class VerifyRow(Published):
    """One group of weights, side by side."""

    role: str
    """Role, or component outside the decoder."""
    spec_entries: int
    """Entries that the model says, scales left out."""
    file_entries: int
    """Entries that the file holds."""
    spec_bytes: int
    """Stored bytes that the model says, scales included."""
    file_bytes: int
    """Bytes that the file holds."""
    agrees: bool
    """Whether both are equal."""


class VerifyResult(Published):
    """``llmplan verify``."""

    model: str
    """Model verified."""
    file: str
    """File it was compared with."""
    agrees: bool
    """Whether every group is equal."""
    rows: list[VerifyRow]
    """Groups of weights."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return not self.agrees
