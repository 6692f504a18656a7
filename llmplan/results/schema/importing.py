"""A spec read from elsewhere."""

from typing import Any

from llmplan.results.schema.common import Published


class ImportResult(Published):
    """``llmplan import --format json``."""

    spec: dict[str, Any]
    """The spec, as its YAML would say it."""
    parameters_total: int
    """Parameters that it counts."""
    native_weights_bytes: int
    """Stored bytes in its own formats."""
