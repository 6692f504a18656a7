"""What every question shares: formats, context, remarks, and the envelope of the answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from llmplan import __version__
from llmplan.analyze.state import request_state
from llmplan.dtypes import BF16, Format, state_format_named
from llmplan.errors import InputError
from llmplan.model.compiled import Model, Part
from llmplan.parallel.precision import StateFormats, weight_formats
from llmplan.results import schema
from llmplan.units import parse_tokens

if TYPE_CHECKING:
    from llmplan.analyze.explain import Explained

DEFAULT_CONTEXT: Final = 8192
"""Tokens per request where none are given, or the model's maximum if that is less."""


SIXTEEN_BITS: Final = StateFormats(BF16, BF16, BF16)
"""What requests keep where nothing is said, as published figures count it."""


def _format(name: str | None, default: Format) -> Format:
    return default if name is None else state_format_named(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Formats:
    """The precision options as typed; None for 16 bits, or for what the engine takes."""

    dtype: str = "native"
    kv_dtype: str | None = None
    state_dtype: str | None = None
    indexer_dtype: str | None = None

    def states(self, defaults: StateFormats = SIXTEEN_BITS) -> StateFormats:
        """Formats of what requests keep."""
        kv = _format(self.kv_dtype, defaults.kv)
        recurrent = _format(self.state_dtype, defaults.recurrent)
        convolution = defaults.convolution if self.state_dtype is None else None
        indexer = _format(self.indexer_dtype, defaults.indexer_keys)
        return StateFormats(kv, recurrent, indexer, convolution)

    def echo(self, states: StateFormats | None = None) -> dict[str, Any]:
        """As inputs of a result."""
        states = states or self.states()
        return {
            "dtype": self.dtype,
            "kv_dtype": states.kv.name,
            "state_dtype": states.recurrent.name,
            "indexer_dtype": states.indexer_keys.name,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """What a question took as given.

    Attributes:
        command: Name of the command that asks it.
        inputs: All inputs, defaults spelled out.
        warnings: What the reader should know.
    """

    command: str
    inputs: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def answered(self, result: schema.Result) -> schema.Envelope:
        """The answer with its envelope."""
        return schema.Envelope(
            llmplan=__version__,
            command=self.command,
            inputs=self.inputs,
            result=result,
            warnings=list(self.warnings),
        )


def explanations(rows: tuple[Explained, ...]) -> list[schema.Explanation]:
    """Published form of explanations."""
    return [schema.Explanation(**asdict(row)) for row in rows]


def check_roles(model: Model, dtype: str) -> None:
    """Refuse a weight format for a role that the model does not have.

    Raises:
        InputError: Naming the roles that it has.
    """
    present = {w.role for operator, _ in model.counted() for w in operator.weights}
    named = {item.partition("=")[0].strip() for item in dtype.split(",") if "=" in item}
    for role in sorted({role for role, _ in weight_formats(dtype)} - present):
        if role.value in named:
            has = ", ".join(sorted(present))
            raise InputError(f"{model.identity.name} has no weights of role {role.value}: {has}.")


def context_tokens(text: str | None, most: int) -> int:
    """Tokens per request: as typed, else 8192 or the model's maximum if that is less."""
    return min(DEFAULT_CONTEXT, most) if text is None else parse_tokens(text)


def context_warnings(model: Model, context: int) -> tuple[str, ...]:
    """What was assumed of the model's name, and a remark where the context is beyond it."""
    if context <= model.context_length:
        return model.identity.assumptions
    name, most = model.identity.name, model.context_length
    beyond = (f"{name} is published for {most:,} tokens a request; {context:,} are beyond that.",)
    return model.identity.assumptions + beyond


def model_warnings(model: Model, *, mtp: bool, engine: bool = False) -> tuple[str, ...]:
    """What a reader of this model's memory should know; an engine decides the formats of state."""
    state = request_state(model)
    remarks = (
        (
            state.recurrent_bytes and not engine,
            "recurrent state is counted in --state-dtype; runtimes often keep it in fp32.",
        ),
        (
            state.indexer_bytes_per_token and not engine,
            "indexer keys are counted in --indexer-dtype; engines often keep 8 bits.",
        ),
        (
            model.parts(Part.MTP) and not mtp,
            "the model has MTP modules; they are left out unless --mtp is given.",
        ),
        (
            model.diffusion,
            "a diffusion pipeline keeps no cache; activations are for images of published size.",
        ),
    )
    return tuple(text for applies, text in remarks if applies)
