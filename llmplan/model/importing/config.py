"""From a ``config.json`` to a spec."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmplan.documents import Document, parse_document
from llmplan.errors import nearest_names, printable
from llmplan.model.check import check_spec
from llmplan.model.importing.families import MODEL_TYPES, READERS
from llmplan.model.importing.ignored import IGNORED
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.quantization import with_precision
from llmplan.model.importing.view import ConfigView
from llmplan.model.spec import ModelSpec
from llmplan.model.write import spec_text
from llmplan.validation import validated


def spec_of_config(data: dict[str, Any], name: str) -> tuple[ModelSpec, Document]:
    """The spec of a parsed config, and the document it would be written as.

    Raises:
        DocumentError: It names an unknown architecture, or has a key that no reader knows; ``name``
            is the file in the message.
    """
    return finished_spec(body_of_config(data, name), name)


def body_of_config(data: dict[str, Any], name: str) -> Spec:
    """Keys and values of the spec of a parsed config, not yet validated."""
    config = ConfigView(data, name)
    architecture = architecture_of(config)
    body = with_precision(config, READERS[architecture](config))
    refuse_unread(config)
    return {**_identity(config, architecture), **body}


def architecture_of(config: ConfigView) -> str:
    """``architectures[0]``, or what the model type stands for where none is named.

    Raises:
        DocumentError: Neither is known.
    """
    names = config.texts("architectures", [])
    model_type = config.text("model_type", "")
    architecture = names[0] if names else MODEL_TYPES.get(model_type, model_type)
    if architecture in READERS:
        return architecture
    stems = {name.partition("For")[0]: name for name in READERS}
    nearest = nearest_names(architecture.partition("For")[0], stems, most=1)
    hint = f"; the nearest known one is {stems[nearest[0]]}" if nearest else ""
    shown = printable(architecture) or "none"
    raise config.refusal("architectures", f"architecture '{shown}' is not known{hint}")


def _identity(config: ConfigView, architecture: str) -> Spec:
    published = config.text("_name_or_path", "")
    hub_ids = [published] if published.count("/") == 1 and not published.startswith("/") else []
    stem = Path(config.name).stem
    name = Path(config.name).resolve().parent.name if stem == "config" else stem
    return {
        "name": slug(hub_ids[0].rpartition("/")[2] if hub_ids else name),
        "family": slug(config.text("model_type", "unknown")),
        "hf_ids": hub_ids,
        "architecture": architecture,
        "source": {
            "config": Path(config.name).name,
            "date": datetime.now(tz=UTC).date().isoformat(),
        },
        "license": "not stated in the config",
    }


def slug(text: str) -> str:
    """A name of a catalogue that comes near to ``text``."""
    kept = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in text.lower())
    return kept.strip("._-")[:80] or "imported"


def refuse_unread(config: ConfigView) -> None:
    """Refuse a key that no reader looked at, unless it is known to change no size."""
    for view, key in config.unread():
        if key not in IGNORED:
            raise view.refusal(key, "is not known, and may change sizes")


def finished_spec(body: Spec, name: str) -> tuple[ModelSpec, Document]:
    """The spec, validated and checked as if it had been written by hand."""
    document = parse_document(spec_text(body), f"{name} as imported")
    spec = validated(document, ModelSpec)
    check_spec(spec, document)
    return spec, document
