"""Quantisation by groups of modules: compressed-tensors and ModelOpt."""

from typing import Any, Final

from llmplan.model.importing.conversion import GROUP_SIZES, Conversion, listed
from llmplan.model.importing.name_lists import Syntax
from llmplan.model.importing.view import ConfigView

CACHE_NOTE: Final = "The checkpoint asks for an fp8 cache: plan it with --kv-dtype fp8."
_ALGORITHMS: Final = {"FP8": "fp8_tensor", "NVFP4": "nvfp4"}
_CONTAINERS: Final = (
    "dense", "naive-quantized", "float-quantized", "int-quantized", "pack-quantized",
    "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mixed-precision", None,
)  # fmt: skip


def compressed_tensors(settings: ConfigView) -> list[Conversion]:
    """compressed-tensors: a format a group of targets, less a list of exceptions."""
    settings.require("format", *_CONTAINERS)
    for key in ("sparsity_config", "transform_config"):
        settings.require(key, None, {})
    return _groups(settings, Syntax.EXACT)


def modelopt(settings: ConfigView) -> list[Conversion]:
    """ModelOpt: one algorithm, in some versions with groups that say the same."""
    settings.require("quant_algo", *_ALGORITHMS, None)
    if not settings.has("quant_algo"):
        return _groups(settings, Syntax.WILDCARDS)
    name = _ALGORITHMS[settings.text("quant_algo")]
    settings.require("group_size", 16 if name == "nvfp4" else None, None)
    settings.require("kv_cache_quant_algo", "FP8", None)
    if settings.has("config_groups"):
        conversions = _groups(settings, Syntax.WILDCARDS)
        if {conversion.format for conversion in conversions} != {name}:
            raise settings.refusal("config_groups", "does not agree with quant_algo")
        return conversions
    return [_from_settings(settings, name, Syntax.WILDCARDS)]


def _groups(settings: ConfigView, syntax: Syntax) -> list[Conversion]:
    groups = settings.part("config_groups")
    if not groups.keys():
        raise settings.refusal("config_groups", "is empty")
    conversions = []
    for key in groups.keys():  # noqa: SIM118 (a view is no mapping)
        group = groups.part(key)
        group.require("output_activations", None)
        group.require("format", *_CONTAINERS)
        targets = group.texts("targets")
        names = None if targets == ["Linear"] else tuple(targets)
        conversions.append(_from_settings(settings, _group_format(group), syntax, names))
    return conversions


def _from_settings(
    settings: ConfigView, name: str, syntax: Syntax, targets: tuple[str, ...] | None = None
) -> Conversion:
    plain = listed(settings, name)
    return Conversion(
        name, plain.key, plain.left_out, syntax, "converted", targets, notes=_cache(settings)
    )


def _cache(settings: ConfigView) -> tuple[str, ...]:
    """A note where the checkpoint asks for a cache format, which a spec does not hold."""
    if settings.has("kv_cache_quant_algo"):
        return (CACHE_NOTE,)
    if not settings.has("kv_cache_scheme"):
        return ()
    scheme = settings.part("kv_cache_scheme")
    scheme.require("num_bits", 8)
    scheme.require("type", "float")
    scheme.ignore_all()  # how its scales were found
    return (CACHE_NOTE,)


def _group_format(group: ConfigView) -> str:
    """The format of a group's weights; activations decide at which rate a matmul runs."""
    weights = group.part("weights")
    weights.ignore("observer", "observer_kwargs")  # how values were searched for
    weights.require("dynamic", False, None)
    weights.require("block_structure", [128, 128], None)
    weights.require("scale_dtype", "torch.uint8", "torch.float8_e4m3fn", "torch.bfloat16", None)
    weights.require("zp_dtype", "torch.int8", None)
    bits, kind = weights.count("num_bits"), weights.text("type", "int")
    strategy = _strategy(weights, bits)
    match kind, bits, strategy:
        case "int", 4, "group":
            return _int4(group, weights)
        case "int", 8, "channel":
            _activations(group, "int", 8)
            return "int8"
        case "float", 8, "tensor" | "channel" | "block":
            _activations(group, "float", 8)
            return {"tensor": "fp8_tensor", "channel": "fp8_channel", "block": "fp8"}[strategy]
        case "float", 4, "tensor_group":
            _activations(group, "float", 4)
            weights.require("group_size", 16)
            return "nvfp4"
        case "float", 4, "group":
            group.require("input_activations", None)
            weights.require("group_size", 32)
            return "mxfp4"
        case _:
            raise weights.refusal("num_bits", f"{bits}-bit {kind} by {strategy} is not known")


def _strategy(weights: ConfigView, bits: int) -> str:
    """The stated strategy; where none is, what the group size says."""
    weights.require("actorder", None, "static", "weight")  # others store an index a column
    weights.require("symmetric", True, False, None)
    if weights.text("type", "int") == "float":
        weights.require("symmetric", True, None)
    stated = weights.text("strategy", "")
    if stated == "block" and not weights.has("block_structure"):
        raise weights.refusal("block_structure", "is missing")
    if stated and stated not in ("group", "tensor_group"):
        weights.require("group_size", None, -1)
    if stated:
        return stated
    if not weights.has("group_size"):
        return "tensor"
    is_nvfp4 = bits == 4 and weights.text("type", "int") == "float"
    return "tensor_group" if is_nvfp4 and weights.count("group_size") == 16 else "group"


def _int4(group: ConfigView, weights: ConfigView) -> str:
    group.require("input_activations", None)
    weights.require("group_size", *GROUP_SIZES)
    symmetric = weights.flag("symmetric", True)
    return f"int4_{'sym' if symmetric else 'awq'}_g{weights.count('group_size')}"


def _activations(group: ConfigView, kind: str, bits: int) -> None:
    """Matmuls run in the unit of the weights only if activations are converted as well.

    Raises:
        DocumentError: They are not, or to another format.
    """
    if not group.has("input_activations"):
        raise group.refusal("input_activations", "is null; weights alone in this format are unread")
    inputs: Any = group.part("input_activations")
    inputs.require("num_bits", bits)
    inputs.require("type", kind, None)
    inputs.ignore_all()  # how activations are scaled while running
