"""Parameters of a model, and what its files store."""

from llmplan.results.schema.common import Explanation, Published
from llmplan.units import Provenance


class Parameters(Published):
    """Counts; exact."""

    total: int
    """All the published model holds as parameters: ties once, vision in, MTP and buffers out."""
    active: int
    """Parameters of the text model one token uses, without an untied input table."""
    buffers: int
    """Stored entries that are no parameters (routing biases)."""
    mtp: int
    """Multi-token-prediction modules, not part of total."""
    vision: int
    """Vision tower and projector, part of total."""
    embedding: int
    """Input table."""


class ComponentCount(Published):
    """Parameters of one role or component."""

    name: str
    """Role, or component outside the decoder."""
    total: int
    """Parameters."""
    active: int
    """Of these, used by one token."""
    stored_bytes: int
    """As published, scales included."""


class StoredBytes(Published):
    """What files hold in the published formats."""

    entries: int
    """Parameters and buffers."""
    scale_entries: int
    """Scales beside them."""
    elements_bytes: int
    """Parameters alone."""
    scales_bytes: int
    """Scales, zero points and headers of blocks."""
    buffers_bytes: int
    """Buffers."""
    total_bytes: int
    """All of it."""


class Ledger(Published):
    """Entries and bytes one by one, so that a published total can be rebuilt."""

    logical: int
    """Parameters: ties once, vision in, MTP and buffers out."""
    active: int
    """Of these, used by one token."""
    buffers: int
    """Stored entries that are no parameters."""
    mtp: int
    """MTP modules, their buffers included."""
    vision: int
    """Vision tower and projector, part of logical."""
    tied_copy: int
    """Entries that a file holds twice where it stores a tied head by itself."""
    padding: int | None
    """Entries of vocabulary rows that no token has; null where no config states them."""
    without_mtp: StoredBytes
    """What is stored without MTP modules."""
    with_mtp: StoredBytes
    """The same with them."""


class ParamsResult(Published):
    """``llmplan params``."""

    model: str
    """Catalogue name."""
    parameters: Parameters
    """Counts."""
    components: list[ComponentCount]
    """The same by role and component."""
    ledger: Ledger
    """What a published total may be made of."""
    provenance: Provenance
    """exact: sums over shapes."""
    explain: list[Explanation] = []
    """Where each number comes from, on request."""
