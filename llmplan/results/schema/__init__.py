"""The published result of each command. Keys are a contract: more may be added, none change.

Memory in integer bytes, FLOPs as counts, provenance beside what is not exact.
"""

from llmplan.results.schema.common import SCHEMA_VERSION, Explanation, Published
from llmplan.results.schema.envelope import Envelope, Result, result_schema
from llmplan.results.schema.fit import DeploymentRow, FitResult, TryRow
from llmplan.results.schema.flops import FlopsBreakdown, FlopsPerToken, FlopsResult, ImagePart
from llmplan.results.schema.hardware import DeviceRow, DtypeRow, HardwareResult, NodeRow
from llmplan.results.schema.importing import ImportResult
from llmplan.results.schema.listing import (
    CompareModelsResult,
    GrowthRow,
    ListedRow,
    ModelRow,
    ModelsResult,
)
from llmplan.results.schema.memory import BesideRow, HostMemory, KvCache, MemoryResult, PerGpu
from llmplan.results.schema.params import (
    ComponentCount,
    Ledger,
    Parameters,
    ParamsResult,
    StoredBytes,
)
from llmplan.results.schema.place import (
    CollectiveRow,
    ExpertBalance,
    LinkTraffic,
    MixerRow,
    PlacedRankRow,
    PlaceResult,
)
from llmplan.results.schema.reconcile import (
    CorrectionRow,
    CorrectionsResult,
    ReconcileResult,
    ReconcileRow,
)
from llmplan.results.schema.validation import (
    ValidationGroup,
    ValidationResult,
    ValidationRow,
    ValidationSummary,
    Verdicts,
)
from llmplan.results.schema.verify import VerifyResult, VerifyRow

__all__ = [
    "SCHEMA_VERSION",
    "BesideRow",
    "CollectiveRow",
    "CompareModelsResult",
    "ComponentCount",
    "CorrectionRow",
    "CorrectionsResult",
    "DeploymentRow",
    "DeviceRow",
    "DtypeRow",
    "Envelope",
    "ExpertBalance",
    "Explanation",
    "FitResult",
    "FlopsBreakdown",
    "FlopsPerToken",
    "FlopsResult",
    "GrowthRow",
    "HardwareResult",
    "HostMemory",
    "ImagePart",
    "ImportResult",
    "KvCache",
    "Ledger",
    "LinkTraffic",
    "ListedRow",
    "MemoryResult",
    "MixerRow",
    "ModelRow",
    "ModelsResult",
    "NodeRow",
    "Parameters",
    "ParamsResult",
    "PerGpu",
    "PlaceResult",
    "PlacedRankRow",
    "Published",
    "ReconcileResult",
    "ReconcileRow",
    "Result",
    "StoredBytes",
    "TryRow",
    "ValidationGroup",
    "ValidationResult",
    "ValidationRow",
    "ValidationSummary",
    "Verdicts",
    "VerifyResult",
    "VerifyRow",
    "result_schema",
]
