"""The published result of each command. Keys are a contract: more may be added, none change.

Memory in integer bytes, FLOPs as counts, provenance beside what is not exact.
"""

from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from llmplan.described import described_schema
from llmplan.units import Provenance

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


class ModelRow(Published):
    """One model of the catalogue."""

    name: str
    """Catalogue name."""
    family: str
    """Family."""
    parameters_total: int
    """Parameters, vision included, MTP left out."""
    parameters_active: int
    """Parameters of the text model that one token uses."""
    attention: list[str]
    """Kinds of token mixer, most layers first."""
    context_length: int
    """Longest published context in tokens."""
    kv_bytes_per_token: int
    """Growing state at 2 bytes an element."""
    native_weights_bytes: int
    """Stored bytes as published."""
    license: str
    """Licence."""
    release_date: str | None
    """Day or month, where known."""
    hf_ids: list[str]
    """Hugging Face ids."""
    variants: list[str]
    """Ids of siblings with the same operators and another context, with that context."""
    layers: list[str]
    """Distinct layers with how often they stand."""
    source: str
    """Where the config was read."""
    notes: list[str]
    """Remarks."""


class ListedRow(Published):
    """One model that is known by name only."""

    name: str
    """Name, as a spec of it would have."""
    family: str
    """Family."""
    status: str
    """unverified (no usable config), or announced (not released)."""
    reason: str
    """Why no numbers are given."""
    published: dict[str, str]
    """What was announced, in the words of the announcement."""
    hf_ids: list[str]
    """Hugging Face ids."""
    source: str
    """Where it is known from."""


class ModelsResult(Published):
    """``llmplan models``."""

    models: list[ModelRow]
    """Rows in the order asked for."""
    listed: list[ListedRow] = []
    """Models without numbers; left out where a filter asks for numbers."""


class GrowthRow(Published):
    """How one model's state and work grow with the context."""

    model: str
    """Catalogue name."""
    context_tokens: list[int]
    """Contexts, beyond the published one too."""
    published_context: int
    """Longest context that the model is published for."""
    state_bytes: list[int]
    """State of one request at each context, 2 bytes an element."""
    decode_flops_per_token: list[float]
    """FLOPs of one decoded token at each context."""


class CompareModelsResult(Published):
    """``llmplan models --compare``."""

    models: list[ModelRow]
    """The models, in the order asked for."""
    growth: list[GrowthRow]
    """Growth with the context, one row a model."""


class DeviceRow(Published):
    """One device."""

    slug: str
    """Catalogue name."""
    name: str
    """Vendor's name."""
    vendor: str
    """Vendor."""
    architecture: str
    """Architecture."""
    status: str
    """available or announced."""
    capacity_bytes: int
    """What the driver gives a process."""
    capacity_provenance: Provenance
    """measured, or assumed from a larger figure."""
    bandwidth_bytes_per_s: float | None
    """Memory bandwidth."""
    peak_flops_per_s: dict[str, float]
    """Dense peak rates by format."""
    link: str | None
    """Link between devices."""
    link_bytes_per_s: float | None
    """Per device and direction."""
    tdp_w: float | None
    """Board power."""
    aliases: list[str]
    """Other accepted names."""
    source: str
    """Source of the facts."""
    source_date: str
    """When they were read."""


class NodeRow(Published):
    """One node type."""

    slug: str
    """Catalogue name."""
    name: str
    """Full name."""
    device: str
    """Its device."""
    devices: int
    """Devices a node."""
    topology: str
    """How they are joined."""
    link_bytes_per_s: float | None
    """Per device and direction."""
    scale_out_bytes_per_s: float | None
    """Network bandwidth a device and direction."""
    source: str
    """Source of the facts."""
    source_date: str
    """When they were read."""


class DtypeRow(Published):
    """One number format."""

    name: str
    """Name accepted by --dtype."""
    bits_per_weight: float
    """Stored bits of an element, scales included."""
    compute: str
    """The unit that matmuls with such weights run in."""
    note: str
    """Layout and source."""


class HardwareResult(Published):
    """``llmplan hardware``."""

    devices: list[DeviceRow] = []
    """Devices."""
    nodes: list[NodeRow] = []
    """Node types."""
    dtypes: list[DtypeRow] = []
    """Number formats."""


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


