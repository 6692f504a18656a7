"""All targets by name, loaded one by one: the fuzzer must see a reader's import."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fuzz.common import Target

NAMES: Final = (
    "config_json",
    "safetensors_header",
    "safetensors_index",
    "gguf_header",
    "spec_yaml",
    "device_yaml",
    "node_yaml",
    "calibration_yaml",
    "nccl_text",
    "exchange_json",
)


def target_named(name: str) -> "Target":
    """The target, its reader imported."""
    target: Target = import_module(f"fuzz.{name}").TARGET
    return target


if __name__ == "__main__":
    print("\n".join(NAMES))
