"""Quantisation methods with one format for all that they convert."""

from dataclasses import replace
from typing import Final

from llmplan.model.importing.conversion import GROUP_SIZES, Conversion, listed
from llmplan.model.importing.name_lists import Syntax
from llmplan.model.importing.view import ConfigView

_FP8_NAMES: Final = ("e4m3", "float8_e4m3fn", "float8_e4m3", None)


def fp8(settings: ConfigView) -> list[Conversion]:
    """FP8 with one scale a block of 128 x 128, or one a tensor where no block size is stated."""
    settings.require("fmt", *_FP8_NAMES)
    settings.require("weight_block_size", [128, 128], None)
    settings.require("expert_dtype", "fp8", None)
    settings.require("scale_fmt", "float", "ue8m0", None)  # fp32 scales, limited to powers of two
    settings.require("dequantize", False, None)
    settings.require("modules_to_convert", None, [])
    blocks = settings.has("weight_block_size")
    return [listed(settings, "fp8" if blocks else "fp8_tensor", head="unclear")]


def fbgemm_fp8(settings: ConfigView) -> list[Conversion]:
    """FP8 with one scale an output channel."""
    return [listed(settings, "fp8_channel", head="unclear")]


def mxfp4(settings: ConfigView) -> list[Conversion]:
    """MXFP4 of the routed experts, whatever else the list names."""
    settings.require("dequantize", False, None)
    return [listed(settings, "mxfp4", only=("experts",), reaches_vision=False)]


def awq(settings: ConfigView) -> list[Conversion]:
    """AWQ: 4 bits with a zero point a group; the head is outside what it converts."""
    settings.require("zero_point", True)
    _bits(settings)
    return [listed(settings, f"int4_awq_g{_group(settings, 'group_size', 'q_group_size')}")]


def gptq(settings: ConfigView) -> list[Conversion]:
    """GPTQ: zero points and a group index are stored whether or not they are used."""
    _bits(settings)
    settings.require("sym", True, False, None)
    settings.require("lm_head", False, None)
    settings.require("checkpoint_format", "gptq", "gptq_v2", "", None)
    settings.require("format", "gptq", "gptq_v2", None)
    settings.require("pack_dtype", "int32", None)
    settings.require("modules_in_block_to_quantize", None)
    settings.require("block_name_to_quantize", None)
    settings.require("module_name_preceding_first_block", None)
    conversion = listed(settings, f"int4_gptq_g{_group(settings, 'group_size')}")
    return [_with_exceptions(settings, conversion)]


def _with_exceptions(settings: ConfigView, conversion: Conversion) -> Conversion:
    """``dynamic`` of GPTQModel: entries with a minus are left out; others change the format."""
    if not settings.has("dynamic"):
        return conversion
    rules = settings.part("dynamic")
    if conversion.left_out:
        raise settings.refusal("dynamic", f"stands beside {conversion.key}")
    for rule in rules.keys():  # noqa: SIM118 (a view is no mapping)
        rules.require(rule, {}, None)
        if not rule.startswith("-:"):
            raise rules.refusal(rule, "changes the format of some modules")
    left_out = tuple("re:" + rule.removeprefix("-:") for rule in rules.keys())  # noqa: SIM118
    return replace(conversion, key="dynamic", left_out=left_out, syntax=Syntax.EXACT)


def _bits(settings: ConfigView) -> None:
    key = "w_bit" if settings.has("w_bit") else "bits"
    settings.require(key, 4)


def _group(settings: ConfigView, *keys: str) -> int:
    key = next((key for key in keys if settings.has(key)), keys[0])
    settings.require(key, *GROUP_SIZES)
    return settings.count(key)