class FlopsBreakdown(Published):
    """FLOPs per token of one phase by unit."""

    matmul: float
    """Products with weights."""
    attention: float
    """Scores and values; the recurrence of linear attention."""
    convolution: float
    """Short convolutions."""
    scan: float
    """State-space scans; not part of the total."""
    vector: float
    """Norms, activations, softmax, rotary; not part of the total."""


class FlopsPerToken(Published):
    """Totals: matmuls, attention and convolutions."""

    decode: float
    """One new token attending to context + 1 keys."""
    prefill: float
    """Mean over a prompt of the context, output head at the last position only."""
    decode_absorbed: float
    """Decode with absorbed MLA, as serving engines run it; equal to decode without MLA."""


class ImagePart(Published):
    """FLOPs of one part of a diffusion pipeline for one image."""

    runs: int
    """How often it runs."""
    flops: float
    """Matmuls, attention and convolutions of all runs."""
    per_run: FlopsBreakdown
    """FLOPs of one run by unit."""


class FlopsResult(Published):
    """``llmplan flops``."""

    model: str
    """Catalogue name."""
    flops_per_token: FlopsPerToken
    """Totals."""
    breakdown: dict[str, FlopsBreakdown]
    """By phase: decode, prefill, decode_absorbed."""
    flops_per_step: float | None = None
    """Of a diffusion pipeline: the transformer in one denoising step of one image."""
    flops_per_image: float | None = None
    """Of a diffusion pipeline: all parts as often as they run for one image."""
    image_components: dict[str, ImagePart] = {}
    """Of a diffusion pipeline: its parts."""
    provenance: Provenance
    """exact: counted, not measured."""
    explain: list[Explanation] = []
    """Where each number comes from, on request."""


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


class MixerRow(Published):
    """Heads of a rank in the layers of one block; numbers as runs, 0-15."""

    block: str
    """Name of the spec's block."""
    layers: str
    """Decoder layers that have it."""
    heads: str
    """Query heads, or heads of a recurrence."""
    kv_heads: str
    """Key and value heads, or groups; a latent is head 0 of all ranks."""
    kv_copies: int
    """Ranks of a tensor group that hold the same ones."""


class PlacedRankRow(Published):
    """What one rank holds, and where it stands."""

    rank: int
    """Number, from 0: data-parallel group x stage x prefill_cp x tp, the last one fastest."""
    node: int
    """Number of its node."""
    gpu: int
    """Number of its GPU in the node."""
    stage: int
    """Pipeline stage."""
    dp_rank: int
    """Data-parallel group."""
    prefill_cp_rank: int
    """Place among the ranks that share out a prompt."""
    tp_rank: int
    """Place in its tensor group."""
    layers: list[int]
    """Decoder layers by number."""
    heads: list[int]
    """Query heads by number, in the block that most of its layers have; mixers has all blocks."""
    kv_heads: list[int]
    """Key and value heads likewise; a latent is head 0 of all ranks."""
    kv_copies: int
    """Ranks of its tensor group that hold the same key and value heads."""
    mixers: list[MixerRow]
    """Heads by block, most layers first; empty where no mixer has heads."""
    experts: list[int]
    """Routed experts by number: whole with expert parallelism, else a part of every one."""
    expert_share: float | None
    """Its part of all routed tokens, with expert parallelism."""
    bytes: int
    """Stored weights, scales, buffers and copies included."""
    sent_bytes_per_token: dict[str, dict[str, float]]
    """By phase and link: what it sends for one token, all collectives; logits in decode only."""


class CollectiveRow(Published):
    """One collective that the ranks of a stage run."""

    kind: str
    """all_reduce, all_gather, reduce_scatter, all_to_all or send."""
    of: str
    """The operator that it follows, or what is handed on."""
    over: str
    """The axis along which ranks join."""
    phase: str
    """Every step, or prefill or decode only."""
    once_per: str
    """What the bytes are for: a token, or a request (logits)."""
    stage: int
    """Stage that runs it; of a send, the sender's."""
    count: int
    """How often a step runs it."""
    ranks: int
    """Ranks of a group."""
    groups: list[list[int]]
    """Ranks by number; of a send, sender and receiver."""
    links: list[str]
    """Links that it crosses."""
    payload_bytes_per_token: float
    """The whole vector of one token."""
    sent_bytes_per_token: float
    """What each rank sends of it, once."""


