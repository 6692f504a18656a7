"""What every command prints: one result with its inputs and remarks."""

from typing import Any, Literal, TypeAlias

from llmplan.described import described_schema
from llmplan.results.schema.calibrate import (
    CalibrateDiffResult,
    CalibrateFilesResult,
    CalibrateResult,
)
from llmplan.results.schema.common import SCHEMA_VERSION, Published
from llmplan.results.schema.estimate import EstimateResult
from llmplan.results.schema.explain import ExplainResult
from llmplan.results.schema.fit import FitResult
from llmplan.results.schema.flops import FlopsResult
from llmplan.results.schema.hardware import HardwareResult
from llmplan.results.schema.importing import ImportResult
from llmplan.results.schema.listing import CompareModelsResult, ModelsResult
from llmplan.results.schema.memory import MemoryResult
from llmplan.results.schema.params import ParamsResult
from llmplan.results.schema.place import PlaceResult
from llmplan.results.schema.reconcile import CorrectionsResult, ReconcileResult
from llmplan.results.schema.validation import ValidationResult
from llmplan.results.schema.verify import VerifyResult

Result: TypeAlias = (
    ModelsResult
    | CompareModelsResult
    | HardwareResult
    | ParamsResult
    | FlopsResult
    | MemoryResult
    | FitResult
    | PlaceResult
    | EstimateResult
    | VerifyResult
    | ImportResult
    | ValidationResult
    | ReconcileResult
    | CorrectionsResult
    | ExplainResult
    | CalibrateResult
    | CalibrateDiffResult
    | CalibrateFilesResult
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
