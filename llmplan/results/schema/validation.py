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
    """Engine and version of a measured start."""
    family: str = ""
    """Model family of a measured start."""
    low: float | None = None
    """What a tenth of the measured rows of the same kernel stay below."""
    high: float | None = None
    """What a tenth of them exceed."""
    bound: float | None = None
    """Time by the device's peak rates alone."""


class ValidationGroup(Published):
    """Errors of the rows that have something in common."""

    by: str
    """What they have in common: metric, engine, version, family or term; gpu or kernel."""
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
    """Median of absolute errors of the device's peak rates alone; of times."""


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
    """Errors by metric, engine, version, family and term, or by GPU and kernel; of estimates."""
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
