"""Precision as a rewrite: the same operators, stored in other formats."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from llmplan.dtypes import Format, format_named
from llmplan.errors import InputError, UnknownNameError, printable
from llmplan.model.compiled import Model
from llmplan.ops.base import changed
from llmplan.ops.precision import LINEAR_ROLES, Precision, Role

NATIVE: Final = "native"
_ROLE_WORDS: Final = tuple(role.value for role in Role if role is not Role.BUFFER)


@dataclass(frozen=True, slots=True)
class StateFormats:
    """Formats of what requests keep."""

    kv: Format
    recurrent: Format
    indexer_keys: Format
    convolution: Format | None = None
    """Of convolution columns; as recurrent state where nothing else is said."""


def weight_formats(text: str) -> tuple[tuple[Role, Format], ...]:
    """Formats by role from ``fp8`` (all linear roles) or ``experts=mxfp4,head=fp8`` or both.

    ``native`` changes nothing; later items win.

    Raises:
        UnknownNameError: An unknown role or format.
        InputError: An empty item.
    """
    formats: dict[Role, Format] = {}
    for item in text.split(","):
        left, equals, right = (part.strip() for part in item.partition("="))
        if not left or (equals and not right):
            raise InputError(
                f"'{printable(text)}' is no weight format: write fp8, or experts=mxfp4,head=fp8."
            )
        if equals:
            formats[_role(left)] = format_named(right)
        elif left.lower() != NATIVE:
            formats |= dict.fromkeys(LINEAR_ROLES, format_named(left))
    return tuple(formats.items())


def _role(word: str) -> Role:
    key = word.lower().replace("-", "_")
    if key not in _ROLE_WORDS:
        raise UnknownNameError("role", word, _ROLE_WORDS, f"Roles: {', '.join(_ROLE_WORDS)}.")
    return Role(key)


def lowered(model: Model, weights: str, states: StateFormats) -> Model:
    """The model with weights as ``--dtype`` says and state in the formats given."""
    return with_state_formats(with_weight_formats(model, weight_formats(weights)), states)


def with_weight_formats(model: Model, formats: tuple[tuple[Role, Format], ...]) -> Model:
    """The model with the weights of some roles stored in other formats."""
    return _with_precision(model, lambda precision: precision.with_roles(formats))


def with_state_formats(model: Model, formats: StateFormats) -> Model:
    """The model with other formats of cache, recurrent state and indexer keys."""
    return _with_precision(
        model,
        lambda precision: replace(
            precision,
            kv=formats.kv,
            recurrent=formats.recurrent,
            convolution_columns=formats.convolution or formats.recurrent,
            indexer_keys=formats.indexer_keys,
        ),
    )


def _with_precision(model: Model, change: Callable[[Precision], Precision]) -> Model:
    """Operators of equal precision share one object before and after.

    A model whose precision does not change is returned as it is.
    """
    new: dict[int, Precision] = {}
    is_same = True
    for component in model.components:
        for operator in component.operators():
            key = id(operator.precision)
            if key not in new:
                new[key] = change(operator.precision)
                is_same = is_same and new[key] == operator.precision
    if is_same:
        return model
    return model.rewritten(lambda o: changed(o, precision=new[id(o.precision)]))
