"""Precision by role from a config's ``quantization_config``."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from llmplan.errors import DocumentError, printable
from llmplan.model.importing.conversion import Conversion
from llmplan.model.importing.module_names import flat, rows, units
from llmplan.model.importing.name_lists import MOST_LAYERS, Named, Names
from llmplan.model.importing.parts import Spec
from llmplan.model.importing.quantization_groups import compressed_tensors, modelopt
from llmplan.model.importing.quantization_methods import awq, fbgemm_fp8, fp8, gptq, mxfp4
from llmplan.model.importing.view import ConfigView

ROLES: Final[tuple[str, ...]] = ("attention", "ffn", "shared_experts", "experts")
"""The roles that published low-precision checkpoints convert."""
METHODS: Final[dict[str, Callable[[ConfigView], list[Conversion]]]] = {
    "fp8": fp8,
    "fbgemm_fp8": fbgemm_fp8,
    "mxfp4": mxfp4,
    "awq": awq,
    "gptq": gptq,
    "compressed-tensors": compressed_tensors,
    "modelopt": modelopt,
    "modelopt_fp4": modelopt,
}
"""Reader by ``quant_method``."""
KEPT: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("kimi_k3", "mxfp4"): (r"re:.*\.routed_expert_(?:down|up)_proj",),
}
"""By model type and format: modules that the publisher's files keep, though no list says so."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What one conversion does to a spec.

    Attributes:
        precision: Format by role.
        mtp_differs: Whether MTP modules are stored in another way than the layers.
    """

    precision: dict[str, str]
    mtp_differs: bool


def with_precision(config: ConfigView, body: Spec) -> Spec:
    """The body of a spec with the formats that the config states; unchanged where it states none.

    Raises:
        DocumentError: A method, a setting or a list of modules that cannot be read.
    """
    settings = _settings(config)
    if settings is None:
        return body
    conversions = [_with_kept(config, conversion) for conversion in _conversions(settings)]
    if body["num_hidden_layers"] > MOST_LAYERS:
        raise config.refusal("num_hidden_layers", f"is over {MOST_LAYERS}, too many to quantise")
    names = Names(body)
    done = [_converted(settings, body, names, conversion) for conversion in conversions]
    precision: dict[str, str] = {}
    for conversion in done:
        if set(conversion.precision) & set(precision):
            raise settings.refusal("config_groups", "converts one role in two ways")
        precision |= conversion.precision
    notes = [*body.get("notes", []), *(n for c in conversions for n in c.notes)]
    result = {**body, "precision": {**precision, **body.get("precision", {})}}
    if any(conversion.mtp_differs for conversion in done):
        modules = result.pop("mtp")["num_nextn_predict_layers"]
        notes.append(f"{modules} MTP modules, stored in another format, are left out.")
        result = _without_unused(result)
    return {**result, "notes": notes} if notes else result


def _settings(config: ConfigView) -> ConfigView | None:
    """``quantization_config``, of the whole or of the text model."""
    inner = config.part("text_config") if config.has("text_config") else None
    stated = [part for part in (config, inner) if part and part.has("quantization_config")]
    if len(stated) > 1:
        raise config.refusal("quantization_config", "stands in the whole and in text_config")
    return stated[0].part("quantization_config") if stated else None


def _conversions(settings: ConfigView) -> list[Conversion]:
    method = settings.text("quant_method", "")
    if method not in METHODS:
        raise _refused_method(settings, method)
    return METHODS[method](settings)


def _with_kept(config: ConfigView, conversion: Conversion) -> Conversion:
    """A conversion that also leaves out what files of this model are known to keep."""
    kept = KEPT.get((config.text("model_type", ""), conversion.format), ())
    return replace(conversion, left_out=(*conversion.left_out, *kept))


def _refused_method(settings: ConfigView, method: str) -> DocumentError:
    """The error for a method without a reader."""
    if method in ("bitsandbytes", "quanto", "hqq", "eetq", "torchao") or not method:
        why = f"'{printable(method)}' is applied while loading or states no layout of its own"
    else:
        why = f"'{printable(method)}' is not known"
    known = ", ".join(METHODS)
    advice = "remove quantization_config and give --dtype instead"
    return settings.refusal("quant_method", f"{why}; known are {known}; or {advice}")


def _converted(settings: ConfigView, body: Spec, names: Names, conversion: Conversion) -> Converted:
    """Roles that are converted: those that targets name, less those that the list leaves out."""
    out = names.named(settings, conversion.key, list(conversion.left_out), conversion.syntax)
    present = {mtp: {unit.role for unit in units(body) if unit.in_mtp == mtp} & set(ROLES)
               for mtp in (False, True)}  # fmt: skip
    chosen = {False: present[False] - out.roles, True: present[True] - out.mtp}
    if conversion.targets is not None:
        among = names.named(settings, "config_groups", list(conversion.targets), conversion.syntax)
        chosen = {False: chosen[False] & among.roles, True: chosen[True] & among.mtp}
    if conversion.only is not None:
        chosen = {mtp: roles & set(conversion.only) for mtp, roles in chosen.items()}
    _check_vision(settings, body, conversion, out)
    precision: dict[str, str] = {role: conversion.format for role in ROLES if role in chosen[False]}
    if _converts_head(settings, body, conversion, out):
        precision["head"] = conversion.format
    if not precision:
        raise settings.refusal(conversion.key, "leaves nothing that is converted")
    differs = any((role in chosen[True]) != (role in chosen[False]) for role in present[True])
    return Converted(precision, differs)


def _check_vision(settings: ConfigView, body: Spec, conversion: Conversion, out: Named) -> None:
    """A tower inside the converted model must be left out as a whole; its norms are of its role."""
    inside = "text_config" not in settings.path and conversion.reaches_vision
    beside = any(body.get(part) for part in ("vision", "projector", "audio_projector"))
    if inside and beside and not out.vision:
        why = "does not name the vision tower and projector; a converted tower cannot be read"
        raise settings.refusal(conversion.key, why)


def _converts_head(settings: ConfigView, body: Spec, conversion: Conversion, out: Named) -> bool:
    """Whether an output head of its own is converted.

    Raises:
        DocumentError: Readers of the format disagree about a head that its list does not name.
    """
    if body["tie_word_embeddings"] or out.head or conversion.targets is not None:
        return False
    if conversion.head == "unclear" and conversion.left_out:
        raise settings.refusal(conversion.key, "does not say whether lm_head is converted")
    return conversion.head == "converted"


def _without_unused(body: Spec) -> Spec:
    """A body without the blocks that only an MTP module used."""
    used = {name for names in rows(body["layers"]) for name in flat(names)}
    blocks = {name: block for name, block in body["blocks"].items() if name in used}
    return {**body, "blocks": blocks}
