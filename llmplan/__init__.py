"""Capacity planning and cost modelling for large language models.

The public surface is what this file exports; everything is imported on first use, so that
``import llmplan`` stays instant.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "LlmplanError": "llmplan.errors",
    "load_model": "llmplan.model.catalogue",
    "load_device": "llmplan.hardware.catalogue",
    "parse_gpus": "llmplan.hardware.catalogue",
    "Step": "llmplan.ops.base",
}

__all__ = ["LlmplanError", "Step", "__version__", "load_device", "load_model", "parse_gpus"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'llmplan' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
