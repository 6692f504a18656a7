"""Predictions beside published and measured figures."""

from llmplan.results.schema.common import Published


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
    """Engine and version of a measured start or of a serving run; of a kernel its labels."""
    family: str = ""
    """Model family of a measured start."""
    low: float | None = None
    """What a tenth of the measured rows of the same kernel, or of like deployments, stay below."""
    high: float | None = None
    """What a tenth of them exceed."""
    bound: float | None = None
    """Time of a kernel by the device's peak rates alone."""
    baseline: float | None = None
    """What a pure roofline says of a serving run: work over peak rates, nothing fitted."""
    gpu: str = ""
    """Catalogue name of the GPU; of serving runs."""
    kind: str = ""
    """What the model is made of: dense, experts, latent or recurrent; of serving runs."""
    scenario: str = ""
    """How requests came; of serving runs."""


class ValidationGroup(Published):
    """Errors of the rows that have something in common."""

    by: str
    """What they have in common: metric, engine, version, family, term, gpu, kernel, kind of model,
    or scenario."""
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
    """Median of absolute errors of the device's peak rates alone; of times of kernels."""
    coverage_frac: float | None = None
    """Share of the predicted whose range, low to high, holds what was measured; of serving runs."""
    baseline_median_abs_error_frac: float | None = None
    """Median of absolute errors of a pure roofline; of serving runs."""
    baseline_mape: float | None = None
    """Mean of absolute errors of a pure roofline; of serving runs."""


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
    """Errors by what rows have in common; of estimates."""
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
