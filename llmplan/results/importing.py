"""Specs from what publishers ship, and specs beside it."""

from dataclasses import dataclass
from pathlib import Path

from llmplan.analyze.memory import weights_bytes
from llmplan.analyze.parameters import parameter_counts
from llmplan.analyze.verify import RoleCheck, verify
from llmplan.model.catalogue import load_model
from llmplan.model.importing.hub import import_from_hub, is_hub_id
from llmplan.model.importing.stored import import_file
from llmplan.model.pipeline import compile_any
from llmplan.model.write import spec_text
from llmplan.results import schema
from llmplan.results.common import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportQuestion:
    """The spec of what a publisher ships.

    Attributes:
        source: Path of a ``config.json``, a safetensors file or index with its config beside it,
            or a GGUF file; or ORG/NAME of a repository on the Hugging Face Hub.
        name: Catalogue name to give it; the file's, folder's or repository's own where absent.
    """

    source: str
    name: str | None = None

    def ask(self) -> schema.Envelope:
        """The spec with what it counts.

        Raises:
            InputError: Another kind of file, or the hub cannot be reached.
            MissingPartError: huggingface_hub is not installed.
            DocumentError: It cannot be read, or holds what is not known.
        """
        imported = import_from_hub(self.source) if is_hub_id(self.source) else None
        spec, document = imported or import_file(Path(self.source))
        model = compile_any(spec, document)
        body = {**document.data, **({"name": self.name} if self.name else {})}
        said = Said("import", {"path": self.source, "name": body["name"]})
        return said.answered(
            schema.ImportResult(
                spec=body,
                parameters_total=parameter_counts(model).total,
                native_weights_bytes=weights_bytes(model.served()),
            )
        )


def imported_yaml(answer: schema.Envelope) -> str:
    """The YAML text of an answer to ``ImportQuestion``."""
    result = answer.result
    if not isinstance(result, schema.ImportResult):
        raise TypeError(f"{type(result).__name__} holds no spec")
    return spec_text(result.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyQuestion:
    """A model beside a config or a weight file.

    Attributes:
        model: Catalogue name, hub id, or path.
        against: A config, safetensors file or index, or GGUF file.
    """

    model: str
    against: Path

    def ask(self) -> schema.Envelope:
        """Entries and bytes by role, side by side."""
        model = load_model(self.model)
        checks = verify(model, self.against)
        said = Said("verify", {"model": model.identity.name, "against": str(self.against)})
        return said.answered(
            schema.VerifyResult(
                model=model.identity.name,
                file=self.against.name,
                agrees=all(check.agrees for check in checks),
                rows=[verify_row(check) for check in checks],
            )
        )


def verify_row(check: RoleCheck) -> schema.VerifyRow:
    """One group of weights."""
    return schema.VerifyRow(
        role=check.role,
        spec_entries=check.spec.entries,
        file_entries=check.file.entries,
        spec_bytes=check.spec.stored_bytes,
        file_bytes=check.file.stored_bytes,
        agrees=check.agrees,
    )
