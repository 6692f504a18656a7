"""How operator tables call the format that a model's weights are stored in."""

from typing import Final

from llmplan.perf.choice import KernelShelf
from llmplan.perf.rates import BITS, UNITS

TABLE_FORMATS: Final = {
    "bf16": ("bfloat16",),
    "fp16": ("bfloat16",),
    "fp32": ("bfloat16",),
    "tf32": ("bfloat16",),
    "fp8": ("fp8_block", "fp8", "int8_wo"),
    "fp8_tensor": ("fp8", "int8_wo"),
    "fp8_channel": ("fp8_channel", "fp8", "int8_wo"),
    "fp8_e5m2": ("fp8", "int8_wo"),
    "mxfp8": ("mxfp8", "fp8_block", "fp8", "int8_wo"),
    "int8": ("sq", "fp8"),
    "nvfp4": ("nvfp4", "w4a8_mxfp4_mxfp8", "int4_wo"),
    "mxfp4": ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4", "int4_wo"),
}
"""How tables call a stored format, the first choice first."""
WEIGHT_ONLY: Final = ("int4_wo", "int8_wo", "bfloat16")
WEIGHT_ONLY_BYTES: Final = ("int8_wo", "fp8")
"""For weights of 8 bits; no table has experts of the first."""
FOUR_BIT_UNITS: Final = ("w4a8_mxfp4_mxfp8",)
"""Formats whose kernels take the unit for 4 bits, though activations have 8."""


def table_formats(name: str, shelf: KernelShelf) -> tuple[str, ...]:
    """Those that the device has units for first: others run with weights alone in few bits."""
    found: tuple[str, ...] = TABLE_FORMATS.get(name) or ((name,) if name in BITS else WEIGHT_ONLY)
    if name.startswith(("int8", "q8")) and name not in TABLE_FORMATS:
        found = WEIGHT_ONLY_BYTES
    return tuple(sorted(found, key=lambda each: not _has_unit(each, shelf)))


def _has_unit(table_format: str, shelf: KernelShelf) -> bool:
    units = shelf.rates.flops_per_s
    unit = "fp4" if table_format in FOUR_BIT_UNITS else UNITS[table_format]
    return unit in units or (unit == "bf16" and "fp16" in units)


def kv_word(name: str) -> str:
    """The same of a cache: tables have caches of 8 and of 16 bits."""
    return "fp8" if name.startswith("fp8") else "bfloat16"