class LinkTraffic(Published):
    """What the busiest rank sends over one link."""

    phase: str
    """prefill or decode."""
    link: str
    """Name of the link; network between nodes."""
    senders: int
    """Ranks that send over it."""
    busiest_bytes_per_token: float
    """Of these, what the busiest sends for one token of its own."""


class ExpertBalance(Published):
    """Load of the ranks that experts are spread over."""

    experts: int
    """Routed experts of a layer."""
    slots: int
    """Copies in all, originals included."""
    most_loaded_share: float
    """Share of routed tokens of the expert that gets most."""
    imbalance_before: float
    """Largest load of a rank over the mean, experts in order and without copies."""
    imbalance: float
    """The same as placed."""
    copies_of: dict[str, int]
    """Experts with more than one copy."""


class PlaceResult(Published):
    """``llmplan place``."""

    model: str
    """Catalogue name."""
    layout: str
    """In short words: tp4 pp2, tp1 adp8 ep."""
    gpus_used: int
    """GPUs of the one copy."""
    gpus_idle: int
    """GPUs left over."""
    capacity_bytes: int
    """What the driver gives a process on each GPU."""
    capacity_provenance: Provenance
    """How that is known."""
    weights_fit: bool
    """Whether the weights alone are within it on every rank."""
    ranks: list[PlacedRankRow]
    """Every rank."""
    collectives: list[CollectiveRow]
    """Every collective of a step, by stage."""
    links: list[LinkTraffic]
    """Traffic by phase and link."""
    expert_balance: ExpertBalance | None
    """With expert parallelism."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return not self.weights_fit


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


class ValidationRow(Published):
    """One metric of one row of a table of published or measured figures."""

    id: str
    """The row."""
    metric: str
    """What is compared."""
    measured: float | int | None
    """The published or measured figure."""
    predicted: float | int | None
    """llmplan's figure; null where the row is skipped."""
    error_frac: float | None
    """Predicted over measured, less one."""
    status: str
    """predicted, assumed or skipped."""
    reason: str
    """Why it is skipped, or what a difference is made of."""
    engine: str = ""
    """Engine and version of a measured start."""
    family: str = ""
    """Model family of a measured start."""
    low: float | None = None
    """What a tenth of the measured rows of the same kernel stay below."""
    high: float | None = None
    """What a tenth of them exceed."""
    bound: float | None = None
    """Time by the device's peak rates alone."""


class ValidationGroup(Published):
    """Errors of the rows that have something in common."""

    by: str
    """What they have in common: metric, engine, version, family or term; gpu or kernel."""
    name: str
    """Its value."""
    metric: str
    """What is compared."""
    rows: int
    """Rows that state it."""
    predicted: int
    """Of these, predicted from what they state."""
    assumed: int
    """Of these, answered with a default where they are silent; not in the errors."""
    median_abs_error_frac: float | None
    """Median of absolute errors."""
    p90_abs_error_frac: float | None
    """90th percentile of absolute errors."""
    mape: float | None
    """Mean of absolute errors."""
    beyond_bound: int | None
    """Rows more than 15 % of what was measured off, and 1 % of the device's memory; of memory."""
    bound_median_abs_error_frac: float | None = None
    """Median of absolute errors of the device's peak rates alone; of times."""


class Verdicts(Published):
    """Whether engines started, predicted against what happened."""

    failures: int
    """Starts that failed and can be told from what rows state."""
    recalled: int
    """Of these, predicted to fail."""
    starts: int
    """Starts that went well."""
    false_refusals: int
    """Of these, predicted to fail."""
    missed: list[str]
    """Failures that were predicted to start."""
    refused: list[str]
    """Starts that were predicted to fail."""


class ValidationSummary(Published):
    """Errors over all rows that were predicted."""

    rows: int
    """Metrics looked at."""
    predicted: int
    """Of these, predicted."""
    skipped: dict[str, int]
    """Reasons with how often they stand."""
    median_abs_error_frac: float | None
    """Median of absolute errors."""
    mape: float | None
    """Mean of absolute errors."""
    p90_abs_error_frac: float | None
    """90th percentile of absolute errors."""


