"""Models that are known by name only: no numbers, and the reason."""

from collections.abc import Iterator
from functools import cache
from typing import Final

from llmplan.documents import load_document, shipped_folder
from llmplan.errors import UnverifiedModelError
from llmplan.model.aliases import readings, short_name
from llmplan.model.listed.spec import ListedModel, ListedModels
from llmplan.validation import validated

FILE: Final = "specs/listed/listed.yaml"


@cache
def listed_models() -> tuple[ListedModel, ...]:
    """All of them, in the order of the file."""
    document = load_document(shipped_folder("specs") / "listed" / "listed.yaml", FILE)
    return validated(document, ListedModels).models


def listed_names() -> Iterator[str]:
    """Their names and Hugging Face ids."""
    for model in listed_models():
        yield model.name
        yield from model.hf_ids


def listed_model(asked: str) -> ListedModel | None:
    """The one that a name, an id, or the name of a quantised repository leads to."""
    by_name = {name.lower(): model for model in listed_models() for name in _names(model)}
    wanted = asked.strip().lower()
    bases = (reading.base for reading in readings(wanted)) if "/" in wanted else ()
    return next((by_name[name] for name in (wanted, *bases) if name in by_name), None)


def _names(model: ListedModel) -> Iterator[str]:
    yield model.name
    for hub_id in model.hf_ids:
        yield from (hub_id, short_name(hub_id))


def refuse_listed(asked: str) -> None:
    """Raise where a name is known and no numbers can be given for it.

    Raises:
        UnverifiedModelError: With the reason.
    """
    if model := listed_model(asked):
        raise UnverifiedModelError(model.name, model.reason)
