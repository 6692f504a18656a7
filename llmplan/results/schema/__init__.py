"""The published result of each command. Keys are a contract: more may be added, none change.

Memory in integer bytes, FLOPs as counts, provenance beside what is not exact.
"""

from llmplan.results.schema.calibrate import (
    CalibrateDiffResult,
    CalibratedLayer,
    CalibratedMemory,
    CalibratedOperator,
    CalibrateFilesResult,
    CalibrateResult,
    KernelChange,
    PlannedPoints,
    SkippedKernel,
)
from llmplan.results.schema.common import SCHEMA_VERSION, Explanation, Published
from llmplan.results.schema.envelope import Envelope, Result, result_schema
from llmplan.results.schema.estimate import (
    BoundShare,
    Energy,
    Estimated,
    EstimateResult,
    OperatorRow,
    Roof,
    Roofline,
    RooflinePoint,
    SloRow,
    StepRow,
    Steps,
    SweepRow,
    Uncalibrated,
    UsedCalibration,
)
from llmplan.results.schema.explain import ExplainResult, KeyRow
from llmplan.results.schema.fit import DeploymentRow, FitResult, TryRow
from llmplan.results.schema.flops import (
    FlopsBreakdown,
    FlopsPerToken,
    FlopsResult,
    ImagePart,
    Utilisation,
)
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
    "BoundShare",
    "CalibrateDiffResult",
    "CalibrateFilesResult",
    "CalibrateResult",
    "CalibratedLayer",
    "CalibratedMemory",
    "CalibratedOperator",
    "CollectiveRow",
    "CompareModelsResult",
    "ComponentCount",
    "CorrectionRow",
    "CorrectionsResult",
    "DeploymentRow",
    "DeviceRow",
    "DtypeRow",
    "Energy",
    "Envelope",
    "EstimateResult",
    "Estimated",
    "ExpertBalance",
    "ExplainResult",
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
    "KernelChange",
    "KeyRow",
    "KvCache",
    "Ledger",
    "LinkTraffic",
    "ListedRow",
    "MemoryResult",
    "MixerRow",
    "ModelRow",
    "ModelsResult",
    "NodeRow",
    "OperatorRow",
    "Parameters",
    "ParamsResult",
    "PerGpu",
    "PlaceResult",
    "PlacedRankRow",
    "PlannedPoints",
    "Published",
    "ReconcileResult",
    "ReconcileRow",
    "Result",
    "Roof",
    "Roofline",
    "RooflinePoint",
    "SkippedKernel",
    "SloRow",
    "StepRow",
    "Steps",
    "StoredBytes",
    "SweepRow",
    "TryRow",
    "Uncalibrated",
    "UsedCalibration",
    "Utilisation",
    "ValidationGroup",
    "ValidationResult",
    "ValidationRow",
    "ValidationSummary",
    "Verdicts",
    "VerifyResult",
    "VerifyRow",
    "result_schema",
]