class ValidationResult(Published):
    """``llmplan validate``."""

    rows: list[ValidationRow]
    """Every metric of every row."""
    summary: ValidationSummary
    """The errors in a few figures."""
    are_estimates: bool = False
    """Whether predictions are estimates, whose differences are no failure."""
    groups: list[ValidationGroup] = []
    """Errors by metric, engine, version, family and term, or by GPU and kernel; of estimates."""
    terms: list[ValidationRow] = []
    """Terms of the same rows: activations, non-torch, graphs."""
    verdicts: Verdicts | None = None
    """Whether engines started."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no."""
        return not self.are_estimates and any(
            check.error_frac for check in self.rows if check.metric != "published"
        )


class ImportResult(Published):
    """``llmplan import --format json``."""

    spec: dict[str, Any]
    """The spec, as its YAML would say it."""
    parameters_total: int
    """Parameters that it counts."""
    native_weights_bytes: int
    """Stored bytes in its own formats."""


class ReconcileRow(Published):
    """One term of a start, logged and predicted, in bytes or tokens of one GPU."""

    term: str
    """capacity, budget, weights, activations, non_torch, graphs, kv_available, kv_tokens,
    max_concurrency or verdict."""
    log: int | float | str | None
    """What the log says; null where it says nothing."""
    line: int | None
    """Line of the log, from 1."""
    rank: str | None
    """Rank that printed it, as the log names it: the one that holds most or has least left."""
    predicted: int | float | str | None
    """llmplan's figure; null where the two cannot be compared."""
    delta: int | float | None
    """Predicted less logged."""
    error_frac: float | None
    """The same over the logged figure; of a verdict 0 or 1."""
    note: str
    """What has to be known to compare them."""


class CorrectionRow(Published):
    """What later answers for an engine are corrected by: measured less predicted, a GPU."""

    name: str
    """Name, by which it is forgotten."""
    engine: str
    """Engine that it holds for."""
    version: str
    """Version line that it holds for."""
    device: str
    """GPU that it holds for."""
    ranks: str
    """Ranks that it holds for: one, stages (pipeline only) or many."""
    weights_bytes: int | None
    """What loading adds; null where the log does not say, as below."""
    activations_scale: float | None
    """Measured activations over predicted ones."""
    non_torch_bytes: int | None
    """Libraries and communication buffers."""
    graphs_bytes: int | None
    """Captured graphs."""
    log: str
    """File name of the log."""
    sha256: str
    """Digest of the log."""
    date: str
    """Day on which it was read."""
    model: str
    """Model of the log."""
    llmplan: str
    """Program version that it corrects."""


class ReconcileResult(Published):
    """``llmplan reconcile``."""

    log: str
    """File name of the log."""
    lines: int
    """Lines that were read."""
    engine: str
    """Engine that wrote it."""
    version: str | None
    """Version as printed."""
    model: str
    """Model that was predicted."""
    layout: str
    """Layout that was predicted."""
    outcome: str
    """How the start ended: ok, oom, kv_too_small or unknown."""
    outcome_line: int | None
    """Line that says so."""
    rows: list[ReconcileRow]
    """Terms."""
    settings: dict[str, Any]
    """Settings that the log states."""
    missing: list[str]
    """What the log does not say."""
    correction: CorrectionRow | None
    """What --save keeps; null where the log does not allow one."""
    saved: str | None
    """File that it was kept in."""


class CorrectionsResult(Published):
    """``llmplan reconcile --list`` and ``--forget``."""

    corrections: list[CorrectionRow]
    """Corrections that are kept."""


Result: TypeAlias = (
    ModelsResult
    | CompareModelsResult
    | HardwareResult
    | ParamsResult
    | FlopsResult
    | MemoryResult
    | FitResult
    | PlaceResult
    | VerifyResult
    | ImportResult
    | ValidationResult
    | ReconcileResult
    | CorrectionsResult
)


class Envelope(Published):
    """What every command prints with --format json."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this contract."""
    llmplan: str
    """Program version."""
    command: str
    """Command."""
    inputs: dict[str, Any]
    """All inputs, defaults spelled out."""
    result: Result
    """The result of the command."""
    warnings: list[str]
    """What the reader should know."""

    @property
    def is_no(self) -> bool:
        """Whether the answer is no: nothing that was asked for fits."""
        return self.result.is_no


def result_schema() -> dict[str, Any]:
    """JSON schema of the envelope."""
    return described_schema(Envelope)
