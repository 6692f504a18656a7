"""Models on GPUs, and what would make them fit."""

from pydantic import ConfigDict, Field

from llmplan.results.schema.common import Explanation, Published
from llmplan.results.schema.memory import BesideRow, HostMemory


class TryRow(Published):
    """A change that was tried and fits."""

    change: str
    """In words."""
    option: str
    """As it would be typed."""
    layout: str
    """Layout it fits in."""
    max_context: int
    """Longest context then."""
    max_concurrency: int
    """Requests at the context then."""


class DeploymentRow(Published):
    """A model on the GPUs in one layout."""

    model_config = ConfigDict(populate_by_name=True)

    model: str
    """Catalogue name."""
    dtype: str
    """Weight format asked for."""
    kv_dtype: str
    """Format of keys and values."""
    layout: str
    """Split of a copy (tp, pp, adp: attention-dp groups, ep) and dp (copies)."""
    fits: bool
    """Whether the requests asked for fit."""
    weights_bytes_per_gpu: int
    """Weights of each GPU, copies included."""
    kv_available_bytes_per_gpu: int
    """Left for state on each GPU."""
    max_context: int
    """Longest context of a single request."""
    kv_tokens: int
    """Tokens held at the context asked for, all replicas."""
    max_concurrency: int
    """Requests at the context asked for, all replicas."""
    concurrency_at: dict[str, int | None]
    """Requests at other contexts; null beyond the model's own limit."""
    binding: str
    """What stops it, or ends its context."""
    reason: str
    """The same in words."""
    try_: list[TryRow] = Field(default=[], alias="try")
    """Nearest changes that would fit, tried, least harmful first."""
    beside: list[BesideRow] = []
    """What each GPU holds beside the model."""
    host: HostMemory | None = None
    """What stays in host memory, where anything does."""


class FitResult(Published):
    """``llmplan fit``."""

    deployments: list[DeploymentRow]
    """One row per layout, or per model and format with its best layout."""
    explain: list[Explanation] = []
    """How the figures of one model's best layout come about, on request."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return not any(row.fits for row in self.deployments)
