"""Precision by role from a config's ``quantization_config``."""

from llmplan.model.importing.view import ConfigView

QUANTISED_ROLES = ("attention", "ffn", "shared_experts", "experts")
"""The roles that published low-precision checkpoints convert."""


def precision_of(config: ConfigView) -> dict[str, str]:
    """Formats by role; empty where the config states no quantisation.

    Raises:
        DocumentError: A method or setting that cannot be read.
    """
    if not config.has("quantization_config"):
        return {}
    settings = config.part("quantization_config")
    method = settings.text("quant_method", "")
    raise settings.refusal("quant_method", f"'{method}' is not known")
