"""Predicted against published figures."""

from dataclasses import asdict, dataclass
from pathlib import Path

from llmplan.analyze.validate import Checked, shipped_rows, summary, validated_params
from llmplan.results import schema
from llmplan.results.common import Said


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidateParamsQuestion:
    """Every count of every model beside the published one.

    Attributes:
        data: A CSV with the columns of ``specs/published.csv``; that file where absent.
    """

    data: Path | None = None

    def ask(self) -> schema.Envelope:
        """Rows and their summary.

        Raises:
            DocumentError: The table cannot be read.
        """
        rows = validated_params(self.data or shipped_rows())
        result = schema.ValidationResult(
            rows=[validation_row(row) for row in rows],
            summary=schema.ValidationSummary(**asdict(summary(rows))),
        )
        shown = str(self.data) if self.data else "specs/published.csv"
        return Said("validate", {"what": "params", "data": shown}).answered(result)


def validation_row(row: Checked) -> schema.ValidationRow:
    """One metric."""
    return schema.ValidationRow(**asdict(row), error_frac=row.error_frac)
