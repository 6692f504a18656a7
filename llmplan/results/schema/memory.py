"""Memory of a model, of each GPU and of the host."""

from llmplan.results.schema.common import Explanation, Published
from llmplan.units import Provenance


class KvCache(Published):
    """What requests keep; exact."""

    bytes_per_token: int
    """Keys and values of layers whose state grows without limit."""
    indexer_bytes_per_token: int
    """Keys of sparse-attention indexers."""
    bytes_per_request_fixed: int
    """Recurrent and convolution state, an image attended to apart, and full windows."""
    recurrent_bytes: int
    """Recurrent state of one request."""
    convolution_bytes: int
    """Convolution columns and token shifts of one request."""
    cross_bytes: int
    """Keys and values of the image of one request, where text attends to images apart."""
    window_bytes: int
    """Windowed layers of one request, every window full."""
    bytes_per_request: int
    """One request at the context asked for."""
    bytes_per_request_reserved_as_full: int
    """The same where an engine reserves windowed layers for the whole context."""
    total_bytes: int
    """All requests of the batch."""


class PerGpu(Published):
    """Memory of each GPU of one deployment."""

    capacity_bytes: int
    """What the driver gives a process."""
    budget_bytes: int
    """What the engine may fill."""
    weights_bytes: int
    """This rank's weights, copies included."""
    activations_bytes: int
    """Reserved for activations."""
    non_torch_bytes: int
    """Reserved for communication buffers and libraries."""
    graphs_bytes: int
    """Captured graphs."""
    kv_available_bytes: int
    """Left for state; negative where the weights alone do not fit."""
    headroom_bytes: int
    """Outside the budget, less graphs where these are outside."""
    provenance: dict[str, Provenance]
    """Of each figure that is not exact."""
    weights_by_role: dict[str, int] = {}
    """Stored weights of the rank by role, before what loading adds."""
    stage: int = 0
    """Pipeline stage of the rank, from 0: the one whose cache ends first."""
    graphs_in_budget: bool = False
    """Whether graphs come out of the budget."""
    beside_bytes: int = 0
    """Held beside the model: adapters, a draft model, logits of prompts."""
    notes: dict[str, str] = {}
    """How each figure was arrived at."""


class BesideRow(Published):
    """One thing that a GPU holds beside the model."""

    name: str
    """What it is."""
    bytes: int
    """On the GPU whose cache ends first."""
    provenance: Provenance
    """Of the size."""
    note: str
    """How it was arrived at."""


class HostMemory(Published):
    """What the host of the fullest node holds for its GPUs."""

    needed_bytes: int
    """All of it."""
    weights_bytes: int
    """Weights that stay in host memory."""
    state_bytes: int
    """Cache of the layers that stay there, for the requests asked for."""
    tier_bytes: int
    """Cache blocks that are moved there, all GPUs of the node."""
    tier_tokens: int
    """Tokens in requests of the context that such a tier holds, all copies."""
    tier_requests: int
    """Whole such requests."""
    capacity_bytes: int | None
    """Memory of the host; null where it is not known."""
    fits: bool | None
    """Whether the host has it; null where its memory is not known."""
    stays_on_gpu: dict[str, int]
    """What each GPU holds all the same: weights by role, working memory, cache of the batch."""
    read_bytes_per_token: int
    """Weights in host memory that one token of one request uses."""
    link: str | None
    """Link between host and GPU."""
    link_bytes_per_s: float | None
    """Its rate, one direction."""
    link_s_per_token: float | None
    """Seconds a token at the least where these weights cross the link for it."""


class MemoryResult(Published):
    """``llmplan memory``."""

    model: str
    """Catalogue name."""
    weights_bytes: int
    """Stored weights, scales and buffers included; one copy."""
    weights_by_component: dict[str, int]
    """The same by part of the model."""
    kv_cache: KvCache
    """What requests keep."""
    activations_bytes: int
    """Estimate of the largest intermediate values of one step."""
    total_bytes: int
    """Weights, state of the batch and activations."""
    provenance: dict[str, Provenance]
    """Of each figure."""
    layout: str | None = None
    """Layout on the GPUs, where they were given."""
    per_gpu: PerGpu | None = None
    """Memory of each GPU."""
    kv_tokens: int | None = None
    """Tokens held in requests of the context, all replicas."""
    max_concurrency: int | None = None
    """Requests of the context held at once, all replicas."""
    fits: bool | None = None
    """Whether the engine starts and the batch fits at the context."""
    engine_tokens: int | None = None
    """Tokens that the engine prints at start-up: of one copy, windowed layers in its own way."""
    engine_concurrency: float | None = None
    """Requests of max_model_len that the engine prints at start-up, of one copy."""
    cache_unit: str | None = None
    """What the engine hands its cache out in."""
    beside: list[BesideRow] = []
    """What each GPU holds beside the model: adapters, a draft model, logits of prompts."""
    host: HostMemory | None = None
    """What stays in host memory, where anything does."""
    explain: list[Explanation] = []
    """Where each number comes from, on request."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return self.fits is False
