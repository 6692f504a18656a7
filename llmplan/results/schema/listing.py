"""Models of the catalogue, and their growth side by side."""

from llmplan.results.schema.common import Published


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
