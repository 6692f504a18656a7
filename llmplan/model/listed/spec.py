"""What ``specs/listed/listed.yaml`` may say."""

from typing import Any, Literal

from llmplan.described import described_schema
from llmplan.model.spec_values import Day, Slug, Strict, Text


class ListedSource(Strict):
    """Where the model is known from."""

    document: Text
    """Repository and file, or document."""
    date: Day
    """Day on which it was read."""


class Announced(Strict):
    """What was published of a model that was not; words, never computed with."""

    parameters_total: Text
    """Parameters, as they were announced."""
    parameters_active: Text
    """Parameters that one token uses, as they were announced."""
    num_experts: Text
    """Experts, as they were announced."""


class ListedModel(Strict):
    """One model without a usable config."""

    name: Slug
    """Name, as a spec of it would have."""
    family: Slug
    """Model family."""
    hf_ids: tuple[Text, ...] = ()
    """Hugging Face ids."""
    status: Literal["unverified", "announced"]
    """Released without a usable config, or not released."""
    reason: Text
    """Why no numbers are given."""
    published: Announced | None = None
    """What was announced."""
    source: ListedSource
    """Where it is known from."""


class ListedModels(Strict):
    """All of them."""

    models: tuple[ListedModel, ...]
    """Models without a usable config."""


def listed_schema() -> dict[str, Any]:
    """JSON schema of the list, for editors."""
    return described_schema(ListedModels)
