"""Reading a model: from a spec file, a publisher's config, or weight files."""

from pathlib import Path
from typing import TypeVar

from llmplan.catalogs import is_shipped, shown_path
from llmplan.documents import Document, load_document
from llmplan.model.catalogue import KIND, Found
from llmplan.model.check import check_spec
from llmplan.model.compiled import Model
from llmplan.model.pipeline import check_pipeline, compile_any
from llmplan.model.pipeline_spec import PIPELINE, PipelineSpec
from llmplan.model.spec import ModelSpec, SpecIdentity
from llmplan.ops.precision import LINEAR_ROLES
from llmplan.validation import validated

AnySpec = TypeVar("AnySpec", bound=SpecIdentity)


def load_config(path: Path) -> Model:
    """The model that a publisher's ``config.json`` or weight file describes.

    Raises:
        DocumentError: The file cannot be read, or holds an architecture or key that is not known.
    """
    from llmplan.model.importing.stored import import_file  # noqa: PLC0415 (rarely needed)

    spec, document = import_file(path)
    is_config = path.suffix == ".json" and not path.name.endswith(".index.json")
    says_all = is_config and isinstance(spec, ModelSpec)
    return compile_any(spec, document, () if says_all else spec.notes)


def load_spec(path: Path, found: Found | None = None) -> Model:
    """The model that the spec file ``path`` describes, as ``found`` under another name.

    Raises:
        DocumentError: The file cannot be read or contradicts itself.
    """
    document = load_document(path, shown_path(path, KIND))
    remark = found.remark if found else ()
    if document.data.get("kind") == PIPELINE:
        pipeline = _read_spec(path, document, PipelineSpec, found)
        check_pipeline(pipeline, document)
        return compile_any(pipeline, document, remark)
    spec = _read_spec(path, document, ModelSpec, found)
    check_spec(spec, document)
    return compile_any(spec, document, remark)


def _read_spec(path: Path, document: Document, kind: type[AnySpec], found: Found | None) -> AnySpec:
    spec = validated(document, kind)
    if is_shipped(path, KIND) and spec.name != path.stem:
        raise document.error(f"must equal the file's name, {path.stem}.", ("name",))
    return as_found(spec, found) if found else spec


def as_found(spec: AnySpec, found: Found) -> AnySpec:
    """The spec with the context of the variant that was found, and the format its name says."""
    update: dict[str, object] = {}
    for variant in spec.variants:
        if found.hub_id in (hub_id.lower() for hub_id in variant.hf_ids):
            update["max_position_embeddings"] = variant.max_position_embeddings
    if found.reading and found.reading.formats:
        linear = dict.fromkeys(LINEAR_ROLES, found.reading.formats)
        update["precision"] = {**spec.precision, **linear}
    return spec.model_copy(update=update) if update else spec
